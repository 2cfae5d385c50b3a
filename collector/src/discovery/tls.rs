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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{Mode, OFlags};
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::BootNanos;

use super::{
    executable::{Image, is_elf},
    procfs::{self, Mapping},
    tls_library::{self, Placement},
};
use crate::{kernel::Attacher, telemetry::clock::boot_now};

/// Files remembered as found; beyond it they are looked at anew.
const FOUND_MAX: usize = 65_536;

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
    /// Files called like a TLS library that were gone before they could be opened; the next process that maps them
    /// tries again.
    pub gone: u64,
    /// Processes that were gone before what they map could be read.
    pub unread: u64,
}

/// A file that somebody maps, open: it can be looked into and probed even if the process is gone.
pub struct Found {
    /// Who maps it: the same path in another mount namespace may be another file.
    tgid: Tgid,
    path: String,
    file: File,
    /// When its mapping was heard of, or something before it of the same process; unless it was there before us.
    mapped: Option<BootNanos>,
}

/// Finds the files that processes map executable, and opens each once. Does nothing slow: a process that asks for one
/// thing is there for milliseconds.
#[derive(Default)]
pub struct TlsFinder {
    /// Device and inode as maps name them, with a hash of the path: an inode may be given to another file.
    found: HashMap<(String, u64), u64>,
    hasher: RandomState,
    gone: u64,
    unread: u64,
}

impl TlsFinder {
    /// The TLS libraries of the host, whether anybody uses them or not.
    pub fn host(&self) -> impl Iterator<Item = Found> {
        // Where /lib is a link to /usr/lib the same files come twice, and the second time are known.
        let entries =
            LIBRARY_FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let tgid = Tgid(std::process::id());
        entries.filter_map(move |entry| {
            let name = entry.file_name();
            let is_library = LIBRARY_NAMES.iter().any(|known| name.to_string_lossy().starts_with(known));
            let is_file = is_library && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
            let file = is_file.then(|| File::open(entry.path()).ok()).flatten()?;
            let path = entry.path().to_string_lossy().into_owned();
            Some(Found { tgid, path, file, mapped: None })
        })
    }

    /// The files of a process that were not found before, what is called like a TLS library first. `mapped`: when it was
    /// heard of, see [`Found`].
    pub fn scan(&mut self, tgid: Tgid, mapped: Option<BootNanos>) -> Vec<Found> {
        let mut found = Vec::new();
        let mappings = procfs::executable_mappings(tgid);
        // Whatever runs has its executable mapped.
        self.unread += u64::from(mappings.is_empty());
        for mapping in mappings {
            let path_hash = self.hasher.hash_one(&mapping.path);
            if self.found.get(&mapping.file) == Some(&path_hash) {
                continue;
            }
            let is_called_tls = is_called_tls(&mapping.path);
            let Some(file) = open(tgid, &mapping) else {
                self.gone += u64::from(is_called_tls);
                continue;
            };
            if self.found.len() >= FOUND_MAX {
                self.found.clear();
            }
            self.found.insert(mapping.file, path_hash);
            let at = if is_called_tls { 0 } else { found.len() };
            found.insert(at, Found { tgid, path: mapping.path, file, mapped });
        }
        found
    }

    /// What was gone too soon: files, and processes.
    #[must_use]
    pub fn gone(&self) -> TlsCounts {
        TlsCounts { gone: self.gone, unread: self.unread, ..TlsCounts::default() }
    }
}

/// What tells one file from another. Its inode is not given to another one while it is probed, for a probe holds it.
///
/// In the overlays of several containers one file has several names: another device in each. Those are one to the kernel,
/// which would run as many programs for each call; so there the device is left out, and the times of the file below, which
/// no program can choose, take its place. (If layers are on different file systems, inode numbers differ as well. Then the
/// file is probed several times, and the kernel side takes the repeated reports of a call for what they are.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    device: Option<u64>,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileKey {
    fn of(file: &File) -> Option<Self> {
        /// `include/uapi/linux/magic.h: OVERLAYFS_SUPER_MAGIC`.
        const OVERLAY: u64 = 0x794c_7630;
        let metadata = file.metadata().ok()?;
        let is_overlay = rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type as u64 == OVERLAY);
        Some(Self {
            device: (!is_overlay).then(|| metadata.dev()),
            inode: metadata.ino(),
            size: if is_overlay { metadata.len() } else { 0 },
            changed: if is_overlay { (metadata.ctime(), metadata.ctime_nsec()) } else { (0, 0) },
        })
    }
}

/// Looks into files for TLS libraries, and probes those. Slow: there are large files, and the kernel synchronises.
pub struct TlsProber {
    attacher: Attacher,
    placement: Placement,
    /// Files that are probed, or cannot be.
    known: HashSet<FileKey>,
    /// Since when all that is probed is probed; see [`crate::connection::Table::know_tls_watch`].
    watched_since: Arc<AtomicU64>,
    counts: TlsCounts,
}

impl TlsProber {
    /// Probes by `attacher`, which stays attached as long as this lives.
    #[must_use]
    pub fn new(attacher: Attacher, placement: Placement, watched_since: Arc<AtomicU64>) -> Self {
        Self { attacher, placement, known: HashSet::new(), watched_since, counts: TlsCounts::default() }
    }

    /// What became of the libraries so far.
    #[must_use]
    pub fn counts(&self) -> TlsCounts {
        self.counts
    }

    /// Probes a file if it has a TLS library in it.
    pub fn look_into(&mut self, Found { tgid, path, mut file, mapped }: Found) {
        let Some(key) = FileKey::of(&file) else { return };
        if self.known.contains(&key) || !is_elf(&mut file) {
            return;
        }
        // The kernel finds the file through our descriptor, even if the process is gone and the file deleted.
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let image = Image::new(file);
        let library = image.as_ref().map(|image| tls_library::identify(image, self.placement));
        let library = match library {
            Ok(Ok(Some(library))) => library,
            Ok(Ok(None)) if is_called_tls(&path) => {
                return self.refuse(key, tgid, &path, "it has not the symbols of one");
            }
            Ok(Err(error)) if is_called_tls(&path) => {
                return self.refuse(key, tgid, &path, &error.to_string());
            }
            Err(error) if is_called_tls(&path) => return self.refuse(key, tgid, &path, &error.to_string()),
            _ => return,
        };
        for place in &library.randoms {
            if !self.attacher.learn_random(*place) {
                tracing::debug!(library = path, ?place, "too many places of randoms are known");
            }
        }
        // Before the first call that may be reported, and after the last that may be missed.
        self.watched_since.store(u64::MAX, Ordering::Release);
        let (attached, refused) = self.attacher.attach_tls(&descriptor, &library.probes);
        let now = boot_now();
        self.watched_since.store(now.0, Ordering::Release);
        if attached == 0 {
            return self.refuse(key, tgid, &path, &refused.join("; "));
        }
        self.known.insert(key);
        self.counts.probed += 1;
        // What a process did in this time was not seen: it should be less than what it takes to begin.
        let unwatched_ms = mapped.map(|mapped| now.since(mapped) as f64 / 1e6);
        tracing::info!(
            library = path,
            pid = tgid.0,
            family = library.family.name(),
            functions = attached,
            unwatched_ms,
            "watching TLS"
        );
        for reason in refused {
            tracing::warn!(library = path, reason, "a TLS function cannot be watched");
        }
    }

    fn refuse(&mut self, key: FileKey, tgid: Tgid, library: &str, reason: &str) {
        self.known.insert(key);
        self.counts.refused += 1;
        tracing::warn!(
            library,
            pid = tgid.0,
            reason,
            "cannot watch this TLS library; its connections stay opaque"
        );
    }
}

/// `libssl.so.3`, `libssl-8bd944e8.so.1.1`, `libgnutls.so.30`; not `libssl3.so` (NSS), nor what comes with GnuTLS and
/// has no session: `libgnutls-dane` looks up certificates, `libgnutls-openssl` calls GnuTLS.
fn is_called_tls(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["libssl", "libgnutls"].iter().filter_map(|known| name.strip_prefix(known)).any(|rest| {
        rest.starts_with(".so") || rest.strip_prefix('-').is_some_and(|hash| hash.contains(".so"))
    }) && !["libgnutls-openssl.", "libgnutls-dane."].iter().any(|other| name.starts_with(other))
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
        // Not waiting for anybody: by now the path may lead to a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map(File::from).ok()
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
            "/usr/lib/libgnutls-dane.so.0.4.1",
            "/usr/lib/libgnutlsxx.so.30",
            "/opt/libssl-dev/x",
        ] {
            assert!(!is_called_tls(no), "{no}");
        }
    }
}
