//! The programs, a file per kind of hook. Each is a thin shim around a `try_` function whose error is the counter to
//! bump, so that no path leaves silently.

mod openssl;
mod plain;
mod process;
mod socket_call;
mod socket_connect;
mod socket_fentry;
mod socket_kprobe;
pub mod socket_life;
mod socket_syscall;
mod socket_traced;
