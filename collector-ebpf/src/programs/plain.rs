//! The tracepoints of `socket_traced`, `socket_syscall`, `socket_life` and `process` once more, in the form that the
//! kernel never preempts.
//!
//! From 7.0 on a kernel that preempts itself also preempts programs at raw and typed tracepoints, and while one is
//! preempted it is not run for other threads of that processor: what they do is missed. Programs at plain tracepoints
//! run with preemption disabled everywhere. They cost some 40 ns more, and get the fields of the event in place of the
//! arguments: `struct trace_event_raw_*`.

use aya_ebpf::{EbpfContext, macros::tracepoint, programs::TracePointContext};
use spantap_ebpf_common::Counter;

use super::{process, socket_connect, socket_life, socket_syscall, socket_traced};
use crate::{
    counters,
    maps::Buffers,
    read::{self, Checked},
    settings,
};

/// Hooks `include/trace/events/sock.h: sock_send_length`; checked on 7.3, as are the others of this file.
#[tracepoint]
#[inline(always)]
pub fn plain_send_length(ctx: TracePointContext) -> u32 {
    count(moved(&ctx, true))
}

/// Hooks `include/trace/events/sock.h: sock_recv_length`.
#[tracepoint]
#[inline(always)]
pub fn plain_recv_length(ctx: TracePointContext) -> u32 {
    count(moved(&ctx, false))
}

/// Hooks `include/trace/events/tcp.h: tcp_sendmsg_locked`.
#[tracepoint]
pub fn plain_sendmsg_locked(_ctx: TracePointContext) -> u32 {
    // The event does not name the socket.
    socket_traced::begun(0, |known| known.is_none().then_some(Buffers::UNKNOWN));
    0
}

/// Hooks `include/trace/events/sock.h: inet_sock_set_state`.
#[tracepoint]
pub fn plain_set_state(ctx: TracePointContext) -> u32 {
    count(state_changed(&ctx))
}

/// The same, for connections that fail.
#[tracepoint]
pub fn plain_connect_state(ctx: TracePointContext) -> u32 {
    count(connect_state_changed(&ctx))
}

/// Hooks `include/trace/events/mmap.h: vm_unmapped_area`.
#[tracepoint]
pub fn plain_unmapped_area(_ctx: TracePointContext) -> u32 {
    count(socket_traced::mapped())
}

/// Hooks `include/trace/events/tcp.h: tcp_destroy_sock`.
#[tracepoint]
pub fn plain_destroy_sock(ctx: TracePointContext) -> u32 {
    count(field(&ctx, settings::EVENT_TCP_SK.load()).and_then(socket_life::destroyed))
}

/// Hooks `include/trace/events/sched.h: sched_process_exec`.
#[tracepoint]
pub fn plain_process_exec(_ctx: TracePointContext) -> u32 {
    count(process::executed())
}

/// Hooks `include/trace/events/sched.h: sched_process_exit`.
#[tracepoint]
pub fn plain_process_exit(_ctx: TracePointContext) -> u32 {
    count(process::ended())
}

/// Hooks `include/trace/events/syscalls.h: sys_enter`.
#[tracepoint]
pub fn plain_sys_enter(ctx: TracePointContext) -> u32 {
    count(field(&ctx, settings::EVENT_ENTER_ID.load()).map(socket_syscall::entering))
}

/// Hooks `include/trace/events/syscalls.h: sys_exit`.
#[tracepoint]
#[inline(always)]
pub fn plain_sys_exit(ctx: TracePointContext) -> u32 {
    let result = field(&ctx, settings::EVENT_EXIT_RET.load());
    count(
        result.and_then(|result| {
            socket_syscall::try_sys_exit::<Checked>(socket_traced::saved_registers(), result)
        }),
    )
}

#[inline(always)]
fn moved(ctx: &TracePointContext, sends: bool) -> Result<(), Counter> {
    let flags = if sends { None } else { Some(field(ctx, settings::EVENT_LENGTH_FLAGS.load())?) };
    let sk = field(ctx, settings::EVENT_LENGTH_SK.load())?;
    socket_traced::moved::<Checked>(sk, field(ctx, settings::EVENT_LENGTH_RET.load())?, flags)
}

#[inline(always)]
fn state_changed(ctx: &TracePointContext) -> Result<(), Counter> {
    let sk = field(ctx, settings::EVENT_STATE_SK.load())?;
    let from = field(ctx, settings::EVENT_STATE_OLD.load())?;
    socket_traced::state_changed(sk, from, field(ctx, settings::EVENT_STATE_NEW.load())?)
}

#[inline(always)]
fn connect_state_changed(ctx: &TracePointContext) -> Result<(), Counter> {
    let sk = field(ctx, settings::EVENT_STATE_SK.load())?;
    let from = field(ctx, settings::EVENT_STATE_OLD.load())?;
    socket_connect::state_changed(sk, from, field(ctx, settings::EVENT_STATE_NEW.load())?)
}

/// A field of the event: an integer or a pointer. The verifier allows no load at an offset that it did not see in the
/// instruction, so the helper reads it.
#[inline(always)]
fn field<T>(ctx: &TracePointContext, offset: u32) -> Result<T, Counter> {
    // SAFETY: every bit pattern of integers is valid, and callers ask for no others.
    unsafe { read::kernel(ctx.as_ptr() as u64, offset) }
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> u32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}
