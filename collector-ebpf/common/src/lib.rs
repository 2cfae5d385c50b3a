//! What the kernel programs and the agent share: the records of the ring buffer, the loss counters, the limits.
//!
//! `no_std`, so that both sides compile it; everything here is tested on the host.
#![no_std]

pub mod counter;
pub mod limits;
pub mod offset;
pub mod record;
pub mod syscall;
pub mod verdict;

#[cfg(feature = "decode")]
pub mod decode;
#[cfg(feature = "decode")]
pub mod event;

pub use counter::Counter;
#[cfg(feature = "decode")]
pub use event::Event;
pub use verdict::Verdict;
