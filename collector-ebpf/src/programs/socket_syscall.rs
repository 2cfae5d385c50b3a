//! The socket backend that every kernel has: the two raw tracepoints around each system call.
//!
//! The return does the work: the saved registers still hold the call's number and arguments, and the result says how
//! much moved. The entry only notes the time of a sending call, for a request begins when its first byte is sent, which
//! for a large blocking send is long before the return.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use spantap_ebpf_common::{
    Counter,
    limits::{MESSAGES_MAX, MMSGHDR_BYTES, MMSGHDR_LEN_AT, SYSCALLS as SYSCALLS_MAX},
    record::{self, flag, kind},
    syscall::op,
};

use crate::{
    connection, counters, emit, ignored,
    maps::SYSCALLS,
    payload::{self, Source, Vector},
    programs::process,
    read::{self, Checked, Kernel, Typed},
    registers, socket, thread, tls_bind, unix,
};

/// Hooks `include/trace/events/syscalls.h: sys_enter(struct pt_regs *regs, long id)`; checked on 6.18.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    entering(ctx.arg(1));
    0
}

/// The thread enters the system call with this number.
#[inline(always)]
pub(super) fn entering(id: u64) {
    let Some(operation) = SYSCALLS.get(id as u32) else { return };
    if *operation & op::SENDS == 0 {
        return;
    }
    if let Some(slot) = thread::take(bpf_get_current_pid_tgid()) {
        slot.entered_ns = emit::now();
    }
}

/// Hooks `include/trace/events/syscalls.h: sys_exit(struct pt_regs *regs, long ret)`; checked on 6.18.
#[btf_tracepoint(function = "sys_exit")]
#[inline(always)]
pub fn sys_exit_typed(ctx: BtfTracePointContext) -> i32 {
    count(try_sys_exit::<Typed>(ctx.arg(0), ctx.arg(1)))
}

/// The same for kernels that refuse the typed one (before 5.11).
#[raw_tracepoint(tracepoint = "sys_exit")]
#[inline(always)]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    count(try_sys_exit::<Checked>(ctx.arg(0), ctx.arg(1)))
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> i32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}

#[inline(always)]
pub(super) fn try_sys_exit<K: Kernel>(regs: u64, result: i64) -> Result<(), Counter> {
    const EINPROGRESS: i64 = -115;
    if result < 0 && result != EINPROGRESS {
        return Ok(());
    }
    let id = register::<K>(regs, registers::NUMBER)?;
    if id >= SYSCALLS_MAX as u64 {
        return Ok(());
    }
    let operation = SYSCALLS.get(id as u32).copied().unwrap_or(op::NONE);
    if operation == op::NONE || ignored::is(bpf_get_current_pid_tgid()) {
        return Ok(());
    }
    if register::<K>(regs, registers::CODE_SEGMENT)? & 0xffff != registers::CODE_SEGMENT_64 {
        return Err(Counter::CompatCall);
    }
    let fd = register::<K>(regs, registers::ARGUMENT_0)?;
    match operation & op::SHAPE {
        op::CONNECT => opened::<K>(fd, flag::CLIENT, result >= 0),
        op::ACCEPT if result >= 0 => opened::<K>(result as u64, flag::SERVER, true),
        op::MMAP if result > 0 => mapped::<K>(regs),
        _ if result > 0 && operation & (op::SENDS | op::RECEIVES) != 0 => {
            moved::<K>(regs, fd, operation, result as u64)
        }
        _ if result == 0 && operation & op::RECEIVES != 0 => match socket::of_descriptor::<K>(fd)? {
            Some(sk) => unix::over::<Checked>(sk),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A register that the kernel saved at the entry of the current system call.
#[inline(always)]
pub(super) fn register<K: Kernel>(regs: u64, offset: u32) -> Result<u64, Counter> {
    // SAFETY: an integer of the saved registers, which are an argument of the program.
    unsafe { K::read(regs, offset) }
}

#[inline(always)]
fn opened<K: Kernel>(fd: u64, role: u16, done: bool) -> Result<(), Counter> {
    match socket::of_descriptor::<K>(fd)? {
        Some(sk) => connection::opened(sk, role, done),
        None => Ok(()),
    }
}

/// `mmap(address, length, protection, flags, fd, offset)`: code from a file is a library.
#[inline(always)]
fn mapped<K: Kernel>(regs: u64) -> Result<(), Counter> {
    const PROT_EXEC: u64 = 4;
    let protection = register::<K>(regs, registers::ARGUMENT_2)?;
    let fd = register::<K>(regs, registers::ARGUMENT_4)? as i32;
    if protection & PROT_EXEC != 0 && fd >= 0 { process::report(kind::MAPPED) } else { Ok(()) }
}

/// A call has moved bytes, if its descriptor is a socket.
#[inline(always)]
fn moved<K: Kernel>(regs: u64, fd: u64, operation: u32, result: u64) -> Result<(), Counter> {
    let Some(sk) = socket::of_descriptor::<K>(fd)? else { return Ok(()) };
    let address = register::<K>(regs, registers::ARGUMENT_1)?;
    let sends = operation & op::SENDS != 0;
    let shape = operation & op::SHAPE;
    let size = if shape == op::MESSAGES { messages_bytes(address, result)? } else { result };
    // Each number of messages was a way of its own.
    let zero = read::zero();
    let (size, result) = (size ^ zero, result ^ zero);
    let only_looks = connection::only_looks(flags::<K>(regs, operation)?);
    let (before_sent, before_received) = match sends {
        true => (size as u32, 0),
        false => (0, if only_looks { 0 } else { size as u32 }),
    };
    let (sock, found) = connection::find::<Checked>(sk, before_sent, before_received)?;
    if found.is_null() {
        return Ok(());
    }
    if only_looks {
        return Err(Counter::Peeked);
    }
    // SAFETY: a map value lives as long as the program runs. Another thread's call on the same socket may change it
    // at the same time; each field is a whole word.
    let connection = unsafe { &mut *found };
    let position = if sends { connection.sent(sock, size)? } else { connection.received(sock, size)? };
    let Some(position) = position else { return Ok(()) };
    if tls_bind::moved(connection, sk, bpf_get_current_pid_tgid(), size, sends, || {
        read::first(operation, address)
    }) {
        return Ok(());
    }
    let now = emit::now();
    let mut flags = if sends { flag::SENT } else { 0 };
    let first_ns = if sends { entered(&mut flags, now) } else { now };
    let mut data = record::Data {
        header: emit::header(kind::DATA, flags, 0, now),
        connection: connection.id,
        stream: connection.id,
        first_ns,
        position,
        size: size as u32,
        captured: 0,
    };
    if discards::<K>(regs, operation)? {
        return payload::report(&mut data, Source::UNKNOWN);
    }
    let zero = read::zero();
    data.header.flags ^= zero as u16;
    data.size ^= zero as u32;
    let shape = shape ^ zero as u32;
    if shape == op::MESSAGES {
        return payload::messages(&data, address, result);
    }
    payload::report(&mut data, source::<K>(regs, shape, address)?)
}

/// Where the bytes of a call are that takes `address` as its second argument.
#[inline(always)]
pub(super) fn source<K: Kernel>(regs: u64, shape: u32, address: u64) -> Result<Source, Counter> {
    Ok(match shape {
        op::BUFFER => Source::buffer(address),
        op::IOVEC => Source::vector(Vector::of_process(address, register::<K>(regs, registers::ARGUMENT_2)?)),
        op::MESSAGE => {
            // SAFETY: integers of the process.
            let [_, _, vector, count] = unsafe { read::user::<[u64; 4]>(address) }?;
            Source::vector(Vector::of_process(vector, count))
        }
        // A file's bytes are in no memory of the process; of several messages, which one is meant cannot be told.
        _ => Source::UNKNOWN,
    })
}

/// True if a receiving call was told to throw the bytes away (tcp(7), MSG_TRUNC): its buffers hold something else.
#[inline(always)]
pub(super) fn discards<K: Kernel>(regs: u64, operation: u32) -> Result<bool, Counter> {
    const MSG_TRUNC: u64 = 0x20;
    Ok(flags::<K>(regs, operation)? & MSG_TRUNC != 0)
}

/// The flags of a receiving call, as recv(2) has them.
#[inline(always)]
fn flags<K: Kernel>(regs: u64, operation: u32) -> Result<u64, Counter> {
    if operation & op::FLAGS_3 != 0 {
        register::<K>(regs, registers::ARGUMENT_3)
    } else if operation & op::FLAGS_2 != 0 {
        register::<K>(regs, registers::ARGUMENT_2)
    } else {
        Ok(0)
    }
}

/// Bytes that the messages of a sendmmsg or recvmmsg moved.
#[inline(always)]
fn messages_bytes(vector: u64, count: u64) -> Result<u64, Counter> {
    let mut sum = 0;
    for i in 0..MESSAGES_MAX as u64 {
        if i >= count {
            break;
        }
        // SAFETY: an integer of the process.
        sum += unsafe { read::user::<u32>(vector + i * MMSGHDR_BYTES + MMSGHDR_LEN_AT) }? as u64;
    }
    Ok(sum)
}

/// When this thread entered the call, if its slot still says so.
#[inline(always)]
fn entered(flags: &mut u16, now: u64) -> u64 {
    if let Some(slot) = thread::own(bpf_get_current_pid_tgid())
        && slot.entered_ns != 0
    {
        return slot.entered_ns;
    }
    *flags |= flag::NO_ENTRY_TIME;
    counters::bump(Counter::EntryTimeLost);
    now
}
