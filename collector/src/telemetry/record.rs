//! [`Record`]: one finished exchange as telemetry sees it, mostly at once a span and a point of a histogram.

use std::sync::Arc;

use compact_str::CompactString;
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};
use spantap_protocols::{Attributes, Outcome, semconv::Metric};

/// A point in time in nanoseconds since 1970, UTC. Made in `telemetry::clock` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub u64);

/// Whose telemetry it is: one OpenTelemetry resource.
#[derive(Debug)]
pub struct Service {
    /// Unique while the agent runs; the key of everything kept per service.
    pub id: u32,
    /// `service.name`.
    pub name: CompactString,
    /// The resource's attributes, `service.name` included.
    pub attributes: Attributes,
}

/// The ids of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceIds {
    /// The caller's trace, or a new one.
    pub trace_id: TraceId,
    /// Always new.
    pub span_id: SpanId,
    /// The caller's span, if the request named it.
    pub parent: Option<SpanId>,
    /// W3C trace flags: the caller's, or of a trace that begins here, until `processors::sampling` has decided.
    pub flags: TraceFlags,
    /// Whether the caller keeps the trace; `None` if there is no caller, or it has left that open.
    pub caller_samples: Option<bool>,
    /// The `tracestate` header, as sent; where sampling by chance has a part in it, with the threshold of the decision.
    pub state: CompactString,
}

/// One finished exchange.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose.
    pub service: Arc<Service>,
    /// SERVER or CLIENT.
    pub kind: SpanKind,
    /// The protocol's name, for people; exporters must not branch on it.
    pub protocol: &'static str,
    /// First part of the span's name.
    pub operation: CompactString,
    /// Second part of the span's name: the route, the table.
    pub target: Option<CompactString>,
    /// When it began.
    pub start: UnixNanos,
    /// When the first byte of the response passed.
    pub response_start: Option<UnixNanos>,
    /// When it ended; not before `start`.
    pub end: UnixNanos,
    /// Attributes of the span.
    pub attributes: Attributes,
    /// Error or not.
    pub outcome: Outcome,
    /// Ids.
    pub trace: TraceIds,
    /// The histogram it counts into.
    pub metric: Option<&'static Metric>,
    /// False if it is only counted: its process exports a span of its own.
    pub is_span: bool,
}

impl Record {
    /// The span's name: `operation target`, or just `operation`.
    #[must_use]
    pub fn name(&self) -> CompactString {
        match &self.target {
            Some(target) => compact_str::format_compact!("{} {target}", self.operation),
            None => self.operation.clone(),
        }
    }

    /// End minus start, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}
