//! What exporters see: neutral records, blind to protocols.

pub mod clock;
pub mod histogram;
pub mod id;
pub mod metrics;
pub mod record;
pub mod span;

pub use clock::Clock;
pub use id::IdGenerator;
pub use metrics::{Aggregator, MetricSettings, MetricsSnapshot};
pub use record::{Record, Service, TraceIds, UnixNanos};
pub use span::Endpoints;
