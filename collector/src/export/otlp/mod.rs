//! OTLP: encoding, batching, and delivery over gRPC or HTTP with retries.
//!
//! Per signal: `batch` encodes on the pipeline's thread -> `queue`, bounded by bytes -> `delivery`, a task of its own.

mod attributes;
pub(super) mod batch;
mod client;
mod delivery;
mod exporter;
mod grpc;
mod health;
mod http;
mod points;
mod queue;
mod retry;
pub mod settings;
mod spans;
pub mod stats;
mod tls;
mod wire;

pub use batch::{Batch, Batcher};
pub use exporter::OtlpExporter;
pub use settings::{DestinationSettings, OtlpSettings};
pub use stats::{DestinationStats, DropReason};
pub use tls::SetupError;
