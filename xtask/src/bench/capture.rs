//! `capture`: what a system call costs more while the agent watches, and how long the kernel programs take.
//!
//! The first is timed from outside, in alternating pairs with and without the agent. The second is the kernel's own
//! statistics, in runs apart, since keeping them costs time of its own.

use std::collections::BTreeMap;
use std::env;
use std::process::Stdio;

use anyhow::{Result, bail};

use super::Plan;
use super::agent::Agent;
use super::bpf::Objects;
use super::child::{RunTimeStatistics, bound};
use super::driver::{Timing, WORKLOADS};
use super::machine;
use super::report::{Report, Table};
use super::stats::{Spread, median};

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let workloads: Vec<(&str, &str)> =
        WORKLOADS.iter().copied().filter(|(name, _)| plan.wants(name)).collect();
    if workloads.is_empty() {
        bail!("no workload matches");
    }
    report.add(end_to_end(plan, &workloads)?);
    report.add(programs(plan, &workloads)?);
    Ok(())
}

/// Nanoseconds per call, with and without.
fn end_to_end(plan: &Plan, workloads: &[(&str, &str)]) -> Result<Table> {
    let mut with: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut without: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let (mut dropped, mut disturbed) = (0, 0);
    for pair in 0..plan.pairs {
        eprintln!("capture: pair {} of {}", pair + 1, plan.pairs);
        // Which comes first alternates too: a machine that slows down is not held against one side.
        for is_with in [pair % 2 == 0, pair % 2 != 0] {
            let program = if is_with { Some(&plan.agent) } else { plan.against.as_ref() };
            let agent = program.map(|program| Agent::start(program, AGENT_CORE, &plan.folder)).transpose()?;
            disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            let times = if is_with { &mut with } else { &mut without };
            for &(name, _) in workloads {
                times.entry(name).or_default().push(drive(name)?.ns_per_call);
            }
            if let Some(agent) = agent {
                dropped += agent.stop()?.lost();
            }
        }
    }
    let mut table = Table::new(
        format!("System calls: nanoseconds per call, {} pairs", plan.pairs),
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
    table.note(format!("records dropped because the ring was full: {dropped}"));
    table.disturbed(disturbed);
    Ok(table)
}

/// Nanoseconds per run of the programs, by the kernel's own statistics.
fn programs(plan: &Plan, workloads: &[(&str, &str)]) -> Result<Table> {
    let mut table = Table::new(
        "Kernel programs: nanoseconds per run (kernel statistics)",
        &["call", "sys_enter", "sys_exit", "both", "runs per call"],
    );
    let _statistics = RunTimeStatistics::enable()?;
    let agent = Agent::start(&plan.agent, AGENT_CORE, &plan.folder)?;
    eprintln!("capture: statistics");
    for &(name, what) in workloads {
        let (mut enter, mut exit, mut runs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..STATISTICS_ROUNDS {
            let before = Objects::of(agent.pid())?;
            let timing = drive(name)?;
            let after = Objects::of(agent.pid())?;
            let [(enter_runs, enter_ns), (exit_runs, exit_ns)] =
                ["sys_enter", "sys_exit"].map(|program| after.since(&before, program));
            enter.push(enter_ns as f64 / enter_runs as f64);
            exit.push(exit_ns as f64 / exit_runs as f64);
            runs.push(exit_runs as f64 / timing.calls as f64);
        }
        let (enter, exit) = (median(enter), median(exit));
        let cells = [enter, exit, enter + exit].map(|ns| format!("{ns:.0}"));
        table.row([vec![what.to_owned()], cells.to_vec(), vec![format!("{:.2}", median(runs))]].concat());
    }
    agent.stop()?;
    table.note("a run of getppid is nearly empty: its figures are what the statistics themselves cost (two clock reads)");
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
