//! From the embedded object to running programs: offsets and settings in, maps and attached programs out.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, MapError},
};
use spantap_ebpf_common::limits;

use super::{
    attach::{self, Attacher},
    backend::{self, Backend, Degraded, Preemption, Report},
    error::{KernelError, chain},
    features,
    ignored::Ignored,
    loss::Losses,
    offsets::{self, Types},
    source::Source,
    verdicts::Verdicts,
};

/// The compiled kernel programs; `cargo xtask ebpf` writes them anew.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../collector-ebpf/prebuilt/spantap.bpf.o");

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
    /// Whether Unix sockets are watched, too.
    pub unix_sockets: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            copy_bytes: limits::COPY_BYTES_DEFAULT,
            ring_bytes: 8 << 20,
            connections: 65_536,
            unix_sockets: true,
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
    /// How much of a stream is wanted.
    pub verdicts: Verdicts,
    /// Probes for libraries, for discovery. Dropping it detaches everything.
    pub attacher: Attacher,
    /// The backend that is used; never [`Backend::Auto`].
    pub backend: Backend,
    /// Why Unix sockets are not seen, if they are not.
    pub without_unix: Option<&'static str>,
    /// Programs that could not be attached, with the reason: what they would have seen is not seen.
    pub degraded: Degraded,
}

impl Kernel {
    /// Loads and attaches everything that does not depend on a process.
    ///
    /// # Errors
    /// See [`KernelError`]; each says what to do.
    pub fn start(settings: &Settings) -> Result<Self, KernelError> {
        Self::start_reporting(settings, &mut Report::new())
    }

    /// The same; `report` says of each program what became of it, also when it fails.
    ///
    /// # Errors
    /// As [`Kernel::start`].
    pub fn start_reporting(settings: &Settings, report: &mut Report) -> Result<Self, KernelError> {
        features::preflight().map_err(KernelError::Missing)?;
        raise_memlock();
        let types = offsets::resolve()?;
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::NoBtf { detail: chain(&error) })?;
        let (mut ebpf, backend, degraded) = first_that_attaches(settings, &types, &btf, report)?;
        let way = attach::choose(OBJECT, &ebpf);
        let take = |ebpf: &mut Ebpf, name: &'static str| {
            ebpf.take_map(name).ok_or(KernelError::Maps { detail: format!("the object has no map {name}") })
        };
        let source = Source::new(take(&mut ebpf, "EVENTS")?).map_err(maps)?;
        let ignored = Ignored::new(take(&mut ebpf, "IGNORED")?).map_err(maps)?;
        let verdicts = Verdicts::new(take(&mut ebpf, "VERDICTS")?).map_err(maps)?;
        let counters = take(&mut ebpf, "COUNTERS")?;
        let losses = Losses::new(counters, ebpf.programs().filter_map(|(_, program)| program.fd().ok()))
            .map_err(maps)?;
        begin(&mut ebpf)?;
        drop(btf); // some 20 MB
        return_memory();
        let without_unix = without_unix(settings, &types, backend);
        let attacher = Attacher::new(ebpf, way);
        Ok(Self { without_unix, source, losses, ignored, verdicts, attacher, backend, degraded })
    }
}

fn without_unix(settings: &Settings, types: &Types, backend: Backend) -> Option<&'static str> {
    if !settings.unix_sockets {
        Some("switched off by capture.unix_sockets")
    } else if !types.has_unix_sockets {
        Some("this kernel has Unix sockets as a module, of whose types it says nothing")
    } else if backend == Backend::Kprobes {
        Some("kprobes do not see them: nothing that can be probed says how many bytes a call has moved")
    } else {
        None
    }
}

/// From here on calls are reported: everything is attached. A program that saw a request before another could see its
/// response would tell of one that was never answered.
fn begin(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let map = ebpf
        .map_mut("STARTED")
        .ok_or(KernelError::Maps { detail: "the object has no map STARTED".into() })?;
    let mut started: Array<&mut MapData, u32> = Array::try_from(map).map_err(maps)?;
    started.set(0, 1, 0).map_err(maps)
}

/// Tries the backends in turn, each with an object of its own: what was attached before a program was refused goes
/// with the object.
fn first_that_attaches(
    settings: &Settings,
    types: &Types,
    btf: &Btf,
    report: &mut Report,
) -> Result<(Ebpf, Backend, Degraded), KernelError> {
    let preemption = Preemption::of_kernel(types);
    tracing::debug!(?preemption, "what the kernel may preempt of our programs");
    let mut refused = None;
    for backend in backend::candidates(settings.backend, preemption) {
        let mut ebpf = load(settings, types, backend)?;
        fill_syscalls(&mut ebpf)?;
        let unix = settings.unix_sockets && types.has_unix_sockets;
        match backend::attach(&mut ebpf, backend, unix, preemption, btf, report) {
            Ok(degraded) => return Ok((ebpf, backend, degraded)),
            Err((program, detail)) => {
                tracing::debug!(
                    backend = backend.name(),
                    program,
                    detail,
                    "this backend cannot be used here"
                );
                refused = Some(KernelError::Program { program, detail });
            }
        }
    }
    Err(refused.unwrap_or(KernelError::Program { program: "none", detail: "no backend was tried".into() }))
}

fn load(settings: &Settings, types: &Types, backend: Backend) -> Result<Ebpf, KernelError> {
    let own_tgid = std::process::id();
    let unix_sockets = u32::from(settings.unix_sockets && types.has_unix_sockets);
    let socket_file_ops = offsets::socket_file_ops();
    let copy_bytes = settings.copy_bytes.min(limits::COPY_BYTES_MAX);
    let beginning = copy_bytes.saturating_mul(limits::BEGINNING_FACTOR).min(limits::COPY_BYTES_MAX);
    // Woken at once when this much waits: a thousand records, which take about a millisecond; the rest is its time to come.
    let wakeup_bytes = u64::from(settings.ring_bytes / 32);
    let mut loader = EbpfLoader::new();
    for (name, offset) in &types.globals {
        loader.override_global(name, offset, true);
    }
    loader
        .override_global("AGENT_TGID", &own_tgid, true)
        .override_global("COPY_BYTES", &copy_bytes, true)
        .override_global("COPY_BYTES_BEGINNING", &beginning, true)
        .override_global("WAKEUP_BYTES", &wakeup_bytes, true)
        .override_global("UNIX_SOCKETS", &unix_sockets, true)
        .override_global("SOCKET_FILE_OPS", &socket_file_ops, true)
        .map_max_entries("EVENTS", settings.ring_bytes)
        .map_max_entries("CONNECTIONS", settings.connections)
        .map_max_entries("CALLS", if backend.notes_calls() { limits::THREAD_SLOTS } else { 1 });
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
