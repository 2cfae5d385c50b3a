//! `distribution.spantap.limits`: what the agent holds in memory at most. Whatever a limit takes away is counted.

use crate::field::Field;
use crate::units::Size;

/// What the agent holds at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections with the state of a parser, at most; the longest idle one goes first. Default 65536.
    pub streams: u32,
    /// Bytes kept of all connections until a message is complete. Default 64MiB.
    pub retained_bytes: Size,
    /// Series of one metric, of all services together; each takes about 1 KiB. What comes on top counts into one series
    /// of its service. Default 20000.
    pub metric_series: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 65_536, retained_bytes: Size::mib(64), metric_series: 20_000 }
    }
}

impl Limits {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut limits = Self::default();
        let mut section = field.section()?;
        section.set("streams", &mut limits.streams, |field| field.integer(64..=4_194_304));
        section.set("retained_bytes", &mut limits.retained_bytes, |field| {
            field.size(Size::mib(1)..=Size::mib(65_536))
        });
        section.set("metric_series", &mut limits.metric_series, |field| field.integer(1..=1_000_000));
        section.finish();
        Some(limits)
    }
}
