//! The end-to-end tests that every kernel must pass, in a virtual machine for each kernel.
//!
//! A guest shows this machine's files: the test and the agent that were built here run there as they are.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::end_to_end::{self, REPEATED_AT_MOST};
use crate::command::{cargo, output};
use crate::packages::is_root;
use crate::step::Outcome;
use crate::{vm, workspace};

/// The tests that run in every guest, with all backends that must work there.
const TESTS: &[&str] = &["e2e_backends", "e2e_unix"];

/// The test of every way of moving bytes, and the guests in which it runs with these backends: each backend that this
/// machine may lack once, where its way through the kernel is oldest or newest.
const WAYS: (&str, &str) = ("e2e_bytes", "every_way_of_moving_bytes_is_seen");
const WAYS_IN: &[(&str, &str)] = &[("5.10", "syscalls"), ("6.12", "fentry kprobes")];

/// For each kernel the backend that `auto` must take, and all that must work there. What a kernel lacks is known, so
/// that a program which is refused for another reason is a failure. The newest one preempts itself, so that programs
/// in trampolines miss calls there: that is counted, but no less a loss.
const BACKENDS: &[(&str, &str, &str)] = &[
    ("5.10", "fentry", "fentry kprobes syscalls"),
    ("6.1", "fentry", "fentry kprobes syscalls"),
    ("6.12", "fentry", "fentry kprobes syscalls"),
    ("newest", "sockets", "sockets kprobes syscalls"),
];

/// How long one kernel may take; a minute is usual.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) fn run() -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::Skipped("not root: guests show all of this machine's files".to_owned()));
    }
    // What cannot be had here (a network, a Debian) says nothing about us.
    let images = match vm::prepare() {
        Ok(images) => images,
        Err(why) => return Ok(Outcome::Skipped(format!("no virtual machines here: {why:#}"))),
    };
    let agent = end_to_end::agent()?;
    let tests = TESTS.iter().map(|name| Ok((*name, build_test(name)?))).collect::<Result<Vec<_>>>()?;
    let ways = build_test(WAYS.0)?;
    let logs = workspace::target().join("kernels");
    fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
    let (mut failed, mut flaky) = (Vec::new(), Vec::new());
    for image in &images {
        let row = BACKENDS.iter().find(|(series, ..)| *series == image.series);
        let (_, auto, backends) = row.context("a kernel without backends")?;
        let of_all =
            tests.iter().map(|(name, test)| (*name, command(&agent, test, auto, backends), *backends));
        let mut runs: Vec<_> = of_all.collect();
        if let Some((_, backends)) = WAYS_IN.iter().find(|(series, _)| *series == image.series) {
            let mut command = command(&agent, &ways, auto, backends);
            command.push(WAYS.1.into());
            runs.push((WAYS.0, command, *backends));
        }
        for (name, command, backends) in runs {
            let log = logs.join(format!("{}-{name}.log", image.series));
            let what = format!("Linux {}: {name} ({backends})", image.release);
            let passes = || in_guest(image, &what, &command, &log);
            if passes()? {
                continue;
            }
            if failed.len() + flaky.len() < REPEATED_AT_MOST && passes()? {
                flaky.push(what);
            } else {
                failed.push(what);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(if flaky.is_empty() { Outcome::Passed } else { Outcome::Flaky(flaky.join(", ")) })
}

/// Runs a test in a guest, and says whether it passed.
fn in_guest(image: &vm::Image, what: &str, command: &[OsString], log: &Path) -> Result<bool> {
    let began = Instant::now();
    let boot = vm::Boot {
        image,
        memory_mib: 2048,
        cpus: 2,
        timeout: PATIENCE,
        modules: &[],
        command,
        output: Some(log),
    };
    let ended = vm::boot(&boot)?;
    let took = began.elapsed().as_secs_f64();
    let passes = ended == vm::Ended::Status(0) && passed(log)?;
    if passes {
        println!("passed  {what} in {took:.1}s");
    } else {
        println!("FAILED  {what} after {took:.1}s: {ended}; it said:\n{}", fs::read_to_string(log)?);
    }
    Ok(passes)
}

fn command(agent: &Path, test: &Path, auto: &str, backends: &str) -> Vec<OsString> {
    let mut bin = OsString::from("SPANTAP_BIN=");
    bin.push(agent);
    let auto = format!("SPANTAP_BACKEND_AUTO={auto}");
    let backends = format!("SPANTAP_BACKENDS={backends}");
    let mut command = vec!["env".into(), bin, auto.into(), backends.into(), test.into()];
    command.extend(["--test-threads=1", "--nocapture"].map(OsString::from));
    command
}

/// True if the test has run: one that was skipped ends well, too.
fn passed(log: &Path) -> Result<bool> {
    let said = fs::read_to_string(log)?;
    Ok(said.contains("test result: ok.") && !said.lines().any(|line| line.starts_with("skipped: ")))
}

/// Builds a test, and returns its binary.
fn build_test(name: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["test", "--package", "spantap-tests", "--locked", "--no-run", "--message-format=json"]);
    let messages = output(build.args(["--test", name]))?;
    let mut path =
        messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    path.next_back().map(PathBuf::from).context("cargo has named no binary of the test")
}
