//! Sizes that both sides rely on.

/// Bytes copied of one call at most, whatever the configuration asks for.
pub const COPY_BYTES_MAX: u32 = 16 * 1024;
/// Bytes copied of one call unless configured: a request or response head nearly always fits.
pub const COPY_BYTES_DEFAULT: u32 = 4 * 1024;
/// Buffers of one vectored call that are looked at; what the others moved is a gap.
pub const IOVECS_MAX: u32 = 8;
/// Messages of one sendmmsg or recvmmsg that are looked at; the others are a gap.
pub const MESSAGES_MAX: u32 = 8;
/// Slots of the table that remembers when a thread entered a call, indexed by the low bits of the tid. A power of two.
pub const THREAD_SLOTS: u32 = 64 * 1024;
/// System-call numbers that are looked at. x86-64 and arm64 stay below it.
pub const SYSCALLS: u32 = 512;
/// Length of the kernel's `task_struct.comm`.
pub const COMM_BYTES: usize = 16;
