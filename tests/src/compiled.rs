//! Programs in C, compiled by the test that runs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::program::{Program, folder};

/// A program, in a folder of its own.
pub struct Compiled {
    path: PathBuf,
    _folder: TempDir,
}

impl Compiled {
    /// Compiles files of the folder `programs`; `machine::ready` has found `cc`.
    #[must_use]
    pub fn new(name: &str, sources: &[&str]) -> Self {
        let (folder, programs) = (folder(), Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"));
        let path = folder.path().join(name);
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-pthread", "-o"]).arg(&path);
        compile.args(sources.iter().map(|source| programs.join(source)));
        let _ = Program::run("cc", &mut compile).success("cc");
        Self { path, _folder: folder }
    }

    /// A command that runs it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments);
        command
    }
}
