//! Capture files: pcap and pcapng become the same events that the kernel side reports.
//!
//! `file` reads frames, `packet` finds the TCP segment in each, `tcp` puts a direction in order, and `source` makes
//! events of it all, as the server's end would have seen them. Nothing here trusts a length, and a damaged file gives
//! its events up to the damage and then one [`ReplayError`].

mod counters;
mod error;
mod file;
mod packet;
mod source;
mod tcp;
#[cfg(test)]
mod tests;

pub use counters::ReplayCounters;
pub use error::{ErrorKind, ReplayError};
pub use source::Replay;
