//! HTTP/2's own programs: h2load asks for a list of URLs, nghttpd serves files.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::{
    agent::Agent,
    config::ConfigFile,
    machine, nginx,
    program::{Program, folder, free_port, listens},
};

/// A running nghttpd.
pub struct Nghttpd {
    /// Where it listens.
    pub port: u16,
    /// Its process.
    pub program: Program,
}

impl Nghttpd {
    /// Serves the files of a folder in the clear.
    #[must_use]
    pub fn start(files: &Path) -> Self {
        Self::start_with(files, |command, port| {
            command.arg("--no-tls").arg(port.to_string());
        })
    }

    /// Serves the files of a folder over TLS; the certificate is made there.
    #[must_use]
    pub fn start_tls(files: &Path) -> Self {
        nginx::certificate(files);
        Self::start_with(files, |command, port| {
            command.arg(port.to_string()).args(["key.pem", "cert.pem"]).current_dir(files);
        })
    }

    fn start_with(files: &Path, change: impl FnOnce(&mut Command, u16)) -> Self {
        let port = free_port();
        let binary = machine::find_program("nghttpd").expect("machine::ready has found it");
        let mut command = Command::new(binary);
        command.args(["--address", "127.0.0.1", "--htdocs"]).arg(files);
        change(&mut command, port);
        let mut program = Program::start("nghttpd", &mut command);
        program.wait_ready("listened", |_| listens(port));
        Self { port, program }
    }
}

/// The agent, told to copy calls whole: one carries the heads of many streams.
#[must_use]
pub fn agent() -> (Agent, ConfigFile) {
    let config = ConfigFile::new(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      bytes_per_call: 16KiB\n",
    );
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    (agent, config)
}

/// What h2load says at its end: how many responses of each class (`2xx`).
pub type Classes = BTreeMap<String, usize>;

/// Asks for every URL once on one connection, with so many streams at once.
#[must_use]
pub fn load(urls: &[String], streams: usize) -> Classes {
    let folder = folder();
    let list = folder.path().join("urls");
    fs::write(&list, urls.join("\n")).expect("a fresh folder");
    let mut command = Command::new("h2load");
    command.arg("--input-file").arg(&list);
    command.args(["--requests", &urls.len().to_string(), "--threads", "1"]);
    command.args(["--clients", "1", "--max-concurrent-streams", &streams.to_string()]);
    let ended = Program::run("h2load", &mut command).success("h2load");
    let line = ended.stdout.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_default();
    let class = |part: &str| {
        let (count, class) = part.trim().split_once(' ')?;
        Some((class.to_owned(), count.parse().ok()?))
    };
    let classes: Classes = line.split(',').filter_map(class).collect();
    assert_eq!(classes.values().sum::<usize>(), urls.len(), "{}{}", ended.stdout, ended.stderr);
    classes
}
