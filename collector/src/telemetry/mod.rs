//! What exporters see: neutral records, blind to protocols.

pub mod clock;
pub mod endpoint;
pub mod histogram;
pub mod id;
pub mod metrics;
pub mod older;
pub mod record;
pub mod snapshot;
pub mod span;

pub use clock::Clock;
pub use endpoint::{Endpoint, Endpoints};
pub use histogram::Aggregation;
pub use id::IdGenerator;
pub use metrics::{Aggregator, MetricSettings};
pub use older::OlderNames;
pub use record::{Record, Service, TraceIds, UnixNanos};
pub use snapshot::{MetricsSnapshot, Temporality};
