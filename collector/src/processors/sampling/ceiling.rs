//! How many spans a second leave at most. What is too much goes evenly: by the randomness of traces, not by who came first.
//!
//! Spans of a second are held until it is over, never more of them than may leave; when there are too many, the ones of
//! the traces with the least randomness go (bottom-k sampling, priority sampling). That is what a consistent sampler
//! would have kept whose threshold is just above what had to go: the threshold is written into what leaves, so that
//! backends count right, and a trace keeps all its spans or none but for the last one that found room. Spans that are kept
//! for what they are go only after all others, by the same rule.
//!
//! Time is an argument: seconds are those of its clock.

use std::{cmp::Reverse, collections::BinaryHeap};

use opentelemetry::trace::SpanId;
use spantap_protocols::BootNanos;

use super::{
    sampler::Intent,
    threshold::{Randomness, Threshold},
};
use crate::telemetry::Record;

/// Who goes first: the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Kept for what it is: an error, one of the slowest.
    pub(super) is_special: bool,
    /// Of its trace.
    pub(super) randomness: Randomness,
    /// Random, too: it decides within a trace that is too large as a whole.
    pub(super) span: [u8; 8],
}

impl Rank {
    pub(super) fn of(record: &Record, is_special: bool, randomness: Randomness) -> Self {
        let span: SpanId = record.trace.span_id;
        Self { is_special, randomness, span: span.to_bytes() }
    }
}

/// Holds the spans of a second.
pub(super) struct Ceiling {
    spans_max: usize,
    held: BinaryHeap<Reverse<Held>>,
    /// The highest that had to go in this second.
    gone: Option<Rank>,
    second: Option<u64>,
}

/// A span that may leave.
struct Held {
    rank: Rank,
    intent: Intent,
    record: Record,
}

impl Ceiling {
    /// At most `spans_max` spans in each second.
    pub(super) fn new(spans_max: usize) -> Self {
        Self { spans_max, held: BinaryHeap::new(), gone: None, second: None }
    }

    /// Takes a span; returns the one that goes for it, which may be itself.
    pub(super) fn hold(&mut self, rank: Rank, intent: Intent, record: Record) -> Option<Record> {
        let new = Held { rank, intent, record };
        let out = if self.held.len() < self.spans_max {
            self.held.push(Reverse(new));
            return None;
        } else {
            match self.held.peek_mut() {
                Some(mut least) if least.0.rank < rank => std::mem::replace(&mut least.0, new),
                _ => new,
            }
        };
        self.gone = self.gone.max(Some(out.rank));
        Some(out.record)
    }

    /// The spans that leave, with what is then known of their probability, if another second has begun.
    pub(super) fn turn(&mut self, now: BootNanos) -> Vec<(Intent, Record)> {
        let second = now.0 / 1_000_000_000;
        if self.second.replace(second).is_none_or(|last| last == second) {
            return Vec::new();
        }
        self.release()
    }

    /// The same at once.
    pub(super) fn release(&mut self) -> Vec<(Intent, Record)> {
        let mut held = std::mem::take(&mut self.held).into_vec();
        held.sort_unstable_by_key(|held| held.0.record.end);
        let gone = self.gone.take();
        held.into_iter().map(|Reverse(held)| (held.raised(gone), held.record)).collect()
    }
}

impl Held {
    /// Its intent, with the threshold that the ceiling came to.
    fn raised(&self, gone: Option<Rank>) -> Intent {
        match gone.filter(|gone| gone.is_special == self.rank.is_special) {
            None => self.intent,
            Some(gone) => {
                let threshold = Threshold::above(gone.randomness).max(self.intent.threshold);
                // The trace that found room only for a part: what was chosen within it is not told by any threshold.
                let is_whole = threshold.keeps(self.rank.randomness);
                Intent { threshold, is_known: self.intent.is_known && is_whole }
            }
        }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}
