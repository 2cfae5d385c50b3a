//! Records into the ring buffer: reserved, written whole, submitted; nothing is staged in memory that another program
//! could overwrite meanwhile.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, generated as helpers},
    maps::ring_buf::RingBufEntry,
};
use spantap_ebpf_common::{Counter, limits::COMM_BYTES, record::Header};

use crate::{
    maps::{EVENTS, WOKEN},
    settings,
};

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
