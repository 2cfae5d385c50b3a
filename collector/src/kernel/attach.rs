//! Probes in TLS libraries: one set per file, whichever process or container maps it.

use std::{collections::HashMap, path::Path};

use aya::{
    Ebpf,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};

use super::error::{chain, refusal};

/// File offsets of the functions of a TLS library that are probed; `None` where the library lacks one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProbes {
    /// Function name -> offset in the file.
    pub offsets: HashMap<&'static str, u64>,
}

impl TlsProbes {
    /// The functions to look for.
    pub fn functions() -> impl Iterator<Item = &'static str> + Clone {
        HOOKS.iter().map(|hook| hook.function)
    }
}

/// Function -> programs at its entry and its return. Reads and writes come first: without them the rest is useless.
struct Hook {
    function: &'static str,
    programs: &'static [&'static str],
}

const HOOKS: &[Hook] = &[
    Hook { function: "SSL_read", programs: &["ssl_io_enter", "ssl_read_return"] },
    Hook { function: "SSL_write", programs: &["ssl_io_enter", "ssl_write_return"] },
    Hook { function: "SSL_read_ex", programs: &["ssl_io_ex_enter", "ssl_read_return"] },
    Hook { function: "SSL_write_ex", programs: &["ssl_io_ex_enter", "ssl_write_return"] },
    Hook { function: "SSL_do_handshake", programs: &["ssl_handshake_enter", "ssl_handshake_return"] },
    Hook { function: "SSL_free", programs: &["ssl_free"] },
];

/// Attaches probes to files. Owns the programs: when it is dropped, nothing stays attached.
pub struct Attacher {
    ebpf: Ebpf,
    loaded: bool,
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        Self { ebpf, loaded: false }
    }

    /// Probes a TLS library for every process that has it mapped, now or later. Returns how many of the functions
    /// could be probed, and why the others could not.
    pub fn attach_tls(&mut self, file: &Path, probes: &TlsProbes) -> (usize, Vec<String>) {
        let mut refused = self.load_once();
        let mut attached = 0;
        for hook in HOOKS {
            let Some(&offset) = probes.offsets.get(hook.function) else { continue };
            let result = hook.programs.iter().try_for_each(|name| self.attach(name, file, offset));
            match result {
                Ok(()) => attached += 1,
                Err(reason) if refused.iter().any(|known: &String| known.ends_with(&reason)) => {}
                Err(reason) => refused.push(format!("{}: {reason}", hook.function)),
            }
        }
        (attached, refused)
    }

    fn load_once(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.loaded, true) {
            return Vec::new();
        }
        let mut names: Vec<&str> = HOOKS.iter().flat_map(|hook| hook.programs.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
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
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        self.uprobe(name)?.attach(location, file, UProbeScope::AllProcesses).map(drop).map_err(|error| {
            match chain(&error) {
                // Since CVE-2025-38466 the kernel asks for more than CAP_PERFMON here.
                text if text.contains("os error 13") => format!("{text}; it may need CAP_SYS_ADMIN"),
                text => text,
            }
        })
    }
}
