//! Other programs as children: started, waited for, told to stop, and ended for certain when the test is over.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::machine;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A running program whose output goes to files. Dropping it ends it.
pub struct Program {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    folder: TempDir,
}

impl Program {
    /// Starts `command`; `name` is for messages.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        let folder = folder();
        let file = |which: &str| File::create(folder.path().join(which)).expect("a file in a fresh folder");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, status: None, folder }
    }

    /// Starts `command`, waits until it ends, and returns how it ended and what it said.
    #[must_use]
    pub fn run(name: &str, command: &mut Command) -> Ended {
        let mut program = Self::start(name, command);
        let status = program.wait(Duration::from_secs(60));
        Ended { status, stdout: program.stdout(), stderr: program.stderr() }
    }

    /// Its process.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// The file that takes its standard output.
    #[must_use]
    pub fn stdout_file(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout_file())
    }

    /// What it has complained of so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: libc::c_int) {
        if self.is_running() {
            let tgid = libc::pid_t::try_from(self.child.id()).expect("a process number is positive");
            // SAFETY: kill takes two numbers; the child is not reaped yet, so its number is not another's.
            unsafe { libc::kill(tgid, signal) };
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child can be waited for");
        }
        self.status.is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        while self.is_running() {
            assert!(
                Instant::now() < deadline,
                "{} still runs after {timeout:?}; it said:\n{}",
                self.name,
                self.stderr()
            );
            thread::sleep(POLL);
        }
        self.status.expect("it has ended")
    }

    /// Waits until `ready` holds. Fails if the program ends before that.
    pub fn wait_ready(&mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + machine::patience();
        while !ready(self) {
            let running = self.is_running();
            assert!(
                running && Instant::now() < deadline,
                "{} {} before it {what}:\n{}{}",
                self.name,
                if running { "waited in vain" } else { "ended" },
                self.stdout(),
                self.stderr()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// Its exit code; a signal is none.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Itself, if it ended well.
    #[must_use]
    pub fn success(self, what: &str) -> Self {
        assert!(self.status.success(), "{what} ended with {}:\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Waits until `condition` holds, at most `timeout`.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {timeout:?}");
        thread::sleep(POLL);
    }
}

/// A fresh folder that goes when it is dropped.
#[must_use]
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("spantap-e2e-").tempdir().expect("a temporary folder can be made")
}

/// A port that nobody listens on right now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface is up");
    listener.local_addr().expect("it is bound").port()
}

/// Whether somebody listens there.
#[must_use]
pub fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
