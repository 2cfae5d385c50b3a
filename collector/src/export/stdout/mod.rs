//! Telemetry on the terminal or in a pipe: lines for people (`pretty`), or OTLP JSON for tools (`otlp_json`).

mod otlp_json;
mod output;
mod pretty;
mod red;
mod sketch;
mod stats;
mod waiting;

pub use otlp_json::OtlpJson;
pub use output::Output;
pub use pretty::Pretty;
pub use red::RedTable;
pub use stats::{OutputStats, Unwritten};
