//! The only place that knows wall time: turns `CLOCK_BOOTTIME` into nanoseconds since 1970.
//!
//! The kernel stamps events with boot time, which never jumps. Wall time does (NTP, an administrator), so the offset
//! between the two is measured here and measured again by [`Clock::refresh`]. A fixed clock serves replay and tests.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::time::{ClockId, Timespec, clock_gettime};
use spantap_protocols::BootNanos;

use super::UnixNanos;

/// Boot time to wall time. Shared by all threads of the pipeline.
#[derive(Debug)]
pub struct Clock {
    offset_ns: AtomicI64,
    backward: AtomicU64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// This machine's clocks.
    System,
    /// A recording: "now" is the latest time that was converted.
    Fixed { latest_ns: AtomicU64 },
}

impl Clock {
    /// The clock of this machine, measured now.
    #[must_use]
    pub fn system() -> Self {
        Self {
            offset_ns: AtomicI64::new(measure_offset_ns()),
            backward: AtomicU64::new(0),
            source: Source::System,
        }
    }

    /// A clock for recordings and tests: wall time is boot time plus `offset_ns`, for ever.
    #[must_use]
    pub fn fixed(offset_ns: i64) -> Self {
        Self {
            offset_ns: AtomicI64::new(offset_ns),
            backward: AtomicU64::new(0),
            source: Source::Fixed { latest_ns: AtomicU64::new(0) },
        }
    }

    /// Measures the offset anew. Call it every few seconds; a fixed clock ignores it.
    pub fn refresh(&self) {
        if matches!(self.source, Source::System) {
            self.offset_ns.store(measure_offset_ns(), Ordering::Relaxed);
        }
    }

    /// The wall time of a moment that the kernel stamped.
    #[must_use]
    pub fn unix(&self, boot: BootNanos) -> UnixNanos {
        let unix_ns = boot.0.saturating_add_signed(self.offset_ns.load(Ordering::Relaxed));
        if let Source::Fixed { latest_ns } = &self.source {
            latest_ns.fetch_max(unix_ns, Ordering::Relaxed);
        }
        UnixNanos(unix_ns)
    }

    /// Now, as wall time; of a fixed clock, the latest moment that it has converted.
    #[must_use]
    pub fn now(&self) -> UnixNanos {
        match &self.source {
            Source::System => self.unix(boot_now()),
            Source::Fixed { latest_ns } => UnixNanos(latest_ns.load(Ordering::Relaxed)),
        }
    }

    /// How many exchanges ended before they began and were clamped to a duration of zero.
    #[must_use]
    pub fn backward_times(&self) -> u64 {
        self.backward.load(Ordering::Relaxed)
    }

    /// Counts one such exchange.
    pub(super) fn count_backward(&self) {
        self.backward.fetch_add(1, Ordering::Relaxed);
    }
}

/// Now, on the clock that the kernel side uses.
#[must_use]
pub fn boot_now() -> BootNanos {
    BootNanos(nanos(clock_gettime(ClockId::Boottime)))
}

/// Processor time that this process has taken, in seconds.
#[must_use]
pub fn own_cpu_s() -> f64 {
    nanos(clock_gettime(ClockId::ProcessCPUTime)) as f64 / 1e9
}

/// Now, in whole seconds since 1970: for dates that servers send (`Retry-After`).
#[must_use]
pub fn unix_now_s() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Reads boot, wall, boot a few times and trusts the tightest reading: being scheduled away in between costs nothing.
fn measure_offset_ns() -> i64 {
    let mut best = (u64::MAX, 0_i64);
    for _ in 0..5 {
        let before = nanos(clock_gettime(ClockId::Boottime));
        let real = nanos(clock_gettime(ClockId::Realtime));
        let width = nanos(clock_gettime(ClockId::Boottime)).saturating_sub(before);
        if width < best.0 {
            best = (width, real.wrapping_sub(before + width / 2).cast_signed());
        }
    }
    best.1
}

/// A time before 1970 counts as 1970.
fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_agrees_with_std() {
        let clock = Clock::system();
        let std_ns =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(clock.now().0.abs_diff(std_ns) < 1_000_000_000);
        clock.refresh();
        assert!(clock.unix(boot_now()).0 >= std_ns.saturating_sub(1_000_000));
    }

    #[test]
    fn fixed_clock_adds_and_remembers() {
        let clock = Clock::fixed(1_000);
        assert_eq!(clock.unix(BootNanos(5)), UnixNanos(1_005));
        assert_eq!(clock.unix(BootNanos(2)), UnixNanos(1_002));
        assert_eq!(clock.now(), UnixNanos(1_005));
        assert_eq!(Clock::fixed(-10).unix(BootNanos(3)), UnixNanos(0));
    }
}
