//! Capture files: pcap and pcapng become the same events that the kernel side reports.
//!
//! `file` reads frames, `packet` finds the TCP segment in each, `tcp` puts a direction in order, `connection` lets no
//! answer overtake its request, and `source` makes events of it all, as the server's end would have seen them. Nothing here trusts a length, and a damaged file gives
//! its events up to the damage and then one [`ReplayError`].
//!
//! ```no_run
//! use spantap::{connection::{Settings, Table}, replay::Replay};
//!
//! let mut table = Table::new(Settings::default(), spantap_protocols::ALL);
//! let mut replay = Replay::new(spantap_protocols::ALL);
//! let mut finished = Vec::new();
//! let result = replay.run("capture.pcap".as_ref(), &mut |event| table.on_event(event, &mut finished));
//! table.finish(&mut finished);
//! for finished in &finished {
//!     println!("{:?}: {}", replay.server(finished.tgid), finished.exchange.operation);
//! }
//! # result.map_err(|error| error.to_string())?;
//! # Ok::<(), String>(())
//! ```
//!
//! Connections that end without a close, in a recording of many minutes, expire only if `Table::on_tick` is called with
//! the times of the events.

mod connection;
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
