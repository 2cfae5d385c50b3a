//! What happened on the node, in the words of user space: the one input of the pipeline, whether it comes from the
//! kernel ([`crate::decode`]) or from a capture file.

use core::net::SocketAddr;

use crate::limits::COMM_BYTES;

/// A process, as user space numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tgid(pub u32);

/// A socket's connection; unique while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A byte stream: a connection's own, or that of a TLS session on it. Both are drawn from one number space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Which bytes a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// What the socket carries.
    Socket,
    /// Plaintext, taken before TLS encrypts or after it decrypts.
    Tls,
}

/// Which way bytes moved, seen from the watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Out of it.
    Sent,
    /// Into it.
    Received,
}

/// Which end opened the connection, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opener {
    /// The watched process connected: it is the client.
    Us,
    /// It accepted: it is the server.
    Peer,
}

/// Something that happened. Times are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A connection was seen for the first time.
    Open(Open<'a>),
    /// A connection that a process asked for never came to be.
    ConnectFailed(ConnectFailed),
    /// Bytes moved.
    Data(Data<'a>),
    /// A connection or a TLS session is over.
    Close(Close),
    /// A process began, ended, or loaded code.
    Process(Process),
}

/// One end of a connection. `N` is how the name of a Unix socket is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<N> {
    /// Of TCP. IPv4-mapped IPv6 addresses are given as IPv4.
    Inet(SocketAddr),
    /// Of a Unix socket: a path as it was bound, or, where it begins with a zero byte, a name that is in no file system
    /// (unix(7)). Empty if it has none, as clients mostly have not.
    Unix(N),
}

/// A connection was seen for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open<'a> {
    /// When.
    pub boot_ns: u64,
    /// Who used it.
    pub tgid: Tgid,
    /// Its number.
    pub connection: ConnectionId,
    /// Who opened it; `None` if that was before the agent came.
    pub opener: Option<Opener>,
    /// True if no byte had passed before.
    pub from_start: bool,
    /// This end.
    pub local: Endpoint<&'a [u8]>,
    /// The other end.
    pub peer: Endpoint<&'a [u8]>,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// The process's parent; 0 if unknown.
    pub parent: Tgid,
    /// The thread's name, padded with zeros.
    pub comm: [u8; COMM_BYTES],
}

/// A TCP connection that a process asked for never came to be: it was refused, say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectFailed {
    /// When the handshake began.
    pub begun_ns: u64,
    /// When it failed.
    pub boot_ns: u64,
    /// Who asked for it.
    pub tgid: Tgid,
    /// With whom.
    pub peer: SocketAddr,
    /// Why, as errno(3) has it; `None` if the process closed the socket before it could be known.
    pub errno: Option<i32>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The process's parent; 0 if unknown.
    pub parent: Tgid,
    /// The thread's name, padded with zeros.
    pub comm: [u8; COMM_BYTES],
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Data<'a> {
    /// Who called.
    pub tgid: Tgid,
    /// The socket; `None` while a TLS session is not bound to one.
    pub connection: Option<ConnectionId>,
    /// The byte stream.
    pub stream: StreamId,
    /// What it carries.
    pub layer: Layer,
    /// Which way.
    pub flow: Flow,
    /// When the first byte moved: entry of a sending call, return of a receiving one.
    pub first_ns: u64,
    /// When the last byte had moved: return of the call.
    pub last_ns: u64,
    /// Offset of the first byte in its direction of the stream.
    pub position: u64,
    /// Bytes that moved; `bytes` holds the first of them.
    pub size: u64,
    /// What was copied: at most `size` bytes, perhaps none.
    pub bytes: &'a [u8],
}

/// A connection or a TLS session is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Close {
    /// When.
    pub boot_ns: u64,
    /// The socket, if known.
    pub connection: Option<ConnectionId>,
    /// The byte stream.
    pub stream: StreamId,
    /// Which kind of stream ended.
    pub layer: Layer,
    /// Bytes sent since the stream was first seen.
    pub sent: u64,
    /// Bytes received since the stream was first seen.
    pub received: u64,
}

/// A process began, ended, or loaded code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// When.
    pub boot_ns: u64,
    /// Which.
    pub tgid: Tgid,
    /// What.
    pub change: ProcessChange,
    /// Its name, padded with zeros.
    pub comm: [u8; COMM_BYTES],
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessChange {
    /// It runs another executable now.
    Exec,
    /// Its last thread has ended.
    Exit,
    /// It mapped a file executable.
    Mapped,
}
