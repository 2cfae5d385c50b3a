//! Series, caps, temporality and the end of series.

use compact_str::format_compact;
use spantap_protocols::{Role, Value, semconv::key};

use super::*;
use crate::telemetry::{
    MetricsSnapshot, UnixNanos,
    snapshot::{HistogramPoint, OVERFLOW},
    span::tests::{record, service},
};

fn aggregator(per_service: u32, all: u32) -> Aggregator {
    Aggregator::new(MetricSettings {
        series_max_per_service: per_service,
        series_max: all,
        ..MetricSettings::default()
    })
}

const SECOND_NS: u64 = 1_000_000_000;

fn now() -> UnixNanos {
    UnixNanos(1_700_000_001 * SECOND_NS)
}

fn after(seconds: u64) -> UnixNanos {
    UnixNanos(now().0 + seconds * SECOND_NS)
}

fn collect(metrics: &mut Aggregator) -> MetricsSnapshot {
    metrics.collect(now(), UnixNanos(0))
}

fn points(snapshot: &MetricsSnapshot, service: usize) -> &[HistogramPoint] {
    &snapshot.services[service].metrics[0].points
}

#[test]
fn series_are_told_apart_by_service_and_dimensions() {
    let mut metrics = Aggregator::new(MetricSettings::default());
    let mut other = record(Role::Server, 200);
    other.service = service(2, "cart");
    let mut constant = record(Role::Server, 200);
    constant.attributes.set(key::URL_SCHEME, Value::Text("http".into()));
    for record in
        [record(Role::Server, 200), constant, record(Role::Server, 500), record(Role::Client, 200), other]
    {
        metrics.record(&record);
    }
    assert_eq!(metrics.len(), 4);
    let snapshot = collect(&mut metrics);
    let names: Vec<_> = snapshot
        .services
        .iter()
        .map(|s| {
            let metrics: Vec<_> = s.metrics.iter().map(|m| (m.metric.name, m.points.len())).collect();
            (s.service.name.as_str(), metrics)
        })
        .collect();
    let expected = [
        ("shop", vec![("http.client.request.duration", 1), ("http.server.request.duration", 2)]),
        ("cart", vec![("http.server.request.duration", 1)]),
    ];
    assert_eq!(names, expected);
    let twice = snapshot.services[0].metrics[1].points.iter().find(|p| p.histogram.count == 2).unwrap();
    assert_eq!(twice.histogram.explicit()[1], 2, "6 ms lie between 5 and 10 ms");
    assert!((twice.histogram.sum - 0.012).abs() < 1e-12);
    let names: Vec<_> = twice.dimensions.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [key::HTTP_REQUEST_METHOD, key::URL_SCHEME, key::HTTP_RESPONSE_STATUS_CODE]);
    let status = twice.dimensions.iter().find(|(name, _)| *name == key::HTTP_RESPONSE_STATUS_CODE);
    assert_eq!(status.unwrap().1, &Value::Int(200));
    let exemplar = twice.histogram.exemplars.get(1).unwrap();
    assert_eq!(exemplar.trace_id, record(Role::Server, 200).trace.trace_id);
}

#[test]
fn only_exported_spans_are_examples() {
    let mut unsampled = record(Role::Server, 200);
    unsampled.trace.flags = opentelemetry::trace::TraceFlags::default();
    let mut counted = record(Role::Server, 200);
    counted.is_span = false;
    for (record, exported, expected) in [(&unsampled, true, 1), (&counted, true, 0), (&unsampled, false, 0)] {
        let settings = MetricSettings { exemplars: exported, ..MetricSettings::default() };
        let mut metrics = Aggregator::new(settings);
        metrics.record(record);
        let snapshot = collect(&mut metrics);
        let histogram = &points(&snapshot, 0)[0].histogram;
        assert_eq!((histogram.count, histogram.exemplars.iter().count()), (1, expected));
    }
}

#[test]
fn above_the_caps_values_count_into_one_overflow_series_per_service() {
    let mut metrics = aggregator(3, 5);
    let of = |id: u32, route: u32| {
        let mut record = record(Role::Server, 200);
        record.service = service(id, "shop");
        record.attributes.set(key::HTTP_ROUTE, Value::Text(format_compact!("/{route}")));
        record
    };
    (1..=2).for_each(|id| (0..10).for_each(|route| metrics.record(&of(id, route))));
    assert_eq!(metrics.overflowed(), 7 + 8);
    let snapshot = collect(&mut metrics);
    let overflow = |at: usize| {
        let point = points(&snapshot, at).iter().find(|p| p.dimensions.is_overflow()).unwrap();
        let pairs: Vec<_> = point.dimensions.iter().map(|(name, value)| (name, value.clone())).collect();
        assert_eq!(pairs, [(OVERFLOW, Value::Bool(true))]);
        point.histogram.count
    };
    assert_eq!((overflow(0), overflow(1)), (7, 8));
    let total: u64 = (0..2).flat_map(|at| points(&snapshot, at)).map(|p| p.histogram.count).sum();
    assert_eq!(total, 20);

    metrics.service_ended(1, now());
    metrics.expire(after(400));
    assert_eq!(metrics.len(), 3, "those of the other service");
    metrics.record(&of(2, 100));
    assert_eq!(metrics.overflowed(), 15, "room again");
    metrics.record(&of(2, 101));
    assert_eq!(metrics.overflowed(), 16, "the service has its three");
}

#[test]
fn cumulative_points_keep_their_start_and_delta_points_move_it() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut metrics = Aggregator::new(MetricSettings { temporality, ..MetricSettings::default() });
        let record = record(Role::Server, 200);
        metrics.record(&record);
        assert_eq!(points(&metrics.collect(now(), UnixNanos(0)), 0)[0].start, record.start);
        metrics.record(&record);
        let snapshot = metrics.collect(after(1), now());
        let point = &points(&snapshot, 0)[0];
        let expected = match temporality {
            Temporality::Cumulative => (2, record.start),
            Temporality::Delta => (1, now()),
        };
        assert_eq!((point.histogram.count, point.start), expected);
        assert_eq!(point.histogram.exemplars.iter().count(), 1);
        let quiet = metrics.collect(after(2), after(1));
        assert_eq!(quiet.services.is_empty(), temporality == Temporality::Delta);
        metrics.record(&record);
        let snapshot = metrics.collect(after(3), after(2));
        let point = &points(&snapshot, 0)[0];
        let expected = match temporality {
            Temporality::Cumulative => (3, record.start),
            // Not since the last point: what has been told of is over.
            Temporality::Delta => (1, after(2)),
        };
        assert_eq!((point.histogram.count, point.start), expected);
    }
}

#[test]
fn idle_series_go_after_an_hour_and_those_of_ended_services_sooner() {
    let mut metrics = Aggregator::new(MetricSettings::default());
    let record = record(Role::Server, 200);
    metrics.record(&record);
    metrics.expire(after(3_598));
    assert_eq!(metrics.len(), 1);
    metrics.expire(after(3_602));
    assert!(metrics.is_empty());

    metrics.record(&record);
    metrics.service_ended(1, now());
    metrics.expire(after(298));
    assert_eq!(metrics.len(), 1, "every reader gets the last values");
    metrics.expire(after(302));
    assert!(metrics.is_empty());

    metrics.record(&record);
    metrics.service_ended(1, now());
    let mut again = record.clone();
    again.end = after(5);
    metrics.record(&again);
    metrics.expire(after(400));
    assert_eq!(metrics.len(), 1, "a new process has taken the service on");
}

#[test]
fn a_delta_table_forgets_nothing_that_was_not_read() {
    let settings = MetricSettings { temporality: Temporality::Delta, ..MetricSettings::default() };
    let mut metrics = Aggregator::new(settings);
    metrics.record(&record(Role::Server, 200));
    metrics.service_ended(1, now());
    metrics.expire(after(4_000));
    assert_eq!(metrics.collect(after(4_000), UnixNanos(0)).services.len(), 1);
    assert_eq!(metrics.len(), 1, "it may come again soon");
    assert!(metrics.collect(after(4_060), after(4_000)).services.is_empty());
    assert!(metrics.is_empty());
}

#[test]
fn the_size_of_a_series_is_known() {
    // With the buckets of an HTTP server's duration, five dimensions and three exemplars this is below 1 KiB; what the
    // allocator adds is measured by the bench.
    assert!(size_of::<super::table::Series>() <= 200, "{}", size_of::<super::table::Series>());
}
