//! Steps: run one after the other with a heading and a time, and told in one table at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step ended, other than by failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it does.
    Passed,
    /// It did so, but not at once: what failed at first and passed when it was repeated.
    Flaky(String),
    /// It could not run here, for this reason.
    Skipped(String),
}

/// What one step left in the table.
struct Row {
    name: &'static str,
    outcome: Result<Outcome>,
    took: Duration,
}

/// The steps run so far.
#[derive(Default)]
pub(crate) struct Steps {
    rows: Vec<Row>,
}

impl Steps {
    /// Runs a step under a heading. Its failure is kept for the table and does not end the run.
    pub(crate) fn run(&mut self, name: &'static str, what: &str, step: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {name}: {what}");
        let start = Instant::now();
        let outcome = step();
        let took = start.elapsed();
        match &outcome {
            Ok(Outcome::Passed) => println!("=== {name}: passed in {}", seconds(took)),
            Ok(Outcome::Flaky(what)) => {
                println!("=== {name}: passed in {}, but FLAKY: {what}", seconds(took));
            }
            Ok(Outcome::Skipped(reason)) => println!("=== {name}: SKIPPED, {reason}"),
            Err(error) => println!("=== {name}: FAILED after {}, {error:#}", seconds(took)),
        }
        self.rows.push(Row { name, outcome, took });
    }

    /// Prints the table and returns whether nothing failed.
    pub(crate) fn finish(self) -> bool {
        println!("\n{}", self.table());
        let failed = self.rows.iter().filter(|row| row.outcome.is_err()).count();
        let skipped = self.rows.iter().filter(|row| matches!(row.outcome, Ok(Outcome::Skipped(_)))).count();
        let flaky = self.rows.iter().filter(|row| matches!(row.outcome, Ok(Outcome::Flaky(_)))).count();
        match (failed, skipped, flaky) {
            (0, 0, 0) => println!("all passed"),
            (0, ..) => println!("passed, but for {skipped} skipped, {flaky} flaky"),
            _ => println!("{failed} FAILED"),
        }
        failed == 0
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        let line = |row: &Row| {
            let (mark, reason) = match &row.outcome {
                Ok(Outcome::Passed) => ("passed ", String::new()),
                Ok(Outcome::Flaky(what)) => ("FLAKY  ", what.clone()),
                Ok(Outcome::Skipped(reason)) => ("skipped", reason.clone()),
                Err(error) => ("FAILED ", format!("{error:#}")),
            };
            let reason = reason.lines().next().unwrap_or_default();
            format!("{:width$}  {mark}  {:>7}  {reason}", row.name, seconds(row.took)).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_table_tells_how_each_step_ended() {
        let mut steps = Steps::default();
        steps.run("a", "passes", || Ok(Outcome::Passed));
        steps.run("long", "is skipped", || Ok(Outcome::Skipped("not root".to_owned())));
        steps.run("b", "passes later", || Ok(Outcome::Flaky("one test".to_owned())));
        steps.run("c", "fails", || bail!("exit 1\nmore"));
        let table: Vec<String> =
            steps.table().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            table,
            ["a passed 0.0s", "long skipped 0.0s not root", "b FLAKY 0.0s one test", "c FAILED 0.0s exit 1"]
        );
        assert!(!steps.finish(), "one failed");
    }

    #[test]
    fn a_skipped_step_is_no_failure() {
        let mut steps = Steps::default();
        steps.run("a", "is skipped", || Ok(Outcome::Skipped("why".to_owned())));
        assert!(steps.finish());
    }
}
