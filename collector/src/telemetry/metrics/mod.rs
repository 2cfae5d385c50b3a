//! Counts records into the histograms that they name, per service and per combination of dimensions.
//!
//! The SDK's instruments need one meter provider per service, cost 450 ns and more per value and carry no exemplars; this
//! is one table for all services. On the steady path a record costs one pass over its attributes, one hash and one
//! look-up, and allocates nothing. Memory is bounded: above the caps values count into the service's overflow series.

mod caps;
mod collect;
mod key;
mod table;

pub use table::Aggregator;

use super::{OlderNames, Temporality, histogram::Aggregation};

/// How metrics are aggregated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSettings {
    /// Cumulative or delta.
    pub temporality: Temporality,
    /// The shape of the buckets.
    pub aggregation: Aggregation,
    /// Series of one metric of one service.
    pub series_max_per_service: u32,
    /// Series of one metric, all services together.
    pub series_max: u32,
    /// A series without a value for so long is forgotten, in nanoseconds.
    pub idle_ns: u64,
    /// Likewise, if the last process of its service has ended: long enough for every reader to have got its last values.
    pub ended_ns: u64,
    /// Values are given exemplars: spans are exported, so that somebody can look them up.
    pub exemplars: bool,
    /// Records count into the older metrics of these conventions too.
    pub older: OlderNames,
}

impl Default for MetricSettings {
    fn default() -> Self {
        Self {
            temporality: Temporality::Cumulative,
            aggregation: Aggregation::Explicit,
            series_max_per_service: 2_000,
            series_max: 20_000,
            idle_ns: 3_600_000_000_000,
            ended_ns: 300_000_000_000,
            exemplars: true,
            older: OlderNames::default(),
        }
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
