//! Who runs on this node: processes, their names, and the TLS libraries that they map.

pub mod executable;
pub mod procfs;
pub mod services;
pub mod tls;

pub use services::Services;
pub use tls::TlsWatcher;
