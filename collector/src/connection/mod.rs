//! From events to exchanges: the connection table, reassembly and protocol detection.
//!
//! Sans-IO: events and times come in as arguments, [`Finished`] exchanges go out as values; no sockets, tasks, clocks.
//! `table` knows all streams and keeps them within bounds, `connections` the sockets below, `stream` is one of them, `reassembly` puts one direction of
//! it in order and `queue` keeps what is not consumed yet, `detect` finds the protocol and `driver` feeds its parser.
//! Whatever is left out is counted by reason in `counters`. `verdict` is what flows back: which bytes nobody wants.
//! `refused` makes exchanges of connections that never came to be.
//!
//! A stream whose process died without a close expires: it is idle then. An expired stream that speaks again is found
//! anew, as one joined in its middle.

mod arena;
mod connections;
mod counters;
mod detect;
mod driver;
mod orphans;
mod queue;
mod reassembly;
mod refused;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use counters::Counters;
pub use table::{Finished, Settings, Table, Usage};
