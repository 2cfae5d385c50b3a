//! Python programs: the standard library's HTTP server, and small scripts around its modules.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::{Program, free_port, listens};

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
    let port = free_port();
    let mut command = Command::new("python3");
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

fn listening(port: u16, command: &mut Command) -> Server {
    let mut program = Program::start("python3", command);
    program.wait_ready("listened", |_| listens(port));
    Server { port, program }
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}
