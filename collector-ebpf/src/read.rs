//! Reading memory that is not ours, and convincing the verifier of lengths.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated as helpers;
use spantap_ebpf_common::{Counter, syscall::op};

use crate::maps::ZERO;

/// Reads a `T` of kernel memory at `base + offset`.
///
/// # Safety
/// 1. Every bit pattern is a valid `T`. (The helper checks the address.)
#[inline(always)]
pub unsafe fn kernel<T>(base: u64, offset: u32) -> Result<T, Counter> {
    // Not aya's wrapper, which clears the place first by a call of memset.
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper refuses addresses that cannot be read, and writes the whole value; the caller vouches for `T`.
    unsafe {
        let from = (base + offset as u64) as *const c_void;
        match helpers::bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) {
            0 => Ok(value.assume_init()),
            _ => Err(Counter::KernelReadFailed),
        }
    }
}

/// How a program reaches kernel structs.
pub trait Kernel {
    /// Address of the current `task_struct`.
    fn task() -> u64;

    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    /// 1. Every bit pattern is a valid `T`.
    /// 2. `base` was given by the kernel: an argument of the program, [`Kernel::task`], or a pointer read from those.
    unsafe fn read<T: Copy>(base: u64, offset: u32) -> Result<T, Counter>;
}

/// By the helper that checks each address: everywhere.
pub struct Checked;

/// By plain loads, which the verifier follows through BTF and the kernel guards by its exception table: a fault reads
/// zero. Only in programs whose arguments carry types (`tp_btf`), and a tenth of the helper's cost.
pub struct Typed;

impl Kernel for Checked {
    #[inline(always)]
    fn task() -> u64 {
        // SAFETY: always there.
        unsafe { helpers::bpf_get_current_task() }
    }

    #[inline(always)]
    unsafe fn read<T: Copy>(base: u64, offset: u32) -> Result<T, Counter> {
        // SAFETY: the caller's.
        unsafe { kernel(base, offset) }
    }
}

impl Kernel for Typed {
    #[inline(always)]
    fn task() -> u64 {
        // SAFETY: always there (5.11); the verifier knows its type.
        unsafe { helpers::bpf_get_current_task_btf() as u64 }
    }

    #[inline(always)]
    unsafe fn read<T: Copy>(base: u64, offset: u32) -> Result<T, Counter> {
        // Volatile: neighbouring loads must not be merged into one that no member fits.
        // SAFETY: the verifier accepts only loads of members; the kernel survives those of stale pointers.
        Ok(unsafe { ((base + offset as u64) as *const T).read_volatile() })
    }
}

/// Reads a `T` of the current process's memory.
///
/// # Safety
/// 1. Every bit pattern is a valid `T`. (The helper checks the address.)
#[inline(always)]
pub unsafe fn user<T>(address: u64) -> Result<T, Counter> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as for `kernel`.
    unsafe {
        let from = address as *const c_void;
        match helpers::bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) {
            0 => Ok(value.assume_init()),
            _ => Err(Counter::PayloadFault),
        }
    }
}

/// Where the first byte lies that a call of this operation moved, given its second argument; 0 if in no memory of the
/// process, or not worth looking for (the first of several buffers may be empty).
#[inline(always)]
pub fn first(operation: u32, argument: u64) -> u64 {
    let vector = match operation & op::SHAPE {
        op::BUFFER => return argument,
        op::IOVEC => argument,
        // SAFETY: integers of the process.
        op::MESSAGE => match unsafe { user::<[u64; 3]>(argument) } {
            Ok([_, _, vector]) => vector,
            Err(_) => return 0,
        },
        _ => return 0,
    };
    // SAFETY: as above.
    unsafe { user::<u64>(vector) }.unwrap_or(0)
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

/// The smaller of two numbers that differ by less than 2^63 (else either), without a branch, for the verifier's sake.
#[inline(always)]
pub fn smaller(a: u64, b: u64) -> u64 {
    let mut least = a;
    // SAFETY: register instructions without memory access.
    unsafe {
        core::arch::asm!(
            "{least} -= {b}",
            "{mask} = {least}",
            "{mask} s>>= 63",
            "{least} &= {mask}",
            "{least} += {b}",
            least = inout(reg) least,
            mask = out(reg) _,
            b = in(reg) b,
        );
    }
    least
}

/// Zero. What it is combined with is afterwards unknown to the verifier, which walks the rest of a program once for
/// each different thing that it knows: forgetting what nobody needs to know any more makes many ways one.
#[inline(always)]
pub fn zero() -> u64 {
    ZERO.get(0).copied().unwrap_or(0)
}

/// `value` if it is below `size`, a power of two. Like [`bound`], but an `and` gives the verifier bounds also on paths
/// that cannot be, which older kernels (before 6.8) follow with bounds that contradict one another.
#[inline(always)]
pub fn within(value: u64, size: u64) -> u64 {
    let mut within = value;
    // SAFETY: a register instruction without memory access.
    unsafe {
        core::arch::asm!("{value} &= {mask}", value = inout(reg) within, mask = in(reg) size - 1);
    }
    within
}
