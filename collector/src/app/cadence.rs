//! When the ring is looked at next.
//!
//! Little and often: what was written a moment ago is still in the processor's cache, and a reader that takes the
//! processor for milliseconds at a time makes the watched wait. Too often costs a wake-up each. So the reader comes back
//! when about [`BATCH`] records should be waiting, by the rate of the last round.

use std::time::Duration;

/// Records that are worth a wake-up: some tens of kilobytes, a small part of a core's own cache.
const BATCH: usize = 256;
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

    /// A round that was waited for as told has found this many records.
    pub(super) fn found(&mut self, records: usize) {
        self.wait = if records == 0 {
            IDLE
        } else {
            let wait = self.wait.min(BUSY).as_nanos() as u64;
            // At most doubled: one quiet round in a burst is no new rate.
            let due = (wait * BATCH as u64 / records as u64).min(wait * 2);
            Duration::from_nanos(due).clamp(SHORTEST, BUSY)
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
            cadence.found(usize::try_from(found).unwrap());
        }
        cadence
    }

    #[test]
    fn rounds_bring_a_batch_each_whatever_the_rate() {
        for rate in [50_000, 200_000, 900_000] {
            let batch = settled(rate).wait().as_secs_f64() * rate as f64;
            assert!((200.0..=300.0).contains(&batch), "{batch} at {rate} a second");
        }
        assert_eq!(settled(10_000_000).wait(), SHORTEST);
        assert_eq!(settled(1_000).wait(), BUSY);
        assert_eq!(settled(0).wait(), IDLE);
    }

    #[test]
    fn the_first_record_after_a_silence_ends_it() {
        let mut cadence = settled(0);
        cadence.found(1);
        assert_eq!(cadence.wait(), BUSY);
        cadence.found(100_000);
        assert_eq!(cadence.wait(), SHORTEST);
    }
}
