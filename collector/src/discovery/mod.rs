//! Who runs on this node: processes, their names, and the TLS libraries that they map.

pub mod executable;
pub mod machine_code;
pub mod procfs;
pub mod selection;
pub mod services;
mod symbols;
pub mod tls;
pub mod tls_library;

pub use selection::{Change, Selection};
pub use services::Services;
pub use tls::{TlsFinder, TlsProber};
pub use tls_library::Placement;
