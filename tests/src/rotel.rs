//! rotel, an OpenTelemetry collector from the Python index, as the receiver of what the agent exports.
//!
//! It is a program that nobody here wrote, in a process of its own, and prints what it receives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    machine::Skip,
    program::{Program, free_port, listens},
};

/// The version that the tests know.
const PACKAGE: &str = "rotel==0.0.1a15";

/// A running rotel that logs every span and metric in full.
pub struct Rotel {
    program: Program,
}

/// The ports of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For gRPC.
    pub grpc: u16,
    /// For HTTP.
    pub http: u16,
}

impl Ports {
    /// Two that are free now.
    #[must_use]
    pub fn free() -> Self {
        Self { grpc: free_port(), http: free_port() }
    }
}

impl Rotel {
    /// Starts `binary`, which [`install`] has found.
    #[must_use]
    pub fn start(binary: &Path, ports: Ports) -> Self {
        let mut command = Command::new(binary);
        command.arg("start").args(["--exporter", "blackhole"]);
        command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", ports.grpc)]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", ports.http)]);
        command.args([
            "--debug-log",
            "traces",
            "--debug-log",
            "metrics",
            "--debug-log-verbosity",
            "detailed",
        ]);
        let mut program = Program::start("rotel", &mut command);
        program.wait_ready("listened", |_| listens(ports.grpc) && listens(ports.http));
        Self { program }
    }

    /// What it has printed of what it has received.
    #[must_use]
    pub fn received(&self) -> String {
        self.program.stdout() + &self.program.stderr()
    }
}

/// Installs rotel into a virtual environment below `target`, once, and returns its binary.
///
/// # Errors
/// The reason for which it cannot be installed here.
pub fn install(target: &Path) -> Result<PathBuf, Skip> {
    let folder = target.join("rotel");
    if let Some(binary) = find(&folder) {
        return Ok(binary);
    }
    let refused = |what: &str, why: &str| {
        let line = why.lines().last().unwrap_or_default();
        Skip::NoPackage(format!("{PACKAGE} cannot be installed: {what}: {line}"))
    };
    let venv = Program::run("venv", Command::new("python3").args(["-m", "venv"]).arg(&folder));
    if !venv.status.success() {
        return Err(refused("no virtual environment", &venv.stderr));
    }
    let mut pip = Command::new(folder.join("bin/pip"));
    let pip = Program::run("pip", pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]));
    if !pip.status.success() {
        return Err(refused("pip install", &pip.stderr));
    }
    find(&folder).ok_or_else(|| refused("pip install", "the wheel has no binary"))
}

/// `lib/python3.11/site-packages/rotel/rotel-agent` or the like.
fn find(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut folders = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_file() && path.file_name().is_some_and(|name| name == "rotel-agent") {
            return Some(path);
        }
        if path.is_dir() && !path.is_symlink() {
            folders.push(path);
        }
    }
    folders.iter().find_map(|folder| find(folder))
}
