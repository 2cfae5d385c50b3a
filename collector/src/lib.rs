//! The agent. Data flows one way, each stage a folder: `kernel` or `replay` -> [`connection`] -> [`telemetry`] ->
//! [`processors`] -> [`export`]. `app` ties them together; see `ARCHITECTURE.md`.

pub mod app;
pub mod cli;
pub mod connection;
pub mod demo;
pub mod discovery;
pub mod export;
pub mod kernel;
pub mod processors;
pub mod replay;
pub mod telemetry;
