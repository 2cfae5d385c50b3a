//! What the machine must offer before anything is loaded, and what to do where it does not.

use std::fmt;

use super::capabilities::{Held, Weight};

/// Something without which the kernel cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Capabilities that the process lacks and without which nothing is seen.
    Capabilities(Vec<&'static str>),
    /// The process is in a user namespace, whose capabilities do not reach the kernel's own things.
    UserNamespace,
    /// The kernel shows no BTF.
    Btf,
    /// Another operating system, or /proc is not mounted.
    Proc,
    /// Kernel lockdown in `confidentiality` mode forbids reading memory.
    Lockdown,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(names) => write!(
                f,
                "no permission to load eBPF programs: {} missing\nrun it as root: sudo spantap, or with what `spantap check` names",
                names.join(", ")
            ),
            Self::UserNamespace => write!(
                f,
                "no permission to load eBPF programs from inside a user namespace\nrun it outside, as root: sudo \
                 spantap; in a container, one without userns mapping"
            ),
            Self::Btf => write!(
                f,
                "this kernel describes no types (/sys/kernel/btf/vmlinux is not there)\nuse a kernel built with \
                 CONFIG_DEBUG_INFO_BTF, as every major distribution's since 2021 is"
            ),
            Self::Proc => write!(f, "/proc is not there\nspantap runs on Linux; in a container, mount proc"),
            Self::Lockdown => write!(
                f,
                "kernel lockdown is in confidentiality mode, which forbids eBPF to read memory\nboot with \
                 lockdown=integrity or less"
            ),
        }
    }
}

/// Checks what can be checked without trying.
///
/// # Errors
/// The first thing that is missing.
pub fn preflight() -> Result<(), Missing> {
    std::fs::metadata("/proc/self/status").map_err(|_| Missing::Proc)?;
    let held = Held::own();
    if held.in_user_namespace {
        return Err(Missing::UserNamespace);
    }
    let missing: Vec<_> =
        held.missing().filter(|one| one.weight == Weight::All).map(|one| one.name).collect();
    if !missing.is_empty() {
        return Err(Missing::Capabilities(missing));
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Missing::Btf);
    }
    if std::fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|text| text.contains("[confidentiality]"))
    {
        return Err(Missing::Lockdown);
    }
    Ok(())
}

/// True if the kernel may preempt a thread that runs in it, and with it a program of ours; also if that is not known.
pub(super) fn kernel_preempts_itself() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    preempts(&read("/proc/sys/kernel/version"), &read("/sys/kernel/debug/sched/preempt"))
}

/// `version` is what `uname -v` says, `mode` the choice of a kernel that has all of them: `none voluntary (full) lazy`.
fn preempts(version: &str, mode: &str) -> bool {
    if !version.contains("PREEMPT") {
        return version.is_empty();
    }
    !(version.contains("PREEMPT_DYNAMIC") && (mode.contains("(none)") || mode.contains("(voluntary)")))
}

/// True if the kernel has this function, as far as it shows its functions.
pub(super) fn has_function(name: &str) -> bool {
    let symbols = std::fs::read("/proc/kallsyms").unwrap_or_default();
    let ends = format!(" {name}");
    symbols.split(|&byte| byte == b'\n').any(|line| line.ends_with(ends.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preemption_is_read_from_version_and_mode() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.95-1 (2026-07-05)";
        assert!(!preempts("#1 SMP Debian 5.10.223-1 (2024-08-10)", ""));
        assert!(!preempts(dynamic, "none (voluntary) full \n"));
        assert!(!preempts(dynamic, "(none) voluntary full \n"));
        assert!(preempts(dynamic, "full (lazy)\n"));
        assert!(preempts(dynamic, ""), "not known");
        assert!(preempts("#1 SMP PREEMPT_RT Debian 6.1.176-1", ""));
        assert!(preempts("", ""), "not known");
    }

    #[test]
    fn every_message_says_what_to_do() {
        for missing in [
            Missing::Btf,
            Missing::Proc,
            Missing::Lockdown,
            Missing::UserNamespace,
            Missing::Capabilities(vec!["CAP_BPF"]),
        ] {
            assert_eq!(missing.to_string().lines().count(), 2, "{missing}");
        }
    }
}
