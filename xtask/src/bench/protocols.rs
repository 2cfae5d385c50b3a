//! What needs no kernel: parsers, the way from segments to encoded OTLP, exporting. Runs the benches of the crates and
//! shows their tables.
//!
//! A bench prints a table as lines whose cells are separated by tabs: `# title`, `# column<TAB>column`, rows, and notes
//! that begin with `#-`.

use anyhow::{Context, Result, bail};

use super::Plan;
use super::report::{Report, Table};
use crate::command::{cargo, output};

/// The parsers, and spans from segments to OTLP; `--pairs` is how often each thing is measured, `--only` picks rows by
/// their name.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    run_benches(&[("spantap-protocols", "exchanges"), ("spantap", "pipeline")], plan, report)
}

/// Spans and metrics on their way out, likewise.
pub(super) fn export(plan: &Plan, report: &mut Report) -> Result<()> {
    run_benches(&[("spantap", "export")], plan, report)
}

/// Runs benches, each named by its package and itself.
fn run_benches(benches: &[(&str, &str)], plan: &Plan, report: &mut Report) -> Result<()> {
    for (package, bench) in benches {
        let mut command = cargo();
        command.args(["bench", "--locked", "--package", package, "--bench", bench, "--"]);
        command.args(["--runs", &plan.pairs.to_string()]);
        let text = output(&mut command)?;
        let tables = tables(&text).with_context(|| format!("the bench {bench} said something else"))?;
        if tables.is_empty() {
            bail!("the bench {bench} showed no table");
        }
        for mut table in tables {
            table.rows.retain(|row| plan.wants(&row[0]));
            report.add(table);
        }
    }
    Ok(())
}

fn tables(text: &str) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    let mut title = None;
    for line in text.lines() {
        if let Some(note) = line.strip_prefix("#-") {
            tables.last_mut().context("a note without a table")?.note(note.trim());
        } else if let Some(heading) = line.strip_prefix("# ") {
            match title.take() {
                None => title = Some(heading),
                Some(title) => tables.push(Table::new(title, &heading.split('\t').collect::<Vec<_>>())),
            }
        } else if !line.is_empty() {
            let table = tables.last_mut().filter(|_| title.is_none()).context("a row without a table")?;
            let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
            if cells.len() != table.columns.len() {
                bail!("{} cells in `{line}`, {} columns", cells.len(), table.columns.len());
            }
            table.row(cells);
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_benches_print_them() {
        let text = "# Parsers, 2 runs\n# conversation\tns\nHTTP/1\t900\nRedis\t250\n#- of one core\n# Idle\n# parser\tbytes\n";
        let found = tables(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].title.as_str(), found[0].rows.len()), ("Parsers, 2 runs", 2));
        assert_eq!(found[0].rows[1], ["Redis", "250"]);
        assert_eq!(found[0].notes, ["of one core"]);
        assert_eq!(found[1].columns, ["parser", "bytes"]);
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["a row", "#- a note", "# title\na row\tof two", "# title\n# a\tb\nof one"] {
            assert!(tables(text).is_err(), "{text}");
        }
    }
}
