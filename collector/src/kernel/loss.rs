//! What the kernel side counted: the other half of the accounts.

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use spantap_ebpf_common::Counter;

/// The kernel side's counters.
pub struct Losses {
    counters: PerCpuArray<MapData, u64>,
}

impl Losses {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { counters: PerCpuArray::try_from(map)? })
    }

    /// One counter, summed over the processors; 0 if it cannot be read.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }

    /// All of them, in the order of [`Counter::ALL`].
    pub fn all(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.get(counter)))
    }
}
