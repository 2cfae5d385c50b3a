//! The Prometheus endpoint: who asks gets all metrics as text, and learns whether the agent is well.
//!
//! `server` speaks HTTP, within bounds -> `scrape` asks the thread that owns the tables for a snapshot -> `text` writes
//! it, as `format` says, with the names of `names` and the labels of `targets`.

mod format;
mod names;
mod probes;
mod scrape;
mod server;
mod targets;
mod text;

pub use probes::Probes;
pub use scrape::{ScrapeStats, Scrapes};
pub use server::serve;
pub use text::Additions;
