//! What the kernel side counted: the other half of the accounts.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::{
    maps::{Map, MapData, MapError, PerCpuArray},
    programs::ProgramFd,
};
use spantap_ebpf_common::Counter;

/// The kernel side's counters.
pub struct Losses {
    counters: PerCpuArray<MapData, u64>,
    programs: Vec<OwnedFd>,
}

impl Losses {
    pub(super) fn new<'a>(
        counters: Map,
        programs: impl Iterator<Item = &'a ProgramFd>,
    ) -> Result<Self, MapError> {
        let programs = programs.filter_map(|fd| fd.as_fd().try_clone_to_owned().ok()).collect();
        Ok(Self { counters: PerCpuArray::try_from(counters)?, programs })
    }

    /// How often the kernel has not run one of our programs because it was running on that processor already: it had
    /// been preempted or interrupted there. Kernels before 5.12 do not count it.
    #[must_use]
    pub fn missed_runs(&self) -> u64 {
        let missed = |fd: &OwnedFd| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        };
        self.programs.iter().filter_map(missed).sum()
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
