//! Reading memory that is not ours, and convincing the verifier of lengths.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_user};
use spantap_ebpf_common::Counter;

/// Reads a `T` of kernel memory at `base + offset`.
///
/// # Safety
/// 1. Every bit pattern is a valid `T`. (The helper checks the address.)
#[inline(always)]
pub unsafe fn kernel<T>(base: u64, offset: u32) -> Result<T, Counter> {
    // SAFETY: the helper refuses addresses that cannot be read; the caller vouches for `T`.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.map_err(|_| Counter::KernelReadFailed)
}

/// Reads a `T` of the current process's memory.
///
/// # Safety
/// 1. Every bit pattern is a valid `T`. (The helper checks the address.)
#[inline(always)]
pub unsafe fn user<T>(address: u64) -> Result<T, Counter> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const T) }.map_err(|_| Counter::PayloadFault)
}

/// The smaller of `value` and `cap`, in instructions that LLVM can neither fold nor duplicate: the verifier keeps
/// track of the register that is compared here, and it must be the one that is used.
#[inline(always)]
pub fn bound(value: u64, cap: u64) -> u64 {
    let mut bounded = value;
    // SAFETY: two register instructions without memory access.
    unsafe {
        core::arch::asm!(
            "if {value} <= {cap} goto +1",
            "{value} = {cap}",
            value = inout(reg) bounded,
            cap = in(reg) cap,
        );
    }
    bounded
}
