//! What /proc tells of a process. Every reading may fail, for the process may be gone: then there is just less.

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
};

use spantap_ebpf_common::event::Tgid;

/// Bytes of an environment that are looked at.
const ENVIRON_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of a memory map that are looked at: some 100,000 mappings.
const MAPS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Every process of the host, in no order.
pub fn processes() -> impl Iterator<Item = Tgid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Tgid))
}

/// The executable's path, as the process itself would write it. A file that was replaced since is named as it was.
#[must_use]
pub fn executable(tgid: Tgid) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{}/exe", tgid.0)).ok()?;
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(kept) => Some(PathBuf::from(kept)),
        None => Some(path),
    }
}

/// The values of the named variables in the environment with which the process was started, in the order of `names`.
#[must_use]
pub fn environment<const N: usize>(tgid: Tgid, names: [&str; N]) -> [Option<String>; N] {
    let mut found = [const { None }; N];
    let mut bytes = Vec::new();
    let Ok(file) = File::open(format!("/proc/{}/environ", tgid.0)) else { return found };
    if file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return found;
    }
    for entry in bytes.split(|&byte| byte == 0) {
        for (slot, name) in found.iter_mut().zip(names) {
            let value = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value {
                *slot = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    found
}

/// The process's `comm`, without the zeros that pad it.
#[must_use]
pub fn comm_text(comm: &[u8]) -> String {
    let end = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(comm.get(..end).unwrap_or_default()).into_owned()
}

/// The name of a process's first thread.
#[must_use]
pub fn comm(tgid: Tgid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{}/comm", tgid.0)).ok()?.trim_end_matches('\n').to_owned())
}

/// A file that a process has mapped executable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The address range, as in the name of `/proc/PID/map_files/RANGE`.
    pub range: String,
    /// Device and inode as text: what tells one file from another.
    pub file: (String, u64),
    /// Its path inside the process's mount namespace.
    pub path: String,
}

/// The executable mappings of files.
#[must_use]
pub fn executable_mappings(tgid: Tgid) -> Vec<Mapping> {
    let mut text = String::new();
    let Ok(file) = File::open(format!("/proc/{}/maps", tgid.0)) else { return Vec::new() };
    if file.take(MAPS_BYTES_MAX).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    text.lines().filter_map(mapping).collect()
}

/// `7f1c-7f1d r-xp 0000 08:01 1234   /usr/lib/libssl.so.3`
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (range, permissions, _offset, device, inode) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let path = words.next()?.trim_start();
    if !permissions.contains('x') || !path.starts_with('/') {
        return None;
    }
    let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
    Some(Mapping { range: range.to_owned(), file: (device.to_owned(), inode.parse().ok()?), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_readable() {
        let own = Tgid(std::process::id());
        assert!(processes().any(|tgid| tgid == own));
        assert_eq!(executable(own), std::env::current_exe().ok());
        assert!(!executable_mappings(own).is_empty());
        assert!(environment(own, ["PATH"])[0].is_some());
    }

    #[test]
    fn a_process_that_is_gone_gives_nothing() {
        let gone = Tgid(u32::MAX);
        assert_eq!((executable(gone), executable_mappings(gone)), (None, Vec::new()));
        assert_eq!(environment(gone, ["PATH"]), [None]);
    }

    #[test]
    fn lines_of_maps() {
        let line = "7f1c00000000-7f1c00010000 r-xp 00001000 fe:00 1234      /opt/a b/libssl.so.3 (deleted)";
        let mapping_ = mapping(line).unwrap();
        assert_eq!(mapping_.path, "/opt/a b/libssl.so.3");
        assert_eq!(mapping_.file, ("fe:00".to_owned(), 1234));
        for other in ["", "x", "1-2 r--p 0 0:0 1 /lib", "1-2 r-xp 0 0:0 0 [vdso]", "1-2 r-xp 0 0:0 0"] {
            assert_eq!(mapping(other), None, "{other}");
        }
    }
}
