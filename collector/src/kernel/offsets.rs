//! Where the running kernel keeps what the programs read: struct offsets from BTF, register offsets by architecture.

use spantap_ebpf_common::offset::ABSENT;

use super::{btf::Btf, error::KernelError};

macro_rules! list {
    ($($name:ident = $path:literal,)+) => {
        /// Global of the object -> member path, see `spantap_ebpf_common::offset`.
        pub(super) const LIST: &[(&str, &str)] = &[$((stringify!($name), $path),)+];
    };
}
spantap_ebpf_common::for_each_offset!(list);

macro_rules! enumerators {
    ($($name:ident = $path:literal,)+) => {
        /// Global of the object -> enumerator.
        const ENUMERATORS: &[(&str, &str)] = &[$((stringify!($name), $path),)+];
    };
}
spantap_ebpf_common::for_each_enumerator!(enumerators);

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What the kernel's types say.
pub(super) struct Types {
    /// Global of the object -> its value.
    pub(super) globals: Vec<(&'static str, u32)>,
    /// What is to be known of Unix sockets is there.
    pub(super) has_unix_sockets: bool,
    /// Tracepoints are guarded by SRCU (7.0) and not by disabled preemption.
    pub(super) tracepoints_may_be_preempted: bool,
}

/// Finds every offset and every enumerator of the lists.
///
/// # Errors
/// [`KernelError::NoBtf`] without readable BTF, [`KernelError::Member`] if a member that is needed is not there.
pub(super) fn resolve() -> Result<Types, KernelError> {
    let bytes = std::fs::read(BTF_PATH).map_err(|error| KernelError::NoBtf { detail: error.to_string() })?;
    let btf = Btf::parse(bytes).map_err(|error| KernelError::NoBtf { detail: error.to_string() })?;
    let enumerators =
        ENUMERATORS.iter().map(|&(name, path)| Ok((name, btf.enumerator(path).unwrap_or(ABSENT))));
    let offsets = LIST.iter().map(|&(name, path)| match btf.offset(path) {
        Some(offset) => Ok((name, offset)),
        None if path.ends_with('?') => Ok((name, ABSENT)),
        None => Err(KernelError::Member { path }),
    });
    // Before 5.14 the kind shares its field with the direction, which is the lowest bit.
    let bits = if btf.offset("iov_iter.iter_type").is_some() { 0xff } else { 0xfe };
    let globals =
        offsets.chain(enumerators).chain([Ok(("ITER_TYPE_BITS", bits))]).collect::<Result<_, _>>()?;
    let has_unix_sockets = ["unix_sock.addr", "unix_sock.peer", "unix_address.len", "unix_address.name"]
        .iter()
        .all(|path| btf.offset(path).is_some());
    Ok(Types {
        globals,
        has_unix_sockets,
        tracepoints_may_be_preempted: btf.has_typedef("class_srcu_fast_notrace_t"),
    })
}

/// The system calls of interest: number on this architecture -> operation.
pub(super) fn syscalls() -> impl Iterator<Item = (u32, u32)> {
    spantap_ebpf_common::syscall::TABLE.iter().map(|&(_, x86_64, arm64, operation)| {
        (if cfg!(target_arch = "aarch64") { arm64 } else { x86_64 }, operation)
    })
}

/// The address of `socket_file_ops`, by which the file of a socket is recognised in one comparison; 0 if the kernel
/// hides its addresses.
pub(super) fn socket_file_ops() -> u64 {
    // Millions of bytes: read as a stream, not as a string.
    use std::io::BufRead;
    let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return 0 };
    let mut reader = std::io::BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return 0,
        }
        if line.trim_ascii_end().ends_with(b" socket_file_ops") {
            let digits = line.split(|&byte| byte == b' ').next().unwrap_or_default();
            return str::from_utf8(digits)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .unwrap_or(0);
        }
    }
}
