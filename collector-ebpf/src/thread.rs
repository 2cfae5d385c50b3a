//! A thread's slot in [`THREADS`].

use spantap_ebpf_common::limits::THREAD_SLOTS;

use crate::maps::{Buffers, THREADS, Thread};

/// The thread's slot, if it still is its own.
#[inline(always)]
pub fn own(pid_tgid: u64) -> Option<&'static mut Thread> {
    let slot = slot(pid_tgid)?;
    (slot.pid_tgid == pid_tgid).then_some(slot)
}

/// The thread's slot, taken from whoever had it.
#[inline(always)]
pub fn take(pid_tgid: u64) -> Option<&'static mut Thread> {
    let slot = slot(pid_tgid)?;
    if slot.pid_tgid != pid_tgid {
        *slot = Thread { pid_tgid, entered_ns: 0, ssl: 0, outgoing: Buffers::UNKNOWN, sk: 0 };
    }
    Some(slot)
}

#[inline(always)]
fn slot(pid_tgid: u64) -> Option<&'static mut Thread> {
    // SAFETY: the map owns the slot while the program runs. Threads that share it may write at the same time; each
    // field is a whole word, and `pid_tgid` says whose they are.
    THREADS.get_ptr_mut(pid_tgid as u32 & (THREAD_SLOTS - 1)).map(|slot| unsafe { &mut *slot })
}
