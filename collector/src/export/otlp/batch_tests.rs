//! The encoders and the batcher, decoded by the generated types.

use compact_str::{CompactString, format_compact};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value},
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::Span,
};
use proptest::prelude::*;
use prost::Message;
use spantap_protocols::{Attributes, Key, Outcome, Role, Value, semconv::key};

use super::*;
use crate::telemetry::{
    Aggregation, Aggregator, MetricSettings, Temporality, TraceIds, UnixNanos,
    snapshot::{NumberKind, NumberMetric, NumberPoint},
    span::tests::{record, service},
};

fn oracle_value(value: &Value) -> AnyValue {
    use any_value::Value as Any;
    let string = |text: &str| Any::StringValue(text.to_owned());
    let value = match value {
        Value::Static(text) => string(text),
        Value::Text(text) => string(text),
        Value::Int(int) => Any::IntValue(*int),
        Value::Double(double) => Any::DoubleValue(*double),
        Value::Bool(bool) => Any::BoolValue(*bool),
        Value::Texts(texts) => Any::ArrayValue(ArrayValue {
            values: texts.iter().map(|t| AnyValue { value: Some(string(t)) }).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}

fn oracle_attributes(attributes: &Attributes) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(key, value)| KeyValue {
            key: key.as_str().to_owned(),
            value: Some(oracle_value(value)),
            ..KeyValue::default()
        })
        .collect()
}

fn oracle_span(record: &Record) -> Span {
    let remote = if record.trace.parent.is_some() { 0x300 } else { 0x100 };
    Span {
        trace_id: record.trace.trace_id.to_bytes().to_vec(),
        span_id: record.trace.span_id.to_bytes().to_vec(),
        trace_state: record.trace.state.to_string(),
        parent_span_id: record.trace.parent.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(record.trace.flags.to_u8()) | remote,
        name: record.name().to_string(),
        kind: match record.kind {
            SpanKind::Server => 2,
            _ => 3,
        },
        start_time_unix_nano: record.start.0,
        end_time_unix_nano: record.end.0,
        attributes: oracle_attributes(&record.attributes),
        status: matches!(record.outcome, Outcome::Error(_))
            .then(|| opentelemetry_proto::tonic::trace::v1::Status { code: 2, ..Default::default() }),
        ..Span::default()
    }
}

fn decode(batch: &Batch) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(batch.body.clone()).unwrap()
}

fn push(batcher: &mut Batcher, record: &Record) {
    assert_eq!(batcher.push_span(record, usize::MAX), None);
}

fn spans_of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect()
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Static("GET")),
        ".{0,200}".prop_map(|text| Value::Text(text.into())),
        any::<i64>().prop_map(Value::Int),
        (-1e300..1e300).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Bool),
        proptest::collection::vec(".{0,40}", 0..4)
            .prop_map(|texts| Value::Texts(texts.into_iter().map(CompactString::from).collect())),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    (
        (any::<[u8; 16]>(), any::<[u8; 8]>(), proptest::option::of(any::<[u8; 8]>()), any::<u8>(), ".{0,60}"),
        (".{1,20}", proptest::option::of(".{0,60}"), any::<u64>(), any::<u64>(), any::<bool>(), 0_u32..4),
        proptest::collection::vec(("[a-z.]{1,40}", any_value()), 0..20),
    )
        .prop_map(|(ids, (operation, target, start, end, error, id), pairs)| {
            let mut record = record(if error { Role::Client } else { Role::Server }, 200);
            record.service = service(id, &format!("service-{id}"));
            record.operation = operation.into();
            record.target = target.map(CompactString::from);
            (record.start, record.end) = (UnixNanos(start), UnixNanos(end));
            record.outcome = if error { Outcome::Error("500".into()) } else { Outcome::Unset };
            record.attributes = Attributes::new();
            for (key, value) in pairs {
                record.attributes.push(Key::Owned(key.into()), value);
            }
            record.trace = TraceIds {
                trace_id: TraceId::from_bytes(ids.0),
                span_id: SpanId::from_bytes(ids.1),
                parent: ids.2.map(SpanId::from_bytes),
                flags: TraceFlags::new(ids.3),
                caller_samples: None,
                state: ids.4.into(),
            };
            record
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn spans_decode_to_what_they_were(records in proptest::collection::vec(any_record(), 1..12)) {
        let mut batcher = Batcher::new(Signal::Traces);
        records.iter().for_each(|record| push(&mut batcher, record));
        let estimate = batcher.bytes();
        let batch = batcher.finish().unwrap();
        prop_assert!(batch.body.len() <= estimate);
        prop_assert_eq!(batch.items, records.len() as u64);
        let request = decode(&batch);
        prop_assert_eq!(&request.encode_to_vec(), &batch.body[..], "canonical, down to the byte");
        for part in &request.resource_spans {
            let expected: Vec<_> = records
                .iter()
                .filter(|r| {
                    let attributes = oracle_attributes(&r.service.attributes);
                    part.resource.as_ref().is_some_and(|resource| resource.attributes == attributes)
                })
                .map(oracle_span)
                .collect();
            prop_assert_eq!(&part.schema_url, SCHEMA_URL);
            prop_assert_eq!(part.scope_spans.len(), 1);
            let scope = part.scope_spans[0].scope.as_ref().unwrap();
            prop_assert_eq!((scope.name.as_str(), scope.version.as_str()), SCOPE);
            prop_assert_eq!(&part.scope_spans[0].spans, &expected);
        }
    }

    #[test]
    fn halves_hold_everything_once(records in proptest::collection::vec(any_record(), 1..30)) {
        let mut batcher = Batcher::new(Signal::Traces);
        records.iter().for_each(|record| push(&mut batcher, record));
        let batch = batcher.finish().unwrap();
        let whole = spans_of(&decode(&batch));
        match batch.split() {
            None => prop_assert_eq!(records.len(), 1),
            Some((first, second)) => {
                prop_assert_eq!(first.items + second.items, batch.items);
                let (first, second) = (decode(&first), decode(&second));
                let enveloped = first.resource_spans.iter().chain(&second.resource_spans).all(|r| {
                    r.resource.is_some() && r.schema_url == SCHEMA_URL && r.scope_spans[0].scope.is_some()
                });
                prop_assert!(enveloped);
                let mut halves = spans_of(&first);
                halves.extend(spans_of(&second));
                let sorted = |mut spans: Vec<Span>| {
                    spans.sort_by_key(Message::encode_to_vec);
                    spans
                };
                prop_assert_eq!(sorted(halves), sorted(whole));
            }
        }
    }
}

#[test]
fn attributes_beyond_the_limit_are_counted() {
    let mut record = record(Role::Server, 200);
    let own = record.attributes.len() as u64;
    for at in 0..128 {
        record.attributes.push(Key::Owned(format_compact!("k{at}")), Value::Int(at));
    }
    let mut batcher = Batcher::new(Signal::Traces);
    push(&mut batcher, &record);
    let span = &spans_of(&decode(&batcher.finish().unwrap()))[0];
    assert_eq!((span.attributes.len(), u64::from(span.dropped_attributes_count)), (128, own));
    assert_eq!(batcher.dropped_attributes(), own);
}

#[test]
fn requests_are_cut_by_bytes_and_lose_nothing() {
    let mut batcher = Batcher::new(Signal::Traces);
    let mut batches = Vec::new();
    for id in 0..1000 {
        let mut record = record(Role::Server, 200);
        record.service = service(id % 7, "shop");
        batches.extend(batcher.push_span(&record, 20_000));
    }
    batches.extend(batcher.finish());
    assert!(batches.iter().all(|batch| batch.body.len() <= 20_000));
    assert!(batches.iter().rev().skip(1).all(|batch| batch.body.len() > 19_000));
    assert_eq!(batches.iter().map(|batch| spans_of(&decode(batch)).len()).sum::<usize>(), 1000);
}

#[test]
fn an_empty_envelope_is_never_made() {
    let mut batcher = Batcher::new(Signal::Traces);
    assert_eq!(batcher.finish(), None);
    push(&mut batcher, &record(Role::Server, 200));
    assert!(batcher.finish().is_some());
    assert_eq!((batcher.finish(), batcher.bytes()), (None, 0));
}

fn snapshot(services: u32, routes: u32, aggregation: Aggregation) -> MetricsSnapshot {
    let mut metrics = Aggregator::new(MetricSettings { aggregation, ..MetricSettings::default() });
    for id in 0..services {
        for route in 0..routes {
            let mut record = record(Role::Server, 200);
            record.service = service(id, &format!("service-{id}"));
            record.attributes.push(key::HTTP_ROUTE, Value::Text(format_compact!("/route/{route}")));
            metrics.record(&record);
        }
    }
    metrics.collect(UnixNanos(1_700_000_009_000_000_000), UnixNanos(0))
}

#[test]
fn histograms_decode_to_what_they_were() {
    let mut batches = Vec::new();
    Batcher::new(Signal::Metrics)
        .push_snapshot(&snapshot(2, 3, Aggregation::Explicit), 2 << 20, |batch| batches.push(batch));
    assert_eq!(batches.len(), 1);
    assert_eq!((batches[0].items, batches[0].generation), (6, 1));
    let request = ExportMetricsServiceRequest::decode(batches[0].body.clone()).unwrap();
    assert_eq!(request.encode_to_vec(), batches[0].body);
    assert_eq!(request.resource_metrics.len(), 2);
    let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
    assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("http.server.request.duration", "s"));
    let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!((histogram.aggregation_temporality, histogram.data_points.len()), (2, 3));
    let point = &histogram.data_points[0];
    let record = record(Role::Server, 200);
    assert_eq!((point.count, point.sum, point.min, point.max), (1, Some(0.006), Some(0.006), Some(0.006)));
    assert_eq!(point.bucket_counts, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(point.explicit_bounds, spantap_protocols::semconv::DURATION_BOUNDS);
    assert_eq!(point.start_time_unix_nano, record.start.0);
    assert_eq!(point.time_unix_nano, 1_700_000_009_000_000_000);
    assert_eq!(point.exemplars.len(), 1);
    assert_eq!(point.exemplars[0].trace_id, record.trace.trace_id.to_bytes());
    assert_eq!(point.exemplars[0].span_id, record.trace.span_id.to_bytes());
    assert_eq!(point.exemplars[0].time_unix_nano, record.end.0);
    let keys: Vec<_> = point.attributes.iter().map(|kv| kv.key.as_str()).collect();
    assert_eq!(
        keys,
        [key::HTTP_REQUEST_METHOD, key::URL_SCHEME, key::HTTP_RESPONSE_STATUS_CODE, key::HTTP_ROUTE]
    );
}

#[test]
fn exponential_histograms_decode_to_what_they_were() {
    let mut batches = Vec::new();
    let mut snapshot = snapshot(1, 2, Aggregation::Exponential);
    let point = &mut snapshot.services[0].metrics[0].points[0].histogram;
    [0.0, 0.003, 0.006, 12.0, 900.0].iter().for_each(|value| point.record(&[], *value, None));
    Batcher::new(Signal::Metrics).push_snapshot(&snapshot, 2 << 20, |batch| batches.push(batch));
    let request = ExportMetricsServiceRequest::decode(batches[0].body.clone()).unwrap();
    assert_eq!(request.encode_to_vec(), batches[0].body, "canonical, down to the byte");
    let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::ExponentialHistogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!((histogram.aggregation_temporality, histogram.data_points.len()), (2, 2));
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.zero_count, point.min, point.max), (6, 1, Some(0.0), Some(900.0)));
    let positive = point.positive.as_ref().unwrap();
    assert_eq!(positive.bucket_counts.iter().sum::<u64>(), 5);
    assert!(point.scale < 20 && positive.offset < 0 && positive.bucket_counts.len() <= 160, "{point:?}");
    let base = 2f64.powf(2f64.powi(-point.scale));
    let last = positive.offset + positive.bucket_counts.len() as i32;
    assert!(base.powi(last) >= 900.0 && base.powi(last - 1) < 900.0);
    assert_eq!(point.exemplars.len(), 1);
    assert_eq!((batches[0].items, points_of(&metric.encode_to_vec())), (2, 2));
}

#[test]
fn numbers_decode_to_what_they_were() {
    let metric = |name, unit, kind, value| NumberMetric {
        name,
        description: "what it says",
        unit,
        kind,
        points: vec![NumberPoint {
            attributes: vec![("reason", Value::Static("late"))],
            start: UnixNanos(5),
            value,
        }],
    };
    for (temporality, number) in [(Temporality::Cumulative, 2), (Temporality::Delta, 1)] {
        let mut snapshot = snapshot(1, 1, Aggregation::Explicit);
        snapshot.temporality = temporality;
        snapshot.services[0].numbers = vec![
            metric("a", "{item}", NumberKind::Counter, 7.0),
            metric("b", "s", NumberKind::Counter, 0.25),
            metric("c", "By", NumberKind::UpDown, 9.0),
            metric("d", "By", NumberKind::Gauge, 10.0),
        ];
        let mut batches = Vec::new();
        Batcher::new(Signal::Metrics).push_snapshot(&snapshot, 2 << 20, |batch| batches.push(batch));
        let request = ExportMetricsServiceRequest::decode(batches[0].body.clone()).unwrap();
        assert_eq!(request.encode_to_vec(), batches[0].body, "canonical, down to the byte");
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let found: Vec<_> = metrics[1..]
            .iter()
            .map(|metric| match &metric.data {
                Some(Data::Sum(sum)) => (&sum.data_points[0], sum.aggregation_temporality, sum.is_monotonic),
                Some(Data::Gauge(gauge)) => (&gauge.data_points[0], 0, false),
                other => panic!("{other:?}"),
            })
            .map(|(point, temporality, is_monotonic)| {
                assert_eq!((point.start_time_unix_nano, point.attributes[0].key.as_str()), (5, "reason"));
                (point.value.unwrap(), temporality, is_monotonic)
            })
            .collect();
        let expected = [
            (number_data_point::Value::AsInt(7), number, true),
            (number_data_point::Value::AsDouble(0.25), number, true),
            (number_data_point::Value::AsInt(9), 2, false),
            (number_data_point::Value::AsInt(10), 0, false),
        ];
        assert_eq!(found, expected);
        let points: u64 = metrics.iter().map(|metric| points_of(&metric.encode_to_vec())).sum();
        assert_eq!((batches[0].items, points), (5, 5));
    }
}

#[test]
fn an_exemplar_is_told_of_once() {
    let mut snapshot = snapshot(1, 1, Aggregation::Explicit);
    let end = record(Role::Server, 200).end;
    for (previous, expected) in [(end, 1), (UnixNanos(end.0 + 1), 0)] {
        snapshot.previous = previous;
        let mut exemplars = Vec::new();
        Batcher::new(Signal::Metrics).push_snapshot(&snapshot, 2 << 20, |batch| {
            let request = ExportMetricsServiceRequest::decode(batch.body).unwrap();
            let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
            let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
            exemplars.extend(histogram.data_points[0].exemplars.clone());
        });
        assert_eq!(exemplars.len(), expected);
    }
}

#[test]
fn large_snapshots_are_cut_and_lose_nothing() {
    let snapshot = snapshot(3, 1500, Aggregation::Explicit);
    let mut batches = Vec::new();
    Batcher::new(Signal::Metrics).push_snapshot(&snapshot, 600 << 10, |batch| batches.push(batch));
    assert!(batches.len() > 2, "{}", batches.len());
    assert!(batches.iter().all(|batch| batch.body.len() <= 600 << 10));
    assert_eq!(batches.iter().map(|batch| batch.items).sum::<u64>(), 4500);
    let points = |batch: &Batch| {
        let request = ExportMetricsServiceRequest::decode(batch.body.clone()).unwrap();
        let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
        let points = metrics.map(|m| match &m.data {
            Some(Data::Histogram(histogram)) => histogram.data_points.len() as u64,
            _ => 0,
        });
        points.sum::<u64>()
    };
    assert_eq!(batches.iter().map(points).sum::<u64>(), 4500);
    let (first, second) = batches[0].split().unwrap();
    assert_eq!((points(&first), points(&second)), (first.items, second.items));
    assert_eq!(first.items + second.items, batches[0].items);
}
