//! TLS libraries: found in the files that processes map executable, and probed once per file.
//!
//! Going by the maps finds the libraries of containers, of other distributions and of wheels that bring their own, and
//! executables that have one linked in; and it cannot miss one that is loaded late, for the kernel reports each
//! executable mapping. The libraries of the host itself are probed before anybody maps them: a program that asks for
//! one thing is gone before its maps can be read.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
};

use spantap_ebpf_common::event::Tgid;

use super::{
    executable::{Image, is_elf},
    procfs::{self, Mapping},
    tls_library::{self, Placement},
};
use crate::kernel::Attacher;

/// Files remembered as of no interest; beyond it they are looked at anew.
const OTHERS_MAX: usize = 65_536;

/// Where distributions keep the libraries of the host.
const LIBRARY_FOLDERS: &[&str] =
    &["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib"];
/// What their names begin with.
const LIBRARY_NAMES: &[&str] = &["libssl.so", "libgnutls.so"];

/// What became of the TLS libraries found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsCounts {
    /// Files probed.
    pub probed: u64,
    /// Files with a TLS library that could not be probed at all (refused by the kernel, or without the symbols).
    pub refused: u64,
    /// Files called like a TLS library that were gone before they could be read; the next process that maps them
    /// tries again.
    pub gone: u64,
}

/// Looks for TLS libraries and probes them.
pub struct TlsWatcher {
    attacher: Attacher,
    placement: Placement,
    /// Files that are probed, or cannot be, as maps name them. Their inodes are not given to others: a probe holds its
    /// inode. In the overlays of several containers one file may have several names; then it is probed several times,
    /// and the kernel side takes the repeated reports of a call for what they are.
    probed: HashSet<(String, u64)>,
    /// The same files as stat(2) names them, which on some file systems (btrfs) is by another device.
    probed_stat: HashSet<(u64, u64)>,
    /// Files without a TLS library, with a hash of their path: their inodes may be given to others.
    others: HashMap<(String, u64), u64>,
    hasher: RandomState,
    counts: TlsCounts,
}

impl TlsWatcher {
    /// Probes by `attacher`, which stays attached as long as this lives.
    #[must_use]
    pub fn new(attacher: Attacher, placement: Placement) -> Self {
        Self {
            attacher,
            placement,
            probed: HashSet::new(),
            probed_stat: HashSet::new(),
            others: HashMap::new(),
            hasher: RandomState::new(),
            counts: TlsCounts::default(),
        }
    }

    /// Probes the TLS libraries of the host, whether anybody uses them or not.
    pub fn scan_host(&mut self) {
        let own = Tgid(std::process::id());
        // Where /lib is a link to /usr/lib the same files come twice, and the second time are known.
        for entry in LIBRARY_FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten()
        {
            let name = entry.file_name();
            let is_library = LIBRARY_NAMES.iter().any(|known| name.to_string_lossy().starts_with(known));
            if !is_library || !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            if let Ok(file) = File::open(entry.path()) {
                let path = entry.path().to_string_lossy().into_owned();
                self.look_at(own, &Mapping { path, ..Mapping::default() }, file);
            }
        }
    }

    /// Probes the TLS libraries that a process maps and that are not probed yet.
    pub fn scan(&mut self, tgid: Tgid) {
        for mapping in procfs::executable_mappings(tgid) {
            if self.probed.contains(&mapping.file)
                || self.others.get(&mapping.file) == Some(&self.hasher.hash_one(&mapping.path))
            {
                continue;
            }
            match open(tgid, &mapping) {
                Some(file) => self.look_at(tgid, &mapping, file),
                None if is_called_tls(&mapping.path) => {
                    self.counts.gone += 1;
                    tracing::debug!(tgid = tgid.0, library = mapping.path, "a TLS library was gone too soon");
                }
                None => {}
            }
        }
    }

    /// What became of the libraries found so far.
    #[must_use]
    pub fn counts(&self) -> TlsCounts {
        self.counts
    }

    /// Probes a file if it has a TLS library in it.
    fn look_at(&mut self, tgid: Tgid, mapping: &Mapping, mut file: File) {
        let Ok(metadata) = file.metadata() else { return };
        let stat = (metadata.dev(), metadata.ino());
        if self.probed_stat.contains(&stat) {
            self.probed.insert(mapping.file.clone());
            return;
        }
        if !is_elf(&mut file) {
            return self.pass_over(mapping);
        }
        // The kernel finds the file through our descriptor, even if the process is gone and the file deleted.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let image = match Image::new(file) {
            Ok(image) => image,
            Err(error) => return self.pass_over_unless_tls(tgid, mapping, &error.to_string()),
        };
        let library = match tls_library::identify(&image, self.placement) {
            Ok(Some(library)) => library,
            Ok(None) => return self.pass_over_unless_tls(tgid, mapping, "it has not the symbols of one"),
            Err(error) => return self.pass_over_unless_tls(tgid, mapping, &error.to_string()),
        };
        self.probed.insert(mapping.file.clone());
        self.probed_stat.insert(stat);
        for place in &library.randoms {
            if !self.attacher.learn_random(*place) {
                tracing::debug!(library = mapping.path, ?place, "too many places of randoms are known");
            }
        }
        let (attached, refused) = self.attacher.attach_tls(&path, &library.probes);
        if attached == 0 {
            self.refuse(tgid, &mapping.path, &refused.join("; "));
            return;
        }
        self.counts.probed += 1;
        // The same path in another mount namespace may be another file: the process tells which.
        tracing::info!(
            library = mapping.path,
            pid = tgid.0,
            family = library.family.name(),
            functions = attached,
            "watching TLS"
        );
        for reason in refused {
            tracing::warn!(library = mapping.path, reason, "a TLS function cannot be watched");
        }
    }

    fn pass_over_unless_tls(&mut self, tgid: Tgid, mapping: &Mapping, reason: &str) {
        if is_called_tls(&mapping.path) {
            self.probed.insert(mapping.file.clone());
            self.refuse(tgid, &mapping.path, reason);
        } else {
            self.pass_over(mapping);
        }
    }

    fn pass_over(&mut self, mapping: &Mapping) {
        if self.others.len() >= OTHERS_MAX {
            self.others.clear();
        }
        self.others.insert(mapping.file.clone(), self.hasher.hash_one(&mapping.path));
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

/// `libssl.so.3`, `libssl-8bd944e8.so.1.1`, `libgnutls.so.30`; not `libssl3.so` (NSS).
fn is_called_tls(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["libssl", "libgnutls"].iter().filter_map(|known| name.strip_prefix(known)).any(|rest| {
        rest.starts_with(".so") || rest.strip_prefix('-').is_some_and(|hash| hash.contains(".so"))
    }) && !name.starts_with("libgnutls-openssl")
}

/// The very file that is mapped: by its path in the process's mount namespace if that still is the same file, else
/// through `map_files`, which reaches files that were deleted or replaced since.
fn open(tgid: Tgid, mapping: &Mapping) -> Option<File> {
    let by_path = PathBuf::from(format!("/proc/{}/root{}", tgid.0, mapping.path));
    let by_range = PathBuf::from(format!("/proc/{}/map_files/{}", tgid.0, mapping.range));
    [by_path, by_range].into_iter().find_map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        if !metadata.is_file() || metadata.ino() != mapping.file.1 {
            return None;
        }
        File::open(&path).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tls_libraries() {
        for yes in [
            "/usr/lib/x86_64-linux-gnu/libssl.so.3",
            "/lib/libssl.so.1.1",
            "/x/libssl-8bd944e8.so.3",
            "/usr/lib/libgnutls.so.30",
        ] {
            assert!(is_called_tls(yes), "{yes}");
        }
        for no in [
            "/usr/lib/libssl3.so",
            "/usr/lib/libcrypto.so.3",
            "/usr/lib/libsslcommon.so",
            "/usr/lib/libgnutls-openssl.so.27",
            "/usr/lib/libgnutlsxx.so.30",
            "/opt/libssl-dev/x",
        ] {
            assert!(!is_called_tls(no), "{no}");
        }
    }
}
