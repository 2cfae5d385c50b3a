//! When the ring is looked at next.
//!
//! Little and often: what was written a moment ago is still in the processor's cache, and a reader that takes the
//! processor for milliseconds at a time makes the watched wait. Too often costs a wake-up each. So the reader comes back
//! when about [`BATCH`] records should be waiting, by the rate of the last round.

use std::time::Duration;

/// Records that are worth a wake-up: some tens of kilobytes, a small part of a core's own cache, and read in a fraction
/// of a millisecond, which is how long the watched may have to wait for the processor.
const BATCH: u128 = 128;
/// The shortest wait: at most some 4,000 wake-ups a second, 1 to 2 % of a core, and only at more than a million
/// records a second.
const SHORTEST: Duration = Duration::from_micros(250);
/// The longest while traffic flows.
const BUSY: Duration = Duration::from_millis(10);
/// The longest while it does not: the first record after a silence shows this much later.
const IDLE: Duration = Duration::from_millis(50);

/// How long the reader waits between two looks at the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cadence {
    wait: Duration,
}

impl Cadence {
    /// Before the first round.
    pub(super) fn new() -> Self {
        Self { wait: BUSY }
    }

    /// Until the next look, at most: the kernel calls earlier when much is waiting.
    pub(super) fn wait(self) -> Duration {
        self.wait
    }

    /// A round has found this many records, so long after the one before it.
    pub(super) fn found(&mut self, records: usize, after: Duration) {
        // At most doubled: traffic comes in bursts, and one quiet round among them is no new rate.
        let longest = self.wait * 2;
        self.wait = if records == 0 {
            longest.min(IDLE)
        } else {
            let due = after.as_nanos() * BATCH / records as u128;
            Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX)).min(longest).clamp(SHORTEST, BUSY)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against a constant rate until nothing changes any more.
    fn settled(records_per_second: u64) -> Cadence {
        let mut cadence = Cadence::new();
        for _ in 0..100 {
            let found = cadence.wait().as_nanos() as u64 * records_per_second / 1_000_000_000;
            cadence.found(usize::try_from(found).unwrap(), cadence.wait());
        }
        cadence
    }

    #[test]
    fn rounds_bring_a_batch_each_whatever_the_rate() {
        for rate in [50_000, 200_000, 500_000] {
            let batch = settled(rate).wait().as_secs_f64() * rate as f64;
            assert!((100.0..=150.0).contains(&batch), "{batch} at {rate} a second");
        }
        assert_eq!(settled(10_000_000).wait(), SHORTEST);
        assert_eq!(settled(1_000).wait(), BUSY);
        assert_eq!(settled(0).wait(), IDLE);
    }

    #[test]
    fn the_first_record_after_a_silence_ends_it() {
        let mut cadence = settled(0);
        cadence.found(1, IDLE);
        assert_eq!(cadence.wait(), BUSY);
        cadence.found(100_000, BUSY);
        assert_eq!(cadence.wait(), SHORTEST);
    }

    #[test]
    fn a_quiet_round_in_a_burst_is_no_silence() {
        let mut cadence = settled(200_000);
        let before = cadence.wait();
        cadence.found(0, before);
        assert_eq!(cadence.wait(), before * 2);
        cadence.found(256, before * 2);
        assert_eq!(cadence.wait(), before);
    }

    #[test]
    fn a_wake_up_before_the_time_tells_of_a_higher_rate() {
        let mut cadence = settled(0);
        cadence.found(12_800, Duration::from_millis(50));
        assert_eq!(cadence.wait(), Duration::from_micros(500));
    }
}
