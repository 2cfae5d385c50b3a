//! The end of a connection, whoever caused it: close, shutdown, exit, reset or time-out. Of Unix sockets see `unix`.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use spantap_ebpf_common::{
    Counter,
    record::{self, kind},
};

use crate::{
    counters, emit,
    maps::{CONNECTIONS, connection_flag},
};

/// Hooks `include/trace/events/tcp.h: tcp_destroy_sock(struct sock *sk)`, there since 4.16; checked on 6.18.
///
/// It fires once for every TCP socket, when the last descriptor is gone and nothing is left to deliver. close(2) would
/// say less (the descriptor may be shared, and exit closes without it), and the state tracepoint's TCP_CLOSE comes
/// while the process may still read what arrived before a reset.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    if let Err(counter) = destroyed(ctx.arg(0)) {
        counters::bump(counter);
    }
    0
}

/// The socket is no more, or will move nothing any more.
#[inline(always)]
pub fn destroyed(sk: u64) -> Result<(), Counter> {
    // SAFETY: copied out at once.
    let Some(mut connection) = unsafe { CONNECTIONS.get(sk) }.copied() else { return Ok(()) };
    let _ = CONNECTIONS.remove(sk);
    if connection.flags & connection_flag::UNSAID != 0 {
        if connection.sent | connection.received == 0 {
            return Ok(()); // nobody has heard of it
        }
        counters::bump(Counter::RingFull); // there was never room to announce it
    }
    if connection.flags & connection_flag::UNIX == 0
        && let Err(counter) = connection.ended(sk)
    {
        counters::bump(counter);
    }
    emit::fixed(record::Close {
        header: emit::header(kind::CLOSE, 0, size_of::<record::Close>(), emit::now()),
        connection: connection.id,
        stream: connection.id,
        sent: connection.sent,
        received: connection.received,
    })
}
