//! OTLP: encoding, batching, and delivery over gRPC or HTTP with retries.

mod attributes;
pub(super) mod batch;
mod points;
mod queue;
mod retry;
pub mod settings;
mod spans;
pub mod stats;
mod wire;
pub use settings::{DestinationSettings, OtlpSettings};
