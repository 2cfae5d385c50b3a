//! Exchanges as text.

use std::fmt::Write as _;

use crate::{
    exchange::{Exchange, Outcome},
    protocol::BootNanos,
};

/// Exchanges as text, for snapshots and for comparing. Times in microseconds since the first request.
#[must_use]
pub fn render(exchanges: &[Exchange]) -> String {
    let zero = exchanges.iter().map(|exchange| exchange.start).min().unwrap_or_default();
    let mut text = String::new();
    for exchange in exchanges {
        let at = |time: BootNanos| time.since(zero) / 1000;
        let response = exchange.response_start.map_or("none".to_owned(), |time| at(time).to_string());
        let outcome = match &exchange.outcome {
            Outcome::Unset => "unset",
            Outcome::Error(kind) => kind,
        };
        let _ = writeln!(
            text,
            "{} {:?} {} {} start={} request_end={} response_start={response} end={} bytes={}/{} outcome={outcome}",
            exchange.protocol,
            exchange.role,
            exchange.operation,
            exchange.target.as_deref().unwrap_or("-"),
            at(exchange.start),
            at(exchange.request_end),
            at(exchange.end),
            exchange.request_bytes,
            exchange.response_bytes,
        );
        for (key, value) in exchange.attributes.iter() {
            let _ = match value.as_str() {
                Some(value) => writeln!(text, "  {}: {value:?}", key.as_str()),
                None => writeln!(text, "  {}: {value:?}", key.as_str()),
            };
        }
        if let Some(trace) = &exchange.trace {
            let _ = writeln!(
                text,
                "  trace: {:032x} {:016x} {:02x} {:?}",
                u128::from_be_bytes(trace.trace_id),
                u64::from_be_bytes(trace.parent_id),
                trace.flags,
                trace.state
            );
        }
    }
    text
}
