//! The ring buffer as a source of events.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use spantap_ebpf_common::{Event, decode};

/// Reads the kernel's records.
pub struct Source {
    ring: RingBuf<MapData>,
    /// An epoll instance that holds the ring, edge-triggered.
    wake_ups: OwnedFd,
    /// Records that were there, bad ones included.
    records: u64,
    /// Records that made no sense: a defect of ours, never of the watched.
    undecodable: u64,
}

impl Source {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        let ring = RingBuf::try_from(map)?;
        let wake_ups = wake_ups_of(ring.as_raw_fd()).map_err(MapError::IoError)?;
        Ok(Self { ring, wake_ups, records: 0, undecodable: 0 })
    }

    /// Waits until the kernel calls (much is waiting) or `timeout` has passed. That something is waiting ends no wait:
    /// records are submitted without a wake-up, since one costs ten times the record.
    pub fn wait(&self, timeout: Duration) {
        let fd: RawFd = self.wake_ups.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: one whole pollfd and a timespec that outlive the call; no signal mask. An error (a signal) is as good
        // as the end of the wait.
        let called = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
        if called > 0 {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: one whole event that outlives the call. Takes the call away, so that the next wait waits again.
            unsafe { libc::epoll_wait(fd, &raw mut event, 1, 0) };
        }
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

/// An epoll instance that is readable once for each wake-up of `ring`, and not for as long as the ring holds something.
fn wake_ups_of(ring: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; the descriptor is new and nobody else's.
    let epoll = unsafe {
        let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
    // SAFETY: two open descriptors and a whole event.
    if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, ring, &raw mut event) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(epoll)
}
