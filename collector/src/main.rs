//! `spantap`: see `spantap --help`.
fn main() {}
