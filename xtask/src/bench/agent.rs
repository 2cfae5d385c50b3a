//! The agent under measurement: started, waited for until it watches, stopped, and its accounts read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::child::{Cores, Running, bound};

/// A running agent that watches the host and exports to nothing.
pub(super) struct Agent {
    process: Running,
    errors: PathBuf,
}

/// What an agent said at its end: count by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts(BTreeMap<String, u64>);

impl Agent {
    /// Starts `program` and returns when it watches.
    pub(super) fn start(program: &Path, cores: Cores, folder: &Path) -> Result<Self> {
        Self::start_with(program, cores, folder, &[])
    }

    /// The same with more arguments.
    pub(super) fn start_with(
        program: &Path,
        cores: Cores,
        folder: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let errors = folder.join("agent.log");
        let file = File::create(&errors).with_context(|| format!("failed to write {}", errors.display()))?;
        let mut command = bound(program, cores);
        command.args(["run", "--format", "none", "--accounts"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut agent = Self { process: Running::start("the agent", &mut command)?, errors };
        agent.wait_for(READY)?;
        Ok(agent)
    }

    /// Waits until it has said this.
    pub(super) fn wait_for(&mut self, text: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.said()?.contains(text) {
            if let Err(error) = self.process.check() {
                bail!("{error}\n{}", self.said()?.trim());
            }
            if Instant::now() > until {
                let (patience, said) = (PATIENCE.as_secs(), self.said()?);
                bail!("the agent did not say {text:?} within {patience} s: {}", said.trim());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops it and returns its accounts.
    pub(super) fn stop(self) -> Result<Accounts> {
        let Self { process, errors } = self;
        process.stop("INT")?;
        let said = fs::read_to_string(&errors)?;
        Ok(Accounts::parse(&said))
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.errors)?)
    }
}

impl Accounts {
    /// Lines of two spaces, a number, two spaces, a name.
    fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let (number, name) = line.strip_prefix("  ")?.trim_start().split_once("  ")?;
            Some((name.trim().to_owned(), number.parse().ok()?))
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// A count; 0 if it was not mentioned.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Records dropped because the ring was full.
    pub(super) fn lost(&self) -> u64 {
        self.get("kernel: ring full")
    }
}

/// What it says when it watches.
const READY: &str = "watching every process";
/// How long it may take until then.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read() {
        let text = "watching every process\nseen:\n            31  kernel records\n             2  spans\nleft \
                    out:\n             5  kernel: ring full\n         900  kernel: ring full bytes\n  nothing\n";
        let accounts = Accounts::parse(text);
        assert_eq!((accounts.get("spans"), accounts.get("exchanges"), accounts.lost()), (2, 0, 5));
    }
}
