//! Whether this machine can run an end-to-end test, and a lock so that only one runs at a time.

use std::{
    env, fmt,
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

/// Why a test does not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Loading eBPF programs needs root.
    NotRoot,
    /// The kernel does not describe its types.
    NoBtf,
    /// The agent has not been built.
    NoAgent,
    /// A program that the test uses is not installed.
    NoProgram(String),
    /// A package of the Python index cannot be installed.
    NoPackage(String),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => f.write_str("not root: loading eBPF programs needs it"),
            Self::NoBtf => write!(f, "this kernel has no {BTF}"),
            Self::NoAgent => f.write_str("no agent; `cargo xtask test --only e2e` builds it first"),
            Self::NoProgram(name) => write!(f, "{name} is not installed"),
            Self::NoPackage(reason) => f.write_str(reason),
        }
    }
}

/// Held while a test runs: each of them watches the whole machine, and some measure.
pub struct Turn(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// Waits for this test's turn. `None` if it cannot run here; the reason has been printed then.
#[must_use]
pub fn ready(programs: &[&str]) -> Option<Turn> {
    match check(programs) {
        Ok(()) => Some(turn()),
        Err(skip) => {
            skipped(&skip);
            None
        }
    }
}

/// The socket backends that must work on this kernel: what `SPANTAP_BACKENDS` lists, as for a guest whose kernel is
/// known; else the two that the kernel of the machine at hand may have, as far as it has their tracepoints.
#[must_use]
pub fn backends() -> Vec<String> {
    if let Ok(list) = env::var("SPANTAP_BACKENDS") {
        return list.split_whitespace().map(str::to_owned).collect();
    }
    let traced = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .any(|folder| Path::new(folder).join("events/tcp/tcp_sendmsg_locked").exists());
    let mut backends = vec!["syscalls".to_owned()];
    match traced {
        true => backends.insert(0, "sockets".to_owned()),
        false => {
            println!("not tested here: sockets, since this kernel shows no tracepoint tcp_sendmsg_locked")
        }
    }
    backends
}

/// The backend that the agent must take by itself: what `SPANTAP_BACKEND_AUTO` names, else the first of [`backends`].
#[must_use]
pub fn best_backend() -> String {
    env::var("SPANTAP_BACKEND_AUTO").unwrap_or_else(|_| backends().remove(0))
}

/// Whether the kernel has `uprobe_multi` links (Linux 6.6).
#[must_use]
pub fn has_probe_links() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is there");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

/// How long something may take that should take a moment: a machine may be busy, and a guest is emulated.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_secs(if env::var_os("SPANTAP_BACKENDS").is_some() { 150 } else { 20 })
}

/// Says that the test does not run, and why.
pub fn skipped(skip: &Skip) {
    println!("skipped: {skip}");
}

/// The agent under test: what `SPANTAP_BIN` names, else what is built in release beside this test.
#[must_use]
pub fn agent_binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("SPANTAP_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "SPANTAP_BIN names {}, which is not there", path.display());
        return Some(path);
    }
    let test = env::current_exe().ok()?;
    let target = test.ancestors().nth(3)?;
    Some(target.join("release/spantap")).filter(|path| path.is_file())
}

/// The path of a program, as the shell would find it.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let found = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    found.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn check(programs: &[&str]) -> Result<(), Skip> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err(Skip::NotRoot);
    }
    if !Path::new(BTF).exists() {
        return Err(Skip::NoBtf);
    }
    if agent_binary().is_none() {
        return Err(Skip::NoAgent);
    }
    match programs.iter().find(|name| find_program(name).is_none()) {
        Some(missing) => Err(Skip::NoProgram((*missing).to_owned())),
        None => Ok(()),
    }
}

fn turn() -> Turn {
    let path = env::temp_dir().join("spantap-e2e.lock");
    let file = OpenOptions::new().create(true).append(true).open(&path).expect("the lock file can be made");
    // SAFETY: the descriptor is open, and flock touches no memory. It waits until the others are through.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(locked, 0, "{} cannot be locked", path.display());
    Turn(file)
}

/// The kernel's own type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
