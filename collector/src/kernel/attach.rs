//! Probes in TLS libraries: one set per file, whichever process or container maps it.

use std::{collections::BTreeSet, fs::File, path::Path};

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
    uprobe_multi::Multi,
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

/// Every program that is attached to libraries, in this order: a call whose entry was seen must not return unseen.
const PROGRAMS: &[&str] = &[
    "ssl_free",
    "ssl_read_return",
    "ssl_write_return",
    "ssl_handshake_return",
    "ssl_io_enter",
    "ssl_io_ex_enter",
    "ssl_io_fifth_enter",
    "ssl_handshake_enter",
];

/// The one that is attached to see whether the kernel allows it: the smallest.
const TRIED: &str = PROGRAMS[0];

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

/// By what programs are attached to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `uprobe_multi` links.
    Links,
    /// Perf events.
    PerfEvents,
}

impl Way {
    /// As the kernel calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Links => "uprobe_multi links",
            Self::PerfEvents => "perf events",
        }
    }
}

/// Chooses links where the kernel has them. They are used for a moment, where nobody runs into it: at the entry point
/// of our own executable. `ebpf` must have all of its maps yet.
pub(super) fn choose(object: &[u8], ebpf: &Ebpf) -> Option<Multi> {
    let multi = entry_point(OWN_EXECUTABLE)
        .map_err(|error| error.to_string())
        .and_then(|offset| Multi::load(object, ebpf, PROGRAMS, (Path::new(OWN_EXECUTABLE), offset)));
    multi.inspect_err(|reason| tracing::debug!(reason, "no uprobe_multi links; probing by perf events")).ok()
}

/// Attaches probes to files. Owns the programs: when it is dropped, nothing stays attached.
pub struct Attacher {
    ebpf: Ebpf,
    /// If there is none, perf events are used.
    multi: Option<Multi>,
    /// The programs are loaded for perf events.
    loaded: bool,
    randoms: Vec<(Option<u32>, u32)>,
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf, multi: Option<Multi>) -> Self {
        Self { ebpf, multi, loaded: false, randoms: Vec::new() }
    }

    /// By what it attaches.
    #[must_use]
    pub fn way(&self) -> Way {
        if self.multi.is_some() { Way::Links } else { Way::PerfEvents }
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
        let mut reasons = self.load_once();
        let mut refused: Vec<Option<String>> = vec![None; probes.len()];
        for program in PROGRAMS {
            let wants = |probe: &Probe| probe.does.programs().contains(program);
            let all = probes.iter().zip(&refused);
            let offsets: BTreeSet<u64> = all
                .filter(|(probe, no)| wants(probe) && no.is_none())
                .map(|(probe, _)| probe.offset)
                .collect();
            for (offset, reason) in self.attach(program, file, offsets) {
                let all = probes.iter().zip(&mut refused);
                all.filter(|(probe, _)| wants(probe) && probe.offset == offset)
                    .for_each(|(_, no)| *no = Some(reason.clone()));
            }
        }
        let attached = refused.iter().filter(|no| no.is_none()).count();
        for (probe, reason) in probes.iter().zip(refused).filter_map(|(probe, no)| Some((probe, no?))) {
            if !reasons.iter().any(|known| known.ends_with(&reason)) {
                reasons.push(format!("{}: {reason}", probe.function));
            }
        }
        (attached, reasons)
    }

    /// Loads every program that libraries are probed with, and attaches one of them for a moment, at the entry point of
    /// our own executable.
    ///
    /// Returns by what it was attached.
    ///
    /// # Errors
    /// Why the kernel refuses to probe files.
    pub fn try_probing(&mut self, report: &mut Report) -> Result<Way, String> {
        let refused = self.load_once();
        report.extend(PROGRAMS.iter().map(|&program| {
            let reason = refused.iter().find_map(|text| text.strip_prefix(program)?.strip_prefix(": "));
            Attempt { program: program.to_owned(), refused: reason.map(str::to_owned), verified: None }
        }));
        if self.multi.is_some() {
            return Ok(Way::Links); // That was tried when they were chosen.
        }
        let offset = entry_point(OWN_EXECUTABLE).map_err(|error| format!("{OWN_EXECUTABLE}: {error}"))?;
        let link = self.perf_event(TRIED, Path::new(OWN_EXECUTABLE), offset)?;
        self.uprobe(TRIED)?.detach(link).map_err(|error| chain(&error))?;
        Ok(Way::PerfEvents)
    }

    fn load_once(&mut self) -> Vec<String> {
        if self.multi.is_some() || std::mem::replace(&mut self.loaded, true) {
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

    /// Attaches a program to places in a file. Returns the places that it could not be attached to, and why.
    fn attach(&mut self, name: &str, file: &Path, offsets: BTreeSet<u64>) -> Vec<(u64, String)> {
        if let Some(multi) = &mut self.multi {
            return multi.attach(name, file, &Vec::from_iter(offsets));
        }
        let refused = |offset| Some((offset, self.perf_event(name, file, offset).err()?));
        offsets.into_iter().filter_map(refused).collect()
    }

    fn perf_event(&mut self, name: &str, file: &Path, offset: u64) -> Result<UProbeLinkId, String> {
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
