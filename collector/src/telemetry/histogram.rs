//! An explicit-bucket histogram with one exemplar per bucket, as OTLP's `HistogramDataPoint` wants it.

use opentelemetry::trace::{SpanId, TraceId};

use super::UnixNanos;

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

/// Counts by bucket. Bucket `i` holds values in `(bounds[i - 1], bounds[i]]`; the last holds the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least; infinity while there is none.
    pub min: f64,
    /// The greatest; minus infinity while there is none.
    pub max: f64,
    /// One more than there are bounds.
    pub buckets: Box<[u64]>,
    /// The last sampled span of each bucket.
    pub exemplars: Box<[Option<Exemplar>]>,
}

impl Histogram {
    /// An empty one for `bounds`.
    #[must_use]
    pub fn new(bounds: &[f64]) -> Self {
        let buckets = bounds.len() + 1;
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            buckets: vec![0; buckets].into(),
            exemplars: vec![None; buckets].into(),
        }
    }

    /// Counts `value`; `bounds` are those it was made with.
    pub fn record(&mut self, bounds: &[f64], value: f64, exemplar: Option<Exemplar>) {
        let bucket = bounds.iter().take_while(|bound| value > **bound).count();
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        if let (Some(exemplar), Some(slot)) = (exemplar, self.exemplars.get_mut(bucket)) {
            *slot = Some(exemplar);
        }
    }

    /// Back to empty; keeps its memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.sum = 0.0;
        self.min = f64::INFINITY;
        self.max = f64::NEG_INFINITY;
        self.buckets.fill(0);
        self.exemplars.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let bounds = [1.0, 2.0, 5.0];
        let mut histogram = Histogram::new(&bounds);
        for value in [0.0, 1.0, 1.000_001, 2.0, 5.0, 5.1, f64::MAX] {
            histogram.record(&bounds, value, None);
        }
        assert_eq!(*histogram.buckets, [2, 2, 1, 2]);
        assert_eq!((histogram.count, histogram.min, histogram.max), (7, 0.0, f64::MAX));
    }

    #[test]
    fn the_last_exemplar_of_a_bucket_stays() {
        let bounds = [1.0];
        let mut histogram = Histogram::new(&bounds);
        let exemplar = |value| Exemplar {
            value,
            time: UnixNanos(1),
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([1; 8]),
        };
        histogram.record(&bounds, 0.1, Some(exemplar(0.1)));
        histogram.record(&bounds, 0.2, Some(exemplar(0.2)));
        histogram.record(&bounds, 0.3, None);
        assert_eq!(*histogram.exemplars, [Some(exemplar(0.2)), None]);
        histogram.clear();
        assert_eq!(histogram, Histogram::new(&bounds));
    }
}
