//! TLS libraries: found through the memory maps of the processes that use them, and probed once per file.
//!
//! Going by the maps finds the libraries of containers, of other distributions and of wheels that bring their own,
//! and cannot miss one that is loaded late: the kernel reports each executable mapping.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use spantap_ebpf_common::event::Tgid;

use super::{executable, procfs};
use crate::kernel::{Attacher, TlsProbes};

/// A file larger than this is no libssl (OpenSSL 3.5's is 1 MB).
const LIBRARY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What became of the TLS libraries found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsCounts {
    /// Files probed.
    pub probed: u64,
    /// Files that could not be probed at all (no symbols, refused by the kernel).
    pub refused: u64,
    /// Files that were gone before they could be read; the next process that maps them tries again.
    pub gone: u64,
}

/// Looks for TLS libraries and probes them.
pub struct TlsWatcher {
    attacher: Attacher,
    /// Files dealt with, by device and inode.
    known: HashSet<(String, u64)>,
    counts: TlsCounts,
}

impl TlsWatcher {
    /// Probes by `attacher`, which stays attached as long as this lives.
    #[must_use]
    pub fn new(attacher: Attacher) -> Self {
        Self { attacher, known: HashSet::new(), counts: TlsCounts::default() }
    }

    /// Probes the TLS libraries that a process maps and that are not probed yet.
    pub fn scan(&mut self, tgid: Tgid) {
        for mapping in procfs::executable_mappings(tgid) {
            if !is_libssl(&mapping.path) || self.known.contains(&mapping.file) {
                continue;
            }
            self.probe(tgid, mapping);
        }
    }

    /// What became of the libraries found so far.
    #[must_use]
    pub fn counts(&self) -> TlsCounts {
        self.counts
    }

    fn probe(&mut self, tgid: Tgid, mapping: procfs::Mapping) {
        let Some((path, bytes)) = open(tgid, &mapping) else {
            self.counts.gone += 1;
            tracing::debug!(
                tgid = tgid.0,
                library = mapping.path,
                "a TLS library was gone before it could be probed"
            );
            return;
        };
        self.known.insert(mapping.file.clone());
        let offsets: HashMap<&'static str, u64> =
            match executable::function_offsets(&bytes, TlsProbes::functions()) {
                Ok(found) => found.into_iter().collect(),
                Err(error) => {
                    self.refuse(tgid, &mapping.path, &error.to_string());
                    return;
                }
            };
        if !(offsets.contains_key("SSL_read") || offsets.contains_key("SSL_read_ex")) {
            self.refuse(tgid, &mapping.path, "it has no symbol SSL_read");
            return;
        }
        let (attached, refused) = self.attacher.attach_tls(&path, &TlsProbes { offsets });
        if attached == 0 {
            if path.exists() {
                self.refuse(tgid, &mapping.path, &refused.join("; "));
            } else {
                self.known.remove(&mapping.file);
                self.counts.gone += 1;
            }
            return;
        }
        self.counts.probed += 1;
        // The same path in another mount namespace may be another file: the process tells which.
        tracing::info!(library = mapping.path, pid = tgid.0, functions = attached, "watching TLS");
        for reason in refused {
            tracing::warn!(library = mapping.path, reason, "a TLS function cannot be watched");
        }
    }

    fn refuse(&mut self, tgid: Tgid, library: &str, reason: &str) {
        self.counts.refused += 1;
        tracing::warn!(
            library,
            pid = tgid.0,
            reason,
            "cannot watch this TLS library; its connections stay opaque"
        );
    }
}

/// `libssl.so.3`, `libssl-8bd944e8.so.1.1`; not `libssl3.so` (NSS).
fn is_libssl(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_prefix("libssl").is_some_and(|rest| {
        rest.starts_with(".so") || rest.strip_prefix('-').is_some_and(|hash| hash.contains(".so"))
    })
}

/// The very file that is mapped: by its path in the process's mount namespace if that still is the same file, else
/// through `map_files`, which reaches files that were deleted or replaced since.
fn open(tgid: Tgid, mapping: &procfs::Mapping) -> Option<(PathBuf, Vec<u8>)> {
    let by_path = PathBuf::from(format!("/proc/{}/root{}", tgid.0, mapping.path));
    let by_range = PathBuf::from(format!("/proc/{}/map_files/{}", tgid.0, mapping.range));
    [by_path, by_range].into_iter().find_map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        if metadata.ino() != mapping.file.1 || metadata.len() > LIBRARY_BYTES_MAX {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        Some((path, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_openssl() {
        for yes in ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/lib/libssl.so.1.1", "/x/libssl-8bd944e8.so.3"]
        {
            assert!(is_libssl(yes), "{yes}");
        }
        for no in [
            "/usr/lib/libssl3.so",
            "/usr/lib/libcrypto.so.3",
            "/usr/lib/libsslcommon.so",
            "/opt/libssl-dev/x",
        ] {
            assert!(!is_libssl(no), "{no}");
        }
    }
}
