//! Encodes a service's histograms as OTLP `Metric`s.
//!
//! Spec: <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.11.0/opentelemetry/proto/metrics/v1/metrics.proto>

use super::{
    attributes::put_attribute,
    wire::{put_bytes, put_double, put_fixed64, put_head, put_text},
};
use crate::telemetry::{
    Temporality, UnixNanos,
    histogram::Exemplar,
    snapshot::{HistogramPoint, MetricPoints},
};

/// A metric with many series is written as several `Metric`s of about this size, so that requests can be cut between.
const METRIC_BYTES_TARGET: usize = 256 << 10;

/// Gives the body of each `Metric` message of `metric` to `each`, with the number of its points.
pub(super) fn for_each_metric(
    metric: &MetricPoints,
    time: UnixNanos,
    temporality: Temporality,
    mut each: impl FnMut(&[u8], u64),
) {
    let (mut points, mut scratch, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0;
    for (at, point) in metric.points.iter().enumerate() {
        scratch.clear();
        put_point(&mut scratch, point, metric.metric.bounds, time);
        put_bytes(&mut points, HISTOGRAM_POINTS, &scratch);
        count += 1;
        if points.len() >= METRIC_BYTES_TARGET || at + 1 == metric.points.len() {
            out.clear();
            put_metric(&mut out, metric, &points, temporality);
            each(&out, count);
            points.clear();
            count = 0;
        }
    }
}

const METRIC_NAME: u8 = 0x0a;
const METRIC_DESCRIPTION: u8 = 0x12;
const METRIC_UNIT: u8 = 0x1a;
pub(super) const METRIC_HISTOGRAM: u8 = 0x4a;
pub(super) const HISTOGRAM_POINTS: u8 = 0x0a;
const HISTOGRAM_TEMPORALITY: u8 = 0x10;
const POINT_START: u8 = 0x11;
const POINT_TIME: u8 = 0x19;
const POINT_COUNT: u8 = 0x21;
const POINT_SUM: u8 = 0x29;
const POINT_BUCKETS: u8 = 0x32;
const POINT_BOUNDS: u8 = 0x3a;
const POINT_EXEMPLARS: u8 = 0x42;
const POINT_ATTRIBUTES: u8 = 0x4a;
const POINT_MIN: u8 = 0x59;
const POINT_MAX: u8 = 0x61;
const EXEMPLAR_TIME: u8 = 0x11;
const EXEMPLAR_VALUE: u8 = 0x19;
const EXEMPLAR_SPAN_ID: u8 = 0x22;
const EXEMPLAR_TRACE_ID: u8 = 0x2a;

fn put_metric(out: &mut Vec<u8>, metric: &MetricPoints, points: &[u8], temporality: Temporality) {
    put_text(out, METRIC_NAME, metric.metric.name);
    put_text(out, METRIC_DESCRIPTION, metric.metric.description);
    put_text(out, METRIC_UNIT, metric.metric.unit);
    put_head(out, METRIC_HISTOGRAM, points.len() + 2);
    out.extend_from_slice(points);
    let temporality = match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    };
    out.extend([HISTOGRAM_TEMPORALITY, temporality]);
}

fn put_point(out: &mut Vec<u8>, point: &HistogramPoint, bounds: &[f64], time: UnixNanos) {
    let histogram = &point.histogram;
    put_fixed64(out, POINT_START, point.start.0);
    // A point must not end before it starts; only a recording's clock can make it try.
    put_fixed64(out, POINT_TIME, time.max(point.start).0);
    put_fixed64(out, POINT_COUNT, histogram.count);
    put_double(out, POINT_SUM, histogram.sum);
    put_head(out, POINT_BUCKETS, histogram.buckets.len() * 8);
    histogram.buckets.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    put_head(out, POINT_BOUNDS, bounds.len() * 8);
    bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
    for exemplar in histogram.exemplars.iter().flatten() {
        put_exemplar(out, exemplar);
    }
    for (key, value) in point.dimensions.iter() {
        put_attribute(out, POINT_ATTRIBUTES, key, value);
    }
    if histogram.count > 0 {
        put_double(out, POINT_MIN, histogram.min);
        put_double(out, POINT_MAX, histogram.max);
    }
}

fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    const LEN: usize = 9 + 9 + 2 + 8 + 2 + 16;
    put_head(out, POINT_EXEMPLARS, LEN);
    put_fixed64(out, EXEMPLAR_TIME, exemplar.time.0);
    put_double(out, EXEMPLAR_VALUE, exemplar.value);
    put_bytes(out, EXEMPLAR_SPAN_ID, &exemplar.span_id.to_bytes());
    put_bytes(out, EXEMPLAR_TRACE_ID, &exemplar.trace_id.to_bytes());
}
