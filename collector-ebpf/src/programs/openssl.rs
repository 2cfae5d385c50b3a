//! OpenSSL's calls, on every libssl that a process maps. `SSL *`, buffers and results as in `include/openssl/ssl.h` of
//! 1.1.1 and 3.x; BoringSSL has the same.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use spantap_ebpf_common::{Counter, record::flag};

use crate::{counters, read, tls};

/// `int SSL_read(SSL *ssl, void *buf, int num)`, `int SSL_write(SSL *ssl, const void *buf, int num)`.
#[uprobe]
pub fn ssl_io_enter(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, false))
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)` and SSL_write_ex likewise.
#[uprobe]
pub fn ssl_io_ex_enter(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, true))
}

/// `int SSL_do_handshake(SSL *ssl)`, which SSL_accept and SSL_connect call: moves no plaintext, but names the socket.
#[uprobe]
pub fn ssl_handshake_enter(ctx: ProbeContext) -> u32 {
    count(ctx.arg(0).map_or(Ok(()), |ssl| tls::enter(ssl, 0, 0)))
}

/// The end of a handshake.
#[uretprobe]
pub fn ssl_handshake_return(_ctx: RetProbeContext) -> u32 {
    tls::leave();
    0
}

/// The end of SSL_read or SSL_read_ex.
#[uretprobe]
pub fn ssl_read_return(ctx: RetProbeContext) -> u32 {
    count(leave(&ctx, 0))
}

/// The end of SSL_write or SSL_write_ex.
#[uretprobe]
pub fn ssl_write_return(ctx: RetProbeContext) -> u32 {
    count(leave(&ctx, flag::SENT))
}

/// `void SSL_free(SSL *ssl)`.
#[uprobe]
pub fn ssl_free(ctx: ProbeContext) -> u32 {
    count(ctx.arg(0).map_or(Ok(()), tls::freed))
}

#[inline(always)]
fn enter(ctx: &ProbeContext, ex: bool) -> Result<(), Counter> {
    let (Some(ssl), Some(buffer)) = (ctx.arg(0), ctx.arg(1)) else { return Err(Counter::TlsCallLost) };
    let moved = if ex { ctx.arg(3).unwrap_or(0) } else { 0 };
    tls::enter(ssl, buffer, moved)
}

/// A result of 0 or less moved nothing: the call failed, or must be repeated and is counted then.
#[inline(always)]
fn leave(ctx: &RetProbeContext, flags: u16) -> Result<(), Counter> {
    let Some(call) = tls::leave() else { return Ok(()) };
    let result: i32 = ctx.ret();
    if result <= 0 {
        return Ok(());
    }
    let moved = if call.moved == 0 {
        result as u64
    } else {
        // SAFETY: an integer of the process, read through the checking helper.
        unsafe { read::user(call.moved) }?
    };
    if moved == 0 { Ok(()) } else { tls::plaintext(&call, flags, moved) }
}

#[inline(always)]
fn count(result: Result<(), Counter>) -> u32 {
    if let Err(counter) = result {
        counters::bump(counter);
    }
    0
}
