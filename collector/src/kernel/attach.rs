//! Probes in TLS libraries: one set per file, whichever process or container maps it.

use std::{fs::File, path::Path};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeLinkId, UProbeScope},
    },
};
use object::{Object, ObjectSegment, ReadCache};

use spantap_ebpf_common::limits;

use super::{
    backend::{Attempt, Report},
    error::{chain, refusal},
};

/// What a function of a TLS library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Does {
    /// Gives plaintext: `f(session, buffer, size, ...)`.
    Read(Moved),
    /// Takes plaintext, likewise.
    Write(Moved),
    /// Talks to the peer for the session's own purposes: `f(session, ...)`.
    Drive,
    /// Ends the session: `f(session)`.
    Free,
}

/// How a function says how many bytes it has moved. Either way a result of 0 or less means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moved {
    /// By its result.
    Result,
    /// In a `size_t` that its fourth argument points to.
    Fourth,
    /// In one that its fifth argument points to.
    Fifth,
}

impl Does {
    /// The programs at its entry and at its return.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Read(Moved::Result) => &["ssl_io_enter", "ssl_read_return"],
            Self::Read(Moved::Fourth) => &["ssl_io_ex_enter", "ssl_read_return"],
            Self::Read(Moved::Fifth) => &["ssl_io_fifth_enter", "ssl_read_return"],
            Self::Write(Moved::Result) => &["ssl_io_enter", "ssl_write_return"],
            Self::Write(Moved::Fourth) => &["ssl_io_ex_enter", "ssl_write_return"],
            Self::Write(Moved::Fifth) => &["ssl_io_fifth_enter", "ssl_write_return"],
            Self::Drive => &["ssl_handshake_enter", "ssl_handshake_return"],
            Self::Free => &["ssl_free"],
        }
    }
}

/// Every program that is attached to libraries.
const PROGRAMS: &[&str] = &[
    "ssl_io_enter",
    "ssl_io_ex_enter",
    "ssl_io_fifth_enter",
    "ssl_read_return",
    "ssl_write_return",
    "ssl_handshake_enter",
    "ssl_handshake_return",
    "ssl_free",
];

/// A function that is to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its name, for messages.
    pub function: &'static str,
    /// What it does.
    pub does: Does,
    /// Where in the file.
    pub offset: u64,
}

/// Attaches probes to files. Owns the programs: when it is dropped, nothing stays attached.
pub struct Attacher {
    ebpf: Ebpf,
    loaded: bool,
    randoms: Vec<(Option<u32>, u32)>,
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        Self { ebpf, loaded: false, randoms: Vec::new() }
    }

    /// Tells the kernel side where a TLS library keeps the client's random of a session: at an offset, or at the second
    /// offset behind the pointer at the first one. False if too many are known already.
    pub fn learn_random(&mut self, place: (Option<u32>, u32)) -> bool {
        if self.randoms.contains(&place) {
            return true;
        }
        let Ok(index) = u32::try_from(self.randoms.len()) else { return false };
        let map = self.ebpf.map_mut("TLS_RANDOMS");
        let Some(Ok(mut map)) = map.map(Array::<&mut MapData, u64>::try_from) else { return false };
        let is_set = map.set(index, limits::tls_random(place.0, place.1), 0).is_ok();
        if is_set {
            self.randoms.push(place);
        }
        is_set
    }

    /// Probes a TLS library for every process that has it mapped, now or later. Returns how many of the functions
    /// could be probed, and why the others could not.
    pub fn attach_tls(&mut self, file: &Path, probes: &[Probe]) -> (usize, Vec<String>) {
        let mut refused = self.load_once();
        let mut attached = 0;
        for probe in probes {
            let result =
                probe.does.programs().iter().try_for_each(|name| self.attach(name, file, probe.offset));
            match result {
                Ok(()) => attached += 1,
                Err(reason) if refused.iter().any(|known: &String| known.ends_with(&reason)) => {}
                Err(reason) => refused.push(format!("{}: {reason}", probe.function)),
            }
        }
        (attached, refused)
    }

    /// Loads every program that libraries are probed with, and attaches one of them for a moment, where nobody runs
    /// into it: at the entry point of our own executable.
    ///
    /// # Errors
    /// Why the kernel refuses to probe files.
    pub fn try_probing(&mut self, report: &mut Report) -> Result<(), String> {
        let refused = self.load_once();
        report.extend(PROGRAMS.iter().map(|&program| {
            let reason = refused.iter().find_map(|text| text.strip_prefix(program)?.strip_prefix(": "));
            Attempt { program: program.to_owned(), refused: reason.map(str::to_owned) }
        }));
        let offset = entry_point(OWN_EXECUTABLE).map_err(|error| format!("{OWN_EXECUTABLE}: {error}"))?;
        let link = self.link("ssl_free", Path::new(OWN_EXECUTABLE), offset)?;
        self.uprobe("ssl_free")?.detach(link).map_err(|error| chain(&error))
    }

    fn load_once(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.loaded, true) {
            return Vec::new();
        }
        PROGRAMS
            .iter()
            .filter_map(|name| {
                let loaded =
                    self.uprobe(name).and_then(|program| program.load().map_err(|error| refusal(&error)));
                loaded.err().map(|reason| format!("{name}: {reason}"))
            })
            .collect()
    }

    fn uprobe(&mut self, name: &str) -> Result<&mut UProbe, String> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| "not in the object".to_owned())?;
        program.try_into().map_err(|error: ProgramError| error.to_string())
    }

    fn attach(&mut self, name: &str, file: &Path, offset: u64) -> Result<(), String> {
        self.link(name, file, offset).map(drop)
    }

    fn link(&mut self, name: &str, file: &Path, offset: u64) -> Result<UProbeLinkId, String> {
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        self.uprobe(name)?.attach(location, file, UProbeScope::AllProcesses).map_err(|error| {
            match chain(&error) {
                // Since CVE-2025-38466 the kernel asks for more than CAP_PERFMON here.
                text if text.contains("os error 13") => {
                    format!("{text}; this kernel wants CAP_SYS_ADMIN for it")
                }
                text => text,
            }
        })
    }
}

const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Where in an ELF file its first instruction is.
fn entry_point(path: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let cache = ReadCache::new(File::open(path)?);
    let file = object::File::parse(&cache)?;
    let address = file.entry();
    file.segments()
        .find_map(|segment| {
            let within = address.checked_sub(segment.address()).filter(|at| *at < segment.size())?;
            Some(segment.file_range().0 + within)
        })
        .ok_or_else(|| "its entry point is in no segment".into())
}
