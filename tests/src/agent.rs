//! The agent under test, as users start it: its spans and metrics as data, and its accounts at the end.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    machine,
    otlp::{self, Number, Point, Span},
    program::{Ended, Program, folder, wait_until},
};

/// A command that runs the agent, without what this test's own environment says about exporters.
#[must_use]
pub fn command(arguments: &[&str]) -> Command {
    let binary = machine::agent_binary().expect("machine::ready has found it");
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.args(arguments).env_remove("CLICOLOR_FORCE");
    command
}

/// The user `nobody` of Debian.
pub const NOBODY: u32 = 65_534;

/// A copy of the agent where others may run it, too; it goes with the folder.
#[must_use]
pub fn copy_for_all() -> (TempDir, PathBuf) {
    let folder = folder();
    let all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), all.clone()).expect("our own folder");
    let binary = folder.path().join("spantap");
    fs::copy(machine::agent_binary().expect("machine::ready has found it"), &binary).expect("a fresh folder");
    fs::set_permissions(&binary, all).expect("our own file");
    (folder, binary)
}

/// The same command as [`NOBODY`] with these capabilities and no others (`sys_ptrace`), run from `binary`.
#[must_use]
pub fn with_capabilities(binary: &Path, capabilities: &[&str], command: &Command) -> Command {
    let list = capabilities.iter().fold("-all".to_owned(), |list, name| format!("{list},+{name}"));
    let nobody = NOBODY.to_string();
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    wrapped.args(["--inh-caps", &list, "--ambient-caps", &list]).arg(binary).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped.current_dir("/");
    wrapped
}

/// Runs the agent until it ends by itself.
#[must_use]
pub fn run(arguments: &[&str]) -> Ended {
    Program::run("spantap", &mut command(arguments))
}

/// A running agent that watches the host and prints OTLP JSON.
pub struct Agent {
    program: Program,
    /// How long it took until it watched.
    pub started_in: Duration,
}

impl Agent {
    /// Starts it and waits until it watches.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// The same with more arguments or variables.
    #[must_use]
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(&["run", "--format", "otlp-json", "--accounts"]);
        change(&mut command);
        let began = Instant::now();
        let mut program = Program::start("spantap", &mut command);
        program.wait_ready("watched", |program| program.stderr().contains("of this host; Ctrl-C ends"));
        Self { program, started_in: began.elapsed() }
    }

    /// Waits until it has looked through the libraries of the processes that run already, which it does beside its
    /// work: all of them are found when `library` has been.
    pub fn wait_for_tls(&mut self) {
        self.program.wait_ready("watched TLS", |program| program.stderr().contains("family=\"OpenSSL\""));
    }

    /// The file of its standard output.
    #[must_use]
    pub fn stdout_file(&self) -> PathBuf {
        self.program.stdout_file()
    }

    /// What it has said on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.program.stderr()
    }

    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The spans it has printed so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        otlp::spans(&self.program.stdout())
    }

    /// Waits until at least `count` spans that `select` takes have been printed.
    pub fn wait_for(&self, count: usize, select: impl Fn(&Span) -> bool) {
        wait_until(&format!("{count} spans"), machine::patience(), || {
            self.spans().iter().filter(|span| select(span)).count() >= count
        });
    }

    /// Interrupts it as Ctrl-C would; everything it has seen until now is in what it returns.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        self.program.signal(libc::SIGINT);
        let status = self.program.wait(machine::patience());
        let stderr = self.program.stderr();
        assert!(status.success(), "spantap ended with {status}:\n{stderr}");
        assert!(!stderr.contains("panicked"), "spantap panicked:\n{stderr}");
        let stdout = self.program.stdout();
        let accounts = Accounts::parse(&stderr);
        let (spans, points, numbers) = (otlp::spans(&stdout), otlp::points(&stdout), otlp::numbers(&stdout));
        Finished { spans, points, numbers, accounts, stderr }
    }
}

/// What a run of the agent has left.
pub struct Finished {
    /// All spans.
    pub spans: Vec<Span>,
    /// All points of histograms.
    pub points: Vec<Point>,
    /// All that was told in plain numbers: of the agent itself.
    pub numbers: Vec<Number>,
    /// The accounts.
    pub accounts: Accounts,
    /// All of standard error.
    pub stderr: String,
}

impl Finished {
    /// The spans that `select` takes.
    #[must_use]
    pub fn select(&self, select: impl Fn(&Span) -> bool) -> Vec<&Span> {
        self.spans.iter().filter(|span| select(span)).collect()
    }
}

/// What `--accounts` prints: counts by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What came in, and what became of it.
    pub seen: BTreeMap<String, u64>,
    /// What did not.
    pub left_out: BTreeMap<String, u64>,
}

impl Accounts {
    /// Reads them from what the agent said on standard error. They must be there.
    #[must_use]
    pub fn parse(stderr: &str) -> Self {
        let mut accounts = Self::default();
        let (mut sections, mut left_out) = (0, false);
        for line in stderr.lines() {
            match line {
                "seen:" | "left out:" => {
                    sections += 1;
                    left_out = line == "left out:";
                }
                _ if sections > 0 => {
                    let row =
                        line.trim().split_once("  ").and_then(|(n, name)| Some((n.parse().ok()?, name)));
                    let Some((count, name)) = row else { continue };
                    let table = if left_out { &mut accounts.left_out } else { &mut accounts.seen };
                    table.insert(name.to_owned(), count);
                }
                _ => {}
            }
        }
        assert_eq!(sections, 2, "no accounts on standard error:\n{stderr}");
        accounts
    }

    /// Asserts that the kernel's side lost no record and no payload, and that every record was understood.
    pub fn assert_nothing_lost(&self) {
        for name in LOSSES {
            assert_eq!(self.left_out.get(*name), None, "`{name}` in {self:#?}");
        }
    }
}

/// Reasons for which something is missing that could have been seen.
const LOSSES: &[&str] = &[
    "kernel: ring full",
    "kernel: ring full bytes",
    "kernel: kernel read failed",
    "kernel: connection table full",
    "kernel: position conflict",
    "kernel: missed runs",
    "undecodable records",
    "TLS libraries that cannot be watched",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read() {
        let accounts = Accounts::parse(
            "watching\nseen:\n            12  kernel records\n             1  spans\nleft out:\n             3  kernel: peeked\n",
        );
        assert_eq!(accounts.seen["kernel records"], 12);
        assert_eq!(accounts.left_out["kernel: peeked"], 3);
        accounts.assert_nothing_lost();
    }
}
