//! Telling the kernel side how much of a stream is wanted.

use aya::{
    Pod,
    maps::{Array, Map, MapData, MapError},
};
use spantap_ebpf_common::Verdict;

/// What is wanted of streams. It is a saving, not a promise: streams share slots, and the last one has it.
pub struct Verdicts {
    slots: Array<MapData, Slot>,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Slot(Verdict);

// SAFETY: integers without padding between them; every bit pattern is one.
unsafe impl Pod for Slot {}

impl Verdicts {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { slots: Array::try_from(map)? })
    }

    /// From here on, of the stream that it names.
    pub fn set(&mut self, verdict: Verdict) {
        if let Err(error) = self.slots.set(Verdict::slot(verdict.stream), Slot(verdict), 0) {
            tracing::debug!(%error, "the kernel side could not be told how much of a stream is wanted");
        }
    }
}
