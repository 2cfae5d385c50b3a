//! Counting: the only way in which a program leaves without a record.

use spantap_ebpf_common::Counter;

use crate::maps::COUNTERS;

/// Adds one.
#[inline(always)]
pub fn bump(counter: Counter) {
    add(counter, 1);
}

/// Adds `n`.
#[inline(always)]
pub fn add(counter: Counter, n: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // Atomic although per CPU: uprobes can be preempted, and by another program of ours. `core` has no atomic
        // arithmetic for this target; the instruction without result (BPF_ADD) is there on every kernel.
        // SAFETY: the map owns the value for the program's whole life; u64 is aligned in it.
        unsafe {
            core::arch::asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) slot, n = in(reg) n);
        }
    }
}
