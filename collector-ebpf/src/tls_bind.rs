//! Which socket a TLS session talks through. There are three ways to know, each right or silent:
//!
//! - **Nested calls.** A library that owns its socket reads and writes it from inside SSL_read, SSL_write and the
//!   handshake: a system call nested in such a call, whose bytes begin with a TLS record, names the socket.
//! - **The client's random.** A program that does its own input and output (Node, Python's asyncio) hands ciphertext
//!   over in memory. But the ClientHello passes a socket in the clear, and its 32 random bytes stand in the session, too
//!   (RFC 8446 section 4.1.2). No other session has them, whatever thread or order.
//! - **Lengths**, for sessions that are older than the agent: see [`spoke`].

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use spantap_ebpf_common::limits::{TLS_RANDOMS as RANDOMS_MAX, of_tls_random};

pub use crate::maps::WATCHED;
use crate::{
    maps::{
        CONNECTIONS, Connection, TLS_HELLOS, TLS_RANDOMS, TLS_SESSIONS, TLS_TALKS, TlsCall, TlsHello, TlsKey,
        TlsSession, TlsSocket, TlsTalk, connection_flag, evidence,
    },
    read, thread, tls,
};

/// RFC 8446 section 5.1: a record begins with its type, a version and a length.
const RECORD_HEADER_BYTES: u64 = 5;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// RFC 8446 section 4: `client_hello`.
const CLIENT_HELLO: u8 = 1;
/// Record header, type and length of the handshake message, version, random.
const HELLO_BYTES: u64 = RECORD_HEADER_BYTES + 4 + 2 + 32;
/// Where the random begins.
const RANDOM_AT: u64 = RECORD_HEADER_BYTES + 4 + 2;
/// Calls of a connection that are searched for a ClientHello. Rationale: PostgreSQL asks for TLS in one message, SMTP in
/// three, a proxy in one.
const LOOKS_MAX: u32 = 8;
/// Times that a session's random is looked for. Rationale: a handshake takes two or three calls on either side, and a
/// random that was not seen on a socket then never will be.
const RANDOM_LOOKS_MAX: u32 = 16;

/// A system call has moved `size` bytes on `connection`; `first` says where the first of them lie, 0 if nowhere. True
/// if a TLS session is known to be above it: then they are ciphertext, and of no interest.
#[inline(always)]
pub fn moved(
    connection: &mut Connection,
    sk: u64,
    pid_tgid: u64,
    size: u64,
    sends: bool,
    first: impl FnOnce() -> u64,
) -> bool {
    let ssl = thread::own(pid_tgid).map_or(0, |thread| thread.ssl);
    if ssl > WATCHED {
        nested(connection, ssl, size, first);
        return connection.flags & connection_flag::TLS != 0;
    }
    if connection.flags & connection_flag::TLS != 0 {
        return true;
    }
    let looks = connection.flags >> connection_flag::LOOKS_SHIFT;
    let search = looks < LOOKS_MAX && size >= HELLO_BYTES;
    if search || ssl == WATCHED {
        let address = first();
        if search {
            connection.flags += 1 << connection_flag::LOOKS_SHIFT;
            remember_hello(connection.id, sk, address, pid_tgid);
        }
        if ssl == WATCHED {
            overheard(TlsSocket { sk, connection: connection.id }, address, size, sends, pid_tgid);
        }
    }
    connection.flags & connection_flag::TLS != 0
}

/// The thread is inside a call on the session `ssl`.
#[inline(always)]
fn nested(connection: &mut Connection, ssl: u64, size: u64, first: impl FnOnce() -> u64) {
    let Some(session) = tls::session(&tls::key(ssl)) else { return };
    // SAFETY: a map value lives as long as the program runs, and a session is used by one thread at a time.
    let session = unsafe { &mut *session };
    if session.connection == connection.id {
        connection.flags |= connection_flag::TLS;
        return;
    }
    // A call-back of the application may do anything here, such as to ask over HTTP whether a certificate is revoked.
    if size < RECORD_HEADER_BYTES || record(first()).is_none() {
        return;
    }
    session.connection = connection.id;
    connection.flags |= connection_flag::TLS;
}

/// The type and length of the record that begins at `address` of the current process.
#[inline(always)]
fn record(address: u64) -> Option<(u8, u64)> {
    /// RFC 8446 section 5.2 allows 256 bytes more than the plaintext, RFC 5246 section 6.2.3 2,048.
    const LENGTH_MAX: u64 = 16_384 + 2_048;
    if address == 0 {
        return None;
    }
    // SAFETY: bytes of the process, read through the checking helper.
    let [kind, major, _, high, low] = unsafe { read::user::<[u8; 5]>(address) }.ok()?;
    let length = (high as u64) << 8 | low as u64;
    (kind >= 20 && kind <= 23 && major == 3 && length <= LENGTH_MAX).then_some((kind, length))
}

/// Notes the random of a ClientHello, if it is one.
#[inline(always)]
fn remember_hello(connection: u64, sk: u64, address: u64, pid_tgid: u64) {
    let Some((HANDSHAKE, _)) = record(address) else { return };
    // SAFETY: bytes of the process, read through the checking helper.
    let (Ok(message), Ok(random)) = (unsafe {
        (read::user::<u8>(address + RECORD_HEADER_BYTES), read::user::<[u64; 2]>(address + RANDOM_AT))
    }) else {
        return;
    };
    if message == CLIENT_HELLO {
        let hello = TlsHello { tgid: pid_tgid >> 32, random };
        let _ = TLS_HELLOS.insert(hello, TlsSocket { sk, connection }, 0);
    }
}

/// Looks for the socket that a session's random was seen on.
#[inline(always)]
pub fn by_random(key: &TlsKey, session: &mut TlsSession) {
    if session.looks >= RANDOM_LOOKS_MAX {
        return;
    }
    session.looks += 1;
    for i in 0..RANDOMS_MAX {
        let Some((pointer, offset)) = TLS_RANDOMS.get(i).copied().and_then(of_tls_random) else { return };
        let mut base = key.ssl;
        if let Some(at) = pointer {
            // SAFETY: a pointer of the process, read through the checking helper.
            match unsafe { read::user(base + at as u64) } {
                Ok(inner) => base = inner,
                Err(_) => continue,
            }
        }
        // SAFETY: bytes of the process, likewise.
        let Ok(random) = (unsafe { read::user::<[u64; 2]>(base + offset as u64) }) else { continue };
        let hello = TlsHello { tgid: key.tgid, random };
        // SAFETY: copied out at once.
        if let Some(socket) = unsafe { TLS_HELLOS.get(hello) }.copied() {
            let _ = TLS_HELLOS.remove(hello);
            bind(session, &socket);
            return;
        }
    }
}

#[inline(always)]
fn bind(session: &mut TlsSession, socket: &TlsSocket) {
    session.connection = socket.connection;
    if let Some(connection) = CONNECTIONS.get_ptr_mut(socket.sk) {
        // SAFETY: a map value lives as long as the program runs.
        let connection = unsafe { &mut *connection };
        if connection.id == socket.connection {
            connection.flags |= connection_flag::TLS;
        }
    }
}

/// A thread has moved plaintext of a session without a socket. (What it does for others cannot be mistaken for this:
/// their sockets are known.)
///
/// What is known of such a session is how many bytes it wrote or read; of a socket, when this thread sent or received a
/// whole record there, and how long it was. A write that is the only one before a send of exactly that length speaks
/// for the socket, and so does a read that is the only one after a receive of exactly that length. Neither is certain
/// in a thread that serves a hundred equal sessions, if it does not finish one before it goes on to the next; that both
/// agree on the same socket, which belongs to no other session, is.
#[inline(always)]
pub fn spoke(key: &TlsKey, session: &mut TlsSession, call: &TlsCall, moved: u64, sends: bool) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if call.around != WATCHED {
        if call.around != 0 {
            return; // inside another TLS call: whatever it does next concerns that one, too
        }
        // What this thread did until now was not watched.
        let Some(thread) = thread::own(pid_tgid) else { return };
        thread.ssl = WATCHED;
        let fresh = TlsTalk {
            written: *key,
            written_bytes: moved,
            socket: TlsSocket { sk: 0, connection: 0 },
            received_record: 0,
            writes: sends as u32,
            receives: 0,
        };
        let _ = TLS_TALKS.insert(pid_tgid, fresh, 0);
        return;
    }
    let Some(talk) = TLS_TALKS.get_ptr_mut(pid_tgid) else { return };
    // SAFETY: a map value lives as long as the program runs; only this thread writes under its key.
    let talk = unsafe { &mut *talk };
    if sends {
        talk.written = *key;
        talk.written_bytes = moved;
        talk.writes += 1;
        return;
    }
    let single = talk.receives == 1 && fits(talk.received_record, moved);
    talk.receives = 0;
    if single {
        note(session, talk, evidence::RECEIVED);
    }
}

/// A watched thread has sent or received on a socket that belongs to no session yet.
#[inline(always)]
fn overheard(socket: TlsSocket, address: u64, size: u64, sends: bool, pid_tgid: u64) {
    let Some(talk) = TLS_TALKS.get_ptr_mut(pid_tgid) else { return };
    // SAFETY: as above.
    let talk = unsafe { &mut *talk };
    let whole = match record(address) {
        Some((APPLICATION_DATA, length)) if length + RECORD_HEADER_BYTES == size => length,
        _ => 0,
    };
    talk.socket = socket;
    if !sends {
        talk.received_record = whole;
        talk.receives += 1;
        return;
    }
    let single = talk.writes == 1 && fits(whole, talk.written_bytes);
    talk.writes = 0;
    if !single {
        return;
    }
    let key = talk.written;
    let Some(session) = TLS_SESSIONS.get_ptr_mut(key) else { return };
    // SAFETY: a map value lives as long as the program runs, and a session is used by one thread at a time.
    let session = unsafe { &mut *session };
    if session.connection == 0 {
        note(session, talk, evidence::SENT);
    }
}

/// Whether a record of this length can hold so many bytes of plaintext: what is added is 16 bytes (ChaCha20-Poly1305 of
/// TLS 1.2, RFC 7905), 17 (TLS 1.3, RFC 8446 section 5.2, without padding) or 24 (AES-GCM of TLS 1.2, RFC 5288).
#[inline(always)]
fn fits(record: u64, plaintext: u64) -> bool {
    let added = record.wrapping_sub(plaintext);
    added == 16 || added == 17 || added == 24
}

/// Takes evidence for the socket that the thread used last, and binds when there is enough.
#[inline(always)]
fn note(session: &mut TlsSession, talk: &TlsTalk, kind: u32) {
    if session.candidate != talk.socket.connection {
        session.candidate = talk.socket.connection;
        session.evidence = 0;
    }
    session.evidence |= kind;
    if session.evidence != evidence::ENOUGH {
        return;
    }
    bind(session, &talk.socket);
    if talk.writes == 0
        && let Some(thread) = thread::own(bpf_get_current_pid_tgid())
    {
        // The next session without a socket begins to watch anew; what is under way is not forgotten.
        thread.ssl = 0;
    }
}
