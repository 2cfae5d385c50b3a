//! Sans-IO protocol parsers: bytes and times come in as arguments, finished exchanges go out as values.
//!
//! No sockets, no tasks, no clock, no unsafe. The files of this folder are shared parts, its folders are protocols,
//! and [`ALL`] lists them: detection, configuration, spans, metrics, the test harness and the replay command all walk
//! that list, so a new protocol is one folder and one row.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod http;
pub mod http1;
pub mod http2;
#[cfg(test)]
mod kindling_tests;
pub mod limits;
pub mod postgresql;
pub mod protocol;
pub mod redact;
pub mod redis;
pub mod semconv;
pub mod sql;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace_context;
#[cfg(test)]
mod trace_tests;

pub use exchange::{Attributes, Exchange, Key, Outcome, Value};
pub use protocol::{
    Appetite, BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Role, Segment, Sniff,
};

/// Every protocol spantap understands, in the order in which detection asks them.
pub const ALL: &[&dyn Protocol] = &[&http1::Http1, &http2::Http2, &redis::Redis, &postgresql::Postgresql];
