//! TLS sessions: which thread is inside which TLS call, and which socket a session talks through.
//!
//! A library that owns its socket reads and writes it from inside SSL_read, SSL_write and the handshake: the system
//! call nested in such a call names the socket. What is learnt once is kept per `SSL *`, for the reads that are served
//! from the library's buffer without a system call.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use spantap_ebpf_common::{
    Counter,
    record::{self, flag, kind},
};

use crate::{
    connection::new_id,
    counters, emit,
    maps::{Connection, TLS_CALLS, TLS_SESSIONS, TlsCall, TlsKey, TlsSession, connection_flag},
    settings, thread,
};

/// The thread enters a TLS call.
#[inline(always)]
pub fn enter(ssl: u64, buffer: u64, moved: u64) -> Result<(), Counter> {
    let pid_tgid = bpf_get_current_pid_tgid();
    if (pid_tgid >> 32) as u32 == settings::AGENT_TGID.load() {
        return Ok(());
    }
    let call = TlsCall { ssl, buffer, moved, entered_ns: emit::now() };
    if let Some(slot) = thread::take(pid_tgid) {
        slot.ssl = ssl;
    }
    TLS_CALLS.insert(pid_tgid, call, 0).map_err(|_| Counter::TlsCallLost)
}

/// The thread leaves it. `None` if its entry was not seen.
#[inline(always)]
pub fn leave() -> Option<TlsCall> {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: copied out at once; only this thread writes under its key.
    let call = unsafe { TLS_CALLS.get(pid_tgid) }.copied()?;
    let _ = TLS_CALLS.remove(pid_tgid);
    if let Some(slot) = thread::own(pid_tgid) {
        slot.ssl = 0;
    }
    Some(call)
}

/// A system call has moved bytes on `connection`. If the thread is inside a TLS call, the two belong together.
/// `ssl`: of the thread's slot.
#[inline(always)]
pub fn bind(connection: &mut Connection, pid_tgid: u64, ssl: u64) {
    if ssl == 0 {
        return;
    }
    let key = TlsKey { ssl, tgid: pid_tgid >> 32 };
    let Some(session) = session(&key) else { return };
    // SAFETY: a map value lives as long as the program runs.
    unsafe { (*session).connection = connection.id };
    connection.flags |= connection_flag::TLS;
}

/// Reports plaintext that a TLS call moved.
#[inline(always)]
pub fn plaintext(call: &TlsCall, flags: u16, moved: u64) -> Result<(), Counter> {
    let key = TlsKey { ssl: call.ssl, tgid: bpf_get_current_pid_tgid() >> 32 };
    let session = session(&key).ok_or(Counter::TlsCallLost)?;
    // SAFETY: a map value lives as long as the program runs; a session is used by one thread at a time (SSL objects
    // are not thread-safe).
    let session = unsafe { &mut *session };
    let position = if flags & flag::SENT != 0 {
        let at = session.sent;
        session.sent += moved;
        at
    } else {
        let at = session.received;
        session.received += moved;
        at
    };
    if session.connection == 0 {
        counters::bump(Counter::TlsUnbound);
    }
    let now = emit::now();
    let data = record::Data {
        header: emit::header(kind::DATA, flags | flag::TLS, 0, now),
        connection: session.connection,
        stream: session.id,
        first_ns: if flags & flag::SENT != 0 { call.entered_ns } else { now },
        position,
        size: moved as u32,
        captured: 0,
    };
    emit::buffer(&data, call.buffer)
}

/// The session is freed: whoever gets its address next is another.
#[inline(always)]
pub fn freed(ssl: u64) -> Result<(), Counter> {
    let key = TlsKey { ssl, tgid: bpf_get_current_pid_tgid() >> 32 };
    // SAFETY: copied out at once.
    let Some(session) = unsafe { TLS_SESSIONS.get(key) }.copied() else { return Ok(()) };
    let _ = TLS_SESSIONS.remove(key);
    emit::fixed(record::Close {
        header: emit::header(kind::CLOSE, flag::TLS, size_of::<record::Close>(), emit::now()),
        connection: session.connection,
        stream: session.id,
        sent: session.sent,
        received: session.received,
    })
}

#[inline(always)]
fn session(key: &TlsKey) -> Option<*mut TlsSession> {
    if let Some(known) = TLS_SESSIONS.get_ptr_mut(key) {
        return Some(known);
    }
    let new = TlsSession { id: new_id(), connection: 0, sent: 0, received: 0 };
    TLS_SESSIONS.insert(key, new, 0).ok()?;
    TLS_SESSIONS.get_ptr_mut(key)
}
