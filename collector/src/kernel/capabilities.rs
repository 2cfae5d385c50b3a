//! The capabilities that watching needs: what for, and what is lost without each. All others are given up.

use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What is lost without a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Everything.
    All,
    /// Something is not seen.
    Part,
    /// Nothing but some time or memory.
    Cost,
}

/// A capability of capabilities(7), and why it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name there.
    pub name: &'static str,
    /// Its number in `include/uapi/linux/capability.h`.
    number: u32,
    /// What it is wanted for.
    pub purpose: &'static str,
    /// What happens without it.
    pub without: &'static str,
    /// How bad that is.
    pub weight: Weight,
    /// CAP_SYS_ADMIN is as good.
    admin_stands_in: bool,
    /// Wanted after the start, too.
    kept: bool,
}

/// Every capability that is of use, the most necessary first. Found by trying: docs/privileges.md.
pub const CAPABILITIES: &[Capability] = &[
    Capability {
        name: "CAP_BPF",
        number: 39,
        purpose: "to create maps and load programs",
        without: "nothing can be seen",
        weight: Weight::All,
        admin_stands_in: true,
        kept: true,
    },
    Capability {
        name: "CAP_PERFMON",
        number: 38,
        purpose: "to attach to tracepoints and read memory there",
        without: "nothing can be seen",
        weight: Weight::All,
        admin_stands_in: true,
        kept: true,
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        number: 21,
        purpose: "to probe TLS libraries before Linux 6.6, where the kernel wants it for uprobes (with the fix of \
                  CVE-2025-38466)",
        without: "what goes through TLS cannot be seen",
        weight: Weight::Part,
        admin_stands_in: true,
        kept: true,
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        number: 19,
        purpose: "to read /proc/PID/exe, maps and environ of other users' processes",
        without: "other users' processes are named by their command only, and TLS libraries that only they use are \
                  not found",
        weight: Weight::Part,
        admin_stands_in: false,
        kept: true,
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        number: 2,
        purpose: "to read executables and libraries in folders of others",
        without: "TLS libraries in folders that are closed to this user are not found",
        weight: Weight::Part,
        admin_stands_in: false,
        kept: true,
    },
    Capability {
        name: "CAP_CHECKPOINT_RESTORE",
        number: 40,
        purpose: "to open libraries through /proc/PID/map_files after they were replaced",
        without: "a process that still uses a TLS library that was replaced since cannot be seen inside TLS",
        weight: Weight::Part,
        admin_stands_in: true,
        kept: true,
    },
    Capability {
        name: "CAP_SYSLOG",
        number: 34,
        purpose: "to read an address from /proc/kallsyms at the start",
        without: "the syscalls backend takes a little longer to tell sockets from files",
        weight: Weight::Cost,
        admin_stands_in: false,
        kept: false,
    },
    Capability {
        name: "CAP_SYS_RESOURCE",
        number: 24,
        purpose: "to raise RLIMIT_MEMLOCK before Linux 5.11",
        without: "on such a kernel the limit must be raised beforehand (ulimit -l unlimited)",
        weight: Weight::Cost,
        admin_stands_in: false,
        kept: false,
    },
];

const CAP_SYS_ADMIN: u32 = 21;

impl Capability {
    /// Whether probing libraries tells if it is needed at all.
    #[must_use]
    pub fn is_for_probes(&self) -> bool {
        self.number == CAP_SYS_ADMIN
    }
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    effective: u64,
    /// Capabilities of a user namespace other than the first are worth nothing here, whatever they are called.
    pub in_user_namespace: bool,
}

impl Held {
    /// By what `/proc/self` says; nothing if it says nothing.
    #[must_use]
    pub fn own() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { effective: effective(&status), in_user_namespace: is_other_namespace("user", USER_NAMESPACE) }
    }

    /// Whether the process has the capability, or one that is as good.
    #[must_use]
    pub fn has(&self, capability: &Capability) -> bool {
        let has = |number: u32| self.effective >> number & 1 == 1;
        !self.in_user_namespace
            && (has(capability.number) || capability.admin_stands_in && has(CAP_SYS_ADMIN))
    }

    /// What is missing of [`CAPABILITIES`].
    pub fn missing(&self) -> impl Iterator<Item = &'static Capability> {
        CAPABILITIES.iter().filter(|capability| !self.has(capability))
    }
}

fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0)
}

/// Inode numbers of the first namespaces, `include/linux/proc_ns.h` (since 3.8): `PROC_USER_INIT_INO` and
/// `PROC_PID_INIT_INO`.
const USER_NAMESPACE: u64 = 0xEFFF_FFFD;
const PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// True if this process has a process namespace other than the machine's: the kernel's process numbers are not those
/// that it finds in its /proc.
#[must_use]
pub fn is_in_pid_namespace() -> bool {
    is_other_namespace("pid", PID_NAMESPACE)
}

fn is_other_namespace(kind: &str, first: u64) -> bool {
    std::fs::read_link(format!("/proc/self/ns/{kind}"))
        .is_ok_and(|link| link.to_string_lossy() != format!("{kind}:[{first}]"))
}

/// Gives up every capability that is not wanted after the start, for good: no program that this thread executes can
/// regain one. Only of the calling thread and of those that it starts afterwards, so it comes before them.
/// CAP_SYS_ADMIN stays if probes may need it, or if it stands in for one that is not there.
///
/// # Errors
/// The kernel refuses; everything is as before, or less.
pub fn give_up_others(probes_may_need_admin: bool) -> Result<(), std::io::Error> {
    thread::set_no_new_privs(true)?;
    let held = thread::capabilities(None)?;
    let stands_in = CAPABILITIES.iter().any(|one| {
        one.kept
            && one.admin_stands_in
            && !held.effective.contains(CapabilitySet::from_bits_retain(1 << one.number))
    });
    let wanted = CAPABILITIES
        .iter()
        .filter(|one| one.kept && (one.number != CAP_SYS_ADMIN || probes_may_need_admin || stands_in))
        .fold(CapabilitySet::empty(), |set, one| set | CapabilitySet::from_bits_retain(1 << one.number));
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & wanted,
            permitted: held.permitted & wanted,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(status: &str) -> Vec<&'static str> {
        let held = Held { effective: effective(status), in_user_namespace: false };
        held.missing().map(|capability| capability.name).collect()
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(missing("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        let all = CAPABILITIES.len();
        assert_eq!(missing("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n").len(), all);
        assert_eq!(missing("").len(), all);
        // CAP_SYS_ADMIN and CAP_SYS_PTRACE.
        assert_eq!(
            missing("CapEff:\t0000000000280000\n"),
            ["CAP_DAC_READ_SEARCH", "CAP_SYSLOG", "CAP_SYS_RESOURCE"]
        );
        // CAP_BPF and CAP_PERFMON.
        assert_eq!(missing("CapEff:\t000000c000000000\n").len(), all - 2);
    }

    #[test]
    fn a_user_namespace_has_nothing_to_give() {
        let held = Held { effective: u64::MAX, in_user_namespace: true };
        assert_eq!(held.missing().count(), CAPABILITIES.len());
    }

    #[test]
    fn names_and_numbers_are_those_of_linux() {
        for capability in CAPABILITIES {
            let set = CapabilitySet::from_bits_retain(1 << capability.number);
            let name = set.iter_names().next().map(|(name, _)| format!("CAP_{name}"));
            assert_eq!(name.as_deref(), Some(capability.name));
        }
    }
}
