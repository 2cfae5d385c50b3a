//! Unix stream sockets: met, told apart, described, and over.
//!
//! They have no sequence numbers, so positions are sums of what the calls returned. No tracepoint tells of their end, so
//! three things do: a call that finds the other end gone, another socket in the same memory, and `unix_release` where a
//! backend can hook it.

use aya_ebpf::helpers::generated as helpers;
use spantap_ebpf_common::{
    Counter,
    limits::UNIX_NAME_BYTES,
    record::{self, kind},
};

use crate::{
    connection, counters, emit,
    maps::{CONNECTIONS, Connection, EVENTS, connection_flag},
    programs::socket_life,
    read::{self, Kernel, bound},
    settings::*,
    socket::Sock,
};

const AF_UNIX: u16 = 1;
const SOCK_STREAM: u16 = 1;
/// `include/net/tcp_states.h`; Unix sockets use it, too.
const TCP_CLOSE: u8 = 7;

/// The entry of a Unix stream socket that a call has just used; `known` is what stands under its address. Null if
/// it is none.
#[inline(always)]
pub fn find<K: Kernel>(
    sk: u64,
    known: Option<*mut Connection>,
) -> Result<(Sock<K>, *mut Connection), Counter> {
    let none = (Sock::unix(sk), core::ptr::null_mut());
    if UNIX_SOCKETS.load() == 0 {
        return Ok(none);
    }
    if known.is_none() && !is_stream::<K>(sk)? {
        return Ok(none);
    }
    let inode = inode::<K>(sk)?;
    if let Some(known) = known {
        // SAFETY: a map value lives as long as the program runs.
        let entry = unsafe { &mut *known };
        if entry.sent_seq == inode {
            if entry.flags & connection_flag::UNSAID != 0 {
                say(sk, entry);
            }
            return Ok((Sock::unix(sk), known));
        }
        // Another socket in the same memory: nothing told of the end of the one before.
        socket_life::destroyed(sk)?;
        if !is_stream::<K>(sk)? {
            return Ok(none);
        }
    }
    if inode == 0 {
        return Ok(none);
    }
    let connection = Connection {
        id: connection::new_id(),
        sent: 0,
        received: 0,
        sent_seq: inode,
        received_seq: 0,
        flags: connection_flag::UNIX | connection_flag::UNSAID_OLDER,
        _pad: 0,
    };
    CONNECTIONS.insert(sk, connection, 0).map_err(|_| Counter::ConnectionTableFull)?;
    let Some(made) = CONNECTIONS.get_ptr_mut(sk) else { return Ok(none) };
    // SAFETY: as above.
    say(sk, unsafe { &mut *made });
    Ok((Sock::unix(sk), made))
}

#[inline(always)]
fn is_stream<K: Kernel>(sk: u64) -> Result<bool, Counter> {
    // SAFETY: integers.
    let (family, shape) =
        unsafe { (K::read::<u16>(sk, SK_FAMILY.load())?, K::read::<u16>(sk, SK_TYPE.load())?) };
    Ok(family == AF_UNIX && shape == SOCK_STREAM)
}

/// The number of the socket's inode, by which it is told from an earlier one in the same memory; 0 if no process has it
/// as a file. The kernel makes these numbers of 32 bits.
#[inline(always)]
fn inode<K: Kernel>(sk: u64) -> Result<u32, Counter> {
    // SAFETY: pointers and an integer.
    unsafe {
        let socket: u64 = K::read(sk, SK_SOCKET.load())?;
        if socket == 0 {
            return Ok(0);
        }
        let file: u64 = K::read(socket, SOCKET_FILE.load())?;
        if file == 0 {
            return Ok(0);
        }
        let inode: u64 = K::read(file, FILE_INODE.load())?;
        Ok(K::read::<u64>(inode, INODE_NUMBER.load())? as u32)
    }
}

/// True if a call that returned this may have found the other end gone: the end of the stream, `EPIPE`, `ECONNRESET`.
#[inline(always)]
pub fn may_be_over(result: i64) -> bool {
    result == 0 || result == -32 || result == -104
}

/// A call has moved nothing. If that is so because the other end is closed, and nothing is left that it sent, neither
/// end will move anything any more.
#[inline(always)]
pub fn over<K: Kernel>(sk: u64) -> Result<(), Counter> {
    // SAFETY: an integer.
    if UNIX_SOCKETS.load() == 0 || unsafe { K::read::<u16>(sk, SK_FAMILY.load()) }? != AF_UNIX {
        return Ok(());
    }
    // SAFETY: only looked at.
    let is_known =
        unsafe { CONNECTIONS.get(sk) }.is_some_and(|known| known.flags & connection_flag::UNIX != 0);
    // SAFETY: pointers and integers, read through the checking helper.
    let peer = unsafe { read::kernel::<u64>(sk, UNIX_PEER.load()) }?;
    // SAFETY: as above. We hold the other end's memory as long as we exist.
    if peer == 0 || unsafe { read::kernel::<u8>(peer, SK_STATE.load()) }? != TCP_CLOSE {
        return Ok(());
    }
    socket_life::destroyed(peer)?;
    // SAFETY: as above.
    if is_known && unsafe { read::kernel::<u32>(sk, SK_QUEUED.load()) }? == 0 {
        return socket_life::destroyed(sk);
    }
    Ok(())
}

/// Announces a connection that is not announced yet, as `connection::say` does.
#[inline(always)]
fn say(sk: u64, entry: &mut Connection) {
    // Written where it is: the stack of a program is small.
    let Some(mut reserved) = EVENTS.reserve::<record::OpenUnix>(0) else {
        return; // its next call tries again
    };
    let open = reserved.as_mut_ptr();
    let now = emit::now();
    // SAFETY: the reservation, of which all but the rest of the names is written.
    let (local, peer) = unsafe {
        let length = size_of::<record::OpenUnix>();
        (&raw mut (*open).header).write(emit::header(kind::OPEN_UNIX, 0, length, now));
        (&raw mut (*open).connection).write(entry.id);
        (&raw mut (*open).parent).write(connection::parent_tgid());
        (&raw mut (*open).comm).write(emit::comm());
        (&raw mut (*open)._pad).write(0);
        let net = read::kernel::<u64>(sk, SK_NET.load());
        (&raw mut (*open).netns).write(net.and_then(|net| read::kernel(net, NET_INUM.load())).unwrap_or(0));
        let local = name(sk, &raw mut (*open).local);
        let peer = match read::kernel::<u64>(sk, UNIX_PEER.load()) {
            Ok(0) => Ok(0),
            Ok(peer) => name(peer, &raw mut (*open).peer),
            Err(counter) => Err(counter),
        };
        (&raw mut (*open).local_length).write(local.unwrap_or(0));
        (&raw mut (*open).peer_length).write(peer.unwrap_or(0));
        (local, peer)
    };
    emit::submit(reserved, now);
    if local.is_err() || peer.is_err() {
        counters::bump(Counter::KernelReadFailed);
    }
    entry.flags &= !connection_flag::UNSAID;
}

/// Copies a socket's name, and returns its length: `struct unix_address { ..., int len; struct sockaddr_un name[]; }`,
/// where `len` includes the family.
///
/// # Safety
/// 1. `to` is valid for writes.
#[inline(always)]
unsafe fn name(sk: u64, to: *mut [u8; UNIX_NAME_BYTES]) -> Result<u16, Counter> {
    const FAMILY_BYTES: u32 = 2;
    // SAFETY: a pointer and an integer, read through the checking helper; `length` is at most the place's.
    unsafe {
        let address: u64 = read::kernel(sk, UNIX_ADDR.load())?;
        if address == 0 {
            return Ok(0);
        }
        let length: u32 = read::kernel(address, UNIX_ADDRESS_LEN.load())?;
        let length = bound(length.saturating_sub(FAMILY_BYTES) as u64, UNIX_NAME_BYTES as u64);
        let from = address + (UNIX_ADDRESS_NAME.load() + FAMILY_BYTES) as u64;
        match helpers::bpf_probe_read_kernel(to.cast(), length as u32, from as *const _) {
            0 => Ok(length as u16),
            _ => Err(Counter::KernelReadFailed),
        }
    }
}
