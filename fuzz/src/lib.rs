//! Everything that reads bytes of others, each as a [`Target`] that takes any input whatever.
//!
//! `tests/bounded.rs` runs every target on its seeds, its corpus and a fixed number of mutations of both, as an ordinary
//! test; `cargo xtask fuzz` lets libFuzzer look for inputs that reach new code, for as long as one likes. Targets panic
//! where something does not hold: consumed is at most what was given, memory stays within caps, values are bounded, and
//! in the fuzzer the work is linear in the bytes (`steps.rs`).

pub mod h2;
mod hpack;
pub mod input;
pub mod memory;
mod parser;
#[cfg(feature = "agent")]
mod pcap;
#[cfg(feature = "agent")]
mod process_context;
mod sql;
#[cfg(feature = "libfuzzer")]
pub mod steps;
#[cfg(feature = "agent")]
mod table;

use spantap_protocols::{http1::Http1, http2::Http2, postgresql::Postgresql, redis::Redis};

/// Something that takes any bytes.
pub struct Target {
    /// As `cargo xtask fuzz` takes it; also the folder of its corpus. A parser has its protocol's name.
    pub name: &'static str,
    /// Feeds one input, and returns how many bytes that came to.
    pub run: fn(&[u8]) -> u64,
    /// Inputs made of recordings.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Steps a byte may cost, see `steps.rs`: some four times what the worst of the kept inputs does.
    steps_per_byte: u64,
}

impl Target {
    /// Steps that an input may take which fed so many bytes.
    #[must_use]
    pub fn steps(&self, bytes: u64) -> u64 {
        STEPS_FREE + bytes.saturating_mul(self.steps_per_byte)
    }
}

/// For inputs of few bytes.
const STEPS_FREE: u64 = 50_000;

/// Every target; each registered protocol has one (`tests/tests/tidy`).
pub const TARGETS: &[Target] = &[
    Target {
        name: "http1",
        run: |input| parser::run(&Http1, input),
        seeds: || parser::seeds(&Http1),
        steps_per_byte: 400,
    },
    Target {
        name: "http2",
        run: |input| parser::run(&Http2, input),
        seeds: || parser::seeds(&Http2),
        steps_per_byte: 400,
    },
    Target {
        name: "redis",
        run: |input| parser::run(&Redis, input),
        seeds: || parser::seeds(&Redis),
        steps_per_byte: 400,
    },
    Target {
        name: "postgresql",
        run: |input| parser::run(&Postgresql, input),
        seeds: || parser::seeds(&Postgresql),
        steps_per_byte: 400,
    },
    #[cfg(feature = "agent")]
    Target { name: "table", run: table::run, seeds: table::seeds, steps_per_byte: 500 },
    #[cfg(feature = "agent")]
    Target { name: "pcap", run: pcap::run, seeds: pcap::seeds, steps_per_byte: 100 },
    #[cfg(feature = "agent")]
    Target {
        name: "process_context",
        run: process_context::run,
        seeds: process_context::seeds,
        steps_per_byte: 400,
    },
    Target { name: "sql", run: sql::run, seeds: sql::seeds, steps_per_byte: 300 },
    // The two ends of the connection are counted, too.
    Target { name: "h2", run: h2::run, seeds: h2::seeds, steps_per_byte: 2_000 },
    Target { name: "hpack", run: hpack::run, seeds: hpack::seeds, steps_per_byte: 250 },
];
