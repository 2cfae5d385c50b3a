//! The cheapest socket backend: tracepoints of the socket layer itself, which fire for calls on sockets only and bring
//! the socket along. Everything else that the node does costs nothing.
//!
//! They see every way of moving bytes, also sendfile, splice and io_uring. What a call sent is copied from where the
//! message's iterator says; what it received, from where the current system call says. Otherwise it is counted and
//! reported without payload.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated as helpers},
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use spantap_ebpf_common::{
    Counter,
    limits::{COPY_BYTES_MAX, SYSCALLS as SYSCALLS_MAX},
    record::{self, flag, kind},
    syscall::op,
};

use super::socket_syscall::{discards, register, source};
use crate::{
    connection, counters, emit, ignored,
    maps::{Buffers, SYSCALLS, connection_flag},
    payload::{self, Source, Vector},
    programs::process,
    read::{self, Kernel, Typed},
    registers, settings,
    socket::Tcp,
    thread, tls_bind, unix,
};

/// Hooks `include/trace/events/sock.h: sock_send_length(struct sock *sk, int ret, int flags)`, there since 6.3 at the end
/// of every send; checked on 6.18.
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    count(moved::<Typed>(ctx.arg(0), ctx.arg(1), None))
}

/// Hooks `include/trace/events/sock.h: sock_recv_length(struct sock *sk, int ret, int flags)`, there since 6.3 at the end
/// of every receive; checked on 6.18.
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    count(moved::<Typed>(ctx.arg(0), ctx.arg(1), Some(ctx.arg(2))))
}

/// Hooks `include/trace/events/tcp.h: tcp_sendmsg_locked(const struct sock *sk, const struct msghdr *msg, ...)`, there
/// since 6.17: fires for each piece of a send, the first one right at its beginning; checked on 6.18.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn tcp_sendmsg_locked(ctx: BtfTracePointContext) -> i32 {
    let message: u64 = ctx.arg(1);
    begun(ctx.arg(0), |known| outgoing(message, known));
    0
}

/// A piece of a send on `sk` begins. `first_piece` says what the call sends, unless it goes on with what is known of the
/// call that the thread is inside on this socket.
#[inline(always)]
pub(super) fn begun(sk: u64, first_piece: impl FnOnce(Option<&Buffers>) -> Option<Buffers>) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !ignored::is(pid_tgid)
        && let Some(slot) = thread::take(pid_tgid)
        // Not every send is followed by the event of its end: what is left of another one must not pass for this one's.
        && let Some(outgoing) = first_piece((slot.entered_ns != 0 && slot.sk == sk).then_some(&slot.outgoing))
    {
        slot.entered_ns = emit::now();
        slot.sk = sk;
        slot.outgoing = outgoing;
    }
}

/// Where the bytes of a message lie, by its iterator, which stands at its beginning; `None` if it has moved on within
/// what is `known`. A send that waits for room before its first byte has several pieces at the same place.
#[inline(always)]
fn outgoing(message: u64, known: Option<&Buffers>) -> Option<Buffers> {
    let iterator = |offset: u32| -> u64 {
        // SAFETY: words of an argument of the program.
        unsafe { Typed::read(message, settings::MSG_ITER.load() + offset) }.unwrap_or(0)
    };
    // SAFETY: a byte of the same.
    let kind: u8 =
        unsafe { Typed::read(message, settings::MSG_ITER.load() + settings::ITER_TYPE.load()) }.unwrap_or(0);
    let offset = iterator(settings::ITER_OFFSET.load());
    if kind as u32 == settings::ITER_UBUF.load() {
        let base = iterator(settings::ITER_ADDRESS.load());
        let address = base + offset;
        let goes_on = known.is_some_and(|known| base <= known.address && known.address <= address);
        return (!goes_on).then_some(Buffers { address, length: u64::MAX, vector: 0, count: 1 });
    }
    if kind as u32 != settings::ITER_IOVEC.load() {
        return known.is_none_or(|known| known.address != 0).then_some(Buffers::UNKNOWN);
    }
    let vector = iterator(settings::ITER_VECTOR.load());
    if known.is_some_and(|known| known.vector < vector && vector <= known.vector + 16 * known.count) {
        return None;
    }
    if offset != 0 {
        // Within the first buffer: of the known call, or of one whose beginning was not seen.
        let goes_on = known.is_some_and(|known| known.vector == vector);
        return (!goes_on).then_some(Buffers::UNKNOWN);
    }
    let [address, length] = Vector::of_kernel(vector, 1, 0).buffer(0).unwrap_or([0, 0]);
    let goes_on =
        known.is_some_and(|known| (known.vector, known.address, known.length) == (vector, address, length));
    (!goes_on).then_some(Buffers { address, length, vector, count: iterator(settings::ITER_SEGMENTS.load()) })
}

/// Hooks `include/trace/events/sock.h: inet_sock_set_state(const struct sock *sk, const int oldstate, const int
/// newstate)`, there since 4.16; checked on 6.18. Handshakes mostly end in an interrupt, where the current process is
/// anybody.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    count(state_changed(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
}

#[inline(always)]
pub(super) fn state_changed(sk: u64, from: i32, to: i32) -> Result<(), Counter> {
    /// `include/net/tcp_states.h`.
    const TCP_ESTABLISHED: i32 = 1;
    const TCP_SYN_SENT: i32 = 2;
    const TCP_SYN_RECV: i32 = 3;
    let unsaid = match (from, to) {
        (TCP_SYN_SENT, TCP_ESTABLISHED) => connection_flag::UNSAID_CLIENT,
        (TCP_SYN_RECV, TCP_ESTABLISHED) => connection_flag::UNSAID_SERVER,
        _ => return Ok(()),
    };
    connection::established(sk, unsaid)
}

/// Hooks `include/trace/events/mmap.h: vm_unmapped_area(unsigned long addr, struct vm_unmapped_area_info *info)`, there
/// since 5.7; checked on 6.18. A mapping is about to be made: of a file, perhaps a library.
#[raw_tracepoint(tracepoint = "vm_unmapped_area")]
pub fn vm_unmapped_area(_ctx: RawTracePointContext) -> i32 {
    count(mapped())
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> i32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}

/// The registers that the current thread saved when it entered the kernel (5.15).
#[inline(always)]
pub(super) fn saved_registers() -> u64 {
    // SAFETY: both helpers take and give what the verifier knows.
    unsafe { helpers::bpf_task_pt_regs(helpers::bpf_get_current_task_btf()) as u64 }
}

#[inline(always)]
pub(super) fn mapped() -> Result<(), Counter> {
    const MAP_ANONYMOUS: u64 = 0x20;
    let regs = saved_registers();
    if operation(regs)? & op::SHAPE != op::MMAP {
        return Ok(());
    }
    let flags = register::<Typed>(regs, registers::ARGUMENT_3)?;
    let fd = register::<Typed>(regs, registers::ARGUMENT_4)? as i32;
    if flags & MAP_ANONYMOUS == 0 && fd >= 0 { process::report(kind::MAPPED) } else { Ok(()) }
}

/// What the current system call does, as far as it is known; 32-bit calls are not.
#[inline(always)]
fn operation(regs: u64) -> Result<u32, Counter> {
    let id = register::<Typed>(regs, registers::NUMBER)?;
    if id >= SYSCALLS_MAX as u64
        || register::<Typed>(regs, registers::CODE_SEGMENT)? & 0xffff != registers::CODE_SEGMENT_64
    {
        return Ok(op::NONE);
    }
    Ok(SYSCALLS.get(id as u32).copied().unwrap_or(op::NONE))
}

/// A call on a socket has returned; `result` is how many bytes it moved, or an error. `flags` are those of a receive, as
/// recv(2) has them; `None` if it was a send.
#[inline(always)]
pub(super) fn moved<K: Tcp>(sk: u64, result: i32, flags: Option<u32>) -> Result<(), Counter> {
    let sends = flags.is_none();
    let pid_tgid = bpf_get_current_pid_tgid();
    let slot = thread::own(pid_tgid);
    // Taken whatever the result, so that it cannot be mistaken for what belongs to a later call.
    let (mut entered_ns, outgoing) = match slot {
        Some(slot) if sends => {
            let entered_ns = core::mem::take(&mut slot.entered_ns);
            let is_this = slot.sk == sk || slot.sk == 0;
            if is_this { (entered_ns, slot.outgoing) } else { (0, Buffers::UNKNOWN) }
        }
        _ => (0, Buffers::UNKNOWN),
    };
    if result <= 0 {
        return if unix::may_be_over(result as i64) { unix::over::<K>(sk) } else { Ok(()) };
    }
    if ignored::is(pid_tgid) {
        return Ok(());
    }
    let size = result as u32;
    let only_looks = flags.is_some_and(|flags| connection::only_looks(flags as u64));
    let (before_sent, before_received) = match sends {
        true => (size, 0),
        false => (0, if only_looks { 0 } else { size }),
    };
    let (sock, found) = connection::find::<K>(sk, before_sent, before_received)?;
    if found.is_null() {
        return Ok(());
    }
    if only_looks {
        return Err(Counter::Peeked);
    }
    let is_unix = sock.is_unix();
    if is_unix {
        entered_ns = 0; // there is no hook at the beginning of its sends
    }
    // SAFETY: a map value lives as long as the program runs. Another thread's call on the same socket may change it
    // at the same time; each field is a whole word.
    let connection = unsafe { &mut *found };
    let position =
        if sends { connection.sent(sock, size as u64)? } else { connection.received(sock, size as u64)? };
    let Some(position) = position else { return Ok(()) };
    let first = || {
        if entered_ns != 0 && outgoing.address != 0 {
            return outgoing.address;
        }
        let regs = saved_registers();
        let argument = register::<Typed>(regs, registers::ARGUMENT_1).unwrap_or(0);
        operation(regs).map_or(0, |operation| read::first(operation, argument))
    };
    if tls_bind::moved(connection, sk, pid_tgid, size as u64, sends, first) || !sock.has_file()? {
        return Ok(());
    }
    let now = emit::now();
    let mut flags = if sends { flag::SENT } else { 0 };
    if sends && entered_ns == 0 {
        flags |= flag::NO_ENTRY_TIME;
        if !is_unix {
            counters::bump(Counter::EntryTimeLost);
        }
    }
    let mut data = record::Data {
        header: emit::header_of(pid_tgid, kind::DATA, flags, 0, now),
        connection: connection.id,
        stream: connection.id,
        first_ns: if entered_ns != 0 { entered_ns } else { now },
        position,
        size,
        captured: 0,
    };
    let source = if entered_ns != 0 && outgoing.address != 0 {
        let copied_at_most = if size < COPY_BYTES_MAX { size } else { COPY_BYTES_MAX };
        if outgoing.length >= copied_at_most as u64 {
            Source::buffer(outgoing.address)
        } else {
            Source::vector(Vector::of_kernel(outgoing.vector, outgoing.count, 0))
        }
    } else {
        by_registers(sends)?
    };
    payload::report(&mut data, source)
}

/// Finds what a call moved by the registers of the current system call.
#[inline(always)]
fn by_registers(sends: bool) -> Result<Source, Counter> {
    let regs = saved_registers();
    let operation = operation(regs)?;
    let direction = if sends { op::SENDS } else { op::RECEIVES };
    if operation & direction == 0 || discards::<Typed>(regs, operation)? {
        return Ok(Source::UNKNOWN);
    }
    let address = register::<Typed>(regs, registers::ARGUMENT_1)?;
    source::<Typed>(regs, operation & op::SHAPE, address)
}
