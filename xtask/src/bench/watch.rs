//! `watch`: how soon a TLS library is watched that no process has used before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Plan;
use super::agent::Agent;
use super::machine;
use super::report::{Report, Table};
use super::stats::Spread;
use crate::command::{command, output};

/// Runs the benchmark. Each copy of libssl is another file to the kernel, mapped by a curl that waits for its options.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let library = libssl()?;
    let copies = plan.folder.join("watch");
    let mut agent = Agent::start(&plan.agent, None, &plan.folder)?;
    // By then it has looked through all that runs.
    agent.wait_for("libssl")?;
    let (mut times, mut disturbed) = (Vec::new(), 0);
    for copy in 0..plan.pairs {
        disturbed += usize::from(machine::others(Some(agent.pid())));
        let folder = copies.join(format!("{}-{copy}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::copy(&library, folder.join("libssl.so.3"))?;
        let time = watched(&mut agent, &folder);
        fs::remove_dir_all(&folder)?;
        times.push(time?);
    }
    agent.stop()?;
    let mut table = Table::new(
        format!("A library that nobody has used before: milliseconds, {} copies of libssl", plan.pairs),
        &["from its mapping until it is watched (median, min to max)"],
    );
    table.row(vec![Spread::of(times).show(1)]);
    table.note("as the agent itself says, from the kernel's record of the process to the last probe");
    table.disturbed(disturbed);
    report.add(table);
    Ok(())
}

/// Milliseconds until the library of this folder is watched.
fn watched(agent: &mut Agent, folder: &Path) -> Result<f64> {
    let mut curl = command("curl");
    curl.args(["--disable", "--config", "-"]).env("LD_LIBRARY_PATH", folder);
    let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let path = folder.display().to_string();
    let said = agent.wait_for(&path).and_then(|()| agent.said());
    // Without options it ends by itself.
    drop(curl.stdin.take());
    curl.wait()?;
    let said = said?;
    let line = said.lines().find(|line| line.contains(&path)).context("it was said")?;
    let time = line.split_once("unwatched_ms=").and_then(|(_, rest)| rest.split_whitespace().next());
    time.and_then(|time| time.parse().ok()).with_context(|| format!("no time in {line:?}"))
}

/// The OpenSSL that curl maps.
fn libssl() -> Result<PathBuf> {
    let curl = output(command("sh").args(["-c", "command -v curl"]))?;
    let listed = output(command("ldd").arg(curl.trim()))?;
    let line = listed.lines().find(|line| line.contains("libssl.so.3"));
    let line = line.context("curl is not built with OpenSSL 3")?;
    let path = line.split_whitespace().nth(2).context("ldd says no path")?;
    Ok(PathBuf::from(path))
}
