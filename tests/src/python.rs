//! Python programs: the standard library's HTTP server, and small scripts around its modules.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    machine::Skip,
    program::{Program, free_port, listens},
};

/// A Python server that listens.
pub struct Server {
    /// Where.
    pub port: u16,
    /// Its process.
    pub program: Program,
}

/// `python3 -m http.server` for the files of a folder.
#[must_use]
pub fn http_server(files: &Path) -> Server {
    let port = free_port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]).arg(files);
    listening(port, &mut command)
}

/// A script of the folder `programs`, with a free port as its first argument.
#[must_use]
pub fn serve(script: &str, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Server {
    serve_by(Path::new("python3"), script, arguments, change)
}

/// The same by another Python, such as that of [`install`].
#[must_use]
pub fn serve_by(
    python: &Path,
    script: &str,
    arguments: &[&str],
    change: impl FnOnce(&mut Command),
) -> Server {
    let port = free_port();
    let mut command = Command::new(python);
    command.arg(programs().join(script)).arg(port.to_string()).args(arguments);
    change(&mut command);
    listening(port, &mut command)
}

/// A command that runs a script of the folder `programs`.
#[must_use]
pub fn script(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(programs().join(name)).args(arguments);
    command
}

/// Installs packages of the Python index (`name==version`, with blanks between them) into a virtual environment below
/// `target`, once, and returns that folder.
///
/// # Errors
/// The reason for which it cannot be installed here.
pub fn install(target: &Path, packages: &str) -> Result<PathBuf, Skip> {
    let folder = target.join(packages.replace("==", "-").replace(' ', "_"));
    let done = folder.join("installed");
    if done.exists() {
        return Ok(folder);
    }
    let refused = |what: &str, why: &str| {
        let line = why.lines().last().unwrap_or_default();
        Skip::NoPackage(format!("{packages} cannot be installed: {what}: {line}"))
    };
    let venv = Program::run("venv", Command::new("python3").args(["-m", "venv"]).arg(&folder));
    if !venv.status.success() {
        return Err(refused("no virtual environment", &venv.stderr));
    }
    let mut pip = Command::new(folder.join("bin/pip"));
    let pip = Program::run(
        "pip",
        pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages.split(' ')),
    );
    if !pip.status.success() {
        return Err(refused("pip install", &pip.stderr));
    }
    std::fs::write(done, "").map_err(|error| refused("a note", &error.to_string()))?;
    Ok(folder)
}

fn listening(port: u16, command: &mut Command) -> Server {
    let mut program = Program::start("python3", command);
    program.wait_ready("listened", |_| listens(port));
    Server { port, program }
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}
