//! What /proc tells of a process. Every reading may fail, for the process may be gone: then there is just less.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use spantap_ebpf_common::event::Tgid;

/// Bytes of an environment that are looked at.
const ENVIRON_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of a memory map that are looked at: some 100,000 mappings.
const MAPS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Resident memory of this process.
#[must_use]
pub fn own_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

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
    try_executable(tgid).ok()
}

/// The same.
///
/// # Errors
/// `PermissionDenied` if the process is there and may not be looked at; another if it is gone (or of the kernel).
pub fn try_executable(tgid: Tgid) -> Result<PathBuf, io::Error> {
    let path = fs::read_link(format!("/proc/{}/exe", tgid.0))?;
    Ok(match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(kept) => PathBuf::from(kept),
        None => path,
    })
}

/// The name by which the process was started, if that is another one of the executable's: a link to it in the same
/// folder, as Debian's `redis-server` is to `redis-check-rdb`, and most programs of busybox are.
#[must_use]
pub fn other_name(tgid: Tgid) -> Option<String> {
    let path = executable(tgid)?;
    let name = comm(tgid).filter(|name| !name.is_empty() && !name.contains('/'))?;
    // The kernel keeps 15 bytes of the name of the file that was executed; a thread may call itself something else.
    if path.file_name()?.to_str()?.starts_with(&name) {
        return None;
    }
    let folder = path.parent()?.strip_prefix("/").ok()?;
    let link = PathBuf::from(format!("/proc/{}/root", tgid.0)).join(folder).join(&name);
    let [executed, linked] =
        [PathBuf::from(format!("/proc/{}/exe", tgid.0)), link].map(|path| fs::metadata(path).ok());
    let (executed, linked) = (executed?, linked?);
    (executed.dev() == linked.dev() && executed.ino() == linked.ino()).then_some(name)
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

/// The command line, its arguments joined by single spaces.
#[must_use]
pub fn command_line(tgid: Tgid) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{}/cmdline", tgid.0)).ok()?;
    file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes).to_vec();
    let text: Vec<u8> = text.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The arguments that the process was started with, its own name first; what it has made of them since, if it has.
#[must_use]
pub fn arguments(tgid: Tgid) -> Vec<String> {
    const ARGUMENTS_MAX: usize = 256;
    let mut bytes = Vec::new();
    let Ok(file) = File::open(format!("/proc/{}/cmdline", tgid.0)) else { return Vec::new() };
    if file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let arguments = bytes.split(|&byte| byte == 0).take(ARGUMENTS_MAX);
    arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The folder that the process works in, as itself would write it.
#[must_use]
pub fn folder(tgid: Tgid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{}/cwd", tgid.0)).ok()
}

/// A small text file as the process sees it. What it has made of its file system is not trusted: links lead nowhere else,
/// and nothing but a file is opened for long.
#[must_use]
pub fn read_inside(tgid: Tgid, path: &Path) -> Option<String> {
    const BYTES_MAX: u64 = 256 * 1024;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", tgid.0), directory, Mode::empty()).ok()?;
    // A pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), inside).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The paths of the process's control groups, one of each hierarchy (cgroups(7), `/proc/PID/cgroup`).
#[must_use]
pub fn control_groups(tgid: Tgid) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", tgid.0)).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.splitn(3, ':').nth(2)?.to_owned())).collect()
}

/// The id of the container that a control group belongs to: the last 64 hexadecimal digits in its path, as Docker,
/// containerd, CRI-O and podman name them (`/docker/<id>`, `cri-containerd-<id>.scope`, `crio-<id>`).
#[must_use]
pub fn container_id(group: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let is_id = |text: &str| text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    group.rsplit(|c: char| !c.is_ascii_alphanumeric()).find(|word| is_id(word))
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
    maps(tgid).lines().filter_map(mapping).collect()
}

/// A range of addresses that a process can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Its first address.
    pub start: u64,
    /// The one behind its last.
    pub end: u64,
    /// What the kernel calls it: a path, `[heap]`, or nothing.
    pub name: String,
}

impl Area {
    /// Whether it is memory that no file stands behind.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        self.name.is_empty()
            || ["[heap]", "[stack]"].contains(&self.name.as_str())
            || self.name.starts_with("[anon")
    }
}

/// All that a process has mapped readable, in the order of addresses.
#[must_use]
pub fn areas(tgid: Tgid) -> Vec<Area> {
    maps(tgid).lines().filter_map(area).collect()
}

fn maps(tgid: Tgid) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{}/maps", tgid.0)) {
        // What was read until an error is as good as it gets.
        let _ = file.take(MAPS_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of `/proc/PID/maps`: range, permissions, offset, device, inode, name.
fn columns(line: &str) -> Option<[&str; 6]> {
    let mut words = line.splitn(6, ' ');
    let mut next = || words.next();
    let columns = [next()?, next()?, next()?, next()?, next()?, next().unwrap_or_default()];
    Some(columns.map(str::trim_start))
}

/// `7f1c-7f1d r--s 0000 00:01 5   /memfd:OTEL_CTX (deleted)`
fn area(line: &str) -> Option<Area> {
    let [range, permissions, _, _, _, name] = columns(line)?;
    let (start, end) = range.split_once('-')?;
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    let area = Area { start: address(start)?, end: address(end)?, name: name.to_owned() };
    permissions.starts_with('r').then_some(area)
}

/// `7f1c-7f1d r-xp 0000 08:01 1234   /usr/lib/libssl.so.3`
fn mapping(line: &str) -> Option<Mapping> {
    let [range, permissions, _, device, inode, path] = columns(line)?;
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
    fn a_program_with_several_names_has_the_one_that_it_was_started_by() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["sleeps", "naps"].map(|name| folder.path().join(name));
        fs::copy("/bin/sleep", &file).unwrap();
        std::os::unix::fs::symlink("sleeps", &link).unwrap();
        for (path, name, expected) in [(&file, "sleeps", None), (&link, "naps", Some("naps".to_owned()))] {
            let mut child = std::process::Command::new(path).arg("60").spawn().unwrap();
            let tgid = Tgid(child.id());
            // The child runs the file a moment after it was made.
            while comm(tgid).as_deref() != Some(name) {
                std::thread::yield_now();
            }
            assert_eq!(other_name(tgid), expected);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(other_name(Tgid(u32::MAX)), None);
    }

    #[test]
    fn a_process_that_is_gone_gives_nothing() {
        let gone = Tgid(u32::MAX);
        assert_eq!((executable(gone), executable_mappings(gone)), (None, Vec::new()));
        assert_eq!(environment(gone, ["PATH"]), [None]);
    }

    #[test]
    fn own_command_line_and_groups() {
        let own = Tgid(std::process::id());
        let arguments: Vec<String> = std::env::args().collect();
        assert_eq!(command_line(own), Some(arguments.join(" ")));
        assert!(control_groups(own).iter().all(|path| path.starts_with('/')));
    }

    #[test]
    fn containers_by_their_groups() {
        let id = "0123456789abcdef".repeat(4);
        for group in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods/burstable/pod12-34/{id}"),
            format!("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/crio-{id}.scope/container"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-besteffort-pod1:cri-containerd:{id}"),
        ] {
            assert_eq!(container_id(&group), Some(id.as_str()), "{group}");
        }
        for group in ["/", "/user.slice/user-0.slice", &format!("/docker/{id}0"), &format!("/x/{}", &id[1..])]
        {
            assert_eq!(container_id(group), None, "{group}");
        }
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

    #[test]
    fn areas_of_maps() {
        for (line, start, end, name, is_memory) in [
            ("1000-2000 rw-p 00000000 00:00 0 ", 0x1000, 0x2000, "", true),
            ("1000-2000 rw-p 00000000 00:00 0", 0x1000, 0x2000, "", true),
            ("1-2 rw-p 00000000 00:00 0                  [heap]", 1, 2, "[heap]", true),
            ("1-2 r--p 00000000 00:00 0                  [anon:OTEL_CTX]", 1, 2, "[anon:OTEL_CTX]", true),
            ("1-2 r--s 00000000 00:01 5 /memfd:x y (deleted)", 1, 2, "/memfd:x y (deleted)", false),
            ("1-2 rw-s 00000000 00:06 9 /dev/mem", 1, 2, "/dev/mem", false),
        ] {
            let area = area(line).unwrap();
            assert_eq!((area.start, area.end, area.name.as_str()), (start, end, name), "{line}");
            assert_eq!(area.is_memory(), is_memory, "{line}");
        }
        for other in ["", "1-2", "1-x r--p 0 0 0 ", "1-2 ---p 0 00:00 0 "] {
            assert_eq!(area(other), None, "{other}");
        }
        assert!(areas(Tgid(std::process::id())).iter().any(|area| area.name == "[stack]"));
    }
}
