//! The calls of TLS libraries, in every file that has one. `SSL *`, buffers and results as in `include/openssl/ssl.h` of
//! 1.1.1 and 3.x; BoringSSL has the same, and GnuTLS (`gnutls/gnutls.h`) takes and gives the same under other names.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use spantap_ebpf_common::{Counter, record::flag};

use crate::{counters, read, registers, tls};

/// `int SSL_read(SSL *ssl, void *buf, int num)`, `int SSL_write(SSL *ssl, const void *buf, int num)`.
#[uprobe]
pub fn ssl_io_enter(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, None))
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)` and SSL_write_ex likewise.
#[uprobe]
pub fn ssl_io_ex_enter(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, Some(3)))
}

/// `int ssl_write_internal(SSL *s, const void *buf, size_t num, uint64_t flags, size_t *written)`, as OpenSSL 3.3 and
/// later have it inside.
#[uprobe]
pub fn ssl_io_fifth_enter(ctx: ProbeContext) -> u32 {
    count(enter(&ctx, Some(4)))
}

/// `int SSL_do_handshake(SSL *ssl)`, which SSL_accept and SSL_connect call: moves no plaintext, but names the socket.
#[uprobe]
pub fn ssl_handshake_enter(ctx: ProbeContext) -> u32 {
    count(ctx.arg(0).map_or(Ok(()), |ssl| tls::enter(ssl, 0, 0, stack(&ctx))))
}

/// The end of a handshake.
#[uretprobe]
pub fn ssl_handshake_return(_ctx: RetProbeContext) -> u32 {
    count(tls::leave().map_or(Ok(()), |call| tls::driven(&call)))
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
fn enter(ctx: &ProbeContext, moved: Option<usize>) -> Result<(), Counter> {
    let (Some(ssl), Some(buffer)) = (ctx.arg(0), ctx.arg(1)) else { return Err(Counter::TlsCallLost) };
    let moved = moved.and_then(|n| ctx.arg(n)).unwrap_or(0);
    tls::enter(ssl, buffer, moved, stack(ctx))
}

/// The stack pointer of the process.
#[inline(always)]
fn stack(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context is the process's registers, and the verifier allows whole ones to be read.
    unsafe { ctx.regs.byte_add(registers::STACK_POINTER as usize).cast::<u64>().read_volatile() }
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
