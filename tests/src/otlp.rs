//! OTLP JSON as plain data: spans and histogram points with their resource's service, attributes as text.

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

/// Attributes by name; numbers and truths as their text.
pub type Attributes = BTreeMap<String, String>;

/// Which side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was asked.
    Server,
    /// It asked.
    Client,
    /// Another number than spantap should ever write.
    Other(i64),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Other(0)
    }
}

/// A span.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// The resource's `service.name`.
    pub service: String,
    /// All of the resource.
    pub resource: Attributes,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its start.
    pub start_unix_ns: u64,
    /// Its end.
    pub end_unix_ns: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether its status is an error.
    pub is_error: bool,
    /// Its trace.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// Its `tracestate`.
    pub state: String,
    /// Its caller.
    pub parent: String,
    /// Whether it says of itself that it is kept: W3C's `sampled` flag.
    pub is_sampled: bool,
}

impl Span {
    /// An attribute, or nothing.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The status of the response; 0 if there was none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.get("http.response.status_code").parse().unwrap_or(0)
    }

    /// The path, of either kind.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.get("url.path");
        if !path.is_empty() {
            return path;
        }
        let rest = self.get("url.full").split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        path.split(['?', '#']).next().unwrap_or_default()
    }

    /// From the start to the end, in milliseconds.
    #[must_use]
    pub fn milliseconds(&self) -> f64 {
        self.end_unix_ns.saturating_sub(self.start_unix_ns) as f64 / 1e6
    }

    /// Whether the exchange was with, or of, the server at `port`.
    #[must_use]
    pub fn is_at(&self, port: u16) -> bool {
        let port = port.to_string();
        match self.kind {
            Kind::Client => self.get("network.peer.port") == port || self.get("server.port") == port,
            _ => self.get("server.port") == port,
        }
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, service: &str, kind: Kind) -> bool {
        self.service == service && self.kind == kind
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, service, name) = (self.kind, &self.service, &self.name);
        let (path, status, peer) = (self.path(), self.status(), self.get("network.peer.port"));
        write!(f, "{kind:?} {service} `{name}` {path} {status} {:.3} ms", self.milliseconds())?;
        write!(f, ", peer port {peer}, error.type `{}`", self.get("error.type"))
    }
}

/// A point of a histogram.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// The resource's `service.name`.
    pub service: String,
    /// All of the resource.
    pub resource: Attributes,
    /// The metric's name.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Its attributes.
    pub attributes: Attributes,
    /// The spans that stand for its buckets.
    pub exemplars: Vec<String>,
}

/// The spans in lines of OTLP JSON. A last line that is still being written is left out.
#[must_use]
pub fn spans(lines: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    each(lines, "resourceSpans", "scopeSpans", "spans", |resource, span| {
        spans.push(Span {
            service: resource.get("service.name").cloned().unwrap_or_default(),
            resource: resource.clone(),
            name: text(&span["name"]),
            kind: match number(&span["kind"]) {
                2 => Kind::Server,
                3 => Kind::Client,
                other => Kind::Other(i64::try_from(other).unwrap_or(-1)),
            },
            start_unix_ns: number(&span["startTimeUnixNano"]),
            end_unix_ns: number(&span["endTimeUnixNano"]),
            attributes: attributes(&span["attributes"]),
            is_error: number(&span["status"]["code"]) == 2,
            trace_id: text(&span["traceId"]),
            span_id: text(&span["spanId"]),
            state: text(&span["traceState"]),
            parent: text(&span["parentSpanId"]),
            is_sampled: number(&span["flags"]) & 1 == 1,
        });
    });
    spans
}

/// The last points of cumulative histograms in lines of OTLP JSON.
#[must_use]
pub fn points(lines: &str) -> Vec<Point> {
    let mut points = BTreeMap::new();
    each(lines, "resourceMetrics", "scopeMetrics", "metrics", |resource, metric| {
        for point in list(&metric["histogram"]["dataPoints"]) {
            let point = Point {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                resource: resource.clone(),
                metric: text(&metric["name"]),
                unit: text(&metric["unit"]),
                count: number(&point["count"]),
                sum: point["sum"].as_f64().unwrap_or(f64::NAN),
                attributes: attributes(&point["attributes"]),
                exemplars: list(&point["exemplars"]).iter().map(|one| text(&one["spanId"])).collect(),
            };
            let key = (point.resource.clone(), point.metric.clone(), point.attributes.clone());
            points.insert(key, point);
        }
    });
    points.into_values().collect()
}

/// A point of a sum or a gauge.
#[derive(Clone, Debug)]
pub struct Number {
    /// All of the resource.
    pub resource: Attributes,
    /// The metric's name.
    pub metric: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// The number.
    pub value: f64,
}

/// The plain numbers in lines of OTLP JSON, all that were told.
#[must_use]
pub fn numbers(lines: &str) -> Vec<Number> {
    let mut numbers = Vec::new();
    each(lines, "resourceMetrics", "scopeMetrics", "metrics", |resource, metric| {
        for point in list(&metric["sum"]["dataPoints"]).iter().chain(list(&metric["gauge"]["dataPoints"])) {
            let whole = point["asInt"].as_str().and_then(|text| text.parse().ok());
            numbers.push(Number {
                resource: resource.clone(),
                metric: text(&metric["name"]),
                attributes: attributes(&point["attributes"]),
                value: whole.or_else(|| point["asDouble"].as_f64()).unwrap_or(0.0),
            });
        }
    });
    numbers
}

fn each(lines: &str, resources: &str, scopes: &str, items: &str, mut take: impl FnMut(&Attributes, &Json)) {
    for line in whole_lines(lines) {
        let request: Json = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("not a line of OTLP JSON: {error}: {line}"));
        for group in list(&request[resources]) {
            let resource = attributes(&group["resource"]["attributes"]);
            for scope in list(&group[scopes]) {
                list(&scope[items]).iter().for_each(|item| take(&resource, item));
            }
        }
    }
}

fn whole_lines(lines: &str) -> impl Iterator<Item = &str> {
    let end = lines.rfind('\n').map_or(0, |at| at + 1);
    lines[..end].lines().filter(|line| !line.is_empty())
}

fn attributes(json: &Json) -> Attributes {
    let value = |value: &Json| match value.as_object().and_then(|value| value.iter().next()) {
        Some((_, Json::String(text))) => text.clone(),
        Some((_, other)) => other.to_string(),
        None => String::new(),
    };
    list(json).iter().map(|pair| (text(&pair["key"]), value(&pair["value"]))).collect()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// 64-bit integers are text in JSON's mapping of Protobuf, others numbers.
fn number(json: &Json) -> u64 {
    json.as_str().map_or_else(|| json.as_u64().unwrap_or(0), |text| text.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_and_a_half_line_left() {
        let line = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeSpans":[{"spans":[{"name":"GET","kind":3,"startTimeUnixNano":"1000000","endTimeUnixNano":"3500000",
            "status":{"code":2},"attributes":[{"key":"url.full","value":{"stringValue":"http://a:1/x?y"}},
            {"key":"http.response.status_code","value":{"intValue":"404"}}]}]}]}]}"#
            .replace('\n', "");
        let found = spans(&format!("{line}\n{{\"resourceSpans\":["));
        let [span] = &found[..] else { panic!("{found:?}") };
        assert!(span.is("shop", Kind::Client) && span.is_error);
        assert_eq!((span.path(), span.status()), ("/x", 404));
        assert!((span.milliseconds() - 2.5).abs() < 1e-9);
    }
}
