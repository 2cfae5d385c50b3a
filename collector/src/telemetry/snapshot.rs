//! What a collection of metrics yields: plain values for exporters, grouped by service and metric.

use std::sync::Arc;

use spantap_protocols::{Value, semconv::Metric};

use super::{Service, UnixNanos, histogram::Distribution};

/// Whether a point covers everything since its start, or since the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Since the series began.
    #[default]
    Cumulative,
    /// Since the previous collection.
    Delta,
}

/// The attribute of the series that takes what the caps refuse.
/// <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute>
pub const OVERFLOW: &str = "otel.metric.overflow";

/// What tells a series from the others of its metric: the values of those of the metric's dimensions that it has.
#[derive(Clone, Debug)]
pub struct Dimensions {
    names: &'static [&'static str],
    /// Bit `i` is set if it has the dimension `names[i]`.
    present: u32,
    /// As many as bits are set, in their order.
    values: Arc<[Value]>,
}

impl Dimensions {
    /// Values of the dimensions that `present` says. More dimensions than 31 are never told apart.
    pub(super) fn new(names: &'static [&'static str], present: u32, values: Arc<[Value]>) -> Self {
        Self { names, present, values }
    }

    /// Those of `attributes` that are among `names`.
    pub(crate) fn of(names: &'static [&'static str], attributes: &[(&'static str, Value)]) -> Self {
        let (mut present, mut values) = (0, Vec::new());
        for (at, name) in names.iter().enumerate().take(31) {
            if let Some((_, value)) = attributes.iter().find(|(key, _)| key == name) {
                present |= 1 << at;
                values.push(value.clone());
            }
        }
        Self::new(names, present, values.into())
    }

    /// Of the series that takes what the caps refuse.
    pub(super) fn overflow() -> Self {
        Self { names: &[OVERFLOW], present: OVERFLOWED, values: Arc::new([Value::Bool(true)]) }
    }

    /// True for that series.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.present == OVERFLOWED
    }

    /// Which dimensions it has.
    pub(super) fn present(&self) -> u32 {
        self.present
    }

    /// Their values.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Names and values, in the order of the metric's dimensions.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let has = |at: &usize| u32::try_from(*at).is_ok_and(|at| self.present >> at & 1 == 1);
        let names = self.names.iter().enumerate().filter(move |(at, _)| has(at));
        names.map(|(_, name)| *name).zip(self.values.iter())
    }
}

/// Bits of [`Dimensions::present`] that no metric has.
pub(super) const OVERFLOWED: u32 = u32::MAX;

/// All metrics at one moment.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// When it was taken.
    pub time: UnixNanos,
    /// When this reader took the one before; exemplars that are older were in it.
    pub previous: UnixNanos,
    /// Of every point in it.
    pub temporality: Temporality,
    /// Each service once.
    pub services: Vec<ServiceMetrics>,
}

/// The metrics of one service.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    /// Whose.
    pub service: Arc<Service>,
    /// Its histograms, each metric once.
    pub metrics: Vec<MetricPoints>,
    /// Its counts, each metric once. Only the agent itself has some.
    pub numbers: Vec<NumberMetric>,
}

/// A metric whose values are plain numbers.
#[derive(Clone, Debug)]
pub struct NumberMetric {
    /// As OpenTelemetry writes it, with points.
    pub name: &'static str,
    /// In one line.
    pub description: &'static str,
    /// UCUM.
    pub unit: &'static str,
    /// What the numbers do.
    pub kind: NumberKind,
    /// At least one.
    pub points: Vec<NumberPoint>,
}

/// What numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// They only grow.
    Counter,
    /// They grow and shrink, and their sum over all attributes says something.
    UpDown,
    /// They are measured anew each time.
    Gauge,
}

/// One number.
#[derive(Clone, Debug)]
pub struct NumberPoint {
    /// What tells it from the others of its metric.
    pub attributes: Vec<(&'static str, Value)>,
    /// Since when it counts.
    pub start: UnixNanos,
    /// The number; a count, or a measure in the metric's unit.
    pub value: f64,
}

/// The points of one metric.
#[derive(Clone, Debug)]
pub struct MetricPoints {
    /// Name, unit, bounds.
    pub metric: &'static Metric,
    /// At least one.
    pub points: Vec<HistogramPoint>,
}

/// One point: a series at the time of the snapshot.
#[derive(Clone, Debug)]
pub struct HistogramPoint {
    /// What tells it from the other series of its metric.
    pub dimensions: Dimensions,
    /// Since when it counts.
    pub start: UnixNanos,
    /// What it counted.
    pub histogram: Distribution,
}
