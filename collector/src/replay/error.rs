//! What is wrong with a capture file.

use std::{io, path::PathBuf};

/// A capture file could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("replay {}: {kind} (at byte {offset})", file.display())]
pub struct ReplayError {
    /// The file.
    pub file: PathBuf,
    /// Where the record, block or header begins that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: ErrorKind,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The operating system says so.
    #[error("{0}")]
    Io(io::Error),
    /// It does not begin like a pcap or pcapng file.
    #[error("not a capture file: expected pcap or pcapng")]
    NotACapture,
    /// It has no byte.
    #[error("the file is empty")]
    Empty,
    /// It ends in the middle of something.
    #[error("the file is truncated: it ends in the middle of a record")]
    Truncated,
    /// A length or a number in it cannot be.
    #[error("the file is corrupt: {0}")]
    Corrupt(&'static str),
    /// All its packets have link-layer headers of a kind that is not understood.
    #[error("link type {0} is not supported: expected Ethernet, Linux cooked, loopback or raw IP")]
    LinkType(u16),
}
