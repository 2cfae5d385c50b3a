//! TLS calls and sessions: which thread is inside which TLS call, and what plaintext it moved.
//!
//! Which socket a session talks through is found in `tls_bind`.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use spantap_ebpf_common::{
    Counter,
    limits::TLS_CALL_SLOTS,
    record::{self, flag, kind},
};

use crate::{
    connection::new_id,
    counters, emit, ignored,
    maps::{TLS_CALLS, TLS_CALLS_BESIDE, TLS_SESSIONS, TlsCall, TlsKey, TlsSession},
    payload::{self, Source},
    thread, tls_bind,
};

/// The thread enters a TLS call with this stack pointer.
///
/// Of a function that calls another probed one (gnutls_record_send does), and of a file that is probed twice, the entry
/// comes twice; the second one takes the place of the first, and the first return takes the call. So each call is
/// reported once.
#[inline(always)]
pub fn enter(ssl: u64, buffer: u64, moved: u64, stack: u64) -> Result<(), Counter> {
    let pid_tgid = bpf_get_current_pid_tgid();
    if ignored::is(pid_tgid) {
        return Ok(());
    }
    let mut call = TlsCall { pid_tgid, ssl, buffer, moved, entered_ns: emit::now(), stack, around: 0 };
    if let Some(thread) = thread::take(pid_tgid) {
        call.around = thread.ssl;
        thread.ssl = ssl;
    }
    let slot = slot(pid_tgid).ok_or(Counter::TlsCallLost)?;
    if slot.ssl != 0 && slot.pid_tgid != pid_tgid {
        // Another thread is in the middle of a call.
        return beside(pid_tgid, &call);
    }
    if slot.ssl == ssl {
        call.around = slot.around;
    } else if slot.ssl != 0 && slot.stack > stack {
        // TLS within TLS: the outer call goes on when this one is over.
        beside(pid_tgid, slot)?;
    } else if call.around > tls_bind::WATCHED {
        // A call whose return was missed.
        call.around = 0;
    }
    *slot = call;
    Ok(())
}

#[inline(always)]
fn beside(pid_tgid: u64, call: &TlsCall) -> Result<(), Counter> {
    TLS_CALLS_BESIDE.insert(pid_tgid, call, 0).map_err(|_| Counter::TlsCallLost)
}

/// The thread leaves it. `None` if its entry was not seen.
#[inline(always)]
pub fn leave() -> Option<TlsCall> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let slot = slot(pid_tgid)?;
    let call = if slot.ssl != 0 && slot.pid_tgid == pid_tgid {
        let call = *slot;
        slot.ssl = 0;
        if call.around > tls_bind::WATCHED
            // SAFETY: copied out at once; only this thread writes under its key.
            && let Some(outer) = unsafe { TLS_CALLS_BESIDE.get(pid_tgid) }
        {
            *slot = *outer;
            let _ = TLS_CALLS_BESIDE.remove(pid_tgid);
        }
        call
    } else {
        // SAFETY: as above.
        let call = unsafe { TLS_CALLS_BESIDE.get(pid_tgid) }.copied()?;
        let _ = TLS_CALLS_BESIDE.remove(pid_tgid);
        call
    };
    if let Some(thread) = thread::own(pid_tgid) {
        thread.ssl = call.around;
    }
    Some(call)
}

/// The slot of a thread's TLS call, whosever it is now.
#[inline(always)]
fn slot(pid_tgid: u64) -> Option<&'static mut TlsCall> {
    // SAFETY: the map owns the slot while the program runs. Threads that share it may write at the same time: the later
    // one wins, and the other's call is not found at its return.
    TLS_CALLS.get_ptr_mut(pid_tgid as u32 & (TLS_CALL_SLOTS - 1)).map(|slot| unsafe { &mut *slot })
}

/// A call that moves no plaintext is over: a handshake, perhaps not to its end.
#[inline(always)]
pub fn driven(call: &TlsCall) -> Result<(), Counter> {
    let key = key(call.ssl);
    let session = session(&key).ok_or(Counter::TlsCallLost)?;
    // SAFETY: see `plaintext`.
    let session = unsafe { &mut *session };
    if session.connection == 0 {
        tls_bind::by_random(&key, session);
    }
    Ok(())
}

/// Reports plaintext that a TLS call moved.
#[inline(always)]
pub fn plaintext(call: &TlsCall, flags: u16, moved: u64) -> Result<(), Counter> {
    let key = key(call.ssl);
    let session = session(&key).ok_or(Counter::TlsCallLost)?;
    // SAFETY: a map value lives as long as the program runs; a session is used by one thread at a time (SSL objects
    // are not thread-safe).
    let session = unsafe { &mut *session };
    let sends = flags & flag::SENT != 0;
    let total = if sends { &mut session.sent } else { &mut session.received };
    let position = *total;
    *total += moved;
    if session.connection == 0 {
        tls_bind::by_random(&key, session);
    }
    if session.connection == 0 {
        tls_bind::spoke(&key, session, call, moved, sends);
    }
    if session.connection == 0 {
        counters::bump(Counter::TlsUnbound);
    }
    let now = emit::now();
    let mut data = record::Data {
        header: emit::header(kind::DATA, flags | flag::TLS, 0, now),
        connection: session.connection,
        stream: session.id,
        first_ns: if sends { call.entered_ns } else { now },
        position,
        size: moved as u32,
        captured: 0,
    };
    payload::report(&mut data, Source::buffer(call.buffer))
}

/// The session is freed: whoever gets its address next is another.
#[inline(always)]
pub fn freed(ssl: u64) -> Result<(), Counter> {
    let key = key(ssl);
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

/// A session of the current process.
#[inline(always)]
pub fn key(ssl: u64) -> TlsKey {
    TlsKey { ssl, tgid: bpf_get_current_pid_tgid() >> 32 }
}

/// What is known of a session; it begins now if nothing is.
#[inline(always)]
pub fn session(key: &TlsKey) -> Option<*mut TlsSession> {
    if let Some(known) = TLS_SESSIONS.get_ptr_mut(key) {
        return Some(known);
    }
    let new =
        TlsSession { id: new_id(), connection: 0, sent: 0, received: 0, candidate: 0, evidence: 0, looks: 0 };
    TLS_SESSIONS.insert(key, new, 0).ok()?;
    TLS_SESSIONS.get_ptr_mut(key)
}
