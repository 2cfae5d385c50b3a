//! `cargo xtask bench NAME`: measurements, apart from tests because their numbers belong to a machine.
//!
//! A benchmark is a file of this folder and a row in [`BENCHES`]; the subcommand and its list walk that table.

use anyhow::{Result, bail};
use clap::Args;

/// One benchmark.
pub(crate) struct Bench {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it measures, with the unit.
    pub(crate) measures: &'static str,
    /// Runs it and prints its numbers.
    pub(crate) run: fn() -> Result<()>,
}

/// Every benchmark, in the order of the list.
const BENCHES: &[Bench] = &[];

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// Which one; without it they are listed.
    name: Option<String>,
}

/// Runs the subcommand.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Some(name) = &options.name else {
        if BENCHES.is_empty() {
            println!("there is no benchmark yet");
        }
        for bench in BENCHES {
            println!("{:16} {}", bench.name, bench.measures);
        }
        return Ok(true);
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no benchmark `{name}`; `cargo xtask bench` lists them");
    };
    (bench.run)()?;
    Ok(true)
}
