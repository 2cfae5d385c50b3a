//! The only place that names aya: loads the kernel programs, attaches them, and turns their ring buffer into events.

mod attach;
mod backend;
mod btf;
mod capabilities;
mod error;
mod features;
mod ignored;
mod leave;
mod loader;
mod loss;
mod offsets;
mod source;
mod uprobe_multi;
mod verdicts;

pub use attach::{Attacher, Does, Moved, Probe, Way};
pub use backend::{Attempt, Backend, Report};
pub use capabilities::{CAPABILITIES, Capability, Held, Weight, give_up_others, is_in_pid_namespace};
pub use error::KernelError;
pub use features::{Missing, preflight};
pub use ignored::Ignored;
pub use leave::leave_detaching_to_child;
pub use loader::{Kernel, Settings};
pub use loss::Losses;
pub use source::Source;
pub use verdicts::Verdicts;
