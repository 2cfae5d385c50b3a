//! `cargo xtask test`: every check and test, each a step; one table at the end.
//!
//! What cannot run here (not root, no BPF toolchain, no cargo-deny) is skipped with its reason, never silently.

mod checks;
mod end_to_end;
mod kernels;

use anyhow::{Result, bail};
use clap::Args;

use crate::packages;
use crate::step::{Outcome, Steps};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only the unit tests and the house rules.
    #[arg(long, conflicts_with = "only")]
    fast: bool,
    /// Only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

/// One step: its name, what it does, and how.
type Step = (&'static str, &'static str, fn() -> Result<Outcome>);

/// Every step, in the order of running: what is quick to fail comes first.
const STEPS: &[Step] = &[
    ("packages", "Debian packages that the end-to-end tests use", || {
        packages::install(&[packages::FOR_TESTS, packages::FOR_GUESTS].concat())
    }),
    ("fmt", "formatting", checks::fmt),
    ("clippy", "lints, warnings are errors", checks::clippy),
    ("unit", "unit tests of the workspace", checks::unit),
    ("tidy", "the house rules", checks::tidy),
    ("docs", "documentation builds without warnings", checks::docs),
    ("deny", "licences, sources and bans of dependencies", checks::deny),
    ("advisories", "known faults of dependencies", checks::advisories),
    ("e2e", "the release agent on this kernel, with real programs", end_to_end::run),
    ("kernels", "the same on other kernels, in virtual machines", kernels::run),
];

/// The steps of `--fast`.
const FAST: &[&str] = &["unit", "tidy"];

/// Runs the subcommand. False if a step has failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if let Some(unknown) = options.only.iter().find(|name| !STEPS.iter().any(|(step, ..)| step == name)) {
        let names: Vec<&str> = STEPS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no step `{unknown}`; there are {}", names.join(", "));
    }
    let wanted = |name: &str| match (options.fast, options.only.is_empty()) {
        (true, _) => FAST.contains(&name),
        (false, true) => true,
        (false, false) => options.only.iter().any(|only| only == name),
    };
    let mut steps = Steps::default();
    for (name, what, step) in STEPS.iter().filter(|(name, ..)| wanted(name)) {
        steps.run(name, what, step);
    }
    Ok(steps.finish())
}
