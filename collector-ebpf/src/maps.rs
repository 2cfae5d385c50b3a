//! Every map: who writes it, who reads it, what evicts.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use spantap_ebpf_common::{Counter, Verdict, limits};

/// Records for user space. Written by every program, read by the agent; full = records dropped and counted.
/// The agent sets the size (`capture.ring_buffer`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// When the reader was last woken for something urgent: `CLOCK_BOOTTIME`.
#[map]
pub static WOKEN: Array<u64> = Array::with_max_entries(1, 0);

/// `struct sock *` -> what is known of its connection. Written by the socket programs, removed when the kernel
/// destroys the socket; beyond its size the least recently used goes (and is met again as a new connection).
#[map]
pub static CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(65_536, 0);

/// `struct sock *` -> who asked for its connection, while the handshake lasts. Beyond its size the oldest goes.
#[map]
pub static CONNECTING: LruHashMap<u64, Connecting> = LruHashMap::with_max_entries(4_096, 0);

/// Low bits of the tid -> what the thread is doing. A lookup in an array is a handful of inlined instructions, where a
/// hash costs a call; two threads that share a slot are told apart by `pid_tgid`, and the later one takes it.
#[map]
pub static THREADS: Array<Thread> = Array::with_max_entries(limits::THREAD_SLOTS, 0);

/// 1 when all programs are attached: until then no call is reported. Written by the agent.
#[map]
pub static STARTED: Array<u32> = Array::with_max_entries(1, 0);

/// Low bits of the tgid -> a process that is left alone, 0 if none. Written by the agent; the programs clear it when the
/// process ends or runs something else. Of two processes that share a slot the later one has it.
#[map]
pub static IGNORED: Array<u64> = Array::with_max_entries(limits::IGNORED_SLOTS, 0);

/// [`Verdict::slot`] -> what is wanted of a stream. Written by the agent; the programs note when a quiet stream moved, and
/// that it is quiet no more.
#[map]
pub static VERDICTS: Array<Verdict> = Array::with_max_entries(Verdict::SLOTS, 0);

/// Low bits of the tid -> the call on a socket that the thread is inside. Used by the backends that hook kernel
/// functions; the agent gives it one slot under the others.
#[map]
pub static CALLS: Array<Call> = Array::with_max_entries(limits::THREAD_SLOTS, 0);

/// Holds one zero, which the verifier does not know to be one: see `read::zero`.
#[map]
pub static ZERO: Array<u64> = Array::with_max_entries(1, 0);

/// System-call number -> `spantap_ebpf_common::syscall::op`. Written by the agent before attaching.
#[map]
pub static SYSCALLS: Array<u32> = Array::with_max_entries(limits::SYSCALLS, 0);

/// What was passed on and what was left out, by [`Counter`]. Read by the agent.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Low bits of the tid -> the TLS call that the thread is inside, as in [`THREADS`].
#[map]
pub static TLS_CALLS: Array<TlsCall> = Array::with_max_entries(limits::TLS_CALL_SLOTS, 0);

/// `pid_tgid` -> a TLS call that has no slot of its own: its slot is another thread's, or that of a call inside it (TLS
/// within TLS, as through an HTTPS proxy). Removed at its return; beyond its size the oldest goes.
#[map]
pub static TLS_CALLS_BESIDE: LruHashMap<u64, TlsCall> = LruHashMap::with_max_entries(4_096, 0);

/// TLS session -> its number, socket and positions. Removed by SSL_free; beyond its size the oldest goes.
#[map]
pub static TLS_SESSIONS: LruHashMap<TlsKey, TlsSession> = LruHashMap::with_max_entries(32_768, 0);

/// A ClientHello's random, seen on a socket -> that socket. Removed when a session is found to have it; those of
/// libraries that are not watched go when they are the oldest.
#[map]
pub static TLS_HELLOS: LruHashMap<TlsHello, TlsSocket> = LruHashMap::with_max_entries(4_096, 0);

/// Where the TLS libraries of this machine keep a session's random ([`limits::tls_random`]); 0 ends the list. Written by
/// the agent as it finds them.
#[map]
pub static TLS_RANDOMS: Array<u64> = Array::with_max_entries(limits::TLS_RANDOMS, 0);

/// `pid_tgid` -> what a thread that speaks for sessions without a socket did last.
#[map]
pub static TLS_TALKS: LruHashMap<u64, TlsTalk> = LruHashMap::with_max_entries(4_096, 0);

/// Who asked for a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connecting {
    /// When the handshake began.
    pub begun_ns: u64,
    /// The thread.
    pub pid_tgid: u64,
    /// The process's parent.
    pub parent: u32,
    /// Zero.
    pub _pad: u32,
    /// The thread's name.
    pub comm: [u8; limits::COMM_BYTES],
}

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
    /// `tcp_sock.write_seq` that belongs to `sent`; of a Unix socket the number of its inode.
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
    /// Not announced yet, since it was met where no process could be named, or the ring was full: this end connected.
    pub const UNSAID_CLIENT: u32 = 1 << 2;
    /// Likewise: this end accepted.
    pub const UNSAID_SERVER: u32 = 1 << 3;
    /// Likewise: it is older than the agent.
    pub const UNSAID_OLDER: u32 = 1 << 4;
    /// Not announced yet: one of the three above.
    pub const UNSAID: u32 = UNSAID_CLIENT | UNSAID_SERVER | UNSAID_OLDER;
    /// Met before its handshake had ended, since bytes came along with it.
    pub const EARLY: u32 = 1 << 5;
    /// It is a Unix socket.
    pub const UNIX: u32 = 1 << 6;
    /// From this bit on: how many calls were searched for a ClientHello.
    pub const LOOKS_SHIFT: u32 = 28;
}

/// What a thread is doing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Whose slot it is.
    pub pid_tgid: u64,
    /// When it entered its newest sending call: `CLOCK_BOOTTIME`.
    pub entered_ns: u64,
    /// The `SSL *` of the TLS call that it is inside; outside of any, 0 or [`WATCHED`].
    pub ssl: u64,
    /// What that sending call sends, where `entered_ns` was noted by a program that knows it.
    pub outgoing: Buffers,
    /// The socket it sends on, where `entered_ns` was noted by a program that knows it: `struct sock *`.
    pub sk: u64,
}

/// Memory of the process that a call moves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffers {
    /// Of the first buffer; 0 if unknown.
    pub address: u64,
    /// Bytes of the first buffer.
    pub length: u64,
    /// The kernel's copy of all of them: `struct iovec *`.
    pub vector: u64,
    /// How many there are.
    pub count: u64,
}

impl Buffers {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { address: 0, length: 0, vector: 0, count: 0 };
}

/// The value of [`Thread::ssl`] of a thread that has spoken for a session without a socket: what it sends and receives
/// may tell.
pub const WATCHED: u64 = 1;

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
    /// Whose slot it is.
    pub pid_tgid: u64,
    /// `SSL *`; 0 if there is no call.
    pub ssl: u64,
    /// The caller's buffer; 0 for a handshake.
    pub buffer: u64,
    /// Where the `_ex` forms write how many bytes moved; 0 for the others.
    pub moved: u64,
    /// `CLOCK_BOOTTIME`.
    pub entered_ns: u64,
    /// The stack pointer at the entry: a call inside this one has a lower one.
    pub stack: u64,
    /// [`Thread::ssl`] before this call: the call around it, [`WATCHED`] or 0.
    pub around: u64,
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
    /// The socket's connection, 0 until it is known.
    pub connection: u64,
    /// Plaintext bytes sent.
    pub sent: u64,
    /// Plaintext bytes received.
    pub received: u64,
    /// While there is no connection: the one that its records were last seen on.
    pub candidate: u64,
    /// Of [`evidence`]: what speaks for the candidate.
    pub evidence: u32,
    /// How often its random was looked for.
    pub looks: u32,
}

/// Bits of [`TlsSession::evidence`].
pub mod evidence {
    /// A record that was received there had the length of what was read next.
    pub const RECEIVED: u32 = 1 << 0;
    /// What was written had the length of the record that was sent there next.
    pub const SENT: u32 = 1 << 1;
    /// Both.
    pub const ENOUGH: u32 = RECEIVED | SENT;
}

/// A ClientHello, by the first half of its random (RFC 8446 section 4.1.2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsHello {
    /// The process whose socket it was on: its peer may be on this machine as well.
    pub tgid: u64,
    /// 16 of 32 bytes.
    pub random: [u64; 2],
}

/// A socket and its connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsSocket {
    /// `struct sock *`.
    pub sk: u64,
    /// The connection's number, by which a new one in the same memory is told apart.
    pub connection: u64,
}

/// The newest events of a thread that speaks for sessions without a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsTalk {
    /// Session that was last written to.
    pub written: TlsKey,
    /// How many bytes.
    pub written_bytes: u64,
    /// The socket that was last used, of those that belong to no session.
    pub socket: TlsSocket,
    /// If the last receive was of one whole record: the length in its header; else 0.
    pub received_record: u64,
    /// Writes to sessions since the last send.
    pub writes: u32,
    /// Receives since the last read from a session.
    pub receives: u32,
}
