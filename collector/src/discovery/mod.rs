//! Who runs on this node: processes, their names, and the TLS libraries that they map.

pub mod executable;
mod files;
mod identity;
pub mod instrumented;
pub mod machine_code;
pub mod process_context;
pub mod procfs;
pub mod selection;
pub mod services;
mod symbols;
mod telemetry_backends;
pub mod tls;
pub mod tls_library;

pub use instrumented::Instrumented;
pub use process_context::ProcessContext;
pub use selection::{Change, Selection, Wanted};
pub use services::Services;
pub use tls::{TlsFinder, TlsProber};
pub use tls_library::Placement;
