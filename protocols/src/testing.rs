//! The harness that every parser must pass: fixtures, a driver that feeds a parser as the agent does, and the checks.
//!
//! Its own tests walk [`crate::ALL`] and the folder `src/<protocol>/fixtures`, so a protocol is tested by being
//! registered. Other crates get all of it through the feature `testing`. Checks panic.

mod checks;
mod driver;
mod fixture;
mod foreign;
mod noise;
mod render;
mod runs;
#[cfg(test)]
mod tests;
mod truth;

pub use checks::{
    Loss, check_copy_limits, check_foreign, check_gaps, check_garbage, check_late_join, check_lost_calls,
    check_prefixes, check_random_loss, check_splits,
};
pub use driver::Driver;
pub use fixture::{Chunk, Fixture, fixtures};
pub use foreign::FOREIGN;
pub use noise::Noise;
pub use render::render;
pub use runs::{run, run_copying};
pub use truth::check_true;
