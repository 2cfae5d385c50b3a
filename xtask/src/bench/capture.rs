//! `capture`: what a system call costs more while the agent watches, and how long the kernel programs take.
//!
//! The first is timed from outside, in alternating pairs with and without the agent. The second is the kernel's own
//! statistics, in runs apart, since keeping them costs time of its own.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::Plan;
use super::agent::Agent;
use super::bpf::Objects;
use super::child::{RunTimeStatistics, bound};
use super::driver::{Timing, WORKLOADS};
use super::machine;
use super::procfs;
use super::report::{Report, Table};
use super::stats::{Spread, median};

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let workloads: Vec<(&str, &str)> =
        WORKLOADS.iter().copied().filter(|(name, _)| plan.wants(name)).collect();
    if workloads.is_empty() {
        bail!("no workload matches");
    }
    for backend in plan.backends.split(',') {
        let arguments = ["--config".to_owned(), configuration(plan, backend)?];
        report.add(end_to_end(plan, backend, &arguments, &workloads)?);
        report.add(programs(plan, backend, &arguments, &workloads)?);
    }
    Ok(())
}

/// A file that asks for this backend.
fn configuration(plan: &Plan, backend: &str) -> Result<String> {
    let file = plan.folder.join(format!("{backend}.yaml"));
    let text =
        format!("file_format: \"1.1\"\ndistribution: {{spantap: {{capture: {{backend: {backend}}}}}}}\n");
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file.display().to_string())
}

/// Nanoseconds per call, with and without.
fn end_to_end(plan: &Plan, backend: &str, arguments: &[String], workloads: &[(&str, &str)]) -> Result<Table> {
    let mut with: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut without: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let (mut dropped, mut disturbed) = (0, 0);
    // The agent's own time, and what it was for.
    let (mut cpu, mut records) = (Duration::ZERO, 0);
    for pair in 0..plan.pairs {
        eprintln!("capture, {backend}: pair {} of {}", pair + 1, plan.pairs);
        // Which comes first alternates too: a machine that slows down is not held against one side.
        for is_with in [pair % 2 == 0, pair % 2 != 0] {
            let program = if is_with { Some(&plan.agent) } else { plan.against.as_ref() };
            let agent = program
                .map(|program| Agent::start_with(program, AGENT_CORE, &plan.folder, arguments))
                .transpose()?;
            let began =
                agent.as_ref().map_or(Ok(Duration::ZERO), |agent| procfs::cpu_of_process(agent.pid()))?;
            disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            let times = if is_with { &mut with } else { &mut without };
            for &(name, _) in workloads {
                times.entry(name).or_default().push(drive(name)?.ns_per_call);
            }
            if let Some(agent) = agent {
                let took = procfs::cpu_of_process(agent.pid())? - began;
                let accounts = agent.stop()?;
                dropped += accounts.lost();
                if is_with {
                    cpu += took;
                    records += accounts.get("kernel records");
                }
            }
        }
    }
    let mut table = Table::new(
        format!("System calls, backend {backend}: nanoseconds per call, {} pairs", plan.pairs),
        &["call", plan.baseline(), "agent", "added (median of pairs, min to max)"],
    );
    for &(name, what) in workloads {
        let (with, without) = (&with[name], &without[name]);
        let added = Spread::of(with.iter().zip(without).map(|(with, without)| with - without));
        let times = [without, with].map(|times| format!("{:.0}", median(times.iter().copied())));
        table.row([vec![what.to_owned()], times.to_vec(), vec![added.show(0)]].concat());
    }
    table.note("one thread holds both ends of a loopback connection, on core 0; the agent is on core 1");
    table.note("the bytes are HTTP/1 messages, which the agent parses; it exports to nothing");
    table.note(format!(
        "the agent's own CPU time: {:.2} us per record, of {records}",
        cpu.as_secs_f64() * 1e6 / records.max(1) as f64
    ));
    table.note(format!("records dropped because the ring was full: {dropped}"));
    table.disturbed(disturbed);
    Ok(table)
}

/// Nanoseconds in the programs, by the kernel's own statistics.
fn programs(plan: &Plan, backend: &str, arguments: &[String], workloads: &[(&str, &str)]) -> Result<Table> {
    let mut table = Table::new(
        format!("Kernel programs, backend {backend}: nanoseconds (kernel statistics)"),
        &["call", "of all programs, per call", "each: per run x runs per call"],
    );
    let _statistics = RunTimeStatistics::enable()?;
    let agent = Agent::start_with(&plan.agent, AGENT_CORE, &plan.folder, arguments)?;
    eprintln!("capture, {backend}: statistics");
    for &(name, what) in workloads {
        let (mut sums, mut each) = (Vec::new(), Vec::new());
        for _ in 0..STATISTICS_ROUNDS {
            let before = Objects::of(agent.pid())?;
            let calls = drive(name)?.calls as f64;
            let after = Objects::of(agent.pid())?;
            let ran = after.since(&before);
            sums.push(ran.iter().map(|(.., ns)| *ns as f64).sum::<f64>() / calls);
            // What ran now and then belongs to the start of the workload, or to others.
            let often = ran.iter().filter(|(_, runs, _)| *runs as f64 > calls / 10.0);
            let shown = |(name, runs, ns): &(&str, u64, u64)| {
                format!("{name} {:.0} x {:.2}", *ns as f64 / *runs as f64, *runs as f64 / calls)
            };
            each = often.map(shown).collect();
        }
        table.row([what.to_owned(), format!("{:.0}", median(sums)), each.join(", ")]);
    }
    agent.stop()?;
    table.note("each run's figure holds the statistics' own two clock reads, some 45 ns");
    table.note(
        "programs run for every call of the host: far more than one run per call means that others were busy",
    );
    Ok(table)
}

/// Runs the driver on a core of its own.
fn drive(workload: &str) -> Result<Timing> {
    let us = env::current_exe()?;
    let mut command = bound(&us, DRIVER_CORE);
    command.args(["bench", "--driver", workload]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        bail!("the workload {workload} ended with {}", output.status);
    }
    Timing::parse(&String::from_utf8_lossy(&output.stdout))
}

/// Where the workload runs.
const DRIVER_CORE: super::child::Cores = Some("0");
/// Where the agent runs.
const AGENT_CORE: super::child::Cores = Some("1");
/// Runs of each workload for the statistics.
const STATISTICS_ROUNDS: usize = 5;
