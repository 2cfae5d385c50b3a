//! Every map: who writes it, who reads it, what evicts.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use spantap_ebpf_common::{Counter, limits};

/// Records for user space. Written by every program, read by the agent; full = records dropped and counted.
/// The agent sets the size (`capture.ring_buffer`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// `struct sock *` -> what is known of its connection. Written by the socket programs, removed when the kernel
/// destroys the socket; beyond its size the least recently used goes (and is met again as a new connection).
#[map]
pub static CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(65_536, 0);

/// Low bits of the tid -> what the thread is doing. A lookup in an array is a handful of inlined instructions, where a
/// hash costs a call; two threads that share a slot are told apart by `pid_tgid`, and the later one takes it.
#[map]
pub static THREADS: Array<Thread> = Array::with_max_entries(limits::THREAD_SLOTS, 0);

/// Low bits of the tid -> the call on a socket that the thread is inside. Used by the backends that hook kernel
/// functions; the agent gives it one slot under the others.
#[map]
pub static CALLS: Array<Call> = Array::with_max_entries(limits::THREAD_SLOTS, 0);

/// System-call number -> `spantap_ebpf_common::syscall::op`. Written by the agent before attaching.
#[map]
pub static SYSCALLS: Array<u32> = Array::with_max_entries(limits::SYSCALLS, 0);

/// What was passed on and what was left out, by [`Counter`]. Read by the agent.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// `pid_tgid` -> the TLS call that this thread is inside. Written at its entry, removed at its return.
#[map]
pub static TLS_CALLS: LruHashMap<u64, TlsCall> = LruHashMap::with_max_entries(8_192, 0);

/// TLS session -> its number, socket and positions. Removed by SSL_free; beyond its size the oldest goes.
#[map]
pub static TLS_SESSIONS: LruHashMap<TlsKey, TlsSession> = LruHashMap::with_max_entries(32_768, 0);

/// A connection, seen from this end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// Bytes sent since it was first seen.
    pub sent: u64,
    /// Bytes received since it was first seen.
    pub received: u64,
    /// `tcp_sock.write_seq` that belongs to `sent`.
    pub sent_seq: u32,
    /// `tcp_sock.copied_seq` that belongs to `received`.
    pub received_seq: u32,
    /// Of [`connection_flag`].
    pub flags: u32,
    /// Zero.
    pub _pad: u32,
}

/// Bits of [`Connection::flags`].
pub mod connection_flag {
    /// `received_seq` is set (it is not known before the handshake has ended).
    pub const RECEIVED_KNOWN: u32 = 1 << 0;
    /// A TLS session is bound to it: its bytes are ciphertext and are not reported.
    pub const TLS: u32 = 1 << 1;
    /// Not announced yet, since it was met where no process could be named: this end connected.
    pub const UNSAID_CLIENT: u32 = 1 << 2;
    /// Likewise: this end accepted.
    pub const UNSAID_SERVER: u32 = 1 << 3;
}

/// What a thread is doing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Whose slot it is.
    pub pid_tgid: u64,
    /// When it entered its newest sending call: `CLOCK_BOOTTIME`.
    pub entered_ns: u64,
    /// The `SSL *` of the TLS call that it is inside; 0 outside.
    pub ssl: u64,
}

/// A call on a socket in progress, and where in the process's memory its bytes lie: noted at the entry, since the
/// iterator moves on with the bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Whose slot it is; 0 while it is written.
    pub pid_tgid: u64,
    /// When it was entered: `CLOCK_BOOTTIME`.
    pub entered_ns: u64,
    /// `struct sock *`.
    pub sk: u64,
    /// The buffer, or the kernel's copy of the vector of buffers.
    pub address: u64,
    /// Bytes at its beginning that have moved already.
    pub skip: u64,
    /// Bytes that are to move in all.
    pub size: u64,
    /// Buffers of the vector.
    pub segments: u32,
    /// Of [`place`].
    pub place: u32,
}

/// Values of [`Call::place`].
pub mod place {
    /// In no memory of the process, or nowhere.
    pub const NOWHERE: u32 = 0;
    /// In one buffer.
    pub const BUFFER: u32 = 1;
    /// In a vector of buffers.
    pub const VECTOR: u32 = 2;
}

/// A TLS call in progress.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCall {
    /// `SSL *`.
    pub ssl: u64,
    /// The caller's buffer; 0 for a handshake.
    pub buffer: u64,
    /// Where the `_ex` forms write how many bytes moved; 0 for the others.
    pub moved: u64,
    /// `CLOCK_BOOTTIME`.
    pub entered_ns: u64,
}

/// `SSL *` is an address: it needs its process to mean anything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsKey {
    /// `SSL *`.
    pub ssl: u64,
    /// The process.
    pub tgid: u64,
}

/// A TLS session.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsSession {
    /// Its number, as a stream.
    pub id: u64,
    /// The socket's connection, 0 until a system call inside a TLS call has told.
    pub connection: u64,
    /// Plaintext bytes sent.
    pub sent: u64,
    /// Plaintext bytes received.
    pub received: u64,
}
