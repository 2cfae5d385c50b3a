//! `nginx`: what the agent costs a saturated web server, in alternating pairs of runs with and without it.
//!
//! Two figures. Requests per second are what users feel, but machines change speed for seconds at a time, and the load
//! generator and the agent may share what nginx does not use. The worker's CPU time per request is what the kernel
//! programs cost nginx itself, and is far steadier.

use std::fs;

use anyhow::{Context, Result};

use super::Plan;
use super::agent::Agent;
use super::child::Cores;
use super::machine;
use super::report::{Report, Table};
use super::stats::{Spread, median};
use super::web::{self, Case, FILE, Nginx, RETURN, Run, TLS};

/// Who runs where.
struct Setup {
    name: &'static str,
    what: &'static str,
    nginx: Cores,
    others: Cores,
    /// wrk stands for clients on other machines: nothing of it is watched.
    clients_elsewhere: bool,
}

const SETUPS: &[Setup] = &[
    Setup {
        name: "pinned",
        what: "nginx on core 0; wrk and the agent on core 1",
        nginx: Some("0"),
        others: Some("1"),
        clients_elsewhere: false,
    },
    Setup {
        name: "pinned-server",
        what: "nginx on core 0; wrk, which is excluded, and the agent on core 1",
        nginx: Some("0"),
        others: Some("1"),
        clients_elsewhere: true,
    },
    Setup {
        name: "free",
        what: "nginx, wrk and the agent free on all cores",
        nginx: None,
        others: None,
        clients_elsewhere: false,
    },
    Setup {
        name: "free-server",
        what: "nginx, wrk, which is excluded, and the agent free on all cores",
        nginx: None,
        others: None,
        clients_elsewhere: true,
    },
];

/// Requests per second that the file with its access log must keep.
const KEEPS_MIN: f64 = 0.85;

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for setup in SETUPS {
        let cases = [FILE, RETURN, TLS];
        let cases: Vec<Case> =
            cases.into_iter().filter(|case| plan.wants(&format!("{}-{}", setup.name, case.name))).collect();
        if cases.is_empty() {
            continue;
        }
        let nginx = Nginx::start(&plan.folder, setup.nginx)?;
        let mut table = Table::new(
            format!("nginx, one worker, {} pairs of {} s: {}", plan.pairs, plan.seconds, setup.what),
            &[
                "case",
                "requests/s",
                "keeps (median, min to max)",
                "worker us/request",
                "ratio (median, min to max)",
                "worker busy",
                "agent us/request",
                "spans/request",
                "lost",
            ],
        );
        let mut disturbed = 0;
        for case in cases {
            table.row(row(plan, setup, &nginx, case, &mut disturbed)?);
        }
        table.note(format!(
            "requests/s, worker us/request and busy: with {}, then with the agent",
            plan.baseline()
        ));
        table.note(
            "keeps: requests/s with / without; ratio: worker CPU per request with / without (1 is no cost)",
        );
        table.note(if setup.clients_elsewhere {
            "spans/request: 1 means that every request was seen, by nginx's side"
        } else {
            "spans/request: 2 means that every request was seen on both sides, nginx's and wrk's"
        });
        table.note(format!("target: {} keeps at least {KEEPS_MIN}", FILE.what));
        table.disturbed(disturbed);
        report.add(table);
    }
    Ok(())
}

/// The arguments by which the agent leaves wrk alone.
fn excluding_wrk(plan: &Plan) -> Result<Vec<String>> {
    let file = plan.folder.join("without-wrk.yaml");
    let rules =
        "file_format: \"1.1\"\ndistribution: {spantap: {discovery: {exclude: [{executable: wrk}]}}}\n";
    fs::write(&file, rules).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(vec!["--config".to_owned(), file.display().to_string()])
}

fn row(plan: &Plan, setup: &Setup, nginx: &Nginx, case: Case, disturbed: &mut usize) -> Result<Vec<String>> {
    let (mut with, mut without): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    let arguments = if setup.clients_elsewhere { excluding_wrk(plan)? } else { Vec::new() };
    // The first run finds cold caches.
    web::load(nginx, case, 1, setup.others, None, |_| Ok(()))?;
    for pair in 0..plan.pairs {
        eprintln!("nginx: {}, {}: pair {} of {}", setup.name, case.what, pair + 1, plan.pairs);
        for is_with in [pair % 2 == 0, pair % 2 != 0] {
            let program = if is_with { Some(&plan.agent) } else { plan.against.as_ref() };
            let start = |program: &std::path::PathBuf| {
                Agent::start_with(program, setup.others, &plan.folder, &arguments)
            };
            let agent = program.map(start).transpose()?;
            *disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            let run = web::load(nginx, case, plan.seconds, setup.others, agent, |_| Ok(()))?;
            if is_with { &mut with } else { &mut without }.push(run);
        }
    }
    let ratio = |of: fn(&Run) -> f64| {
        Spread::of(with.iter().zip(&without).map(|(with, without)| of(with) / of(without)))
    };
    let both = |of: fn(&Run) -> f64, digits: usize| {
        let [without, with] = [&without, &with].map(|runs| median(runs.iter().map(of)));
        format!("{without:.digits$}, {with:.digits$}")
    };
    let agent_us = median(with.iter().map(|run| run.agent_cpu.as_secs_f64() * 1e6 / run.requests as f64));
    let lost: u64 = with.iter().map(|run| run.accounts.lost()).sum();
    Ok(vec![
        case.what.to_owned(),
        both(|run| run.per_second, 0),
        ratio(|run| run.per_second).show(3),
        both(Run::server_us, 2),
        ratio(Run::server_us).show(3),
        both(|run| run.server_busy, 2),
        format!("{agent_us:.2}"),
        Spread::of(with.iter().map(Run::spans_per_request)).show(3),
        lost.to_string(),
    ])
}
