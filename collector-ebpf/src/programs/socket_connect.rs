//! Connections that never came to be: refused, timed out, unreachable, or given up.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use spantap_ebpf_common::{
    Counter,
    record::{self, kind},
};

use crate::{
    connection::parent_tgid,
    counters, emit, ignored,
    maps::{CONNECTING, Connecting},
    read::{self, Checked},
    settings,
    socket::{Sock, TCP_CLOSE, TCP_SYN_SENT, Tcp},
};

/// Hooks `include/trace/events/sock.h: inet_sock_set_state(const struct sock *sk, const int oldstate, const int
/// newstate)`, there since 4.16; checked on 6.18.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn connect_state(ctx: RawTracePointContext) -> i32 {
    if let Err(counter) = state_changed(ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        counters::bump(counter);
    }
    0
}

/// A handshake begins in the call of whoever wants the connection; where it ends, the current process is anybody.
#[inline(always)]
pub fn state_changed(sk: u64, from: i32, to: i32) -> Result<(), Counter> {
    let (from, to) = (from as u8, to as u8);
    if to == TCP_SYN_SENT {
        return begun(sk);
    }
    if from != TCP_SYN_SENT {
        return Ok(());
    }
    // SAFETY: copied out at once.
    let connecting = unsafe { CONNECTING.get(sk) }.copied();
    let _ = CONNECTING.remove(sk);
    match connecting {
        Some(connecting) if to == TCP_CLOSE => failed(sk, &connecting),
        _ => Ok(()),
    }
}

#[inline(always)]
fn begun(sk: u64) -> Result<(), Counter> {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !ignored::is(pid_tgid) {
        let connecting = Connecting {
            begun_ns: emit::now(),
            pid_tgid,
            parent: parent_tgid(),
            _pad: 0,
            comm: emit::comm(),
        };
        // The oldest makes room: then that one's failure is not reported.
        let _ = CONNECTING.insert(sk, connecting, 0);
    }
    Ok(())
}

/// `sk->sk_err` says why before the state changes (`tcp_reset`, `tcp_write_err`, `tcp_v4_err`); it is 0 if the process
/// itself gave up.
#[inline(always)]
fn failed(sk: u64, connecting: &Connecting) -> Result<(), Counter> {
    let Some(sock) = Checked::tcp(sk)? else { return Ok(()) };
    let mut place = record::Open {
        header: emit::header_of(connecting.pid_tgid, 0, 0, 0, 0),
        connection: 0,
        local: [0; 16],
        peer: [0; 16],
        local_port: 0,
        peer_port: 0,
        family: 0,
        _pad: 0,
        netns: 0,
        parent: connecting.parent,
        comm: connecting.comm,
    };
    Sock::<Checked>::describe(sock, &mut place)?;
    // SAFETY: an integer.
    let error: u32 = unsafe { read::kernel(sk, settings::SK_ERR.load()) }?;
    let length = size_of::<record::ConnectFailed>();
    emit::fixed(record::ConnectFailed {
        header: emit::header_of(connecting.pid_tgid, kind::CONNECT_FAILED, 0, length, emit::now()),
        begun_ns: connecting.begun_ns,
        peer: place.peer,
        peer_port: place.peer_port,
        family: place.family,
        error,
        netns: place.netns,
        parent: connecting.parent,
        comm: connecting.comm,
    })
}
