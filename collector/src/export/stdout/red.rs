//! The RED table for people: per service and span name the calls, their rate, the errors and the durations.

use std::{collections::HashMap, fmt::Write as _};

use anstyle::{AnsiColor, Style};
use compact_str::{CompactString, format_compact};
use foldhash::fast::RandomState;
use opentelemetry::trace::SpanKind;
use spantap_protocols::{Outcome, Value, semconv::key};

use super::{
    pretty::{arrow, duration, fit, sanitized},
    sketch::Sketch,
};
use crate::telemetry::Record;

/// Counts every record; prints on demand.
#[derive(Debug, Default)]
pub struct RedTable {
    rows: HashMap<(CompactString, bool, CompactString), Row, RandomState>,
    /// Of the earliest start and the latest end, in nanoseconds since 1970.
    window: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Row {
    calls: u64,
    errors: u64,
    durations: Sketch,
}

/// Routes are few by design; this bounds what a flood of services could do.
const ROWS_MAX: usize = 1_000;
const OTHERS: &str = "(others)";

impl RedTable {
    /// Counts a record.
    pub fn record(&mut self, record: &Record) {
        let server = record.kind == SpanKind::Server;
        let mut key = (record.service.name.clone(), server, name(record));
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            key = (OTHERS.into(), server, CompactString::default());
        }
        let row = self.rows.entry(key).or_default();
        row.calls += 1;
        row.errors += u64::from(matches!(record.outcome, Outcome::Error(_)));
        row.durations.record(record.duration_ns());
        let (first, last) = self.window.unwrap_or((u64::MAX, 0));
        self.window = Some((first.min(record.start.0), last.max(record.end.0)));
    }

    /// True if nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, with colours; no line feed at its end. Busiest rows first within a service.
    #[must_use]
    pub fn render(&self) -> String {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|((service, server, name), row), ((other_service, other_server, other_name), other)| {
            service
                .cmp(other_service)
                .then(other_server.cmp(server))
                .then(other.calls.cmp(&row.calls))
                .then(name.cmp(other_name))
        });
        let width = |least: usize, most: usize, of: &mut dyn Iterator<Item = usize>| {
            of.max().unwrap_or(0).clamp(least, most)
        };
        let services = width(7, 24, &mut rows.iter().map(|((service, ..), _)| service.chars().count()));
        let names = width(4, 48, &mut rows.iter().map(|((.., name), _)| name.chars().count()));
        let (first, last) = self.window.unwrap_or_default();
        // Less than a second of traffic says little about a rate; a single call is not a thousand a second.
        let seconds = (last.saturating_sub(first) as f64 / 1e9).max(1.0);
        let bold = Style::new().bold();
        let mut out = format!(
            "{bold}{:<services$}    {:<names$} {:>8} {:>10} {:>14} {:>8} {:>8} {:>8}{bold:#}",
            "SERVICE", "SPAN", "CALLS", "RATE", "ERRORS", "P50", "P95", "P99"
        );
        for ((service, server, name), row) in rows {
            let style = if row.errors > 0 { AnsiColor::Red.on_default() } else { Style::new() };
            let percent = 100.0 * row.errors as f64 / row.calls as f64;
            let errors = match row.errors {
                0 => "-".to_owned(),
                count => format!("{count} ({percent:.1} %)"),
            };
            let quantile = |quantile| duration(row.durations.quantile(quantile));
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "\n{:<services$}  {} {:<names$} {:>8} {:>10} {style}{errors:>14}{style:#} {:>8} {:>8} {:>8}",
                fit(&sanitized(service), services),
                arrow(*server),
                fit(&sanitized(name), names),
                row.calls,
                rate(row.calls as f64 / seconds),
                quantile(0.5),
                quantile(0.95),
                quantile(0.99),
            );
        }
        out
    }
}

/// The span's name; calls to several servers, whose spans have no second name, are told apart by the server.
fn name(record: &Record) -> CompactString {
    let server = record.attributes.get(key::SERVER_ADDRESS).and_then(Value::as_str);
    match (&record.target, server) {
        (None, Some(server)) if record.kind == SpanKind::Client => {
            format_compact!("{} {server}", record.operation)
        }
        _ => record.name(),
    }
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}/s") } else { format!("{per_second:.1}/s") }
}

#[cfg(test)]
mod tests {
    use spantap_protocols::Role;

    use super::*;
    use crate::telemetry::{
        UnixNanos,
        span::tests::{record, service},
    };

    #[test]
    fn table() {
        let mut table = RedTable::default();
        for at in 0..200_u64 {
            let error = at % 20 == 0;
            let mut record = record(Role::Server, if error { 500 } else { 200 });
            record.service = service(1, "shop");
            record.target = Some(if at % 4 == 0 { "/users/{id}" } else { "/" }.into());
            record.start.0 += at * 50_000_000;
            record.end = UnixNanos(record.start.0 + (at + 1) * 100_000);
            table.record(&record);
        }
        let mut client = record(Role::Client, 404);
        client.service = service(2, "a-service-with-a-rather-long-name");
        client.end.0 = client.start.0 + 12_345_000_000;
        table.record(&client);
        insta::assert_snapshot!(anstream::adapter::strip_str(&table.render()).to_string());
        let red = AnsiColor::Red.on_default();
        assert_eq!(table.render().matches(&red.to_string()).count(), 1, "only the row with errors");
    }

    #[test]
    fn rows_are_capped() {
        let mut table = RedTable::default();
        for at in 0..2 * ROWS_MAX {
            let mut record = record(Role::Server, 200);
            record.target = Some(compact_str::format_compact!("/{at}"));
            table.record(&record);
        }
        assert_eq!(table.rows.len(), ROWS_MAX + 1);
        assert_eq!(table.rows.values().map(|row| row.calls).sum::<u64>(), 2 * ROWS_MAX as u64);
    }
}
