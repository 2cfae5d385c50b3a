//! One line per span for people, and the RED table at the end.
//!
//! `15:04:05.123  shop         ← GET /users/42        200   1.23 ms  10.0.0.2:51234  4bf92f35`
//!
//! Columns are of fixed width, so that the eye can run down them. Everything that came from the network is cleaned of
//! control characters first: a path must not be able to move the cursor.

use std::{borrow::Cow, time::Instant};

use anstyle::{AnsiColor, Style};
use compact_str::{CompactString, ToCompactString, format_compact};
use jiff::{Timestamp, tz::TimeZone};
use opentelemetry::trace::SpanKind;
use spantap_protocols::{Outcome, Value, semconv::key};

use super::{Output, RedTable};
use crate::{
    export::Exporter,
    telemetry::{MetricsSnapshot, Record, UnixNanos},
};

/// The exporter.
pub struct Pretty {
    output: Output,
    zone: TimeZone,
    table: Option<RedTable>,
}

impl Pretty {
    /// Lines to `output`, times in the system's zone; with `summary` the RED table at shutdown.
    #[must_use]
    pub fn new(output: Output, summary: bool) -> Self {
        Self { output, zone: TimeZone::system(), table: summary.then(RedTable::default) }
    }
}

impl Exporter for Pretty {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn on_record(&mut self, record: &Record) {
        self.output.line(&line(record, &self.zone));
        self.on_counted(record);
    }

    fn on_counted(&mut self, record: &Record) {
        if let Some(table) = &mut self.table {
            table.record(record);
        }
    }

    fn on_metrics(&mut self, _snapshot: &MetricsSnapshot) {}

    fn tick(&mut self, _now: Instant) {
        self.output.flush();
    }

    fn begin_shutdown(&mut self, _deadline: Instant) {
        if let Some(table) = self.table.take().filter(|table| !table.is_empty()) {
            self.output.line("");
            self.output.line(&table.render());
        }
    }

    fn shutdown(&mut self, deadline: Instant) {
        self.begin_shutdown(deadline);
        self.output.finish(deadline);
    }

    fn is_broken(&self) -> bool {
        self.output.is_broken()
    }
}

const SERVICE_WIDTH: usize = 16;
const WHAT_WIDTH: usize = 44;
const PEER_WIDTH: usize = 21;

/// A span as one line, with colours.
pub(super) fn line(record: &Record, zone: &TimeZone) -> String {
    let server = record.kind == SpanKind::Server;
    let dim = Style::new().dimmed();
    let bold = Style::new().bold();
    let arrow_style = if server { AnsiColor::Cyan } else { AnsiColor::Magenta }.on_default();
    let (status, status_style) = status(record);
    let error = match &record.outcome {
        Outcome::Error(error) if *error != status => {
            let red = AnsiColor::Red.on_default().bold();
            format!("  {red}{}{red:#}", sanitized(error))
        }
        _ => String::new(),
    };
    let trace = record.trace.trace_id.to_compact_string();
    format!(
        "{dim}{}{dim:#}  {:<SERVICE_WIDTH$} {arrow_style}{}{arrow_style:#} {bold}{:<WHAT_WIDTH$}{bold:#} \
         {status_style}{status:>4}{status_style:#} {:>8}  {:<PEER_WIDTH$} {dim}{}{dim:#}{error}",
        time(record.start, zone),
        fit(&sanitized(&record.service.name), SERVICE_WIDTH),
        arrow(server),
        fit(&sanitized(&what(record)), WHAT_WIDTH),
        duration(record.duration_ns()),
        fit(&peer(record), PEER_WIDTH),
        trace.get(..8).unwrap_or_default(),
    )
}

/// Into the service, or out of it.
pub(super) fn arrow(server: bool) -> &'static str {
    if server { "←" } else { "→" }
}

fn time(at: UnixNanos, zone: &TimeZone) -> String {
    let timestamp = Timestamp::from_nanosecond(at.0.into()).unwrap_or_default();
    timestamp.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// The operation with what it was done to: the query, the path as sent, the URL without its scheme, or the target.
fn what(record: &Record) -> CompactString {
    let text = |name| record.attributes.get(name).and_then(Value::as_str);
    if let Some(query) = text(key::DB_QUERY_TEXT) {
        return query.into();
    }
    let object = text(key::URL_PATH)
        .or_else(|| text(key::URL_FULL).map(|url| url.split_once("://").map_or(url, |(_, rest)| rest)))
        .or(record.target.as_deref());
    match object {
        Some(object) => format_compact!("{} {object}", record.operation),
        None => record.operation.clone(),
    }
}

fn status(record: &Record) -> (CompactString, Style) {
    let failed = matches!(record.outcome, Outcome::Error(_));
    let (text, code) = match record.attributes.get(key::HTTP_RESPONSE_STATUS_CODE) {
        Some(Value::Int(code)) => (code.to_compact_string(), *code),
        _ if failed => ("ERR".into(), 0),
        _ if record.attributes.get(key::SPANTAP_STATUS_UNKNOWN).is_some() => ("?".into(), 0),
        _ => ("ok".into(), 0),
    };
    let style = if failed {
        AnsiColor::Red.on_default().bold()
    } else if code >= 400 {
        AnsiColor::Yellow.on_default()
    } else {
        AnsiColor::Green.on_default()
    };
    (text, style)
}

fn peer(record: &Record) -> CompactString {
    let address = record.attributes.get(key::NETWORK_PEER_ADDRESS).and_then(Value::as_str);
    match (address, record.attributes.get(key::NETWORK_PEER_PORT)) {
        (Some(address), Some(Value::Int(port))) if address.contains(':') => {
            format_compact!("[{address}]:{port}")
        }
        (Some(address), Some(Value::Int(port))) => format_compact!("{address}:{port}"),
        (Some(address), _) => address.into(),
        (None, _) => "-".into(),
    }
}

/// Three digits and a unit, at most 8 characters.
pub(super) fn duration(ns: u64) -> String {
    let scaled = |value: f64, unit: &str| {
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        format!("{value:.digits$} {unit}")
    };
    match ns {
        0..=999_499 => scaled(ns as f64 / 1e3, "µs"),
        999_500..=999_499_999 => scaled(ns as f64 / 1e6, "ms"),
        999_500_000..=999_499_999_999 => scaled(ns as f64 / 1e9, "s"),
        _ => format!("{:.0} min", ns as f64 / 6e10),
    }
}

/// At most `width` characters, the rest cut with an ellipsis.
pub(super) fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    Cow::Owned(cut)
}

/// Without control characters and without those that turn the direction of writing.
pub(super) fn sanitized(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.contains(bad) { Cow::Owned(text.replace(bad, "·")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use spantap_protocols::Role;

    use super::{super::output::tests::Shared, *};
    use crate::telemetry::span::tests::{record, service};

    fn lines() -> Vec<Record> {
        let mut slow = record(Role::Client, 404);
        slow.attributes.remove(key::URL_PATH);
        slow.attributes.set(key::URL_FULL, Value::Static("https://api.example.org/v1/items?limit=10"));
        slow.end.0 += 2_345_000_000;
        slow.outcome = Outcome::Error("404".into());
        let mut lost = record(Role::Client, 200);
        lost.service = service(3, "a-service-with-a-rather-long-name");
        lost.attributes.remove(key::HTTP_RESPONSE_STATUS_CODE);
        lost.attributes.set(key::NETWORK_PEER_ADDRESS, Value::Static("2001:db8::1"));
        lost.outcome = Outcome::Error("connection_closed".into());
        let mut hostile = record(Role::Server, 404);
        hostile
            .attributes
            .set(key::URL_PATH, Value::Text(format_compact!("/\x1b[2J\u{202e}{}", "long".repeat(30))));
        let mut bare = record(Role::Server, 200);
        bare.attributes = spantap_protocols::Attributes::new();
        bare.target = Some("users".into());
        let mut query = bare.clone();
        query.attributes.push(key::DB_QUERY_TEXT, Value::Static("LPUSH list ? ?"));
        query.outcome = Outcome::Error("WRONGTYPE".into());
        vec![record(Role::Server, 200), record(Role::Server, 500), slow, lost, hostile, bare, query]
    }

    #[test]
    fn columns_are_aligned() {
        let lines: Vec<_> = lines().iter().map(|record| line(record, &TimeZone::UTC)).collect();
        insta::assert_snapshot!(anstream::adapter::strip_str(&lines.join("\n")).to_string());
    }

    #[test]
    fn colours_follow_the_status() {
        let has = |record: &Record, colour: AnsiColor, bold: bool| {
            let style = if bold { colour.on_default().bold() } else { colour.on_default() };
            line(record, &TimeZone::UTC).contains(&style.to_string())
        };
        let lines = lines();
        assert!(has(&lines[0], AnsiColor::Green, false));
        assert!(has(&lines[1], AnsiColor::Red, true));
        assert!(has(&lines[3], AnsiColor::Red, true));
        assert!(has(&lines[4], AnsiColor::Yellow, false));
    }

    #[test]
    fn durations_keep_three_digits() {
        for (ns, expected) in [
            (0, "0.00 µs"),
            (850, "0.85 µs"),
            (12_345, "12.3 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_234_567, "1.23 ms"),
            (99_960_000, "100 ms"),
            (2_345_000_000, "2.35 s"),
            (u64::MAX, "307445735 min"),
        ] {
            assert_eq!(duration(ns), expected, "{ns}");
        }
    }

    #[test]
    fn the_table_follows_at_shutdown() {
        let shared = Shared::default();
        let mut pretty = Pretty::new(shared.output(), true);
        pretty.on_record(&record(Role::Server, 200));
        pretty.tick(Instant::now());
        while shared.text().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(shared.text().lines().count(), 1, "a tick is enough for it to be written");
        pretty.shutdown(Instant::now());
        assert_eq!(shared.text().lines().count(), 4);
        assert!(shared.text().contains("SERVICE"));
    }
}
