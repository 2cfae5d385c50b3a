//! Which spans are among the slowest of their kind: longer than all but a part of those that the last minutes had.
//!
//! For each service, kind and name of spans (a series) the durations of this minute and the one before are counted in
//! buckets, sixteen to each power of two, from 8 us to 137 s. A span is one of the slowest if its bucket is above the bar,
//! and the bar is the lowest bucket above which there were no more than the part that is asked for. So the method errs
//! on the side of fewer: it never takes more than that part of what has passed, and it cannot tell durations apart that
//! differ by less than 6 %. A series says nothing until that part of it is a whole span.
//!
//! Its bounds: [`SERIES_MAX`] series of 3 KiB, a look at a few of 386 counters for every 32nd span; and where all
//! durations grow at once, [`KEPT_FREE`] spans of a series in a minute and twice the part of what it has in that minute.

use std::{collections::HashMap, hash::BuildHasher};

use foldhash::fast::RandomState;

use crate::telemetry::Record;

/// Series that are followed; spans of others are counted and never among the slowest.
const SERIES_MAX: usize = 1024;
/// Spans of a series that may be kept in a minute, however few it has.
const KEPT_FREE: f64 = 10.0;
/// Spans after which the bar is set anew.
const LOOK_EVERY: u32 = 32;

/// The durations of all series.
#[derive(Debug)]
pub(super) struct Slowest {
    /// Of its spans, those that are the slowest: 0.01.
    part: f64,
    series: HashMap<u64, Series, RandomState>,
    minute: u64,
    not_followed: u64,
}

#[derive(Debug)]
struct Series {
    /// This minute's counts, and those of the one before.
    counts: [Box<Counts>; 2],
    seen: [u64; 2],
    /// Spans in higher buckets are the slowest; `None` while there is nothing to compare with.
    bar: Option<usize>,
    since_look: u32,
    kept: u64,
}

type Counts = [u32; BUCKETS];

impl Slowest {
    pub(super) fn new(part: f64) -> Self {
        Self { part, series: HashMap::default(), minute: 0, not_followed: 0 }
    }

    /// Counts the span, and says whether it is one of the slowest.
    pub(super) fn take(&mut self, record: &Record) -> bool {
        self.turn(record.end.0 / MINUTE_NS);
        let kind = record.kind.clone() as u8;
        let key = (record.service.id, kind, &record.operation, &record.target);
        let key = self.series.hasher().hash_one(key);
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            self.not_followed += 1;
            return false;
        }
        self.series.entry(key).or_default().take(bucket(record.duration_ns()), self.part)
    }

    /// Spans of more series than are followed.
    pub(super) fn not_followed(&self) -> u64 {
        self.not_followed
    }

    /// Begins another minute. Spans that end late count in the newest one.
    fn turn(&mut self, minute: u64) {
        if minute <= self.minute {
            return;
        }
        let is_next = minute == self.minute + 1;
        self.minute = minute;
        for series in self.series.values_mut() {
            series.turn();
            if !is_next {
                series.turn();
            }
        }
        self.series.retain(|_, series| series.total() > 0);
    }
}

impl Default for Series {
    fn default() -> Self {
        let empty = || Box::new([0; BUCKETS]);
        Self { counts: [empty(), empty()], seen: [0, 0], bar: None, since_look: LOOK_EVERY, kept: 0 }
    }
}

impl Series {
    fn take(&mut self, bucket: usize, part: f64) -> bool {
        // A span is compared with those before it.
        if self.since_look >= LOOK_EVERY || self.bar.is_none() {
            self.look(part);
        }
        self.since_look += 1;
        self.seen[0] += 1;
        if let Some(count) = self.counts[0].get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        let room = (self.kept as f64) < KEPT_FREE + 2.0 * part * self.seen[0] as f64;
        let is_slowest = room && self.bar.is_some_and(|bar| bucket > bar);
        self.kept += u64::from(is_slowest);
        is_slowest
    }

    /// Sets the bar.
    fn look(&mut self, part: f64) {
        self.since_look = 0;
        let mut left = self.total() as f64 * part;
        self.bar = None;
        if left < 1.0 {
            return;
        }
        for (bucket, (new, old)) in self.counts[0].iter().zip(self.counts[1].iter()).enumerate().rev() {
            left -= f64::from(*new) + f64::from(*old);
            if left < 0.0 {
                self.bar = Some(bucket);
                return;
            }
        }
    }

    fn turn(&mut self) {
        let [new, old] = &mut self.counts;
        std::mem::swap(new, old);
        new.fill(0);
        self.seen = [0, self.seen[0]];
        self.kept = 0;
        self.since_look = LOOK_EVERY;
    }

    fn total(&self) -> u64 {
        self.seen[0] + self.seen[1]
    }
}

const MINUTE_NS: u64 = 60_000_000_000;
/// 2^13 ns are 8 us, 2^37 ns 137 s; there is a bucket for what is shorter and one for what is longer.
const OCTAVES: std::ops::Range<u32> = 13..37;
const STEPS: u32 = 16;
const BUCKETS: usize = ((OCTAVES.end - OCTAVES.start) * STEPS + 2) as usize;

fn bucket(duration_ns: u64) -> usize {
    let octave = duration_ns.max(1).ilog2();
    if octave < OCTAVES.start {
        return 0;
    }
    if octave >= OCTAVES.end {
        return BUCKETS - 1;
    }
    // The four bits below the highest one.
    let step = (duration_ns >> (octave - 4)) as u32 % STEPS;
    ((octave - OCTAVES.start) * STEPS + step + 1) as usize
}

#[cfg(test)]
mod tests {
    use spantap_protocols::Role;

    use super::*;
    use crate::telemetry::{
        UnixNanos,
        id::Random,
        span::tests::{record, service},
    };

    const MS: u64 = 1_000_000;

    /// Feeds spans of these durations, and returns which were among the slowest.
    fn feed(slowest: &mut Slowest, name: &str, at_ns: u64, durations: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut found = Vec::new();
        let mut span = record(Role::Server, 200);
        span.operation = name.into();
        for duration in durations {
            span.end = UnixNanos(100 * MINUTE_NS + at_ns);
            span.start = UnixNanos(span.end.0 - duration);
            if slowest.take(&span) {
                found.push(duration);
            }
        }
        found
    }

    /// Between 10 and 18 ms, the same ones in every run; 2 % are in the highest bucket.
    fn usual(count: usize, seed: u64) -> impl Iterator<Item = u64> {
        let mut random = Random::seeded(seed);
        (0..count).map(move |_| 10 * MS + random.up_to(8 * MS))
    }

    #[test]
    fn buckets_grow_with_the_duration_and_by_six_percent() {
        let mut last = 0;
        let mut duration = 1;
        while duration < 1 << 40 {
            let found = bucket(duration);
            assert!(found == last || found == last + 1 || last == 0, "{duration}");
            last = found;
            duration += (duration / 64).max(1);
        }
        assert_eq!((bucket(0), last), (0, BUCKETS - 1));
        assert_ne!(bucket(100 * MS), bucket(107 * MS));
    }

    #[test]
    fn the_slowest_are_found_and_no_more_than_their_part() {
        let mut slowest = Slowest::new(0.01);
        // Until there are some hundreds, the highest bucket may have only one.
        assert!(feed(&mut slowest, "GET", 0, usual(10_000, 1)).len() < 50);
        let outliers = [80 * MS, 200 * MS, 3000 * MS];
        let mixed = usual(1000, 2).chain(outliers).chain(usual(1000, 3));
        assert_eq!(feed(&mut slowest, "GET", MINUTE_NS / 2, mixed), outliers);
        // Durations of all sizes, each of 160 buckets as often as the others: one of them is within the part.
        let mut random = Random::seeded(4);
        let mut wide = |_| (1e6 * (random.up_to(1 << 20) as f64 / f64::from(1 << 20) * 10.0).exp2()) as u64;
        let _ = feed(&mut slowest, "PUT", 0, (0..5_000).map(&mut wide));
        let taken = feed(&mut slowest, "PUT", 0, (0..10_000).map(&mut wide));
        assert!((30..=100).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().all(|duration| *duration > 950 * MS));
    }

    #[test]
    fn nothing_is_slow_before_there_is_something_to_compare_with() {
        let mut slowest = Slowest::new(0.01);
        assert_eq!(feed(&mut slowest, "GET", 0, (0..100).map(|n| n * 50 * MS)), [] as [u64; 0]);
        assert_eq!(feed(&mut slowest, "GET", 0, [60_000 * MS].into_iter()), [60_000 * MS]);
    }

    #[test]
    fn when_everything_gets_slow_only_some_are_taken_until_that_is_usual() {
        let mut slowest = Slowest::new(0.01);
        let _ = feed(&mut slowest, "GET", 0, usual(10_000, 1));
        let slow = || usual(10_000, 2).map(|duration| duration * 50);
        let taken = feed(&mut slowest, "GET", MINUTE_NS, slow()).len() as f64;
        assert!(taken > 0.0 && taken <= KEPT_FREE + 2.0 * 0.01 * 10_000.0 + 1.0, "{taken}");
        assert_eq!(feed(&mut slowest, "GET", 2 * MINUTE_NS, slow()).len(), 0);
    }

    #[test]
    fn series_are_apart_bounded_and_forgotten() {
        let mut slowest = Slowest::new(0.01);
        let _ = feed(&mut slowest, "GET /fast", 0, usual(200, 1));
        assert_eq!(feed(&mut slowest, "GET /slow", 0, usual(200, 1).map(|d| d * 50)), [] as [u64; 0]);
        let mut other = record(Role::Server, 200);
        other.operation = "GET /fast".into();
        other.service = service(2, "other");
        (other.start, other.end) = (UnixNanos(99 * MINUTE_NS), UnixNanos(100 * MINUTE_NS));
        assert!(!slowest.take(&other), "the same name of another service");
        for n in 0..SERIES_MAX + 5 {
            let _ = feed(&mut slowest, &format!("GET /{n}"), 0, [MS].into_iter());
        }
        assert_eq!((slowest.series.len(), slowest.not_followed()), (SERIES_MAX, 5 + 3));
        let _ = feed(&mut slowest, "GET /new", 5 * MINUTE_NS, [MS].into_iter());
        assert_eq!(slowest.series.len(), 1, "those of long ago are gone");
    }
}
