//! Ties the stages together: what runs, on which thread, for how long.

mod agent;
mod cadence;
pub mod check;
mod outputs;
mod own;
mod pipeline;
mod readers;
mod recording;
mod scanner;
mod summary;
mod wiring;

pub use agent::{Agent, AppError};
pub use check::Check;
pub use outputs::Outputs;
pub use pipeline::{Naming, Pipeline};
pub use recording::{Pace, replay};
pub use summary::Summary;
pub use wiring::WiringError;
