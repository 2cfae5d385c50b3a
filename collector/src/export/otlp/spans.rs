//! Encodes a [`Record`] as an OTLP `Span`.
//!
//! Spec: <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.11.0/opentelemetry/proto/trace/v1/trace.proto>

use opentelemetry::trace::SpanKind;
use spantap_protocols::Outcome;

use super::{
    attributes::put_attribute,
    wire::{put_bytes, put_fixed64, put_head, put_text, put_varint},
};
use crate::telemetry::Record;

/// The limit that the specification advises for attributes of a span.
const ATTRIBUTES_MAX: usize = 128;

/// `ScopeSpans.spans`, and as it happens `ScopeMetrics.metrics`.
pub(super) const SCOPE_ITEM: u8 = 0x12;
const TRACE_ID: u8 = 0x0a;
const SPAN_ID: u8 = 0x12;
const TRACE_STATE: u8 = 0x1a;
const PARENT_SPAN_ID: u8 = 0x22;
const NAME: u8 = 0x2a;
const KIND: u8 = 0x30;
const START: u8 = 0x39;
const END: u8 = 0x41;
const ATTRIBUTES: u8 = 0x4a;
const DROPPED_ATTRIBUTES: u8 = 0x50;
/// Status { code: STATUS_CODE_ERROR }; the reason stands in `error.type`.
const STATUS_ERROR: [u8; 4] = [0x7a, 2, 0x18, 2];
/// Field 16, fixed32.
const FLAGS: [u8; 2] = [0x85, 0x01];
/// Whether the parent is remote is known: always, here.
const FLAG_HAS_IS_REMOTE: u32 = 0x100;
const FLAG_IS_REMOTE: u32 = 0x200;

/// Writes the body of the `Span` message.
///
/// Attributes beyond [`ATTRIBUTES_MAX`] are left out and counted in `dropped_attributes_count`, which is returned.
pub(super) fn put_span(out: &mut Vec<u8>, record: &Record) -> u64 {
    put_bytes(out, TRACE_ID, &record.trace.trace_id.to_bytes());
    put_bytes(out, SPAN_ID, &record.trace.span_id.to_bytes());
    put_text(out, TRACE_STATE, &record.trace.state);
    if let Some(parent) = record.trace.parent {
        put_bytes(out, PARENT_SPAN_ID, &parent.to_bytes());
    }
    put_name(out, record);
    out.extend([KIND, kind(&record.kind)]);
    put_fixed64(out, START, record.start.0);
    put_fixed64(out, END, record.end.0);
    for (key, value) in record.attributes.iter().take(ATTRIBUTES_MAX) {
        put_attribute(out, ATTRIBUTES, key.as_str(), value);
    }
    let dropped = record.attributes.len().saturating_sub(ATTRIBUTES_MAX) as u64;
    if dropped > 0 {
        out.push(DROPPED_ATTRIBUTES);
        put_varint(out, dropped);
    }
    if matches!(record.outcome, Outcome::Error(_)) {
        out.extend(STATUS_ERROR);
    }
    let remote = if record.trace.parent.is_some() { FLAG_IS_REMOTE } else { 0 };
    let flags = u32::from(record.trace.flags.to_u8()) | FLAG_HAS_IS_REMOTE | remote;
    out.extend(FLAGS);
    out.extend(flags.to_le_bytes());
    dropped
}

/// [`Record::name`] without making the string.
fn put_name(out: &mut Vec<u8>, record: &Record) {
    match &record.target {
        None => put_text(out, NAME, &record.operation),
        Some(target) => {
            put_head(out, NAME, record.operation.len() + 1 + target.len());
            out.extend_from_slice(record.operation.as_bytes());
            out.push(b' ');
            out.extend_from_slice(target.as_bytes());
        }
    }
}

fn kind(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}
