//! The socket backends: which kernel hooks each has, and which of them `auto` takes.

use std::time::Instant;

use aya::{Btf, Ebpf, programs::Program};

use super::{
    error::{chain, refusal},
    features,
    offsets::Types,
};

/// Where the bytes of sockets are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The cheapest one that sees everything on this kernel.
    #[default]
    Auto,
    /// Tracepoints of the socket layer: Linux 6.17 and later.
    Sockets,
    /// Trampolines at functions of the socket layer.
    Fentry,
    /// Kprobes at the same functions.
    Kprobes,
    /// Tracepoints around every system call: everywhere.
    Syscalls,
}

/// Programs that could not be attached, with the reason.
pub type Degraded = Vec<(&'static str, String)>;

/// What became of each program that was tried.
pub type Report = Vec<Attempt>;

/// A program that was loaded and attached, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub program: String,
    /// Why it was refused, with the last lines of the verifier's log.
    pub refused: Option<String>,
    /// How many instructions the verifier walked, if the kernel says so (since 5.16). It takes no more than a million.
    pub verified: Option<u32>,
}

/// A program that could not be attached, and why.
type Refused = (&'static str, String);

/// A program, and where it is attached: a tracepoint (a plain one with its group) or a function of the kernel.
struct Hook {
    program: &'static str,
    at: &'static str,
    /// Without it the backend is of no use; without the others something is not seen, but the rest is.
    needed: bool,
}

const fn needed(program: &'static str, at: &'static str) -> Hook {
    Hook { program, at, needed: true }
}

const fn useful(program: &'static str, at: &'static str) -> Hook {
    Hook { program, at, needed: false }
}

/// Whatever the backend: the ends of connections, the beginnings and ends of processes.
const COMMON: &[Hook] = &[
    useful("tcp_destroy_sock", "tcp_destroy_sock"),
    useful("connect_state", "inet_sock_set_state"),
    useful("sched_process_exec", "sched_process_exec"),
    useful("sched_process_exit", "sched_process_exit"),
];

/// The newest first.
const SOCKETS: &[Hook] = &[
    needed("tcp_sendmsg_locked", "tcp_sendmsg_locked"),
    needed("sock_recv_length", "sock_recv_length"),
    needed("sock_send_length", "sock_send_length"),
    needed("inet_sock_set_state", "inet_sock_set_state"),
    needed("vm_unmapped_area", "vm_unmapped_area"),
];

/// The same at plain tracepoints, see `collector-ebpf/src/programs/plain.rs`.
const SOCKETS_PLAIN: &[Hook] = &[
    needed("plain_sendmsg_locked", "tcp/tcp_sendmsg_locked"),
    needed("plain_recv_length", "sock/sock_recv_length"),
    needed("plain_send_length", "sock/sock_send_length"),
    needed("plain_set_state", "sock/inet_sock_set_state"),
    needed("plain_unmapped_area", "mmap/vm_unmapped_area"),
];

const SYSCALLS_PLAIN: &[Hook] =
    &[needed("plain_sys_exit", "raw_syscalls/sys_exit"), useful("plain_sys_enter", "raw_syscalls/sys_enter")];

const COMMON_PLAIN: &[Hook] = &[
    useful("plain_destroy_sock", "tcp/tcp_destroy_sock"),
    useful("plain_connect_state", "sock/inet_sock_set_state"),
    useful("plain_process_exec", "sched/sched_process_exec"),
    useful("plain_process_exit", "sched/sched_process_exit"),
];

const FENTRY: &[Hook] = &[
    needed("inet_sendmsg_exit", "inet_sendmsg"),
    needed("inet_sendmsg_entry", "inet_sendmsg"),
    needed("inet_recvmsg_exit", "inet_recvmsg"),
    needed("inet_recvmsg_entry", "inet_recvmsg"),
    useful("inet6_sendmsg_exit", "inet6_sendmsg"),
    useful("inet6_sendmsg_entry", "inet6_sendmsg"),
    useful("inet6_recvmsg_exit", "inet6_recvmsg"),
    useful("inet6_recvmsg_entry", "inet6_recvmsg"),
    useful("inet_sendpage_exit", "inet_sendpage"),
    useful("inet_sendpage_entry", "inet_sendpage"),
    useful("tcp_splice_read_exit", "tcp_splice_read"),
    useful("tcp_splice_read_entry", "tcp_splice_read"),
    useful("inet_sock_set_state", "inet_sock_set_state"),
    useful("security_mmap_file_entry", "security_mmap_file"),
    useful("unix_release_entry", "unix_release"),
    useful("unix_sendmsg_exit", "unix_stream_sendmsg"),
    useful("unix_sendmsg_entry", "unix_stream_sendmsg"),
    useful("unix_recvmsg_exit", "unix_stream_recvmsg"),
    useful("unix_recvmsg_entry", "unix_stream_recvmsg"),
    useful("unix_sendpage_exit", "unix_stream_sendpage"),
    useful("unix_sendpage_entry", "unix_stream_sendpage"),
    useful("unix_splice_read_exit", "unix_stream_splice_read"),
    useful("unix_splice_read_entry", "unix_stream_splice_read"),
];

const KPROBES: &[Hook] = &[
    needed("release_sock_kprobe", "release_sock"),
    needed("sendmsg_kprobe", "inet_sendmsg"),
    needed("recvmsg_kprobe", "inet_recvmsg"),
    useful("sendmsg_kprobe", "inet6_sendmsg"),
    useful("recvmsg_kprobe", "inet6_recvmsg"),
    useful("sendpage_kprobe", "inet_sendpage"),
    useful("splice_read_kprobe", "tcp_splice_read"),
    useful("inet_sock_set_state", "inet_sock_set_state"),
    useful("mmap_file_kprobe", "security_mmap_file"),
];

/// Functions that newer kernels lack because they need them no more (6.5), so that their absence is no loss.
const GONE: &[&str] = &["inet_sendpage", "unix_stream_sendpage"];

/// What the functions that only concern Unix sockets begin with.
const UNIX: &str = "unix_";

impl Backend {
    /// Every one but [`Backend::Auto`].
    pub const ALL: &'static [Self] = &[Self::Sockets, Self::Fentry, Self::Kprobes, Self::Syscalls];

    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sockets => "sockets",
            Self::Fentry => "fentry",
            Self::Kprobes => "kprobes",
            Self::Syscalls => "syscalls",
        }
    }

    /// True if its programs remember calls between entry and return in the map `CALLS`.
    pub(super) fn notes_calls(self) -> bool {
        matches!(self, Self::Fentry | Self::Kprobes)
    }
}

/// What the kernel may preempt of our programs.
///
/// A program that is preempted is not run for other threads of that processor: the kernel takes that for a recursion.
/// What they do is missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preemption {
    /// Programs in trampolines.
    trampolines: bool,
    /// Programs at raw and typed tracepoints; those at plain ones never are, nor are kprobes.
    tracepoints: bool,
}

impl Preemption {
    pub(super) fn of_kernel(types: &Types) -> Self {
        let preempts = features::kernel_preempts_itself();
        Self { trampolines: preempts, tracepoints: preempts && types.tracepoints_may_be_preempted }
    }
}

/// The backends to try, in this order.
///
/// `auto` takes none whose programs may be preempted. Kprobes are not taken by themselves: they cost more than
/// tracepoints, and do not see what kernel TLS moves.
pub(super) fn candidates(wanted: Backend, preemption: Preemption) -> Vec<Backend> {
    match wanted {
        Backend::Auto if preemption.trampolines => vec![Backend::Sockets, Backend::Syscalls],
        Backend::Auto => vec![Backend::Sockets, Backend::Fentry, Backend::Syscalls],
        wanted => vec![wanted],
    }
}

/// Attaches all that a backend needs, and of the rest what can be; what only concerns Unix sockets if `unix`. The error names the program that it cannot do
/// without.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    backend: Backend,
    unix: bool,
    preemption: Preemption,
    btf: &Btf,
    report: &mut Report,
) -> Result<Degraded, Refused> {
    let (hooks, common) = match (backend, preemption.tracepoints) {
        (Backend::Sockets, false) => (SOCKETS, COMMON),
        (Backend::Sockets, true) => (SOCKETS_PLAIN, COMMON_PLAIN),
        (Backend::Fentry, false) => (FENTRY, COMMON),
        (Backend::Fentry, true) => (FENTRY, COMMON_PLAIN),
        (Backend::Kprobes, false) => (KPROBES, COMMON),
        (Backend::Kprobes, true) => (KPROBES, COMMON_PLAIN),
        (Backend::Syscalls | Backend::Auto, true) => (SYSCALLS_PLAIN, COMMON_PLAIN),
        (Backend::Syscalls | Backend::Auto, false) => (&[] as &[Hook], COMMON),
    };
    // The ends of connections first: a connection that is met must be forgotten when its socket is used for another.
    let mut degraded = attach_all(ebpf, common, unix, btf, report)?;
    degraded.extend(attach_all(ebpf, hooks, unix, btf, report)?);
    if hooks.is_empty() {
        degraded.extend(attach_syscalls(ebpf, btf, report)?);
    }
    Ok(degraded)
}

fn attach_all(
    ebpf: &mut Ebpf,
    hooks: &[Hook],
    unix: bool,
    btf: &Btf,
    report: &mut Report,
) -> Result<Degraded, Refused> {
    let mut degraded = Vec::new();
    for hook in hooks.iter().filter(|hook| unix || !hook.at.starts_with(UNIX)) {
        match attach_one(ebpf, hook.program, hook.at, btf, report) {
            Ok(()) => {}
            Err(detail) if hook.needed => return Err((hook.program, detail)),
            Err(_) if GONE.contains(&hook.at) && !features::has_function(hook.at) => {}
            Err(detail) => degraded.push((hook.program, detail)),
        }
    }
    Ok(degraded)
}

fn attach_syscalls(ebpf: &mut Ebpf, btf: &Btf, report: &mut Report) -> Result<Degraded, Refused> {
    if let Err(detail) = attach_one(ebpf, "sys_exit_typed", "sys_exit", btf, report) {
        tracing::debug!(detail, "no typed tracepoints; reading through the checking helper");
        attach_one(ebpf, "sys_exit", "sys_exit", btf, report).map_err(|detail| ("sys_exit", detail))?;
    }
    let entry = attach_one(ebpf, "sys_enter", "sys_enter", btf, report);
    Ok(entry.err().map(|detail| ("sys_enter", detail)).into_iter().collect())
}

/// Loads and attaches a program, and reports it.
fn attach_one(
    ebpf: &mut Ebpf,
    program: &str,
    at: &str,
    btf: &Btf,
    report: &mut Report,
) -> Result<(), String> {
    tracing::debug!(program, at, "loading and attaching");
    let begun = Instant::now();
    let result = load_and_attach(ebpf, program, at, btf);
    let verified = verified(ebpf, program);
    tracing::debug!(program, at, took = ?begun.elapsed(), ?verified, "attached or refused");
    report.push(Attempt { program: program.to_owned(), refused: result.clone().err(), verified });
    result
}

/// See [`Attempt::verified`].
fn verified(ebpf: &Ebpf, program: &str) -> Option<u32> {
    ebpf.program(program)?.info().ok()?.verified_instruction_count()
}

/// Loads a program, unless that was done before, and attaches it. One whose arguments carry types reads them by plain
/// loads, which the verifier follows through `btf`.
fn load_and_attach(ebpf: &mut Ebpf, program: &str, at: &str, btf: &Btf) -> Result<(), String> {
    let refused = |error| refusal(&error);
    match ebpf.program_mut(program) {
        Some(Program::BtfTracePoint(program)) => {
            program.load(at, btf).map_err(refused)?;
            program.attach().map(drop)
        }
        Some(Program::RawTracePoint(program)) => {
            program.load().map_err(refused)?;
            program.attach(at).map(drop)
        }
        Some(Program::TracePoint(program)) => {
            program.load().map_err(refused)?;
            let (category, name) = at.split_once('/').unwrap_or(("", at));
            program.attach(category, name).map(drop)
        }
        Some(Program::FEntry(program)) => {
            program.load(at, btf).map_err(refused)?;
            program.attach().map(drop)
        }
        Some(Program::FExit(program)) => {
            program.load(at, btf).map_err(refused)?;
            program.attach().map(drop)
        }
        Some(Program::KProbe(program)) => {
            if program.fd().is_err() {
                program.load().map_err(refused)?;
            }
            program.attach(at, 0).map(drop)
        }
        _ => return Err("not in the object".to_owned()),
    }
    .map_err(|error| chain(&error))
}
