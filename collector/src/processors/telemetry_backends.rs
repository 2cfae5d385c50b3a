//! Drops exchanges that are telemetry exports themselves.
//!
//! Every instrumented process on the node posts its own spans and metrics somewhere; tracing that traffic would make a
//! span of every export, ours included if it passes a proxy on this node. Exports of spans tell something of who sends
//! them, so they are told apart from metrics and logs.

use opentelemetry::trace::SpanKind;
use spantap_protocols::{Outcome, Value, semconv::key};

use super::{Processor, Verdict};
use crate::telemetry::Record;

/// The processor.
#[derive(Debug)]
pub struct TelemetryBackends;

impl Processor for TelemetryBackends {
    fn name(&self) -> &'static str {
        "telemetry_backends"
    }

    fn process(&mut self, record: &mut Record) -> Verdict {
        let text = |name| record.attributes.get(name).and_then(Value::as_str);
        if let Some(method) = text(key::RPC_METHOD).filter(|method| method.starts_with(SERVICES)) {
            return dropped(record, method.starts_with(SERVICE_OF_SPANS));
        }
        if record.operation != "POST" && text(key::HTTP_REQUEST_METHOD) != Some("POST") {
            return Verdict::Keep;
        }
        let path = match (text(key::URL_PATH), text(key::URL_FULL)) {
            (Some(path), _) => path,
            (None, Some(url)) => path_of(url),
            (None, None) => return Verdict::Keep,
        };
        if is_otlp(path) && content_type_fits(record.attributes.get(CONTENT_TYPE)) {
            dropped(record, path.ends_with(PATH_OF_SPANS) || path[1..].starts_with(SERVICE_OF_SPANS))
        } else {
            Verdict::Keep
        }
    }
}

/// Spans that the backend refused are nowhere else: they say nothing of their sender.
fn dropped(record: &Record, spans: bool) -> Verdict {
    let refused = record.kind == SpanKind::Client && matches!(record.outcome, Outcome::Error(_));
    if spans && !refused { Verdict::DropSpans } else { Verdict::Drop }
}

/// What the methods of OTLP's gRPC services begin with.
const SERVICES: &str = "opentelemetry.proto.collector.";
const SERVICE_OF_SPANS: &str = "opentelemetry.proto.collector.trace.";
const PATH_OF_SPANS: &str = "/v1/traces";

const CONTENT_TYPE: &str = "http.request.header.content-type";

/// gRPC services of OTLP, its default HTTP paths, and those below the prefixes that backends use
/// (Prometheus `/api/v1/otlp`, Grafana Cloud `/otlp`, VictoriaMetrics `/opentelemetry`). An application's own
/// `/api/v1/metrics` is not one.
fn is_otlp(path: &str) -> bool {
    if path.strip_prefix('/').is_some_and(|path| path.starts_with(SERVICES)) {
        return true;
    }
    let prefix = [PATH_OF_SPANS, "/v1/metrics", "/v1/logs", "/v1development/profiles"]
        .iter()
        .find_map(|end| path.strip_suffix(end));
    prefix.is_some_and(|prefix| {
        prefix.is_empty() || prefix.ends_with("/otlp") || prefix.ends_with("/opentelemetry")
    })
}

/// Only a content type that was seen and is another's speaks against it: headers are rarely captured.
fn content_type_fits(value: Option<&Value>) -> bool {
    let fits = |text: &str| {
        ["application/x-protobuf", "application/json", "application/grpc"].iter().any(|t| text.starts_with(t))
    };
    match value {
        Some(Value::Texts(texts)) => texts.iter().any(|text| fits(text)),
        Some(value) => value.as_str().is_none_or(fits),
        None => true,
    }
}

/// The path of an absolute URL, without query and fragment.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    path.split(['?', '#']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use spantap_protocols::{Attributes, Role};

    use super::*;
    use crate::telemetry::span::tests::record;

    fn verdict(
        method: &'static str,
        attribute: &'static str,
        url: &str,
        content_type: Option<&str>,
    ) -> Verdict {
        let mut record = record(Role::Client, 200);
        record.operation = method.into();
        record.attributes.set(key::HTTP_REQUEST_METHOD, Value::Static(method));
        record.attributes.remove(key::URL_PATH);
        record.attributes.set(attribute, Value::Text(url.into()));
        if let Some(text) = content_type {
            record.attributes.push(CONTENT_TYPE, Value::Texts(vec![text.into()]));
        }
        TelemetryBackends.process(&mut record)
    }

    #[test]
    fn exports_by_grpc_are_dropped() {
        for (method, expected) in [
            ("opentelemetry.proto.collector.trace.v1.TraceService/Export", Verdict::DropSpans),
            ("opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Verdict::Drop),
            ("shop.v1.Cart/Export", Verdict::Keep),
        ] {
            for role in [Role::Client, Role::Server] {
                let mut record = record(role, 200);
                record.operation = method.into();
                record.attributes = Attributes::new();
                record.attributes.push(key::RPC_METHOD, Value::Text(method.into()));
                assert_eq!(TelemetryBackends.process(&mut record), expected, "{method}");
            }
        }
    }

    #[test]
    fn exports_are_dropped_and_look_alikes_stay() {
        for (method, url, content_type, expected) in [
            ("POST", "/v1/traces", None, Verdict::DropSpans),
            ("POST", "/otlp/v1/traces", None, Verdict::DropSpans),
            ("POST", "/v1/metrics", Some("application/x-protobuf"), Verdict::Drop),
            ("POST", "/v1/logs", Some("text/plain"), Verdict::Keep),
            ("GET", "/v1/traces", None, Verdict::Keep),
            ("POST", "/api/v1/metrics", None, Verdict::Keep),
            ("POST", "/api/v1/otlp/v1/metrics", None, Verdict::Drop),
            (
                "POST",
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                Some("application/grpc+proto"),
                Verdict::DropSpans,
            ),
        ] {
            assert_eq!(verdict(method, key::URL_PATH, url, content_type), expected, "{method} {url}");
            let full = format!("http://collector:4318{url}?x=1");
            assert_eq!(verdict(method, key::URL_FULL, &full, content_type), expected, "{method} {full}");
        }
    }

    #[test]
    fn spans_that_were_refused_are_nowhere_else() {
        for (role, expected) in [(Role::Client, Verdict::Drop), (Role::Server, Verdict::DropSpans)] {
            let mut record = record(role, 503);
            record.operation = "POST".into();
            record.attributes.set(key::URL_PATH, Value::Static("/v1/traces"));
            record.outcome = Outcome::Error("503".into());
            assert_eq!(TelemetryBackends.process(&mut record), expected, "{role:?}");
        }
    }
}
