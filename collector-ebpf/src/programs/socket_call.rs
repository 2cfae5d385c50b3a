//! What the backends that hook kernel functions share: a call on a socket is noted at its entry and reported at its
//! return.
//!
//! Where the bytes lie is taken from the message's iterator, so that it does not matter who calls: each message of a
//! sendmmsg, io_uring and 32-bit processes are seen like any other.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use spantap_ebpf_common::{
    Counter,
    limits::THREAD_SLOTS,
    offset::ABSENT,
    record::{self, flag, kind},
};

use crate::{
    connection, counters, emit, ignored,
    maps::{CALLS, Call, Connection, place},
    payload::{self, Source, Vector},
    programs::process,
    read::Kernel,
    settings,
    socket::{Sock, Tcp},
    tls_bind,
};

/// Where bytes go: from the process, or to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Out of the process.
    Sends,
    /// Into it.
    Receives,
}

/// The thread enters a call that moves up to `size` bytes of `message` (`struct msghdr`). `flags` are those of recv(2).
#[inline(always)]
pub fn enter<K: Kernel>(sk: u64, message: u64, size: u64, way: Way, flags: u64) -> Result<(), Counter> {
    /// The bytes are thrown away: the buffers hold something else (tcp(7)).
    const MSG_TRUNC: u64 = 0x20;
    let mut call = new(sk, size, way);
    if way == Way::Sends || flags & MSG_TRUNC == 0 {
        let at = settings::MSG_ITER.load();
        // SAFETY: integers of the message, which is an argument of the hooked function.
        unsafe {
            let kind: u8 = K::read(message, at + settings::ITER_TYPE.load())?;
            let kind = kind as u32 & settings::ITER_TYPE_BITS.load();
            // Asked first, and known at load: where the kernel has no such iterator, this branch does not exist.
            if settings::ITER_UBUF.load() != ABSENT && kind == settings::ITER_UBUF.load() {
                call.place = place::BUFFER;
                call.address = K::read(message, at + settings::ITER_ADDRESS.load())?;
            } else if kind == settings::ITER_IOVEC.load() {
                call.place = place::VECTOR;
                call.address = K::read(message, at + settings::ITER_VECTOR.load())?;
                call.segments = K::read::<u64>(message, at + settings::ITER_SEGMENTS.load())? as u32;
            }
            if call.place != place::NOWHERE {
                call.skip = K::read(message, at + settings::ITER_OFFSET.load())?;
            }
        }
    }
    note(call);
    Ok(())
}

/// The same for bytes that are in no memory of the process.
#[inline(always)]
pub fn enter_uncopied(sk: u64, size: u64, way: Way) {
    note(new(sk, size, way));
}

#[inline(always)]
fn new(sk: u64, size: u64, way: Way) -> Call {
    Call {
        pid_tgid: bpf_get_current_pid_tgid(),
        entered_ns: if way == Way::Sends { emit::now() } else { 0 },
        sk,
        address: 0,
        skip: 0,
        size,
        segments: 0,
        place: place::NOWHERE,
    }
}

/// `struct socket`'s `struct sock`.
///
/// # Errors
/// [`Counter::KernelReadFailed`].
#[inline(always)]
pub fn sock_of<K: Kernel>(socket: u64) -> Result<u64, Counter> {
    // SAFETY: a pointer of the socket, which is an argument of the hooked function.
    unsafe { K::read(socket, settings::SOCKET_SK.load()) }
}

/// Threads whose tids share their low bits share a slot. Whoever reads one looks at its owner before and after: the
/// owner is written first and last.
#[inline(always)]
fn note(call: Call) {
    let Some(slot) = CALLS.get_ptr_mut(call.pid_tgid as u32 & (THREAD_SLOTS - 1)) else { return };
    // SAFETY: the map owns the slot while the program runs; each field is a whole word.
    unsafe {
        (&raw mut (*slot).pid_tgid).write_volatile(0);
        (&raw mut (*slot).entered_ns).write_volatile(call.entered_ns);
        (&raw mut (*slot).sk).write_volatile(call.sk);
        (&raw mut (*slot).address).write_volatile(call.address);
        (&raw mut (*slot).skip).write_volatile(call.skip);
        (&raw mut (*slot).size).write_volatile(call.size);
        (&raw mut (*slot).segments).write_volatile(call.segments);
        (&raw mut (*slot).place).write_volatile(call.place);
        (&raw mut (*slot).pid_tgid).write_volatile(call.pid_tgid);
    }
}

/// The call that this thread has noted, which is thereby over.
#[inline(always)]
pub fn take() -> Option<Call> {
    let (call, slot) = current()?;
    // SAFETY: as in `note`.
    unsafe { (&raw mut (*slot).pid_tgid).write_volatile(0) };
    Some(call)
}

/// The call that this thread has noted, which goes on after `moved` bytes.
#[inline(always)]
pub fn goes_on(slot: *mut Call, call: &Call, moved: u64) {
    // SAFETY: as in `note`.
    unsafe {
        (&raw mut (*slot).skip).write_volatile(call.skip + moved);
        (&raw mut (*slot).size).write_volatile(call.size - moved);
    }
}

/// The call that this thread has noted, and its slot.
#[inline(always)]
pub fn current() -> Option<(Call, *mut Call)> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let slot = CALLS.get_ptr_mut(pid_tgid as u32 & (THREAD_SLOTS - 1))?;
    // SAFETY: as above.
    unsafe {
        let owner = &raw mut (*slot).pid_tgid;
        if owner.read_volatile() != pid_tgid {
            return None;
        }
        let call = Call {
            pid_tgid,
            entered_ns: (&raw const (*slot).entered_ns).read_volatile(),
            sk: (&raw const (*slot).sk).read_volatile(),
            address: (&raw const (*slot).address).read_volatile(),
            skip: (&raw const (*slot).skip).read_volatile(),
            size: (&raw const (*slot).size).read_volatile(),
            segments: (&raw const (*slot).segments).read_volatile(),
            place: (&raw const (*slot).place).read_volatile(),
        };
        if owner.read_volatile() != pid_tgid {
            return None;
        }
        Some((call, slot))
    }
}

/// The call returns: `result` is how many bytes it moved, or an error. `flags` are those of recv(2).
#[inline(always)]
pub fn leave<K: Tcp>(call: Option<Call>, sk: u64, way: Way, flags: u64, result: i64) -> Result<(), Counter> {
    if result <= 0 || result > u32::MAX as i64 || ignored::is(bpf_get_current_pid_tgid()) {
        return Ok(());
    }
    let size = result as u32;
    let only_looks = way == Way::Receives && connection::only_looks(flags);
    let (sent, received) = match way {
        Way::Sends => (size, 0),
        Way::Receives => (0, if only_looks { 0 } else { size }),
    };
    let (sock, found) = connection::find::<K>(sk, sent, received)?;
    if found.is_null() {
        return Ok(());
    }
    if only_looks {
        return Err(Counter::Peeked);
    }
    report(call, sk, sock, found, way, size)
}

/// Reports `size` bytes that have just moved.
#[inline(always)]
pub fn report<K: Kernel>(
    call: Option<Call>,
    sk: u64,
    sock: Sock<K>,
    connection: *mut Connection,
    way: Way,
    size: u32,
) -> Result<(), Counter> {
    // SAFETY: a map value lives as long as the program runs. Another thread's call on the same socket may change it
    // at the same time; each field is a whole word.
    let connection = unsafe { &mut *connection };
    let sends = way == Way::Sends;
    let position =
        if sends { connection.sent(sock, size as u64)? } else { connection.received(sock, size as u64)? };
    let Some(position) = position else { return Ok(()) };
    let pid_tgid = bpf_get_current_pid_tgid();
    let first = || match call {
        Some(call) if call.place == place::BUFFER => call.address + call.skip,
        Some(call) if call.place == place::VECTOR => {
            let [base, length] = vector(call).buffer(0).unwrap_or([0, 0]);
            if call.skip < length { base + call.skip } else { 0 }
        }
        _ => 0,
    };
    if tls_bind::moved(connection, sk, pid_tgid, size as u64, sends, first) || !sock.has_file()? {
        return Ok(());
    }
    let now = emit::now();
    let (mut flags, mut first_ns) = (if sends { flag::SENT } else { 0 }, now);
    match &call {
        Some(call) if sends => first_ns = call.entered_ns,
        None => {
            flags |= flag::NO_ENTRY_TIME;
            counters::bump(Counter::EntryTimeLost);
        }
        Some(_) => {}
    }
    let mut data = record::Data {
        header: emit::header_of(pid_tgid, kind::DATA, flags, 0, now),
        connection: connection.id,
        stream: connection.id,
        first_ns,
        position,
        size,
        captured: 0,
    };
    let source = match call {
        Some(call) if call.place == place::BUFFER => Source::buffer(call.address + call.skip),
        Some(call) if call.place == place::VECTOR => Source::vector(vector(call)),
        _ => Source::UNKNOWN,
    };
    payload::report(&mut data, source)
}

/// The kernel's copy of the vector that a call was given.
#[inline(always)]
fn vector(call: Call) -> Vector {
    Vector::of_kernel(call.address, call.segments as u64, call.skip)
}

/// A file is about to be mapped: if it is code, it is a library.
#[inline(always)]
pub fn mapping(file: u64, protection: u64) -> Result<(), Counter> {
    const PROT_EXEC: u64 = 4;
    if file != 0 && protection & PROT_EXEC != 0 { process::report(kind::MAPPED) } else { Ok(()) }
}
