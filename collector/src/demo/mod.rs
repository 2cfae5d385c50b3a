//! `spantap demo`: what spantap does, on a workload of its own that needs nothing else.

mod client;
mod server;
mod workload;

use std::{io, path::Path, time::Duration};

use anyhow::Result;
use spantap_config::Config;

use crate::{
    app::{self, Agent, AppError, Naming, Outputs, Pace, Summary},
    cli::{DemoArgs, WorkloadPart},
    export::Pressure,
};
use workload::Workload;

/// The same workload, recorded with tcpdump on the loopback interface; see `recording.md` beside it.
static RECORDING: &[u8] = include_bytes!("recording.pcap");

const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();

/// Runs the demo.
///
/// # Errors
/// If the workload cannot be started, or standard output is gone.
pub fn run(args: &DemoArgs) -> Result<()> {
    if args.recording {
        return recording("--recording was given");
    }
    match Agent::start(&Config::default()) {
        Ok(agent) => live(agent, args.duration),
        Err(AppError::Kernel(error)) => recording(&error.to_string()),
        Err(error) => Err(error.into()),
    }
}

/// One half of the workload, in a process of its own.
///
/// # Errors
/// If a socket cannot be opened.
pub fn workload(part: WorkloadPart, port: Option<u16>) -> Result<()> {
    match (part, port) {
        (WorkloadPart::Server, _) => Ok(server::run()?),
        (WorkloadPart::Client, Some(port)) => Ok(client::run(port)?),
        (WorkloadPart::Client, None) => anyhow::bail!("the client needs --port"),
    }
}

fn live(mut agent: Agent, duration: Duration) -> Result<()> {
    let workload = Workload::start()?;
    agent.only(workload.tgids());
    anstream::println!(
        "{BOLD}Two programs talk HTTP on this host: shopper asks, shop answers.{BOLD:#} Neither knows of spantap, which \
         sees\nboth ends from the kernel: {DIM}→{DIM:#} is a request that was sent, {DIM}←{DIM:#} one that was received. \
         {DIM}Stops after {} s, or on Ctrl-C.{DIM:#}\n",
        duration.as_secs()
    );
    let summary = agent.run(Some(duration));
    drop(workload);
    closing(&summary, "sudo spantap");
    Ok(())
}

fn recording(why: &str) -> Result<()> {
    anstream::println!("{YELLOW}This host cannot be watched:{YELLOW:#} {why}\n");
    anstream::println!(
        "{BOLD}What follows is a RECORDING{BOLD:#} of the same demo on another host, sent through the same pipeline.\n"
    );
    let naming = Naming::Fixed("shop (recorded)".into());
    let name = Path::new("the bundled recording");
    let (summary, result) = app::replay(
        &Config::default(),
        name,
        io::Cursor::new(RECORDING),
        naming,
        Outputs::pretty(Pressure::Wait)?,
        Pace::Recorded,
    );
    result?;
    anstream::println!(
        "\n{BOLD}That was a recording.{BOLD:#} To see your own services, run spantap as root on a Linux host."
    );
    closing(&summary, "sudo spantap");
    Ok(())
}

fn closing(summary: &Summary, command: &str) {
    let left_out: u64 =
        summary.left_out().filter(|(name, _)| *name == "kernel: ring full").map(|(_, n)| n).sum();
    anstream::println!(
        "\n{} spans, {left_out} events lost. To watch everything on this host: {BOLD}{command}{BOLD:#}",
        summary.spans
    );
}
