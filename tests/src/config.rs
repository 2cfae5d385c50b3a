//! Configuration files for the agent.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::program::folder;

/// A configuration file in a folder of its own.
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    _folder: TempDir,
}

impl ConfigFile {
    /// Writes it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let folder = folder();
        let path = folder.path().join("spantap.yaml");
        fs::write(&path, text).expect("a fresh folder");
        Self { path, _folder: folder }
    }

    /// Its path as text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.to_str().expect("our own names are UTF-8")
    }
}
