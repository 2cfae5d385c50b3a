//! Encodes a service's histograms as OTLP `Metric`s.
//!
//! Spec: <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.11.0/opentelemetry/proto/metrics/v1/metrics.proto>

use super::{
    attributes::put_attribute,
    wire::{put_bytes, put_double, put_fixed64, put_head, put_signed, put_text, put_varint, varint_len},
};
use crate::telemetry::{
    MetricsSnapshot, Temporality, UnixNanos,
    histogram::{Buckets, Exemplar, Exponential},
    snapshot::{HistogramPoint, MetricPoints, NumberKind, NumberMetric, NumberPoint},
};

/// A metric with many series is written as several `Metric`s of about this size, so that requests can be cut between.
const METRIC_BYTES_TARGET: usize = 256 << 10;

/// Gives the body of each `Metric` message of `metric` to `each`, with the number of its points.
pub(super) fn for_each_metric(
    metric: &MetricPoints,
    snapshot: &MetricsSnapshot,
    mut each: impl FnMut(&[u8], u64),
) {
    let (mut points, mut scratch, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0;
    for (at, point) in metric.points.iter().enumerate() {
        scratch.clear();
        put_point(&mut scratch, point, metric.metric.bounds, snapshot);
        put_bytes(&mut points, DATA_POINTS, &scratch);
        count += 1;
        if points.len() >= METRIC_BYTES_TARGET || at + 1 == metric.points.len() {
            out.clear();
            put_metric(&mut out, metric, &points, snapshot.temporality);
            each(&out, count);
            points.clear();
            count = 0;
        }
    }
}

const METRIC_NAME: u8 = 0x0a;
const METRIC_DESCRIPTION: u8 = 0x12;
const METRIC_UNIT: u8 = 0x1a;
const METRIC_GAUGE: u8 = 0x2a;
const METRIC_SUM: u8 = 0x3a;
const METRIC_HISTOGRAM: u8 = 0x4a;
const METRIC_EXPONENTIAL: u8 = 0x52;
/// The kinds of data that a metric may hold; in each, [`DATA_POINTS`] are its points.
pub(super) const METRIC_DATA: [u8; 4] = [METRIC_GAUGE, METRIC_SUM, METRIC_HISTOGRAM, METRIC_EXPONENTIAL];
pub(super) const DATA_POINTS: u8 = 0x0a;
const DATA_TEMPORALITY: u8 = 0x10;

fn put_metric(out: &mut Vec<u8>, metric: &MetricPoints, points: &[u8], temporality: Temporality) {
    put_text(out, METRIC_NAME, metric.metric.name);
    put_text(out, METRIC_DESCRIPTION, metric.metric.description);
    put_text(out, METRIC_UNIT, metric.metric.unit);
    // All series of a metric have the same buckets.
    let data = match metric.points.first().map(|point| &point.histogram.buckets) {
        Some(Buckets::Exponential(_)) => METRIC_EXPONENTIAL,
        Some(Buckets::Explicit(_)) | None => METRIC_HISTOGRAM,
    };
    put_head(out, data, points.len() + 2);
    out.extend_from_slice(points);
    out.extend([DATA_TEMPORALITY, temporality_of(temporality)]);
}

fn temporality_of(temporality: Temporality) -> u8 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}

const SUM_IS_MONOTONIC: u8 = 0x18;

/// `NumberDataPoint`.
mod number {
    pub(super) const START: u8 = 0x11;
    pub(super) const TIME: u8 = 0x19;
    pub(super) const AS_DOUBLE: u8 = 0x21;
    pub(super) const AS_INT: u8 = 0x31;
    pub(super) const ATTRIBUTES: u8 = 0x3a;
}

/// The body of the `Metric` message of plain numbers. There are some hundred points at most.
pub(super) fn put_numbers(out: &mut Vec<u8>, metric: &NumberMetric, snapshot: &MetricsSnapshot) {
    let (mut points, mut point_body) = (Vec::new(), Vec::new());
    for point in &metric.points {
        point_body.clear();
        put_number(&mut point_body, point, metric.unit, snapshot.time);
        put_bytes(&mut points, DATA_POINTS, &point_body);
    }
    put_text(out, METRIC_NAME, metric.name);
    put_text(out, METRIC_DESCRIPTION, metric.description);
    put_text(out, METRIC_UNIT, metric.unit);
    // Only counters are ever differences.
    let sum: &[u8] = match metric.kind {
        NumberKind::Gauge => return put_bytes(out, METRIC_GAUGE, &points),
        NumberKind::Counter => &[DATA_TEMPORALITY, temporality_of(snapshot.temporality), SUM_IS_MONOTONIC, 1],
        NumberKind::UpDown => &[DATA_TEMPORALITY, temporality_of(Temporality::Cumulative)],
    };
    put_head(out, METRIC_SUM, points.len() + sum.len());
    out.extend_from_slice(&points);
    out.extend_from_slice(sum);
}

fn put_number(out: &mut Vec<u8>, point: &NumberPoint, unit: &str, time: UnixNanos) {
    put_fixed64(out, number::START, point.start.0);
    put_fixed64(out, number::TIME, time.max(point.start).0);
    // Counts are whole; only time is not.
    match unit {
        "s" => put_double(out, number::AS_DOUBLE, point.value),
        _ => put_fixed64(out, number::AS_INT, point.value as u64),
    }
    for (name, value) in &point.attributes {
        put_attribute(out, number::ATTRIBUTES, name, value);
    }
}

/// `HistogramDataPoint`.
mod explicit {
    pub(super) const START: u8 = 0x11;
    pub(super) const TIME: u8 = 0x19;
    pub(super) const COUNT: u8 = 0x21;
    pub(super) const SUM: u8 = 0x29;
    pub(super) const BUCKETS: u8 = 0x32;
    pub(super) const BOUNDS: u8 = 0x3a;
    pub(super) const EXEMPLARS: u8 = 0x42;
    pub(super) const ATTRIBUTES: u8 = 0x4a;
    pub(super) const MIN: u8 = 0x59;
    pub(super) const MAX: u8 = 0x61;
}

/// `ExponentialHistogramDataPoint`.
mod exponential {
    pub(super) const ATTRIBUTES: u8 = 0x0a;
    pub(super) const START: u8 = 0x11;
    pub(super) const TIME: u8 = 0x19;
    pub(super) const COUNT: u8 = 0x21;
    pub(super) const SUM: u8 = 0x29;
    pub(super) const SCALE: u8 = 0x30;
    pub(super) const ZERO_COUNT: u8 = 0x39;
    pub(super) const POSITIVE: u8 = 0x42;
    pub(super) const EXEMPLARS: u8 = 0x5a;
    pub(super) const MIN: u8 = 0x61;
    pub(super) const MAX: u8 = 0x69;
    pub(super) const BUCKETS_OFFSET: u8 = 0x08;
    pub(super) const BUCKETS_COUNTS: u8 = 0x12;
}

fn put_point(out: &mut Vec<u8>, point: &HistogramPoint, bounds: &[f64], snapshot: &MetricsSnapshot) {
    // A point must not end before it starts; only a recording's clock can make it try.
    let time = snapshot.time.max(point.start);
    // Those that were told of before are not told again.
    let exemplars = point.histogram.exemplars.iter().filter(|exemplar| exemplar.time >= snapshot.previous);
    match &point.histogram.buckets {
        Buckets::Explicit(counts) => put_explicit(out, point, counts, bounds, time, exemplars),
        Buckets::Exponential(buckets) => put_exponential(out, point, buckets, time, exemplars),
    }
}

fn put_explicit<'a>(
    out: &mut Vec<u8>,
    point: &HistogramPoint,
    counts: &[u64],
    bounds: &[f64],
    time: UnixNanos,
    exemplars: impl Iterator<Item = &'a Exemplar>,
) {
    let histogram = &point.histogram;
    put_fixed64(out, explicit::START, point.start.0);
    put_fixed64(out, explicit::TIME, time.0);
    put_fixed64(out, explicit::COUNT, histogram.count);
    put_double(out, explicit::SUM, histogram.sum);
    put_head(out, explicit::BUCKETS, counts.len() * 8);
    counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    put_head(out, explicit::BOUNDS, bounds.len() * 8);
    bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
    exemplars.for_each(|exemplar| put_exemplar(out, explicit::EXEMPLARS, exemplar));
    for (key, value) in point.dimensions.iter() {
        put_attribute(out, explicit::ATTRIBUTES, key, value);
    }
    if histogram.min.is_finite() {
        put_double(out, explicit::MIN, histogram.min);
        put_double(out, explicit::MAX, histogram.max);
    }
}

fn put_exponential<'a>(
    out: &mut Vec<u8>,
    point: &HistogramPoint,
    buckets: &Exponential,
    time: UnixNanos,
    exemplars: impl Iterator<Item = &'a Exemplar>,
) {
    let histogram = &point.histogram;
    for (key, value) in point.dimensions.iter() {
        put_attribute(out, exponential::ATTRIBUTES, key, value);
    }
    put_fixed64(out, exponential::START, point.start.0);
    put_fixed64(out, exponential::TIME, time.0);
    put_fixed64(out, exponential::COUNT, histogram.count);
    put_double(out, exponential::SUM, histogram.sum);
    put_signed(out, exponential::SCALE, buckets.scale());
    if buckets.zero() > 0 {
        put_fixed64(out, exponential::ZERO_COUNT, buckets.zero());
    }
    let counts_len: usize = buckets.counts().map(varint_len).sum();
    if counts_len > 0 {
        let mut positive = Vec::with_capacity(counts_len + 16);
        put_signed(&mut positive, exponential::BUCKETS_OFFSET, buckets.offset());
        put_head(&mut positive, exponential::BUCKETS_COUNTS, counts_len);
        buckets.counts().for_each(|count| put_varint(&mut positive, count));
        put_bytes(out, exponential::POSITIVE, &positive);
    }
    exemplars.for_each(|exemplar| put_exemplar(out, exponential::EXEMPLARS, exemplar));
    if histogram.min.is_finite() {
        put_double(out, exponential::MIN, histogram.min);
        put_double(out, exponential::MAX, histogram.max);
    }
}

const EXEMPLAR_TIME: u8 = 0x11;
const EXEMPLAR_VALUE: u8 = 0x19;
const EXEMPLAR_SPAN_ID: u8 = 0x22;
const EXEMPLAR_TRACE_ID: u8 = 0x2a;

fn put_exemplar(out: &mut Vec<u8>, tag: u8, exemplar: &Exemplar) {
    const LEN: usize = 9 + 9 + 2 + 8 + 2 + 16;
    put_head(out, tag, LEN);
    put_fixed64(out, EXEMPLAR_TIME, exemplar.time.0);
    put_double(out, EXEMPLAR_VALUE, exemplar.value);
    put_bytes(out, EXEMPLAR_SPAN_ID, &exemplar.span_id.to_bytes());
    put_bytes(out, EXEMPLAR_TRACE_ID, &exemplar.trace_id.to_bytes());
}
