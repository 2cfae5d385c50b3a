//! Typed configuration of spantap.
#![forbid(unsafe_code)]
