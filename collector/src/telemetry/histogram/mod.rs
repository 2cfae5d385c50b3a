//! How many values, how large: what one series counts, in explicit or exponential buckets.

mod exemplars;
mod exponential;

pub use exemplars::{Exemplar, Exemplars};
pub use exponential::{Exponential, MAX_SCALE, MAX_SIZE};

/// The shape of a histogram's buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// The bounds that the conventions advise for the metric.
    #[default]
    Explicit,
    /// Base-2 exponential, at most [`MAX_SIZE`] buckets, from [`MAX_SCALE`] down.
    Exponential,
}

/// Values, as a data point of OTLP tells of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least; infinity while there is none.
    pub min: f64,
    /// The greatest; minus infinity while there is none.
    pub max: f64,
    /// Counts by size.
    pub buckets: Buckets,
    /// Spans behind some of the values.
    pub exemplars: Exemplars,
}

/// Counts by size.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// Bucket `i` holds values in `(bounds[i - 1], bounds[i]]`; one more than there are bounds holds the rest.
    Explicit(Box<[u64]>),
    /// See [`Exponential`].
    Exponential(Exponential),
}

impl Distribution {
    /// An empty one of values between `bounds`.
    #[must_use]
    pub fn new(aggregation: Aggregation, bounds: &[f64]) -> Self {
        let buckets = match aggregation {
            Aggregation::Explicit => Buckets::Explicit(vec![0; bounds.len() + 1].into()),
            Aggregation::Exponential => Buckets::Exponential(Exponential::default()),
        };
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, sum: 0.0, min, max, buckets, exemplars: Exemplars::default() }
    }

    /// Counts `value`, which is finite and not below zero; `bounds` are those it was made with.
    pub fn record(&mut self, bounds: &[f64], value: f64, exemplar: Option<Exemplar>) {
        // All of them: comparing fourteen at once is cheaper than guessing when to stop.
        let range: usize = bounds.iter().map(|bound| usize::from(value > *bound)).sum();
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match &mut self.buckets {
            Buckets::Explicit(counts) => {
                if let Some(count) = counts.get_mut(range) {
                    *count += 1;
                }
            }
            Buckets::Exponential(exponential) => exponential.record(value),
        }
        if let Some(exemplar) = exemplar {
            self.exemplars.put(range, exemplar);
        }
    }

    /// What has come since `before`, which was of the same buckets. Which value was the least or the greatest since then
    /// nobody knows.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.count = self.count.saturating_sub(before.count);
        since.sum = (self.sum - before.sum).max(0.0);
        (since.min, since.max) = (f64::INFINITY, f64::NEG_INFINITY);
        if let Buckets::Explicit(counts) = &mut since.buckets {
            for (count, before) in counts.iter_mut().zip(before.explicit()) {
                *count = count.saturating_sub(*before);
            }
        }
        since
    }

    /// The counts of explicit buckets; of others none.
    #[must_use]
    pub fn explicit(&self) -> &[u64] {
        match &self.buckets {
            Buckets::Explicit(counts) => counts,
            Buckets::Exponential(_) => &[],
        }
    }

    /// Back to empty; keeps its memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.sum = 0.0;
        self.min = f64::INFINITY;
        self.max = f64::NEG_INFINITY;
        match &mut self.buckets {
            Buckets::Explicit(counts) => counts.fill(0),
            Buckets::Exponential(exponential) => exponential.clear(),
        }
        self.exemplars.clear();
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use crate::telemetry::UnixNanos;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let bounds = [1.0, 2.0, 5.0];
        let mut histogram = Distribution::new(Aggregation::Explicit, &bounds);
        for value in [0.0, 1.0, 1.000_001, 2.0, 5.0, 5.1, f64::MAX] {
            histogram.record(&bounds, value, None);
        }
        assert_eq!(histogram.explicit(), [2, 2, 1, 2]);
        assert_eq!((histogram.count, histogram.min, histogram.max), (7, 0.0, f64::MAX));
    }

    #[test]
    fn exemplars_are_of_the_ranges_between_the_bounds() {
        let bounds = [1.0];
        let exemplar = |value| Exemplar {
            value,
            time: UnixNanos(1),
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([1; 8]),
        };
        for aggregation in [Aggregation::Explicit, Aggregation::Exponential] {
            let mut histogram = Distribution::new(aggregation, &bounds);
            for value in [0.1, 7.0, 0.2, 8.0] {
                histogram.record(&bounds, value, Some(exemplar(value)));
            }
            histogram.record(&bounds, 0.3, None);
            let kept: Vec<_> = histogram.exemplars.iter().map(|exemplar| exemplar.value).collect();
            assert_eq!(kept, [0.2, 8.0]);
            histogram.clear();
            assert_eq!(histogram, Distribution::new(aggregation, &bounds));
        }
    }
}
