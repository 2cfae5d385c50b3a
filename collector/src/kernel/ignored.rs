//! Telling the kernel side which processes to leave alone.

use aya::maps::{Array, Map, MapData, MapError};
use spantap_ebpf_common::{event::Tgid, limits::IGNORED_SLOTS};

/// The processes whose calls are not reported. It is a saving, not a promise: of two processes that share a slot one is
/// still reported, so whoever reads the events asks again.
pub struct Ignored {
    slots: Array<MapData, u64>,
}

impl Ignored {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { slots: Array::try_from(map)? })
    }

    /// Ignores a process until it runs something else or ends.
    pub fn add(&mut self, tgid: Tgid) {
        self.set(tgid, u64::from(tgid.0));
        // The programs forget it when it ends; if it had ended before it was added, whoever gets its number is another.
        if !std::path::Path::new(&format!("/proc/{}", tgid.0)).exists() {
            self.set(tgid, 0);
        }
    }

    /// Reports its calls again, if they were not.
    pub fn remove(&mut self, tgid: Tgid) {
        if self.slots.get(&Self::slot(tgid), 0).is_ok_and(|held| held == u64::from(tgid.0)) {
            self.set(tgid, 0);
        }
    }

    fn slot(tgid: Tgid) -> u32 {
        tgid.0 & (IGNORED_SLOTS - 1)
    }

    fn set(&mut self, tgid: Tgid, value: u64) {
        if let Err(error) = self.slots.set(Self::slot(tgid), value, 0) {
            tracing::debug!(%error, tgid = tgid.0, "the kernel side could not be told to ignore a process");
        }
    }
}
