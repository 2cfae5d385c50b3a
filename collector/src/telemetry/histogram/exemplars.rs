//! Which spans stand for the values of a histogram? One for each range between the metric's bounds, the last one.
//!
//! Exponential histograms keep them by the same ranges: a slow request has an example of its own, however many fast ones
//! come. (The SDK advises a random choice of twenty there, which would be most of a series' memory.)

use opentelemetry::trace::{SpanId, TraceId};

use crate::telemetry::UnixNanos;

/// The span behind a value: lets a user jump from a bucket to a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The value, in the metric's unit.
    pub value: f64,
    /// When the span ended.
    pub time: UnixNanos,
    /// Of the span.
    pub trace_id: TraceId,
    /// Of the span.
    pub span_id: SpanId,
}

/// At most one exemplar for each range. Ranges that never had one take no memory: most series live in two or three.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplars {
    /// Bit `i` is set if range `i` has one.
    ranges: u32,
    /// In the order of their ranges.
    kept: Vec<Exemplar>,
}

impl Exemplars {
    /// Keeps `exemplar` for the range, in place of an older one. Ranges above the 32nd have none.
    pub fn put(&mut self, range: usize, exemplar: Exemplar) {
        let Some(bit) = u32::try_from(range).ok().and_then(|range| 1_u32.checked_shl(range)) else { return };
        let at = (self.ranges & (bit - 1)).count_ones() as usize;
        if self.ranges & bit != 0 {
            if let Some(slot) = self.kept.get_mut(at) {
                *slot = exemplar;
            }
        } else {
            self.ranges |= bit;
            self.kept.reserve_exact(1);
            self.kept.insert(at, exemplar);
        }
    }

    /// That of a range.
    #[must_use]
    pub fn get(&self, range: usize) -> Option<&Exemplar> {
        let bit = 1_u32.checked_shl(u32::try_from(range).ok()?)?;
        (self.ranges & bit != 0).then(|| self.kept.get((self.ranges & (bit - 1)).count_ones() as usize))?
    }

    /// All of them, those of lower values first.
    pub fn iter(&self) -> impl Iterator<Item = &Exemplar> {
        self.kept.iter()
    }

    /// Back to none; keeps its memory.
    pub fn clear(&mut self) {
        self.ranges = 0;
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(value: f64) -> Exemplar {
        Exemplar {
            value,
            time: UnixNanos(1),
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([1; 8]),
        }
    }

    #[test]
    fn the_last_one_of_each_range_stays() {
        let mut exemplars = Exemplars::default();
        for (range, value) in
            [(9, 9.0), (0, 0.1), (31, 31.0), (4, 4.0), (0, 0.2), (32, 32.0), (usize::MAX, 0.0)]
        {
            exemplars.put(range, exemplar(value));
        }
        assert_eq!(exemplars.iter().map(|e| e.value).collect::<Vec<_>>(), [0.2, 4.0, 9.0, 31.0]);
        assert_eq!(exemplars.get(4), Some(&exemplar(4.0)));
        assert_eq!((exemplars.get(5), exemplars.get(32), exemplars.get(usize::MAX)), (None, None, None));
        exemplars.clear();
        assert_eq!((exemplars.get(4), exemplars.iter().count()), (None, 0));
    }
}
