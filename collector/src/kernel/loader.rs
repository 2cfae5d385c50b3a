//! From the embedded object to running programs: offsets and settings in, maps and attached programs out.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, MapError},
    programs::Program,
};
use spantap_ebpf_common::limits;

use super::{
    attach::Attacher,
    error::{KernelError, chain, refusal},
    features,
    ignored::Ignored,
    loss::Losses,
    offsets,
    source::Source,
};

/// The compiled kernel programs; `cargo xtask ebpf` writes them anew.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../collector-ebpf/prebuilt/spantap.bpf.o");

/// Where the bytes of sockets are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The cheapest one that this kernel has.
    #[default]
    Auto,
    /// Tracepoints of the socket layer: Linux 6.17 and later.
    Sockets,
    /// Tracepoints around every system call: everywhere.
    Syscalls,
}

impl Backend {
    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sockets => "sockets",
            Self::Syscalls => "syscalls",
        }
    }
}

/// What the kernel side is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the bytes of sockets are seen.
    pub backend: Backend,
    /// Bytes copied of one call at most, up to [`limits::COPY_BYTES_MAX`].
    pub copy_bytes: u32,
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Connections remembered at once.
    pub connections: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            copy_bytes: limits::COPY_BYTES_DEFAULT,
            ring_bytes: 8 << 20,
            connections: 65_536,
        }
    }
}

/// The running kernel side, in the parts that different threads use.
pub struct Kernel {
    /// Events, for the pipeline.
    pub source: Source,
    /// Loss counters.
    pub losses: Losses,
    /// Processes that are left alone.
    pub ignored: Ignored,
    /// Probes for libraries, for discovery. Dropping it detaches everything.
    pub attacher: Attacher,
    /// The backend that is used; never [`Backend::Auto`].
    pub backend: Backend,
    /// Programs that could not be attached, with the reason: what they would have seen is not seen.
    pub degraded: Vec<(&'static str, String)>,
}

/// Tracepoints: program and tracepoint have one name. Without one of these something is not seen, but the rest is.
const TRACEPOINTS: &[&str] = &["tcp_destroy_sock", "sched_process_exec", "sched_process_exit"];

/// The socket layer's tracepoints, the newest first: where one is missing the others are not attached either.
const SOCKET_TRACEPOINTS: &[&str] = &[
    "tcp_sendmsg_locked",
    "sock_recv_length",
    "sock_send_length",
    "inet_sock_set_state",
    "vm_unmapped_area",
];

impl Kernel {
    /// Loads and attaches everything that does not depend on a process.
    ///
    /// # Errors
    /// See [`KernelError`]; each says what to do.
    pub fn start(settings: &Settings) -> Result<Self, KernelError> {
        features::preflight().map_err(KernelError::Missing)?;
        raise_memlock();
        let mut ebpf = load(settings)?;
        fill_syscalls(&mut ebpf)?;
        let mut degraded = Vec::new();
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::Program {
            program: "every typed tracepoint",
            detail: chain(&error),
        })?;
        let backend = attach_backend(&mut ebpf, settings.backend, &btf, &mut degraded)?;
        for &name in TRACEPOINTS {
            if let Err(detail) = attach(&mut ebpf, name, name, &btf) {
                degraded.push((name, detail));
            }
        }
        let take = |ebpf: &mut Ebpf, name: &'static str| {
            ebpf.take_map(name).ok_or(KernelError::Maps { detail: format!("the object has no map {name}") })
        };
        let source = Source::new(take(&mut ebpf, "EVENTS")?).map_err(maps)?;
        let ignored = Ignored::new(take(&mut ebpf, "IGNORED")?).map_err(maps)?;
        let losses = Losses::new(take(&mut ebpf, "COUNTERS")?).map_err(maps)?;
        return_memory();
        Ok(Self { source, losses, ignored, attacher: Attacher::new(ebpf), backend, degraded })
    }
}

fn load(settings: &Settings) -> Result<Ebpf, KernelError> {
    let offsets = offsets::resolve()?;
    let own_tgid = std::process::id();
    let socket_file_ops = offsets::socket_file_ops();
    let copy_bytes = settings.copy_bytes.min(limits::COPY_BYTES_MAX);
    // Woken at once when an eighth is full: the reader comes within milliseconds, the rest is its time to come.
    let wakeup_bytes = u64::from(settings.ring_bytes / 8);
    let mut loader = EbpfLoader::new();
    for (name, offset) in &offsets {
        loader.override_global(name, offset, true);
    }
    loader
        .override_global("AGENT_TGID", &own_tgid, true)
        .override_global("COPY_BYTES", &copy_bytes, true)
        .override_global("WAKEUP_BYTES", &wakeup_bytes, true)
        .override_global("SOCKET_FILE_OPS", &socket_file_ops, true)
        .map_max_entries("EVENTS", settings.ring_bytes)
        .map_max_entries("CONNECTIONS", settings.connections);
    loader.load(OBJECT).map_err(|error| KernelError::Maps { detail: chain(&error) })
}

fn fill_syscalls(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let map = ebpf
        .map_mut("SYSCALLS")
        .ok_or(KernelError::Maps { detail: "the object has no map SYSCALLS".into() })?;
    let mut table: Array<&mut MapData, u32> = Array::try_from(map).map_err(maps)?;
    for (number, operation) in offsets::syscalls() {
        table.set(number, operation, 0).map_err(maps)?;
    }
    Ok(())
}

/// Attaches the backend that is asked for, or the cheapest one that this kernel has.
fn attach_backend(
    ebpf: &mut Ebpf,
    wanted: Backend,
    btf: &Btf,
    degraded: &mut Vec<(&'static str, String)>,
) -> Result<Backend, KernelError> {
    if wanted != Backend::Syscalls {
        match attach_sockets(ebpf, btf) {
            Ok(()) => return Ok(Backend::Sockets),
            Err((program, detail)) if wanted == Backend::Sockets => {
                return Err(KernelError::Program { program, detail });
            }
            Err((program, detail)) => {
                tracing::debug!(program, detail, "no socket tracepoints; watching system calls instead");
            }
        }
    }
    if let Err(detail) = attach(ebpf, "sys_exit_typed", "sys_exit", btf) {
        tracing::debug!(detail, "no typed tracepoints; reading through the checking helper");
        attach(ebpf, "sys_exit", "sys_exit", btf)
            .map_err(|detail| KernelError::Program { program: "sys_exit", detail })?;
    }
    if let Err(detail) = attach(ebpf, "sys_enter", "sys_enter", btf) {
        degraded.push(("sys_enter", detail));
    }
    Ok(Backend::Syscalls)
}

/// All of the socket backend, or none of it.
fn attach_sockets(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), (&'static str, String)> {
    for (at, &name) in SOCKET_TRACEPOINTS.iter().enumerate() {
        if let Err(detail) = attach(ebpf, name, name, btf) {
            for attached in &SOCKET_TRACEPOINTS[..at] {
                // Unloading detaches.
                let _ = match ebpf.program_mut(attached) {
                    Some(Program::BtfTracePoint(program)) => program.unload(),
                    Some(Program::RawTracePoint(program)) => program.unload(),
                    _ => Ok(()),
                };
            }
            return Err((name, detail));
        }
    }
    Ok(())
}

/// Attaches a program to a tracepoint of the kernel. One whose arguments carry types (`tp_btf`) reads them by plain
/// loads, which the verifier follows through `btf`.
fn attach(ebpf: &mut Ebpf, program: &str, tracepoint: &str, btf: &Btf) -> Result<(), String> {
    match ebpf.program_mut(program) {
        Some(Program::BtfTracePoint(program)) => {
            program.load(tracepoint, btf).map_err(|error| refusal(&error))?;
            program.attach().map(drop).map_err(|error| chain(&error))
        }
        Some(Program::RawTracePoint(program)) => {
            program.load().map_err(|error| refusal(&error))?;
            program.attach(tracepoint).map(drop).map_err(|error| chain(&error))
        }
        _ => Err("not in the object".to_owned()),
    }
}

fn maps(error: MapError) -> KernelError {
    KernelError::Maps { detail: chain(&error) }
}

/// Reading the kernel's types took some 20 MB for a moment; glibc keeps them unless it is asked.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK, which is tiny by default. Later kernels ignore it, and the limit may
/// not be ours to raise: no error either way, loading will tell.
fn raise_memlock() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the struct is whole and outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}
