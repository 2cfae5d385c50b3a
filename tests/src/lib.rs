//! Helpers shared by the end-to-end tests: programs that are started and surely ended, and what they say as data.
//!
//! A test begins with [`machine::ready`], which says whether it can run here and keeps others from running beside it.
//! Helpers panic when something does not work: the test has failed then, and the message says which part of it.

pub mod agent;
pub mod applications;
pub mod bpf;
pub mod client;
pub mod compiled;
pub mod config;
pub mod http2;
pub mod machine;
pub mod nginx;
pub mod otlp;
pub mod postgres;
pub mod program;
pub mod prometheus;
pub mod python;
pub mod rotel;
pub mod wrk;
