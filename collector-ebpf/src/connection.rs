//! Connections: met, numbered, and advanced by what TCP itself says has passed.
//!
//! A byte's position is not counted by us but read from the socket (`write_seq`, `copied_seq`), so that bytes which no
//! program of ours saw (sendfile, splice, io_uring) show up as a jump: a numbered gap instead of a silent loss. Unix
//! sockets number nothing: there it is counted.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use spantap_ebpf_common::{
    Counter,
    record::{self, flag, kind},
};

use crate::{
    counters, emit, ignored,
    maps::{CONNECTIONS, Connection, connection_flag},
    read::{self, Checked, Kernel},
    settings,
    socket::{Sock, TCP_CLOSE, TCP_SYN_RECV, TCP_SYN_SENT, Tcp},
    unix,
};

/// True if a receive with these flags leaves the stream where it is: MSG_PEEK, and MSG_ERRQUEUE, which gives back what
/// was sent with its time. Where a connection is met by such a call, its position does not tell.
#[inline(always)]
pub fn only_looks(flags: u64) -> bool {
    const MSG_PEEK: u64 = 0x2;
    const MSG_ERRQUEUE: u64 = 0x2000;
    flags & (MSG_PEEK | MSG_ERRQUEUE) != 0
}

/// A number that is unique while the agent runs: the time and the processor, on which no two moments are the same.
#[inline(always)]
pub fn new_id() -> u64 {
    // SAFETY: reads the processor's number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    (emit::now() << 8) | (cpu as u64 & 0xff)
}

/// Remembers a connection from its first byte: after connect (`flag::CLIENT`) or accept (`flag::SERVER`), which is `done`
/// if the call has not failed or gone on behind the scenes.
#[inline(always)]
pub fn opened(sk: u64, role: u16, done: bool) -> Result<(), Counter> {
    let Some(sock) = Checked::tcp(sk)? else { return Ok(()) };
    let state = sock.state()?;
    if role == flag::CLIENT && done && matches!(state, TCP_CLOSE | TCP_SYN_SENT) {
        return Ok(()); // it connects when it sends (TCP_FASTOPEN_CONNECT), and has no positions before that
    }
    if let Some(known) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value lives as long as the program runs.
        let known = unsafe { &*known };
        // A second connect on the same socket asks how the first one went.
        if known.sent == 0 && known.received == 0 {
            return Ok(());
        }
        let _ = CONNECTIONS.remove(sk);
    }
    let mut connection = Connection {
        id: new_id(),
        sent: 0,
        received: 0,
        sent_seq: sock.write_seq()?,
        received_seq: 0,
        flags: 0,
        _pad: 0,
    };
    if state != TCP_SYN_SENT {
        connection.received_seq = sock.copied_seq()?;
        connection.flags |= connection_flag::RECEIVED_KNOWN;
    }
    CONNECTIONS.insert(sk, connection, 0).map_err(|_| Counter::ConnectionTableFull)?;
    let said = announce(sock, connection.id, role | flag::FROM_START);
    if matches!(said, Err(Counter::RingFull))
        && let Some(made) = CONNECTIONS.get_ptr_mut(sk)
    {
        let unsaid = if role == flag::CLIENT {
            connection_flag::UNSAID_CLIENT
        } else {
            connection_flag::UNSAID_SERVER
        };
        // SAFETY: a map value lives as long as the program runs.
        unsafe { (*made).flags |= unsaid };
        return Ok(());
    }
    said
}

/// Remembers a connection whose handshake has just ended; it is announced by the first call that uses it, for here
/// nobody knows whose it will be.
#[inline(always)]
pub fn established(sk: u64, unsaid: u32) -> Result<(), Counter> {
    if !ignored::started() {
        return Ok(()); // what passes until then would be a gap at its beginning
    }
    let Some(sock) = Checked::tcp(sk)? else { return Ok(()) };
    if let Some(known) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value lives as long as the program runs.
        let known = unsafe { &mut *known };
        if known.flags & connection_flag::EARLY != 0 {
            if known.flags & connection_flag::RECEIVED_KNOWN == 0 {
                known.received_seq = sock.copied_seq()?;
            }
            known.flags = known.flags & !connection_flag::EARLY | connection_flag::RECEIVED_KNOWN;
            return Ok(());
        }
    }
    let connection = Connection {
        id: new_id(),
        sent: 0,
        received: 0,
        // What went along with the handshake (TCP fast open) is reported by the call that has sent it.
        sent_seq: sock.write_seq()?.wrapping_sub(sock.bytes_sent()? as u32),
        received_seq: sock.first_received_seq()?,
        flags: connection_flag::RECEIVED_KNOWN | unsaid,
        _pad: 0,
    };
    CONNECTIONS.insert(sk, connection, 0).map_err(|_| Counter::ConnectionTableFull)
}

/// The entry of a socket that a call has just used; made now if the connection is older than the agent.
/// Null if it is neither a TCP socket nor a Unix stream socket.
///
/// Not an `Option`: of one that is `None` LLVM leaves a register unset and yet copies it, and verifiers refuse that.
#[inline(always)]
pub fn find<K: Tcp>(sk: u64, sent: u32, received: u32) -> Result<(Sock<K>, *mut Connection), Counter> {
    find_of::<K, true>(sk, sent, received)
}

/// The same where a Unix socket cannot come by.
#[inline(always)]
pub fn find_tcp<K: Tcp>(sk: u64) -> Result<(Sock<K>, *mut Connection), Counter> {
    find_of::<K, false>(sk, 0, 0)
}

#[inline(always)]
fn find_of<K: Tcp, const UNIX: bool>(
    sk: u64,
    sent: u32,
    received: u32,
) -> Result<(Sock<K>, *mut Connection), Counter> {
    let none = (Sock::unix(sk), core::ptr::null_mut());
    if let Some(known) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value lives as long as the program runs.
        let entry = unsafe { &mut *known };
        if UNIX && entry.flags & connection_flag::UNIX != 0 {
            return unix::find(sk, Some(known));
        }
        let Some(sock) = K::known(sk) else { return Ok(none) };
        if entry.flags & connection_flag::UNSAID != 0 {
            say(sock, entry);
        }
        return Ok((sock, known));
    }
    let Some(sock) = K::tcp(sk)? else {
        return if UNIX { unix::find(sk, None) } else { Ok(none) };
    };
    let mut sent = sent;
    let flags = match sock.state()? {
        // A call that begins, and connects: the handshake has no sequence number yet.
        TCP_CLOSE | TCP_SYN_SENT if sent == 0 && received == 0 => return Ok(none),
        TCP_SYN_SENT => {
            sent = sock.bytes_sent()? as u32;
            connection_flag::EARLY | connection_flag::UNSAID_CLIENT
        }
        TCP_SYN_RECV => {
            connection_flag::EARLY | connection_flag::UNSAID_SERVER | connection_flag::RECEIVED_KNOWN
        }
        _ => connection_flag::UNSAID_OLDER | connection_flag::RECEIVED_KNOWN,
    };
    let connection = Connection {
        id: new_id(),
        sent: 0,
        received: 0,
        // As they were before this call.
        sent_seq: sock.write_seq()?.wrapping_sub(sent),
        received_seq: sock.copied_seq()?.wrapping_sub(received),
        flags,
        _pad: 0,
    };
    CONNECTIONS.insert(sk, connection, 0).map_err(|_| Counter::ConnectionTableFull)?;
    let Some(made) = CONNECTIONS.get_ptr_mut(sk) else { return Ok(none) };
    // SAFETY: as above.
    say(sock, unsafe { &mut *made });
    Ok((sock, made))
}

/// Announces a connection that is not announced yet. Where the ring is full its next call tries again, and this one's
/// bytes are not lost with the announcement; if there never is room, that is counted at its end.
#[inline(always)]
fn say<K: Kernel>(sock: Sock<K>, entry: &mut Connection) {
    let mut flags = match entry.flags & connection_flag::UNSAID {
        connection_flag::UNSAID_CLIENT => flag::CLIENT | flag::FROM_START,
        connection_flag::UNSAID_SERVER => flag::SERVER | flag::FROM_START,
        _ => 0,
    };
    if entry.sent != 0 || entry.received != 0 {
        // Its first bytes were lost when it could not be announced.
        flags &= !flag::FROM_START;
    }
    match announce(sock, entry.id, flags) {
        Err(Counter::RingFull) => return,
        Err(counter) => counters::bump(counter),
        Ok(()) => {}
    }
    entry.flags &= !connection_flag::UNSAID;
}

#[inline(always)]
fn announce<K: Kernel>(sock: Sock<K>, id: u64, flags: u16) -> Result<(), Counter> {
    let mut open = record::Open {
        header: emit::header(kind::OPEN, flags, size_of::<record::Open>(), emit::now()),
        connection: id,
        local: [0; 16],
        peer: [0; 16],
        local_port: 0,
        peer_port: 0,
        family: 0,
        _pad: 0,
        netns: 0,
        parent: parent_tgid(),
        comm: emit::comm(),
    };
    sock.describe(&mut open)?;
    emit::fixed(open)
}

/// The process whose child the current one is; 0 if that cannot be read.
#[inline(always)]
pub fn parent_tgid() -> u32 {
    // SAFETY: a pointer and an integer, read through the checking helper.
    unsafe {
        read::kernel(Checked::task(), settings::TASK_REAL_PARENT.load())
            .and_then(|parent| read::kernel(parent, settings::TASK_TGID.load()))
            .unwrap_or(0)
    }
}

impl Connection {
    /// Moves the sending position to where TCP says it is, after a call that sent `moved` bytes. Returns the position
    /// of the first of them.
    #[inline(always)]
    pub fn sent<K: Kernel>(&mut self, sock: Sock<K>, moved: u64) -> Result<Option<u64>, Counter> {
        if sock.is_unix() {
            self.sent += moved;
            return Ok(Some(self.sent - moved));
        }
        let seq = sock.write_seq()?;
        if self.flags & connection_flag::RECEIVED_KNOWN == 0 && sock.state()? != TCP_SYN_SENT {
            // The handshake has ended since connect returned, and nothing can have been read before this.
            self.received_seq = sock.copied_seq()?;
            self.flags |= connection_flag::RECEIVED_KNOWN;
        }
        let passed = advance(sock, self.sent_seq, seq, moved);
        if passed > moved {
            counters::add(Counter::UnseenBytes, passed - moved);
        }
        self.sent_seq = seq;
        self.sent += passed;
        Ok(Some(self.sent.saturating_sub(moved)))
    }

    /// Likewise for a call that received `moved` bytes; `None` if it only peeked at them. (Of a Unix socket the caller
    /// knows that.)
    #[inline(always)]
    pub fn received<K: Kernel>(&mut self, sock: Sock<K>, moved: u64) -> Result<Option<u64>, Counter> {
        if sock.is_unix() {
            self.received += moved;
            return Ok(Some(self.received - moved));
        }
        let seq = sock.copied_seq()?;
        if self.flags & connection_flag::RECEIVED_KNOWN == 0 {
            self.received_seq = seq.wrapping_sub(moved as u32);
            self.flags |= connection_flag::RECEIVED_KNOWN;
        }
        if seq == self.received_seq && !sock.has_upper_layer() {
            counters::bump(Counter::Peeked);
            return Ok(None);
        }
        let mut passed = advance(sock, self.received_seq, seq, moved);
        if passed == moved + 1 && sock.peer_has_finished()? {
            passed = moved; // the peer's FIN takes a sequence number, but is no byte
        }
        if passed > moved {
            counters::add(Counter::UnseenBytes, passed - moved);
        }
        self.received_seq = seq;
        self.received += passed;
        Ok(Some(self.received.saturating_sub(moved)))
    }

    /// Moves both positions to where TCP says that they have ended. What passed since the last call that was seen has
    /// passed unseen; a sequence number at the end is taken for the FIN, which is no byte.
    #[inline(always)]
    pub fn ended(&mut self, sk: u64) -> Result<(), Counter> {
        let Some(sock) = Checked::known(sk) else { return Ok(()) };
        if sock.has_upper_layer() {
            return Ok(());
        }
        let behind = |before: u32, after: u32, finished: bool| {
            let passed = after.wrapping_sub(before).saturating_sub(finished as u32);
            if passed > u32::MAX / 2 { 0 } else { passed as u64 }
        };
        // tcp_disconnect, as a close with a reset calls it, moves the sequence number away and clears this count.
        let kept = sock.bytes_sent()? != 0;
        if !kept && self.sent != 0 {
            return Ok(());
        }
        let sent = if kept { behind(self.sent_seq, sock.write_seq()?, true) } else { 0 };
        self.sent += sent;
        let mut received = 0;
        if self.flags & connection_flag::RECEIVED_KNOWN != 0 {
            let copied_seq = sock.copied_seq()?;
            received =
                behind(self.received_seq, copied_seq, sock.fin_arrived()? && copied_seq == sock.rcv_nxt()?);
            self.received += received;
        }
        if sent + received != 0 {
            counters::add(Counter::UnseenBytes, sent + received);
        }
        Ok(())
    }
}

/// How many bytes have passed between two sequence numbers, of which this call moved the last `moved`.
#[inline(always)]
fn advance<K: Kernel>(sock: Sock<K>, before: u32, after: u32, moved: u64) -> u64 {
    let passed = after.wrapping_sub(before) as u64;
    if passed == moved {
        return moved;
    }
    if sock.has_upper_layer() || passed > u32::MAX as u64 / 2 {
        // Kernel TLS counts its records too; a step backwards is another connection in the same struct.
        return moved;
    }
    if passed < moved {
        counters::bump(Counter::PositionConflict);
    }
    passed
}
