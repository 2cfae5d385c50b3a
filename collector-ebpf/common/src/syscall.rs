//! System calls by what they do, so that the programs know no numbers: user space fills a table from number to
//! operation for its architecture.

/// An entry of the table: 0 for the calls that are of no interest.
pub mod op {
    /// Of no interest.
    pub const NONE: u32 = 0;
    /// Bit: bytes leave the process.
    pub const SENDS: u32 = 1 << 8;
    /// Bit: bytes come in.
    pub const RECEIVES: u32 = 1 << 9;
    /// Bit: the fourth argument is flags as recv(2) has them.
    pub const FLAGS_3: u32 = 1 << 10;
    /// Bit: the third argument is.
    pub const FLAGS_2: u32 = 1 << 11;
    /// Low bits, how the bytes are given: one buffer, `call(fd, buffer, ...)`.
    pub const BUFFER: u32 = 1;
    /// `call(fd, iovec, count)`.
    pub const IOVEC: u32 = 2;
    /// `call(fd, msghdr)`.
    pub const MESSAGE: u32 = 3;
    /// `call(fd, mmsghdr, count)`; returns how many messages.
    pub const MESSAGES: u32 = 4;
    /// connect.
    pub const CONNECT: u32 = 5;
    /// accept, accept4: returns the new descriptor.
    pub const ACCEPT: u32 = 6;
    /// mmap.
    pub const MMAP: u32 = 7;
    /// `call(fd, file, ...)`: the bytes are in no memory of the process.
    pub const FILE: u32 = 8;
    /// Mask of the low bits.
    pub const SHAPE: u32 = 0xff;
}

/// One row: the call's name, its number on x86-64, its number on arm64 (generic), its operation.
pub type Row = (&'static str, u32, u32, u32);

/// Numbers: `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`, unchanging.
pub const TABLE: &[Row] = &[
    ("read", 0, 63, op::RECEIVES | op::BUFFER),
    ("write", 1, 64, op::SENDS | op::BUFFER),
    ("readv", 19, 65, op::RECEIVES | op::IOVEC),
    ("writev", 20, 66, op::SENDS | op::IOVEC),
    ("preadv2", 327, 286, op::RECEIVES | op::IOVEC),
    ("pwritev2", 328, 287, op::SENDS | op::IOVEC),
    ("sendto", 44, 206, op::SENDS | op::BUFFER),
    ("recvfrom", 45, 207, op::RECEIVES | op::BUFFER | op::FLAGS_3),
    ("sendfile", 40, 71, op::SENDS | op::FILE),
    ("sendmsg", 46, 211, op::SENDS | op::MESSAGE),
    ("recvmsg", 47, 212, op::RECEIVES | op::MESSAGE | op::FLAGS_2),
    ("sendmmsg", 307, 269, op::SENDS | op::MESSAGES),
    ("recvmmsg", 299, 243, op::RECEIVES | op::MESSAGES | op::FLAGS_3),
    ("connect", 42, 203, op::CONNECT),
    ("accept", 43, 202, op::ACCEPT),
    ("accept4", 288, 242, op::ACCEPT),
    ("mmap", 9, 222, op::MMAP),
];
