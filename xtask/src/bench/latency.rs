//! `latency`: how much later answers come at half load, which is where services live. h2load asks nginx at a fixed rate,
//! half of what nginx was found to do at most, and notes how long each answer took.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Plan;
use super::agent::Agent;
use super::child::{Cores, bound};
use super::machine;
use super::report::{Report, Table};
use super::stats::{Spread, median};
use super::web::{self, Case, FILE, Nginx, RETURN};
use crate::command::output;

/// nginx alone, the rest on the other core: what is added comes from the kernel programs and from a busier neighbour.
const CORES: [Cores; 2] = [Some("0"), Some("1")];
/// Connections of h2load, each with the same share of the rate.
const CONNECTIONS: u32 = 16;
/// Before a load, for the agent to get ready.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let cases: Vec<Case> = [FILE, RETURN].into_iter().filter(|case| plan.wants(case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let nginx = Nginx::start(&plan.folder, CORES[0])?;
    let mut table = Table::new(
        format!(
            "latency at half load, {} pairs of {} s: nginx on core 0; h2load and the agent on core 1",
            plan.pairs, plan.seconds
        ),
        &[
            "case",
            "requests/s",
            "p50 us",
            "p50 added (median, min to max)",
            "p99 us",
            "p99 added (median, min to max)",
        ],
    );
    let mut disturbed = 0;
    for case in cases {
        table.row(row(plan, &nginx, case, &mut disturbed)?);
    }
    table.note(format!(
        "us: with {}, then with the agent; added: the difference of the two runs of a pair",
        plan.baseline()
    ));
    table.disturbed(disturbed);
    report.add(table);
    Ok(())
}

fn row(plan: &Plan, nginx: &Nginx, case: Case, disturbed: &mut usize) -> Result<Vec<String>> {
    let most = web::load(nginx, case, 2, CORES[1], None, |_| Ok(()))?.per_second;
    let each = ((most / 2.0) as u32 / CONNECTIONS).max(1);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for pair in 0..plan.pairs {
        eprintln!("latency: {}: pair {} of {}", case.what, pair + 1, plan.pairs);
        for is_with in [pair % 2 == 0, pair % 2 != 0] {
            let program = if is_with { Some(&plan.agent) } else { plan.against.as_ref() };
            let agent = program.map(|program| Agent::start(program, CORES[1], &plan.folder)).transpose()?;
            *disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            thread::sleep(SETTLE);
            let times = ask(&plan.folder, case, each, plan.seconds)?;
            if let Some(agent) = agent {
                agent.stop()?;
            }
            if is_with { &mut with } else { &mut without }.push(times);
        }
    }
    let mut cells = vec![case.what.to_owned(), (each * CONNECTIONS).to_string()];
    for of in [|times: &Times| times.p50, |times: &Times| times.p99] {
        let [bare, watched] = [&without, &with].map(|runs| median(runs.iter().map(of)));
        let added = Spread::of(with.iter().zip(&without).map(|(with, without)| of(with) - of(without)));
        cells.extend([format!("{bare:.0}, {watched:.0}"), added.show(0)]);
    }
    Ok(cells)
}

/// Microseconds until the end of an answer.
#[derive(Debug, PartialEq)]
struct Times {
    p50: f64,
    p99: f64,
}

/// Asks at this rate on each connection.
fn ask(folder: &Path, case: Case, each: u32, seconds: u32) -> Result<Times> {
    let log: PathBuf = folder.join("h2load.log");
    let mut h2load = bound("h2load", CORES[1]);
    h2load.args(["--h1", "--clients", &CONNECTIONS.to_string(), "--rps", &each.to_string()]);
    h2load.args(["--duration", &seconds.to_string()]).arg("--log-file").arg(&log).arg(case.url);
    let said = output(&mut h2load)?;
    let text = fs::read_to_string(&log).with_context(|| format!("h2load wrote no log: {said}"))?;
    fs::remove_file(&log)?;
    Times::parse(&text)
}

impl Times {
    /// Lines of `start, status, microseconds`, with tabs between them.
    fn parse(log: &str) -> Result<Self> {
        let mut times = Vec::new();
        for line in log.lines() {
            let mut columns = line.split('\t').skip(1);
            match (columns.next(), columns.next().and_then(|time| time.parse::<u32>().ok())) {
                (Some("200"), Some(time)) => times.push(time),
                _ => bail!("h2load saw no answer: {line}"),
            }
        }
        times.sort_unstable();
        let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().map(f64::from);
        Ok(Self {
            p50: at(0.5).context("h2load asked nothing")?,
            p99: at(0.99).context("h2load asked nothing")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_h2load_is_read() {
        let log: String = (1..=200).map(|i| format!("1700000000\t200\t{i}\n")).collect();
        assert_eq!(Times::parse(&log).unwrap(), Times { p50: 101.0, p99: 199.0 });
        assert!(Times::parse("1700000000\t-1\t100\n").is_err());
        assert!(Times::parse("").is_err());
    }
}
