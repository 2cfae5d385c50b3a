//! What a collection of metrics yields: plain values for exporters, grouped by service and metric.

use std::sync::Arc;

use spantap_protocols::{Value, semconv::Metric};

use super::{Service, UnixNanos, histogram::Histogram};

/// Whether a point covers everything since its start, or since the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Since the series began.
    #[default]
    Cumulative,
    /// Since the previous collection.
    Delta,
}

/// The attributes of a series, in the order of the metric's dimensions.
pub type Dimensions = Arc<[(&'static str, Value)]>;

/// All metrics at one moment.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// When it was taken.
    pub time: UnixNanos,
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
    /// Each metric once.
    pub metrics: Vec<MetricPoints>,
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
    pub histogram: Histogram,
}
