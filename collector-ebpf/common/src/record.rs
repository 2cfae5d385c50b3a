//! The records of the ring buffer, as the kernel side writes them: plain `repr(C)` structs without padding, each
//! beginning with a [`Header`] that says its kind and its whole length, so that a reader can pass over kinds that it
//! does not know.

use crate::limits::{COMM_BYTES, UNIX_NAME_BYTES};

#[cfg(feature = "decode")]
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Values of [`Header::kind`].
pub mod kind {
    /// [`super::Open`].
    pub const OPEN: u16 = 1;
    /// [`super::Data`], followed by its payload.
    pub const DATA: u16 = 2;
    /// [`super::Close`].
    pub const CLOSE: u16 = 3;
    /// [`super::Process`]: an executable was started.
    pub const EXEC: u16 = 4;
    /// [`super::Process`]: the last thread of a process has ended.
    pub const EXIT: u16 = 5;
    /// [`super::Process`]: a file was mapped executable (a library was loaded).
    pub const MAPPED: u16 = 6;
    /// [`super::OpenUnix`].
    pub const OPEN_UNIX: u16 = 7;
    /// [`super::ConnectFailed`].
    pub const CONNECT_FAILED: u16 = 8;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// Data: sent by the watched process; without it, received.
    pub const SENT: u16 = 1 << 0;
    /// Data, Close: plaintext of a TLS session, not bytes of a socket.
    pub const TLS: u16 = 1 << 1;
    /// Open: seen from its first byte (the agent saw connect or accept).
    pub const FROM_START: u16 = 1 << 2;
    /// Open: this end connected.
    pub const CLIENT: u16 = 1 << 3;
    /// Open: this end accepted.
    pub const SERVER: u16 = 1 << 4;
    /// Data: the entry of the call was not seen, `first_ns` is its return.
    pub const NO_ENTRY_TIME: u16 = 1 << 5;
}

/// What every record begins with. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Of [`flag`].
    pub flags: u16,
    /// Bytes of the whole record, this header and the payload included. The ring's own slot may be longer.
    pub length: u32,
    /// When the record was made: `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// The process (user space's pid).
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
}

/// A connection was seen for the first time. 96 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct Open {
    /// What every record begins with.
    pub header: Header,
    /// The connection's number: unique while the agent runs, never 0.
    pub connection: u64,
    /// Local address: IPv6, or IPv4 in the first four bytes, as `family` says. Network byte order.
    pub local: [u8; 16],
    /// Address of the peer, likewise.
    pub peer: [u8; 16],
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub peer_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Zero.
    pub _pad: u16,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// The process's parent, whose name a forked child bears; 0 if unknown.
    pub parent: u32,
    /// `task_struct.comm` of the thread.
    pub comm: [u8; COMM_BYTES],
}

/// The same for a connection over a Unix socket, which has names in place of addresses. 280 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct OpenUnix {
    /// What every record begins with.
    pub header: Header,
    /// As in [`Open::connection`].
    pub connection: u64,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// The process's parent, whose name a forked child bears; 0 if unknown.
    pub parent: u32,
    /// `task_struct.comm` of the thread.
    pub comm: [u8; COMM_BYTES],
    /// Bytes of `local` that are its name; 0 if it has none. The others are anything.
    pub local_length: u16,
    /// Likewise of `peer`.
    pub peer_length: u16,
    /// Zero.
    pub _pad: u32,
    /// `sun_path` of this end (unix(7)): an accepted socket has that of the one that listens.
    pub local: [u8; UNIX_NAME_BYTES],
    /// `sun_path` of the other end.
    pub peer: [u8; UNIX_NAME_BYTES],
}

/// A TCP connection that a process asked for never came to be. 80 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct ConnectFailed {
    /// What every record begins with; the process is the one that asked, `boot_ns` is when it failed.
    pub header: Header,
    /// When the handshake began: `CLOCK_BOOTTIME`, nanoseconds.
    pub begun_ns: u64,
    /// As in [`Open::peer`].
    pub peer: [u8; 16],
    /// Host byte order.
    pub peer_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Why, as errno(3) has it; 0 if the process closed the socket before it could be known.
    pub error: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The process's parent; 0 if unknown.
    pub parent: u32,
    /// `task_struct.comm` of the thread.
    pub comm: [u8; COMM_BYTES],
}

/// Bytes moved by one call, or by one buffer of a vectored call. 64 bytes, then the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct Data {
    /// What every record begins with; `boot_ns` is the return of the call.
    pub header: Header,
    /// The socket's connection; 0 while a TLS session is not bound to one.
    pub connection: u64,
    /// The byte stream: the connection itself, or the number of the TLS session. Never 0.
    pub stream: u64,
    /// When the first byte moved: entry of a sending call, return of a receiving one. `CLOCK_BOOTTIME`, nanoseconds.
    pub first_ns: u64,
    /// Offset of the first byte in its direction of the stream, counted from when the stream was first seen. A jump
    /// over the end of the record before it is a gap: bytes that moved unseen.
    pub position: u64,
    /// Bytes that moved.
    pub size: u32,
    /// Bytes of payload that follow; the remaining `size - captured` were not copied.
    pub captured: u32,
}

/// A connection or a TLS session is over. 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct Close {
    /// What every record begins with. The process is whoever was running, often not the owner.
    pub header: Header,
    /// As in [`Data::connection`].
    pub connection: u64,
    /// As in [`Data::stream`].
    pub stream: u64,
    /// Bytes sent since the stream was first seen.
    pub sent: u64,
    /// Bytes received since the stream was first seen.
    pub received: u64,
}

/// A process began, ended, or loaded code. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "decode", derive(FromBytes, Immutable, KnownLayout))]
pub struct Process {
    /// What every record begins with.
    pub header: Header,
    /// `task_struct.comm`.
    pub comm: [u8; COMM_BYTES],
}

const _: () = assert!(size_of::<Header>() == 24);
const _: () = assert!(size_of::<Open>() == 96);
const _: () = assert!(size_of::<OpenUnix>() == 280);
const _: () = assert!(size_of::<ConnectFailed>() == 80);
const _: () = assert!(size_of::<Data>() == 64);
const _: () = assert!(size_of::<Close>() == 56);
const _: () = assert!(size_of::<Process>() == 40);
