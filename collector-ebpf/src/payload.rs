//! Data records: a call's bytes, gathered from where they lie into a record with as much room as they need.
//!
//! The verifier walks every turn of every loop, once for each different thing that it knows when it gets there, and
//! gives up after a million instructions. So there is one place where buffers are copied and one where vectors are; a
//! turn has no branch that comes back to the loop, but for one (the copy's bound), and forgets what it has learnt.

use aya_ebpf::helpers::generated as helpers;
use spantap_ebpf_common::{
    Counter,
    limits::{
        COPY_BYTES_ALL, COPY_BYTES_MAX, END_BYTES, IOVECS_FEW as FEW, IOVECS_MAX as MANY,
        MESSAGE_BUFFERS_MAX, MMSGHDR_BYTES, MMSGHDR_LEN_AT,
    },
    record,
};

use crate::{
    counters,
    emit::submit,
    maps::EVENTS,
    read::{self, bound, smaller, within},
    verdict,
};

/// Where the bytes are that a call moved. (No `enum` with fields: of one that has none LLVM stores them nevertheless, from
/// registers that were never written, and the verifier refuses that.)
#[derive(Clone, Copy)]
pub struct Source {
    place: Place,
    /// A vector, or just the address of a buffer.
    at: Vector,
}

#[derive(Clone, Copy)]
enum Place {
    Unknown,
    Buffer,
    Vector,
}

impl Source {
    /// In no memory of the process, or nobody knows.
    pub const UNKNOWN: Self = Self { place: Place::Unknown, at: Vector::at(0) };

    /// At this address of the process.
    #[inline(always)]
    pub fn buffer(address: u64) -> Self {
        Self { place: Place::Buffer, at: Vector::at(address) }
    }

    /// In the buffers of a vector.
    #[inline(always)]
    pub fn vector(vector: Vector) -> Self {
        Self { place: Place::Vector, at: vector }
    }
}

/// A `struct iovec *`.
#[derive(Clone, Copy)]
pub struct Vector {
    /// Where it is.
    address: u64,
    /// Buffers in it.
    count: u64,
    /// Bytes at the beginning of the buffers that were moved before.
    skip: u64,
    /// In the kernel's memory, which has copied it, and not in the process's.
    copied: bool,
}

impl Vector {
    const fn at(address: u64) -> Self {
        Self { address, count: 0, skip: 0, copied: false }
    }

    /// One in the process's memory.
    #[inline(always)]
    pub fn of_process(address: u64, count: u64) -> Self {
        Self { address, count, skip: 0, copied: false }
    }

    /// The kernel's copy of one, of whose bytes the first `skip` were moved before.
    #[inline(always)]
    pub fn of_kernel(address: u64, count: u64, skip: u64) -> Self {
        Self { address, count, skip, copied: true }
    }

    /// Address and length of the buffer at `index`.
    #[inline(always)]
    pub fn buffer(self, index: u64) -> Result<[u64; 2], Counter> {
        let at = self.address + index * 16;
        // SAFETY: `struct iovec { void *iov_base; size_t iov_len; }`, two integers.
        unsafe { if self.copied { read::kernel(at, 0) } else { read::user(at) } }
    }
}

const ROOM_OF_END: usize = END_BYTES as usize;
/// Bytes in a record at most.
const PIECE: usize = COPY_BYTES_MAX as usize;
const MOST: u64 = COPY_BYTES_MAX as u64;
/// The pieces of all that is ever copied of a call, and its end.
const RECORDS_MAX: u32 = COPY_BYTES_ALL / COPY_BYTES_MAX + 1;

/// A data record with room for `N` bytes of payload.
#[repr(C)]
struct WithPayload<const N: usize> {
    data: record::Data,
    payload: [u8; N],
}

/// Data records with what is wanted of the bytes at `source`: nearly always one. Of a call of which as much is wanted as
/// fits into one, and that moved more, its end is another one; and what lies in one buffer becomes as many as are wanted.
/// `data.captured` and the length are set here.
#[inline(always)]
pub fn report(data: &mut record::Data, source: Source) -> Result<(), Counter> {
    let Some(wanted) = verdict::wanted(data) else { return Ok(()) };
    if wanted < MOST || data.size as u64 <= MOST {
        return one(data, source, wanted);
    }
    match source.place {
        Place::Unknown => one(data, source, wanted),
        Place::Buffer => in_pieces(data, source.at.address, wanted),
        Place::Vector => with_end(data, source),
    }
}

/// A buffer's beginning in pieces; then its end, behind what is left out, which counts as part of the piece before it.
#[inline(always)]
fn in_pieces(data: &mut record::Data, address: u64, wanted: u64) -> Result<(), Counter> {
    let zero = read::zero();
    let total = data.size as u64;
    let end = smaller(total - wanted, END_BYTES as u64);
    let mut done = zero;
    for _ in 0..RECORDS_MAX {
        if done >= total {
            break;
        }
        let is_end = done >= wanted;
        let n = if is_end { end } else { smaller(wanted - done, MOST) };
        let size = if !is_end && done + n >= wanted { total - end - done } else { n };
        data.size = size as u32;
        if let Err(counter) = from_buffer::<PIECE>(data, address + done, n) {
            counters::add(Counter::RingFullBytes, total - done - size);
            return Err(counter);
        }
        done = (done + size) ^ zero;
        data.position += size;
    }
    Ok(())
}

/// A vector's beginning and its end.
#[inline(always)]
fn with_end(data: &mut record::Data, source: Source) -> Result<(), Counter> {
    let end = smaller(data.size as u64 - MOST, END_BYTES as u64);
    data.size -= end as u32;
    if let Err(counter) = one(data, source, MOST) {
        counters::add(Counter::RingFullBytes, end);
        return Err(counter);
    }
    data.position += data.size as u64;
    let mut vector = source.at;
    vector.skip += data.size as u64;
    data.size = end as u32;
    from_vector::<ROOM_OF_END, { 2 * ROOM_OF_END }, MANY>(data, vector, end)
}

/// One record.
#[inline(always)]
fn one(data: &record::Data, source: Source, wanted: u64) -> Result<(), Counter> {
    let Source { place, at: vector } = source;
    match place {
        _ if wanted == 0 => without(data),
        Place::Unknown => without(data),
        Place::Buffer => match wanted {
            ..=128 => from_buffer::<128>(data, vector.address, wanted),
            129..=256 => from_buffer::<256>(data, vector.address, wanted),
            257..=1024 => from_buffer::<1024>(data, vector.address, wanted),
            1025..=2048 => from_buffer::<2048>(data, vector.address, wanted),
            2049..=4096 => from_buffer::<4096>(data, vector.address, wanted),
            _ => from_buffer::<16384>(data, vector.address, wanted),
        },
        // Rare, and one size for all of them.
        Place::Vector if vector.count > FEW as u64 => from_vector::<16384, 32768, MANY>(data, vector, wanted),
        Place::Vector => match wanted {
            ..=256 => from_vector::<256, 512, FEW>(data, vector, wanted),
            257..=1024 => from_vector::<1024, 2048, FEW>(data, vector, wanted),
            1025..=2048 => from_vector::<2048, 4096, FEW>(data, vector, wanted),
            2049..=4096 => from_vector::<4096, 8192, FEW>(data, vector, wanted),
            _ => from_vector::<16384, 32768, FEW>(data, vector, wanted),
        },
    }
}

#[inline(always)]
fn without(data: &record::Data) -> Result<(), Counter> {
    let Some(mut entry) = EVENTS.reserve::<record::Data>(0) else { return Err(full(data)) };
    // SAFETY: the reservation, which is written whole.
    unsafe { finish(entry.as_mut_ptr(), data, 0, false) };
    submit(entry, data.header.boot_ns);
    Ok(())
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
fn from_vector<const N: usize, const ROOM: usize, const BUFFERS: u32>(
    data: &record::Data,
    vector: Vector,
    wanted: u64,
) -> Result<(), Counter> {
    let Some(mut entry) = EVENTS.reserve::<WithPayload<ROOM>>(0) else { return Err(full(data)) };
    let record = entry.as_mut_ptr();
    let zero = read::zero();
    let mut copied = zero;
    let mut skip = vector.skip ^ zero;
    let mut fault = false;
    for i in 0..BUFFERS as u64 {
        if i >= vector.count || copied >= wanted {
            break;
        }
        let Ok([base, length]) = vector.buffer(i) else {
            fault = true;
            break;
        };
        let passed = smaller(skip, length);
        skip = (skip - passed) ^ zero;
        let n = bound(smaller(length - passed, wanted - copied), N as u64);
        let at = within(copied, N as u64); // below `wanted`, or the loop had ended
        // SAFETY: `at` and `n` are at most N each, and the room is twice that.
        let error = unsafe {
            let to = (&raw mut (*record).payload).cast::<u8>().add(at as usize);
            helpers::bpf_probe_read_user(to.cast(), n as u32, (base + passed) as *const _)
        };
        if error != 0 {
            fault = true;
            break;
        }
        copied = (at + n) ^ zero;
    }
    // SAFETY: `record` is the reservation; `finish` writes the whole header.
    unsafe { finish(&raw mut (*record).data, data, copied as u32, fault) };
    submit(entry, data.header.boot_ns);
    Ok(())
}

/// A data record whose payload is gathered from the buffers of `count` messages (`struct mmsghdr *`, in the process's
/// memory): at most 4 KiB, since few programs send so over TCP.
#[inline(always)]
pub fn messages(data: &record::Data, message: u64, count: u64) -> Result<(), Counter> {
    const MOST: usize = 4096;
    let Some(wanted) = verdict::wanted(data) else { return Ok(()) };
    let Some(mut entry) = EVENTS.reserve::<WithPayload<{ 2 * MOST }>>(0) else { return Err(full(data)) };
    let record = entry.as_mut_ptr();
    let wanted = if wanted < MOST as u64 { wanted } else { MOST as u64 };
    let zero = read::zero();
    let mut copied = zero;
    let mut fault = false;
    let (mut message, mut count) = (message, count);
    let (mut buffers, mut buffers_left, mut bytes_left) = (0, 0, 0);
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
                break; // Nobody sends nothing: what follows is a gap.
            }
        }
        if copied >= wanted {
            break;
        }
        let Ok([base, room]) = Vector::of_process(buffers, 1).buffer(0) else {
            fault = true;
            break;
        };
        buffers = (buffers + 16) ^ zero;
        buffers_left = (buffers_left - 1) ^ zero;
        let length = smaller(room, bytes_left);
        bytes_left = (bytes_left - length) ^ zero;
        message ^= zero;
        count ^= zero;
        let n = bound(smaller(length, wanted - copied), MOST as u64);
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
        copied = (at + n) ^ zero;
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
