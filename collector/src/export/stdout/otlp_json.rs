//! OTLP JSON, one request per line, as the OTLP file exporter writes it.
//!
//! The bytes of our own encoder are decoded by the generated types and written by their JSON form, so this cannot drift
//! from what goes over the wire.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/> and
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

use std::time::Instant;

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use serde_json::Value as Json;

use super::Output;
use crate::{
    export::{
        Exporter,
        otlp::{
            batch::{Batch, Batcher},
            settings::Signal,
        },
    },
    telemetry::{MetricsSnapshot, Record},
};

/// The exporter.
pub struct OtlpJson {
    output: Output,
    spans: Batcher,
    points: Batcher,
}

/// Encoded bytes of a line; JSON is about five times as long.
const LINE_BYTES_MAX: usize = 128 << 10;

impl OtlpJson {
    /// Lines to `output`.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self { output, spans: Batcher::new(Signal::Traces), points: Batcher::new(Signal::Metrics) }
    }
}

impl Exporter for OtlpJson {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn on_record(&mut self, record: &Record) {
        if let Some(batch) = self.spans.push_span(record, LINE_BYTES_MAX) {
            print(&self.output, batch);
        }
    }

    fn on_metrics(&mut self, snapshot: &MetricsSnapshot) {
        self.points.push_snapshot(snapshot, LINE_BYTES_MAX, |batch| print(&self.output, batch));
    }

    fn tick(&mut self, _now: Instant) {
        if let Some(batch) = self.spans.finish() {
            print(&self.output, batch);
        }
        self.output.flush();
    }

    fn begin_shutdown(&mut self, deadline: Instant) {
        self.tick(deadline);
    }

    fn shutdown(&mut self, deadline: Instant) {
        self.begin_shutdown(deadline);
        self.output.finish(deadline);
    }

    fn is_broken(&self) -> bool {
        self.output.is_broken()
    }
}

/// The JSON is written on the output's thread: it costs ten times what the encoding does.
fn print(output: &Output, batch: Batch) {
    output.later(batch.items, batch.body.len(), move || json(&batch));
}

/// A request as one line.
fn json(batch: &Batch) -> String {
    let value = match batch.signal {
        Signal::Traces => {
            ExportTraceServiceRequest::decode(batch.body.clone()).ok().map(serde_json::to_value)
        }
        Signal::Metrics => {
            ExportMetricsServiceRequest::decode(batch.body.clone()).ok().map(serde_json::to_value)
        }
    };
    // Our own bytes always decode; were it not so, the line would be an empty request.
    debug_assert!(matches!(value, Some(Ok(_))), "our own encoding must decode");
    let mut value = value.and_then(Result::ok).unwrap_or_else(|| Json::Object(serde_json::Map::new()));
    tidy(&mut value);
    value.to_string()
}

/// Leaves out what Protobuf's JSON mapping leaves out: unset messages, empty lists, scalars with their default value.
///
/// The value of an attribute is a `oneof`: it is present even where it is empty.
fn tidy(value: &mut Json) {
    match value {
        Json::Array(list) => list.iter_mut().for_each(tidy),
        Json::Object(fields) => {
            fields.retain(|name, value| {
                tidy(value);
                match value {
                    Json::Null => false,
                    Json::Array(list) => !list.is_empty() || name == "values",
                    Json::String(text) => !text.is_empty() || name == "stringValue",
                    Json::Number(number) => number.as_u64() != Some(0) || number.is_f64(),
                    Json::Bool(_) | Json::Object(_) => true,
                }
            });
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spantap_protocols::{Role, Value};

    use super::{super::output::tests::Shared, *};
    use crate::telemetry::{
        Aggregator, MetricSettings, UnixNanos,
        span::tests::{record, service},
    };

    fn lines(feed: impl FnOnce(&mut OtlpJson)) -> Vec<Json> {
        let shared = Shared::default();
        let mut exporter = OtlpJson::new(shared.output());
        feed(&mut exporter);
        exporter.shutdown(Instant::now());
        shared.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn spans_follow_the_json_rules() {
        let mut first = record(Role::Server, 500);
        first.attributes = spantap_protocols::Attributes::new();
        first.attributes.push("int", Value::Int(-5));
        first.attributes.push("empty", Value::Static(""));
        first.attributes.push("zero", Value::Double(0.0));
        first.attributes.push("no", Value::Bool(false));
        first.attributes.push("list", Value::Texts(vec!["a".into()]));
        first.attributes.push("none", Value::Texts(vec![]));
        first.trace.parent = Some(opentelemetry::trace::SpanId::from_bytes([0xab; 8]));
        first.trace.state = "a=b".into();
        let mut second = record(Role::Client, 200);
        second.service = service(2, "cart");
        second.attributes = spantap_protocols::Attributes::new();
        let (trace, span) = (first.trace.trace_id.to_string(), first.trace.span_id.to_string());
        let found = lines(|exporter| {
            exporter.on_record(&first);
            exporter.on_record(&second);
        });
        let scope = json!({"name": "spantap", "version": env!("CARGO_PKG_VERSION")});
        let url = spantap_protocols::semconv::SCHEMA_URL;
        let resource = |name: &str| {
            json!({"attributes": [
                {"key": "service.name", "value": {"stringValue": name}},
            ]})
        };
        let expected = json!({"resourceSpans": [
            {"resource": resource("shop"), "schemaUrl": url, "scopeSpans": [
                {"scope": scope, "schemaUrl": url, "spans": [{
                    "traceId": trace,
                    "spanId": span,
                    "parentSpanId": "abababababababab",
                    "traceState": "a=b",
                    "flags": 0x301,
                    "name": "GET",
                    "kind": 2,
                    "startTimeUnixNano": "1700000000001000000",
                    "endTimeUnixNano": "1700000000007000000",
                    "status": {"code": 2},
                    "attributes": [
                        {"key": "int", "value": {"intValue": "-5"}},
                        {"key": "empty", "value": {"stringValue": ""}},
                        {"key": "zero", "value": {"doubleValue": 0.0}},
                        {"key": "no", "value": {"boolValue": false}},
                        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}},
                        {"key": "none", "value": {"arrayValue": {"values": []}}},
                    ],
                }]},
            ]},
            {"resource": resource("cart"), "schemaUrl": url, "scopeSpans": [
                {"scope": scope, "schemaUrl": url, "spans": [{
                    "traceId": second.trace.trace_id.to_string(),
                    "spanId": second.trace.span_id.to_string(),
                    "flags": 0x101,
                    "name": "GET",
                    "kind": 3,
                    "startTimeUnixNano": "1700000000001000000",
                    "endTimeUnixNano": "1700000000007000000",
                }]},
            ]},
        ]});
        assert_eq!(found, [expected]);
    }

    #[test]
    fn histograms_follow_the_json_rules() {
        let mut metrics = Aggregator::new(MetricSettings::default());
        let record = record(Role::Server, 200);
        metrics.record(&record);
        let snapshot = metrics.collect(UnixNanos(1_700_000_009_000_000_000), UnixNanos(0));
        let found = lines(|exporter| exporter.on_metrics(&snapshot));
        assert_eq!(found.len(), 1);
        let metric = &found[0]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
        assert_eq!(metric["unit"], "s");
        assert_eq!(metric["histogram"]["aggregationTemporality"], 2);
        let point = &metric["histogram"]["dataPoints"][0];
        let buckets: Vec<_> = (0..15).map(|at| if at == 1 { "1" } else { "0" }).collect();
        assert_eq!(point["bucketCounts"], json!(buckets));
        assert_eq!(point["explicitBounds"], json!(spantap_protocols::semconv::DURATION_BOUNDS));
        assert_eq!((&point["count"], &point["sum"]), (&json!("1"), &json!(0.006)));
        assert_eq!(point["timeUnixNano"], "1700000009000000000");
        assert_eq!(point["startTimeUnixNano"], "1700000000001000000");
        let exemplar = json!({
            "timeUnixNano": "1700000000007000000",
            "asDouble": 0.006,
            "traceId": record.trace.trace_id.to_string(),
            "spanId": record.trace.span_id.to_string(),
        });
        assert_eq!(point["exemplars"], json!([exemplar]));
    }

    #[test]
    fn lines_are_cut_by_size() {
        let found = lines(|exporter| (0..2000).for_each(|_| exporter.on_record(&record(Role::Server, 200))));
        assert!(found.len() > 2);
        let count =
            |line: &Json| line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len();
        assert_eq!(found.iter().map(count).sum::<usize>(), 2000);
    }
}
