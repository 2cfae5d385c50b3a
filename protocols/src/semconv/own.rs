//! What the agent's metrics of itself are called: those of SDKs and of processes by the conventions, the others are ours.
//!
//! Sources: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/otel/sdk-metrics.md> and
//! <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/system/process-metrics.md>

use super::{DURATION_BOUNDS, Metric, key};

/// Attribute names.
#[expect(
    missing_docs,
    reason = "each constant is its own documentation: the text is the name in the conventions"
)]
pub mod attribute {
    pub const COMPONENT_NAME: &str = "otel.sdk.component.name";
    pub const COMPONENT_TYPE: &str = "otel.sdk.component.type";
    // Ours: a row of the accounts, in words.
    pub const WHAT: &str = "spantap.what";
    pub const REASON: &str = "spantap.reason";
}

/// Spans of which the export has ended.
pub const SPAN_EXPORTED: &str = "otel.sdk.exporter.span.exported";
/// Spans that are being sent.
pub const SPAN_INFLIGHT: &str = "otel.sdk.exporter.span.inflight";
/// Points of which the export has ended.
pub const POINT_EXPORTED: &str = "otel.sdk.exporter.metric_data_point.exported";
/// Points that are being sent.
pub const POINT_INFLIGHT: &str = "otel.sdk.exporter.metric_data_point.inflight";
/// Spans that have left the queue, or found it full.
pub const SPAN_PROCESSED: &str = "otel.sdk.processor.span.processed";
/// Spans in the queue.
pub const SPAN_QUEUE_SIZE: &str = "otel.sdk.processor.span.queue.size";
/// Processor time.
pub const CPU_TIME: &str = "process.cpu.time";
/// Resident memory.
pub const MEMORY_USAGE: &str = "process.memory.usage";

/// The first half of the accounts.
pub const SEEN: &str = "spantap.seen";
/// Of its rows those that are bytes.
pub const SEEN_BYTES: &str = "spantap.seen.bytes";
/// The second half of the accounts.
pub const LEFT_OUT: &str = "spantap.left_out";
/// Of its rows those that are bytes.
pub const LEFT_OUT_BYTES: &str = "spantap.left_out.bytes";
/// Streams with the state of a parser.
pub const STREAMS: &str = "spantap.streams";
/// Connections that are known.
pub const CONNECTIONS: &str = "spantap.connections";
/// Bytes kept until a message is complete.
pub const RETAINED: &str = "spantap.retained";
/// Series of metrics.
pub const METRIC_SERIES: &str = "spantap.metric.series";

/// Requests of an exporter, each attempt by itself.
pub static EXPORTER_OPERATION_DURATION: Metric = Metric {
    name: "otel.sdk.exporter.operation.duration",
    description: "Duration of an attempt to export.",
    unit: "s",
    bounds: DURATION_BOUNDS,
    dimensions: &[
        attribute::COMPONENT_NAME,
        attribute::COMPONENT_TYPE,
        key::ERROR_TYPE,
        key::SERVER_ADDRESS,
        key::SERVER_PORT,
    ],
};
