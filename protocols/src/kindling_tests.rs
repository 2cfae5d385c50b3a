//! Do we read the traces of Kindling as their authors do? Calls of which at most a prefix was copied, and the labels that
//! are expected of them: <https://github.com/KindlingProject/kindling> (Apache-2.0), `testdata` of its protocol analyzer.
//!
//! Labels are compared by what they mean. Where the conventions say otherwise, or a label is a guess, the case stands in
//! [`DEVIATIONS`] with the reason.

use crate::{
    BootNanos, Direction, Exchange, Outcome, Protocol, Role, Value, http1::Http1, protocol::OpenContext,
    redis::Redis, semconv::key, testing::Driver,
};

/// File, label, why.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "http/server-trace-split",
        "http_method",
        "the G was lost: that the method was GET is a guess, we say _OTHER",
    ),
    (
        "http/server-trace-error",
        "is_error",
        "a server that answers 4xx has not failed (conventions, HTTP spans)",
    ),
];

const FILES: &[(&str, &dyn Protocol)] = &[
    ("http/1k-trace", &Http1),
    ("http/server-trace-continue", &Http1),
    ("http/server-trace-error", &Http1),
    ("http/server-trace-normal", &Http1),
    ("http/server-trace-slow", &Http1),
    ("http/server-trace-split", &Http1),
    ("redis/1k-trace", &Redis),
    ("redis/server-trace-get", &Redis),
];

#[test]
fn traces_of_kindling_are_read_as_expected() {
    let corpus = format!("{}/../../shared/corpora", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var("SPANTAP_CORPORA").unwrap_or(corpus);
    let corpus = format!("{corpus}/kindling");
    if !std::path::Path::new(&corpus).is_dir() {
        println!("skipped: corpus kindling absent");
        return;
    }
    let mut deviations = Vec::new();
    for (name, protocol) in FILES {
        let text = std::fs::read_to_string(format!("{corpus}/{name}.yml")).expect("a file of the corpus");
        let trace = Trace::parse(&text);
        let found = trace.read(*protocol);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        for (label, expected) in &trace.expected {
            let Some(ours) = ours(&found[0], label) else { continue };
            if ours != *expected {
                deviations.push((*name, label.clone(), format!("{ours}, not {expected}")));
            }
        }
    }
    let known: Vec<_> = DEVIATIONS.iter().map(|(name, label, _)| (*name, *label)).collect();
    let mut names: Vec<_> = deviations.iter().map(|(name, label, _)| (*name, label.as_str())).collect();
    names.sort_unstable();
    let mut sorted = known;
    sorted.sort_unstable();
    assert_eq!(names, sorted, "{deviations:#?}");
}

/// What we say in the place of a label; `None` for what is not ours to say, or said elsewhere.
fn ours(exchange: &Exchange, label: &str) -> Option<String> {
    let text = |name| exchange.attributes.get(name).and_then(Value::as_str).map(str::to_owned);
    let path = text(key::URL_PATH);
    match label {
        "http_method" => text(key::HTTP_REQUEST_METHOD),
        "http_url" => match text(key::URL_QUERY) {
            Some(query) => path.map(|path| format!("{path}?{query}")),
            None => path,
        },
        "content_key" if exchange.protocol == "http1" => path,
        "http_status_code" => match exchange.attributes.get(key::HTTP_RESPONSE_STATUS_CODE)? {
            Value::Int(status) => Some(status.to_string()),
            other => Some(format!("{other:?}")),
        },
        // As it was sent; our operation is in upper case.
        "redis_command" | "content_key" => text(key::DB_OPERATION_NAME).map(|name| name.to_lowercase()),
        "is_error" => Some((exchange.outcome != Outcome::Unset).to_string()),
        "request_io" => Some(exchange.request_bytes.to_string()),
        "response_io" => Some(exchange.response_bytes.to_string()),
        "request_total_time" => Some(exchange.end.since(exchange.start).to_string()),
        "Timestamp" => Some(exchange.start.0.to_string()),
        "end_timestamp" => Some(exchange.end.0.to_string()),
        _ => None,
    }
}

#[derive(Default)]
struct Trace {
    calls: Vec<Call>,
    expected: Vec<(String, String)>,
}

#[derive(Default)]
struct Call {
    direction: Option<Direction>,
    /// When it returned.
    at: u64,
    latency: u64,
    size: u64,
    bytes: Vec<u8>,
}

impl Trace {
    /// Reads the few forms of YAML that these files use: a key and its value, or a list of quoted texts.
    fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        let mut direction = None;
        for line in text.lines().map(str::trim) {
            match line {
                "requests:" => direction = Some(Direction::ToServer),
                "responses:" => direction = Some(Direction::ToClient),
                "expects:" => direction = None,
                "-" if direction.is_some() => trace.calls.push(Call { direction, ..Call::default() }),
                _ => {}
            }
            let call = trace.calls.last_mut().filter(|_| direction.is_some());
            match (line.split_once(": "), line.strip_prefix("- "), call) {
                (_, Some(text), Some(call)) => call.bytes.extend(unquoted(text).bytes()),
                (Some((name, value)), None, Some(call)) => {
                    let number = || value.parse().expect("a number");
                    match name {
                        "timestamp" => call.at = number(),
                        "latency" => call.latency = number(),
                        "res" => call.size = number(),
                        _ => {}
                    }
                }
                (Some((name, value)), None, None) => trace.expected.push((name.to_owned(), unquoted(value))),
                _ => {}
            }
        }
        trace.calls.sort_by_key(|call| call.at);
        trace
    }

    fn read(&self, protocol: &dyn Protocol) -> Vec<Exchange> {
        let context = OpenContext { role: Role::Server, from_start: true, answered: false, tls: false };
        let mut driver = Driver::new(protocol, context);
        let mut end = BootNanos(0);
        for call in &self.calls {
            let copied = call.bytes.len() as u64;
            // The sizes of the traces that are called 1k are round.
            let missing = call.size.saturating_sub(copied);
            assert!(copied > 0, "a call without bytes at {}", call.at);
            end = BootNanos(call.at);
            let direction = call.direction.expect("calls stand below one");
            driver.feed_cut(direction, BootNanos(call.at - call.latency), end, &call.bytes, missing);
        }
        driver.close(end);
        driver.exchanges
    }
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => {
            text.replace("\\r", "\r").replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\")
        }
        None => text.to_owned(),
    }
}
