//! What exporters see: neutral records, blind to protocols.

pub mod record;

pub use record::{Record, Service, TraceIds, UnixNanos};
