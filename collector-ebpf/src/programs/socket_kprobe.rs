//! The backend of kprobes at the same kernel functions as `socket_fentry`, for kernels without trampolines.
//!
//! There is no probe at any return. The kernel has few places for calls whose return is awaited (one for each processor
//! on some), so that returns are missed as soon as more threads wait for bytes. In its place stands `release_sock`: TCP
//! gives the socket back there, at the end of a call and whenever it waits in the middle, and its sequence numbers say
//! how many bytes have moved since. So a peek is nothing, and a call may be reported in parts.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::kprobe, programs::ProbeContext};
use spantap_ebpf_common::Counter;

use super::socket_call::{self, Way};
use crate::{
    connection, counters, ignored,
    maps::{Call, Connection, place},
    read::{self, Checked},
    settings,
    socket::{Sock, Tcp},
};

/// At `inet_sendmsg` and `inet6_sendmsg`, `(socket, message, size)`; checked on 5.10, 6.1, 6.12 and 7.3, as are the
/// others of this file.
#[kprobe]
pub fn sendmsg_kprobe(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, Way::Sends, 0))
}

/// At `inet_recvmsg` and `inet6_recvmsg`, `(socket, message, size, flags)`.
#[kprobe]
pub fn recvmsg_kprobe(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, Way::Receives, ctx.arg(3).unwrap_or(0)))
}

/// At `inet_sendpage` (until 6.4), `(socket, page, offset, size, flags)`.
#[kprobe]
pub fn sendpage_kprobe(ctx: ProbeContext) -> u32 {
    count(enter_uncopied(ctx.arg(0), ctx.arg(3), Way::Sends))
}

/// At `tcp_splice_read`, `(socket, position, pipe, length, flags)`.
#[kprobe]
pub fn splice_read_kprobe(ctx: ProbeContext) -> u32 {
    count(enter_uncopied(ctx.arg(0), ctx.arg(3), Way::Receives))
}

/// At `net/core/sock.c: void release_sock(struct sock *sk)`, which is entered with the socket's lock held.
#[kprobe]
#[inline(always)]
pub fn release_sock_kprobe(ctx: ProbeContext) -> u32 {
    count(ctx.arg(0).map_or(Ok(()), released))
}

/// At `security_mmap_file`, `(file, protection, flags)`.
#[kprobe]
pub fn mmap_file_kprobe(ctx: ProbeContext) -> u32 {
    let (Some(file), Some(protection)) = (ctx.arg(0), ctx.arg(1)) else { return 0 };
    count(socket_call::mapping(file, protection))
}

#[inline(always)]
fn enter(ctx: &ProbeContext, way: Way, flags: u64) -> Result<(), Counter> {
    let (Some(socket), Some(message), Some(size)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) else {
        return Err(Counter::KernelReadFailed);
    };
    match known(socket)? {
        Some(sk) => socket_call::enter::<Checked>(sk, message, size, way, flags),
        None => Ok(()),
    }
}

#[inline(always)]
fn enter_uncopied(socket: Option<u64>, size: Option<u64>, way: Way) -> Result<(), Counter> {
    let (Some(socket), Some(size)) = (socket, size) else { return Err(Counter::KernelReadFailed) };
    if let Some(sk) = known(socket)? {
        socket_call::enter_uncopied(sk, size, way);
    }
    Ok(())
}

/// The socket's `struct sock`, if it speaks TCP and the process is watched. Its connection is known from here on, with its
/// positions before the call, unless the call will make it (TCP fast open).
#[inline(always)]
fn known(socket: u64) -> Result<Option<u64>, Counter> {
    if ignored::is(bpf_get_current_pid_tgid()) {
        return Ok(None);
    }
    let sk = socket_call::sock_of::<Checked>(socket)?;
    let is_tcp = !connection::find_tcp::<Checked>(sk)?.1.is_null() || Checked::tcp(sk)?.is_some();
    Ok(is_tcp.then_some(sk))
}

#[inline(always)]
fn released(sk: u64) -> Result<(), Counter> {
    let Some((mut call, slot)) = socket_call::current() else { return Ok(()) };
    if call.sk != sk {
        return Ok(());
    }
    let (sock, found) = connection::find_tcp::<Checked>(sk)?;
    if found.is_null() {
        return Ok(());
    }
    let way = if call.entered_ns != 0 { Way::Sends } else { Way::Receives };
    // SAFETY: a map value lives as long as the program runs, and the socket's lock is held.
    let moved = moved(sock, sk, unsafe { &*found }, way)?;
    if moved == 0 {
        return Ok(());
    }
    if moved as u64 > call.size {
        // Not by this call, which is over: by one that is not known.
        call.place = place::NOWHERE;
        call.size = moved as u64;
    }
    let before: Call = call;
    socket_call::report(Some(call), sk, sock, found, way, moved)?;
    socket_call::goes_on(slot, &before, moved as u64);
    Ok(())
}

/// How many bytes have moved since the connection's positions were noted.
#[inline(always)]
fn moved(sock: Sock<Checked>, sk: u64, connection: &Connection, way: Way) -> Result<u32, Counter> {
    /// A connection in one of these states has sent its FIN, which takes a sequence number and is no byte:
    /// FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, LAST_ACK, CLOSING.
    const FIN_SENT: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11;
    if sock.has_upper_layer() {
        // The sequence numbers count records, and nothing here says how many bytes the process has moved.
        return Ok(0);
    }
    let moved = if way == Way::Sends {
        if FIN_SENT >> (sock.state()? & 31) & 1 == 1 {
            return Ok(0);
        }
        sock.write_seq()?.wrapping_sub(connection.sent_seq)
    } else {
        let taken = sock.copied_seq()?;
        let passed = taken.wrapping_sub(connection.received_seq);
        // SAFETY: an integer.
        let next: u32 = unsafe { read::kernel(sk, settings::TCP_RCV_NXT.load()) }?;
        // What was read up to the end includes the peer's FIN, once that is there.
        if passed != 0 && taken == next && sock.peer_has_finished()? { passed - 1 } else { passed }
    };
    // A step backwards: another connection in the same struct.
    Ok(if moved > u32::MAX / 2 { 0 } else { moved })
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> u32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}
