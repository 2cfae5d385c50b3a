//! What /proc and /sys say of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Finding, Section, Status, mib};
use crate::kernel;

/// The kernel and how it is set up, in the order of the screen.
pub(super) fn look() -> Vec<Finding> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    vec![
        kernel_version(),
        btf(Path::new("/sys/kernel/btf/vmlinux")),
        lockdown(fs::read_to_string("/sys/kernel/security/lockdown").ok().as_deref()),
        namespaces(kernel::is_in_pid_namespace()),
        setting("perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid", "CAP_PERFMON"),
        setting("unprivileged_bpf_disabled", "/proc/sys/kernel/unprivileged_bpf_disabled", "CAP_BPF"),
        setting("kptr_restrict", "/proc/sys/kernel/kptr_restrict", "CAP_SYSLOG, at a small cost only"),
        locked_memory(&fs::read_to_string("/proc/self/limits").unwrap_or_default()),
        control_groups(&mounts),
        tracefs(&mounts),
    ]
}

fn kernel_version() -> Finding {
    let uname = rustix::system::uname();
    let [release, machine] = [uname.release(), uname.machine()].map(|text| text.to_string_lossy());
    Finding::new(Section::Machine, "kernel", Status::Works, format!("Linux {release} on {machine}"))
}

fn btf(path: &Path) -> Finding {
    let found = |status, text: String| Finding::new(Section::Machine, "types (BTF)", status, text);
    match fs::metadata(path) {
        Ok(metadata) => found(Status::Works, format!("{}, {:.1} MiB", path.display(), mib(metadata.len()))),
        Err(error) => found(Status::Nothing, format!("{}: {error}", path.display()))
            .advise("use a kernel built with CONFIG_DEBUG_INFO_BTF; in a container, mount /sys"),
    }
}

/// `text`: of securityfs's file, where the mode in force stands in brackets.
fn lockdown(text: Option<&str>) -> Finding {
    let mode = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(mode, _)| mode);
    let found = |status, text: &str| Finding::new(Section::Machine, "lockdown", status, text);
    match mode {
        None => found(Status::Works, "not in force, or securityfs is not mounted"),
        Some("confidentiality") => {
            found(Status::Nothing, "confidentiality: eBPF programs must not read memory")
                .advise("boot with lockdown=integrity, or without")
        }
        Some(mode) => found(Status::Works, mode),
    }
}

fn namespaces(is_other: bool) -> Finding {
    let found = |status, text| Finding::new(Section::Machine, "process numbers", status, text);
    if is_other {
        found(
            Status::Part,
            "this is a process namespace of its own: the kernel's numbers mean others in its /proc, so \
              processes are not named and their TLS libraries not found",
        )
        .advise("share the host's: docker run --pid=host, hostPID: true in Kubernetes")
    } else {
        found(Status::Works, "the machine's own")
    }
}

/// A setting that matters to those who lack a capability. Whether it does is tried elsewhere.
fn setting(name: &str, path: &str, capability: &str) -> Finding {
    let found = match fs::read_to_string(path) {
        Ok(value) => format!("{}; it restricts those without {capability}", value.trim()),
        Err(_) => "not in this kernel".to_owned(),
    };
    Finding::new(Section::Machine, name, Status::Works, found)
}

/// Maps count against it before Linux 5.11. Whether it is enough is found by creating them.
fn locked_memory(limits: &str) -> Finding {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown");
    let limit = soft.parse().map_or(soft.to_owned(), |bytes| format!("{:.1} MiB", mib(bytes)));
    let found = format!("{limit}; it counts for maps before Linux 5.11 only, and is raised there");
    Finding::new(Section::Machine, "locked memory", Status::Works, found)
}

fn control_groups(mountinfo: &str) -> Finding {
    let (v1, v2) = (mounted(mountinfo, "cgroup"), mounted(mountinfo, "cgroup2"));
    let found = |status, text: String| Finding::new(Section::Machine, "control groups", status, text);
    match (v1.first(), v2.first()) {
        (None, None) => {
            found(Status::Note, "not mounted here; containers are told by /proc all the same".into())
        }
        (Some(_), None) => found(Status::Works, format!("version 1, {} hierarchies", v1.len())),
        (None, Some(at)) => found(Status::Works, format!("version 2 at {}", at.display())),
        (Some(_), Some(at)) => {
            found(Status::Works, format!("version 1, {} hierarchies, and 2 at {}", v1.len(), at.display()))
        }
    }
}

/// Plain tracepoints are found through it; raw and typed ones are not.
fn tracefs(mountinfo: &str) -> Finding {
    match mounted(mountinfo, "tracefs").first() {
        Some(at) => {
            Finding::new(Section::Machine, "tracefs", Status::Works, format!("mounted at {}", at.display()))
        }
        None => {
            let found = "not mounted; kernels that preempt themselves need it";
            Finding::new(Section::Machine, "tracefs", Status::Note, found)
        }
    }
}

/// Where file systems of a type are mounted; proc(5), /proc/PID/mountinfo.
fn mounted(mountinfo: &str, kind: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let is_kind = source.split(' ').next() == Some(kind);
            mount.split(' ').nth(4).filter(|_| is_kind).map(PathBuf::from)
        })
        .collect()
}

/// Memory of the maps that this process holds, by what the kernel says of their descriptors; `None` if it has none.
pub(super) fn map_bytes() -> Option<u64> {
    let descriptors = fs::read_dir("/proc/self/fdinfo").ok()?.flatten();
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let mut maps: Vec<(u64, u64)> = texts.filter_map(|text| map_of(&text)).collect();
    maps.sort_unstable();
    maps.dedup();
    (!maps.is_empty()).then(|| maps.iter().map(|(_, bytes)| bytes).sum())
}

/// The number of a map and the memory that it takes, from the fdinfo of a descriptor.
fn map_of(fdinfo: &str) -> Option<(u64, u64)> {
    let value = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value("map_type:")?;
    Some((value("map_id:")?, value("memlock:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_modes() {
        for (text, status) in [
            (None, Status::Works),
            (Some("[none] integrity confidentiality\n"), Status::Works),
            (Some("none [integrity] confidentiality\n"), Status::Works),
            (Some("none integrity [confidentiality]\n"), Status::Nothing),
        ] {
            assert_eq!(lockdown(text).status, status, "{text:?}");
        }
    }

    #[test]
    fn mounts_are_told_by_type() {
        let mounts = "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      26 1 0:23 / /sys/kernel/tracing rw - tracefs tracefs rw\n\
                      27 1 0:24 / /cg/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(mounted(mounts, "cgroup"), [PathBuf::from("/cg/cpu")]);
        assert_eq!(mounted(mounts, "cgroup2"), [PathBuf::from("/sys/fs/cgroup")]);
        assert!(control_groups(mounts).found.contains("and 2 at /sys/fs/cgroup"));
        assert_eq!(control_groups("").status, Status::Note);
        assert!(tracefs(mounts).found.ends_with("/sys/kernel/tracing"));
    }

    #[test]
    fn memory_of_maps() {
        let map =
            "pos:\t0\nmap_type:\t27\nmax_entries:\t8388608\nmemlock:\t8438144\nmap_id:\t7\nfrozen:\t0\n";
        assert_eq!(map_of(map), Some((7, 8_438_144)));
        assert_eq!(map_of("pos:\t0\nprog_type:\t2\nmemlock:\t4096\n"), None);
    }

    #[test]
    fn without_btf_nothing_works() {
        let finding = btf(Path::new("/does/not/exist"));
        assert_eq!(finding.status, Status::Nothing);
        assert!(finding.advice.is_some());
    }

    #[test]
    fn limits_are_read() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax locked memory         8388608   8388608   bytes\n";
        assert!(locked_memory(limits).found.starts_with("8.0 MiB; "));
        assert!(
            locked_memory("Max locked memory  unlimited  unlimited  bytes").found.starts_with("unlimited; ")
        );
    }
}
