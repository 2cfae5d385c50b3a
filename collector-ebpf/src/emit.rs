//! Records into the ring buffer: reserved, written whole, submitted; nothing is staged in memory that another program
//! could overwrite meanwhile.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, generated as helpers},
    maps::ring_buf::RingBufEntry,
};
use spantap_ebpf_common::{
    Counter,
    limits::{COMM_BYTES, IOVECS_MAX, MESSAGE_BUFFERS_MAX, MMSGHDR_BYTES, MMSGHDR_LEN_AT},
    record::{self, Header},
};

use crate::{
    counters,
    maps::{EVENTS, WOKEN},
    read::{self, bound, within},
    settings, verdict,
};

/// A data record with room for `N` bytes of payload.
#[repr(C)]
struct WithPayload<const N: usize> {
    data: record::Data,
    payload: [u8; N],
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A header for the current thread.
#[inline(always)]
pub fn header(kind: u16, flags: u16, length: usize, boot_ns: u64) -> Header {
    header_of(bpf_get_current_pid_tgid(), kind, flags, length, boot_ns)
}

/// A header for the current thread, whose number is at hand already.
#[inline(always)]
pub fn header_of(pid_tgid: u64, kind: u16, flags: u16, length: usize, boot_ns: u64) -> Header {
    Header {
        kind,
        flags,
        length: length as u32,
        boot_ns,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
    }
}

/// The current thread's name.
#[inline(always)]
pub fn comm() -> [u8; COMM_BYTES] {
    let mut comm = MaybeUninit::<[u8; COMM_BYTES]>::uninit();
    // SAFETY: the helper writes all of it, zeros if it fails.
    unsafe {
        helpers::bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_BYTES as u32);
        comm.assume_init()
    }
}

/// A record of fixed size.
#[inline(always)]
pub fn fixed<T: 'static>(value: T) -> Result<(), Counter> {
    let mut entry = EVENTS.reserve::<T>(0).ok_or(Counter::RingFull)?;
    entry.write(value);
    submit(entry, now());
    Ok(())
}

/// The same for what must be looked at while it is there, such as a process that will be gone in milliseconds. The
/// reader is woken, though not once for each of the hundred mappings of a process that starts.
#[inline(always)]
pub fn urgent<T: 'static>(value: T) -> Result<(), Counter> {
    const PAUSE_NS: u64 = 1_000_000;
    let mut entry = EVENTS.reserve::<T>(0).ok_or(Counter::RingFull)?;
    entry.write(value);
    let now = now();
    if let Some(woken) = WOKEN.get_ptr_mut(0) {
        // SAFETY: the map owns the word while the program runs; that two processors wake at once does no harm.
        let woken = unsafe { &mut *woken };
        if now.wrapping_sub(*woken) > PAUSE_NS {
            *woken = now;
            entry.submit(BPF_RB_FORCE_WAKEUP as u64);
            return Ok(());
        }
    }
    submit(entry, now);
    Ok(())
}

/// A data record whose payload is one buffer of the current process. `data.captured` and the length are set here.
#[inline(always)]
pub fn buffer(data: &record::Data, address: u64) -> Result<(), Counter> {
    let Some(wanted) = verdict::wanted(data) else { return Ok(()) };
    match wanted {
        0 => without_payload(data),
        1..=128 => from_buffer::<128>(data, address, wanted),
        129..=256 => from_buffer::<256>(data, address, wanted),
        257..=1024 => from_buffer::<1024>(data, address, wanted),
        1025..=2048 => from_buffer::<2048>(data, address, wanted),
        2049..=4096 => from_buffer::<4096>(data, address, wanted),
        _ => from_buffer::<16384>(data, address, wanted),
    }
}

/// A data record without payload, for bytes that are in no memory of the process.
#[inline(always)]
pub fn uncopied(data: &record::Data) -> Result<(), Counter> {
    match verdict::wanted(data) {
        Some(_) => without_payload(data),
        None => Ok(()),
    }
}

#[inline(always)]
fn without_payload(data: &record::Data) -> Result<(), Counter> {
    let Some(mut entry) = EVENTS.reserve::<record::Data>(0) else { return Err(full(data)) };
    // SAFETY: the reservation, which is written whole.
    unsafe { finish(entry.as_mut_ptr(), data, 0, false) };
    submit(entry, data.header.boot_ns);
    Ok(())
}

/// A `struct iovec *`.
#[derive(Clone, Copy)]
pub enum Vector {
    /// In the process's memory.
    OfProcess(u64),
    /// In the kernel's, which has copied it.
    Copied(u64),
}

impl Vector {
    /// Address and length of the buffer at `index`.
    #[inline(always)]
    pub fn buffer(self, index: u64) -> Result<[u64; 2], Counter> {
        // SAFETY: `struct iovec { void *iov_base; size_t iov_len; }`, two integers.
        unsafe {
            match self {
                Self::OfProcess(vector) => read::user(vector + index * 16),
                Self::Copied(vector) => read::kernel(vector + index * 16, 0),
            }
        }
    }
}

/// A data record whose payload is gathered from a vector of buffers.
#[inline(always)]
pub fn iovecs(data: &record::Data, vector: Vector, count: u64) -> Result<(), Counter> {
    iovecs_from(data, vector, count, 0)
}

/// The same without the first `skip` bytes of the buffers.
#[inline(always)]
pub fn iovecs_from(data: &record::Data, vector: Vector, count: u64, skip: u64) -> Result<(), Counter> {
    let Some(wanted) = verdict::wanted(data) else { return Ok(()) };
    match wanted {
        0 => without_payload(data),
        1..=256 => from_iovecs::<256, 512>(data, vector, count, skip, wanted),
        257..=1024 => from_iovecs::<1024, 2048>(data, vector, count, skip, wanted),
        1025..=2048 => from_iovecs::<2048, 4096>(data, vector, count, skip, wanted),
        2049..=4096 => from_iovecs::<4096, 8192>(data, vector, count, skip, wanted),
        _ => from_iovecs::<16384, 32768>(data, vector, count, skip, wanted),
    }
}

#[inline(always)]
fn from_buffer<const N: usize>(data: &record::Data, address: u64, wanted: u64) -> Result<(), Counter> {
    let Some(mut entry) = EVENTS.reserve::<WithPayload<N>>(0) else { return Err(full(data)) };
    let record = entry.as_mut_ptr();
    let wanted = bound(wanted, N as u64);
    // SAFETY: `record` is the reservation, `wanted` is at most N, and `finish` writes the whole header.
    unsafe {
        let fault = helpers::bpf_probe_read_user(
            (&raw mut (*record).payload).cast(),
            wanted as u32,
            address as *const _,
        );
        finish(&raw mut (*record).data, data, if fault == 0 { wanted as u32 } else { 0 }, fault != 0);
    }
    submit(entry, data.header.boot_ns);
    Ok(())
}

/// `ROOM` is twice `N`: the verifier knows that the offset and the length are at most `N` each, not that they are
/// together. The second half is never written, nor read.
#[inline(always)]
fn from_iovecs<const N: usize, const ROOM: usize>(
    data: &record::Data,
    vector: Vector,
    count: u64,
    mut skip: u64,
    wanted: u64,
) -> Result<(), Counter> {
    let Some(mut entry) = EVENTS.reserve::<WithPayload<ROOM>>(0) else { return Err(full(data)) };
    let record = entry.as_mut_ptr();
    let mut copied = 0u64;
    let mut fault = false;
    for i in 0..IOVECS_MAX as u64 {
        if i >= count || copied >= wanted {
            break;
        }
        let Ok([mut base, mut length]) = vector.buffer(i) else {
            fault = true;
            break;
        };
        let passed = if skip < length { skip } else { length };
        base += passed;
        length -= passed;
        skip -= passed;
        let left = wanted - copied;
        let n = bound(if length < left { length } else { left }, N as u64);
        let at = within(copied, N as u64); // below `wanted`, or the loop had ended
        // SAFETY: `at` and `n` are at most N each, and the room is twice that.
        let error = unsafe {
            let to = (&raw mut (*record).payload).cast::<u8>().add(at as usize);
            helpers::bpf_probe_read_user(to.cast(), n as u32, base as *const _)
        };
        if error != 0 {
            fault = true;
            break;
        }
        copied = at + n;
    }
    // SAFETY: `record` is the reservation; `finish` writes the whole header.
    unsafe { finish(&raw mut (*record).data, data, copied as u32, fault) };
    submit(entry, data.header.boot_ns);
    Ok(())
}

/// A data record whose payload is gathered from the buffers of `count` messages (`struct mmsghdr *`, in the process's
/// memory): at most 4 KiB, since few programs send so over TCP.
#[inline(always)]
pub fn messages(data: &record::Data, mut message: u64, mut count: u64) -> Result<(), Counter> {
    const MOST: usize = 4096;
    let Some(wanted) = verdict::wanted(data) else { return Ok(()) };
    let Some(mut entry) = EVENTS.reserve::<WithPayload<{ 2 * MOST }>>(0) else { return Err(full(data)) };
    let record = entry.as_mut_ptr();
    let wanted = if wanted < MOST as u64 { wanted } else { MOST as u64 };
    let (mut buffers, mut buffers_left, mut bytes_left) = (0, 0, 0);
    let mut copied = 0u64;
    let mut fault = false;
    for _ in 0..MESSAGE_BUFFERS_MAX {
        if buffers_left == 0 || bytes_left == 0 {
            if count == 0 {
                break;
            }
            // SAFETY: integers of the process.
            let (header, length) =
                unsafe { (read::user::<[u64; 4]>(message), read::user::<u32>(message + MMSGHDR_LEN_AT)) };
            let (Ok([_, _, vector, segments]), Ok(length)) = (header, length) else {
                fault = true;
                break;
            };
            (buffers, buffers_left, bytes_left) = (vector, segments, length as u64);
            message += MMSGHDR_BYTES;
            count -= 1;
            if buffers_left == 0 || bytes_left == 0 {
                continue;
            }
        }
        if copied >= wanted {
            break;
        }
        let Ok([base, room]) = Vector::OfProcess(buffers).buffer(0) else {
            fault = true;
            break;
        };
        buffers += 16;
        buffers_left -= 1;
        let length = if room < bytes_left { room } else { bytes_left };
        bytes_left -= length;
        let left = wanted - copied;
        let n = bound(if length < left { length } else { left }, MOST as u64);
        let at = within(copied, MOST as u64); // below `wanted`, or the loop had ended
        // SAFETY: `at` and `n` are at most MOST each, and the room is twice that.
        let error = unsafe {
            let to = (&raw mut (*record).payload).cast::<u8>().add(at as usize);
            helpers::bpf_probe_read_user(to.cast(), n as u32, base as *const _)
        };
        if error != 0 {
            fault = true;
            break;
        }
        copied = at + n;
    }
    // SAFETY: `record` is the reservation; `finish` writes the whole header.
    unsafe { finish(&raw mut (*record).data, data, copied as u32, fault) };
    submit(entry, data.header.boot_ns);
    Ok(())
}

/// Writes the header of a data record and accounts for its bytes.
///
/// # Safety
/// 1. `to` is valid for writes.
#[inline(always)]
unsafe fn finish(to: *mut record::Data, data: &record::Data, captured: u32, fault: bool) {
    // SAFETY: the caller's.
    unsafe {
        to.write(*data);
        (*to).captured = captured;
        (*to).header.length = size_of::<record::Data>() as u32 + captured;
    }
    if fault {
        counters::bump(Counter::PayloadFault);
    }
}

#[inline(always)]
fn full(data: &record::Data) -> Counter {
    counters::add(Counter::RingFullBytes, data.size as u64);
    Counter::RingFull
}

/// Submits a record that was made at `boot_ns`.
///
/// A wake-up costs ten times a submit: the reader comes by itself every few milliseconds, and is woken only when much
/// is waiting. Looking how much costs something too: one in sixteen looks, chosen by bits of its time that nobody has
/// a say in.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>, boot_ns: u64) {
    const ONE_IN_SIXTEEN: u64 = 0xf0;
    let wakes = boot_ns & ONE_IN_SIXTEEN == 0
        && EVENTS.query(BPF_RB_AVAIL_DATA as u64) >= settings::WAKEUP_BYTES.load();
    let flags = if wakes { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(flags as u64);
}
