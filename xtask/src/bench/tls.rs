//! `tls`: what an SSL_write and an SSL_read cost more while the agent watches, with probes where they cost least and at
//! the symbol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, iter};

use anyhow::{Context, Result, bail};

use super::Plan;
use super::agent::Agent;
use super::child::{Cores, bound};
use super::machine;
use super::report::{Report, Table};
use super::stats::{Spread, median};
use crate::command::{command, run as run_command};

/// The two functions.
const CALLS: [&str; 2] = ["SSL_write", "SSL_read"];

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let script = plan.folder.join("tls.py");
    fs::write(&script, include_str!("tls.py"))?;
    certificate(&plan.folder)?;
    let configuration = |placement: &str| -> Result<PathBuf> {
        let file = plan.folder.join(format!("tls-{placement}.yaml"));
        let text =
            "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      tls:\n        placement: ";
        fs::write(&file, format!("{text}{placement}\n"))?;
        Ok(file)
    };
    // Against an older agent only what both understand is compared.
    let placements: &[&str] = if plan.against.is_some() { &["cheapest"] } else { &["cheapest", "symbol"] };
    let configurations =
        placements.iter().map(|placement| configuration(placement)).collect::<Result<Vec<_>>>()?;
    let mut added: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let (mut without, mut lost, mut disturbed) = ([Vec::new(), Vec::new()], 0, 0);
    for pair in 0..plan.pairs {
        eprintln!("tls: round {} of {}", pair + 1, plan.pairs);
        let mut base = [0.0; 2];
        for (n, configuration) in iter::once(None).chain(configurations.iter().map(Some)).enumerate() {
            let program = if n == 0 { plan.against.as_deref() } else { Some(plan.agent.as_path()) };
            let agent = program.map(|program| start(program, configuration, &plan.folder)).transpose()?;
            disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            let times = drive(&script, &plan.folder)?;
            if let Some(agent) = agent {
                lost += agent.stop()?.lost();
            }
            for (call, time) in times.into_iter().enumerate() {
                if n == 0 {
                    base[call] = time;
                    without[call].push(time);
                } else {
                    added.entry((call, n - 1)).or_default().push(time - base[call]);
                }
            }
        }
    }
    let mut table = Table::new(
        format!("TLS: nanoseconds per call of 256 B, {} rounds", plan.pairs),
        &["call", "probes", plan.baseline(), "added (median of rounds, min to max)"],
    );
    for ((call, placement), values) in added {
        let base = format!("{:.0}", median(without[call].iter().copied()));
        let place = if placements[placement] == "symbol" { "at the symbol" } else { "where they cost least" };
        table.row(vec![CALLS[call].to_owned(), place.to_owned(), base, Spread::of(values).show(0)]);
    }
    table.note(
        "both ends of a session in one thread of Python, over memory, on core 0; the agent is on core 1",
    );
    table.note(format!("records dropped because the ring was full: {lost}"));
    table.disturbed(disturbed);
    report.add(table);
    Ok(())
}

fn start(program: &Path, configuration: Option<&PathBuf>, folder: &Path) -> Result<Agent> {
    let config = configuration.map(|file| ["--config".to_owned(), file.display().to_string()]);
    let mut agent =
        Agent::start_with(program, AGENT_CORE, folder, config.as_ref().map_or(&[], |words| words))?;
    agent.wait_for("libssl")?;
    Ok(agent)
}

/// Nanoseconds per SSL_write and per SSL_read.
fn drive(script: &Path, folder: &Path) -> Result<[f64; 2]> {
    let mut command = bound("python3", DRIVER_CORE);
    command.arg(script).args(["cert.pem", "key.pem"]).current_dir(folder);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the workload ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    let mut next = || numbers.next().with_context(|| format!("the workload said {text:?}"));
    Ok([next()?, next()?])
}

fn certificate(folder: &Path) -> Result<()> {
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"]);
    run_command(openssl.current_dir(folder).stderr(Stdio::null()))
}

/// Where the workload runs.
const DRIVER_CORE: Cores = Some("0");
/// Where the agent runs.
const AGENT_CORE: Cores = Some("1");
