//! The backend of trampolines at kernel functions: the entry and the return of what every call on a TCP socket goes
//! through. Nothing else that the node does costs anything, and sendfile, splice and io_uring are seen.
//!
//! The functions are those behind `struct proto_ops`: one below, in TCP itself, kernel TLS and sockmaps bypass them.
//! Results are read as the argument behind the last one: the helper for them is younger (5.17), and kernels before 6.8
//! misjudge what it returns.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use spantap_ebpf_common::Counter;

use super::{
    socket_call::{self, Way},
    socket_life,
};
use crate::{counters, read::Typed};

/// Hooks `net/ipv4/af_inet.c: int inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)`; checked on 5.10,
/// 6.1, 6.12 and 7.3, as are the others of this file.
#[fentry(function = "inet_sendmsg")]
pub fn inet_sendmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Sends, 0))
}

/// The return of it.
#[fexit(function = "inet_sendmsg")]
#[inline(always)]
pub fn inet_sendmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Sends, 0, ctx.arg::<i32>(3) as i64))
}

/// Hooks `net/ipv6/af_inet6.c: int inet6_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)`.
#[fentry(function = "inet6_sendmsg")]
pub fn inet6_sendmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Sends, 0))
}

/// The return of it.
#[fexit(function = "inet6_sendmsg")]
#[inline(always)]
pub fn inet6_sendmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Sends, 0, ctx.arg::<i32>(3) as i64))
}

/// Hooks `net/ipv4/af_inet.c: int inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`.
#[fentry(function = "inet_recvmsg")]
pub fn inet_recvmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Receives, ctx.arg(3)))
}

/// The return of it.
#[fexit(function = "inet_recvmsg")]
#[inline(always)]
pub fn inet_recvmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Receives, ctx.arg(3), ctx.arg::<i32>(4) as i64))
}

/// Hooks `net/ipv6/af_inet6.c: int inet6_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`.
#[fentry(function = "inet6_recvmsg")]
pub fn inet6_recvmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Receives, ctx.arg(3)))
}

/// The return of it.
#[fexit(function = "inet6_recvmsg")]
#[inline(always)]
pub fn inet6_recvmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Receives, ctx.arg(3), ctx.arg::<i32>(4) as i64))
}

/// Hooks `net/ipv4/af_inet.c: ssize_t inet_sendpage(struct socket *sock, struct page *page, int offset, size_t size, int
/// flags)`, the way of sendfile until 6.4; later kernels send pages as messages.
#[fentry(function = "inet_sendpage")]
pub fn inet_sendpage_entry(ctx: FEntryContext) -> i32 {
    count(enter_uncopied(ctx.arg(0), Way::Sends))
}

/// The return of it.
#[fexit(function = "inet_sendpage")]
#[inline(always)]
pub fn inet_sendpage_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Sends, 0, ctx.arg(5)))
}

/// Hooks `net/ipv4/tcp.c: ssize_t tcp_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t
/// len, unsigned int flags)`: bytes that go into a pipe.
#[fentry(function = "tcp_splice_read")]
pub fn tcp_splice_read_entry(ctx: FEntryContext) -> i32 {
    count(enter_uncopied(ctx.arg(0), Way::Receives))
}

/// The return of it.
#[fexit(function = "tcp_splice_read")]
#[inline(always)]
pub fn tcp_splice_read_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Receives, 0, ctx.arg(5)))
}

/// Hooks `net/unix/af_unix.c: int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)`.
#[fentry(function = "unix_stream_sendmsg")]
pub fn unix_sendmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Sends, 0))
}

/// The return of it.
#[fexit(function = "unix_stream_sendmsg")]
#[inline(always)]
pub fn unix_sendmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Sends, 0, ctx.arg::<i32>(3) as i64))
}

/// Hooks `net/unix/af_unix.c: int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`.
#[fentry(function = "unix_stream_recvmsg")]
pub fn unix_recvmsg_entry(ctx: FEntryContext) -> i32 {
    count(enter(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Receives, 0))
}

/// The return of it.
#[fexit(function = "unix_stream_recvmsg")]
#[inline(always)]
pub fn unix_recvmsg_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Receives, ctx.arg(3), ctx.arg::<i32>(4) as i64))
}

/// Hooks `net/unix/af_unix.c: ssize_t unix_stream_sendpage(struct socket *socket, struct page *page, int offset, size_t
/// size, int flags)`, the way of sendfile until 6.4.
#[fentry(function = "unix_stream_sendpage")]
pub fn unix_sendpage_entry(ctx: FEntryContext) -> i32 {
    count(enter_uncopied(ctx.arg(0), Way::Sends))
}

/// The return of it.
#[fexit(function = "unix_stream_sendpage")]
#[inline(always)]
pub fn unix_sendpage_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Sends, 0, ctx.arg(5)))
}

/// Hooks `net/unix/af_unix.c: ssize_t unix_stream_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info
/// *pipe, size_t size, unsigned int flags)`.
#[fentry(function = "unix_stream_splice_read")]
pub fn unix_splice_read_entry(ctx: FEntryContext) -> i32 {
    count(enter_uncopied(ctx.arg(0), Way::Receives))
}

/// The return of it.
#[fexit(function = "unix_stream_splice_read")]
#[inline(always)]
pub fn unix_splice_read_exit(ctx: FExitContext) -> i32 {
    count(leave(ctx.arg(0), Way::Receives, 0, ctx.arg(5)))
}

/// Hooks `net/unix/af_unix.c: int unix_release(struct socket *sock)`: the last descriptor of a Unix socket is closed.
#[fentry(function = "unix_release")]
pub fn unix_release_entry(ctx: FEntryContext) -> i32 {
    count(socket_call::sock_of::<Typed>(ctx.arg(0)).and_then(socket_life::destroyed))
}

/// Hooks `security/security.c: int security_mmap_file(struct file *file, unsigned long prot, unsigned long flags)`.
#[fentry(function = "security_mmap_file")]
pub fn security_mmap_file_entry(ctx: FEntryContext) -> i32 {
    count(socket_call::mapping(ctx.arg(0), ctx.arg(1)))
}

#[inline(always)]
fn enter(socket: u64, message: u64, size: u64, way: Way, flags: u64) -> Result<(), Counter> {
    socket_call::enter::<Typed>(socket_call::sock_of::<Typed>(socket)?, message, size, way, flags)
}

#[inline(always)]
fn enter_uncopied(socket: u64, way: Way) -> Result<(), Counter> {
    socket_call::enter_uncopied(socket_call::sock_of::<Typed>(socket)?, 0, way);
    Ok(())
}

#[inline(always)]
fn leave(socket: u64, way: Way, flags: u64, result: i64) -> Result<(), Counter> {
    // Taken whatever the result, so that it cannot be mistaken for a later call.
    let call = socket_call::take();
    socket_call::leave::<Typed>(call, socket_call::sock_of::<Typed>(socket)?, way, flags, result)
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> i32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}
