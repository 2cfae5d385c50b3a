//! Processes and settings of a run, undone when it is over, however it ends.
//!
//! Each process gets a parent-death signal, so that it ends with us even if we are killed. In an orderly end its guard
//! stops it and waits.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::command;

/// Cores that a process may use; `None` for all.
pub(super) type Cores = Option<&'static str>;

/// A command that runs on these cores and gets `SIGTERM` when we die.
pub(super) fn bound(program: impl AsRef<OsStr>, cores: Cores) -> Command {
    let mut bound = command("setpriv");
    bound.args(["--pdeathsig", "TERM", "--"]);
    if let Some(cores) = cores {
        bound.args(["taskset", "--cpu-list", cores]);
    }
    bound.arg(program);
    // Settings of whoever runs us must not decide what is measured.
    bound.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    bound
}

/// A running process, stopped when dropped.
pub(super) struct Running {
    child: Child,
    name: &'static str,
}

impl Running {
    /// Starts it. The process is the program itself, not a wrapper: setpriv and taskset become it.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Self { child, name })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Asks it to end and waits until it has.
    pub(super) fn stop(mut self, signal: &str) -> Result<ExitStatus> {
        self.end(signal)
    }

    fn end(&mut self, signal: &str) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // `Child::kill` would leave it no time to detach and to say what it saw.
        let kill = format!("kill -{signal} {}", self.child.id());
        let _ = command("sh").args(["-c", &kill]).status();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end within {} s and was killed", self.name, PATIENCE.as_secs())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end("TERM") {
            eprintln!("warning: {error:#}");
        }
    }
}

/// The kernel counts the time that BPF programs take, while this lives.
pub(super) struct RunTimeStatistics {
    before: String,
    /// Restores the setting when its input ends, which it does when we die.
    keeper: Child,
    lifeline: Option<ChildStdin>,
}

impl RunTimeStatistics {
    pub(super) fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS)
            .with_context(|| format!("failed to read {STATISTICS}: this kernel has no BPF statistics"))?;
        let before = before.trim().to_owned();
        let restore = format!("trap '' INT TERM HUP; cat >/dev/null; echo {before} >{STATISTICS}");
        let mut keeper = command("sh").args(["-c", &restore]).stdin(Stdio::piped()).spawn()?;
        let lifeline = keeper.stdin.take();
        let kept = Self { before, keeper, lifeline };
        fs::write(STATISTICS, "1").with_context(|| format!("failed to write {STATISTICS}"))?;
        Ok(kept)
    }
}

impl Drop for RunTimeStatistics {
    fn drop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.flush();
        }
        let _ = self.keeper.wait();
        if fs::read_to_string(STATISTICS).map_or(true, |now| now.trim() != self.before) {
            eprintln!("warning: {STATISTICS} was {} and could not be restored", self.before);
        }
    }
}

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// The switch of the kernel's statistics.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
