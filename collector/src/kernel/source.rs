//! The ring buffer as a source of events.

use std::{
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use spantap_ebpf_common::{Event, decode};

/// Reads the kernel's records.
pub struct Source {
    ring: RingBuf<MapData>,
    /// Records that were there, bad ones included.
    records: u64,
    /// Records that made no sense: a defect of ours, never of the watched.
    undecodable: u64,
}

impl Source {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { ring: RingBuf::try_from(map)?, records: 0, undecodable: 0 })
    }

    /// Waits until the kernel calls (much is waiting) or `timeout` has passed: records are submitted without a
    /// wake-up, since one costs ten times the record.
    pub fn wait(&self, timeout: Duration) {
        let fd: RawFd = self.ring.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: one whole pollfd and a timespec that outlive the call; no signal mask. An error (a signal) is as good
        // as the end of the wait.
        unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    }

    /// Hands every waiting record to `each`, without copying it; returns how many there were, at most `max`.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&Event<'_>)) -> usize {
        let mut count = 0;
        while count < max {
            let Some(record) = self.ring.next() else { break };
            count += 1;
            match decode::decode(&record) {
                Ok(event) => each(&event),
                Err(error) => {
                    self.undecodable += 1;
                    tracing::debug!(?error, length = record.len(), "undecodable record");
                }
            }
        }
        self.records += count as u64;
        count
    }

    /// Records seen, and how many of them could not be decoded.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.records, self.undecodable)
    }
}
