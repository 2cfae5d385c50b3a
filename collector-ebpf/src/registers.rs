//! Where a system call's number and arguments lie in the registers that the kernel saved at its entry. They keep their
//! values until the call returns.
//!
//! x86-64: `arch/x86/include/asm/ptrace.h`, `struct pt_regs`; the arguments are di, si, dx, r10, r8. An object for
//! another architecture differs in this file only.

/// `orig_ax`.
pub const NUMBER: u32 = 120;
/// First argument.
pub const ARGUMENT_0: u32 = 112;
/// Second argument.
pub const ARGUMENT_1: u32 = 104;
/// Third argument.
pub const ARGUMENT_2: u32 = 96;
/// Fourth argument.
pub const ARGUMENT_3: u32 = 56;
/// Fifth argument.
pub const ARGUMENT_4: u32 = 72;
/// `sp`.
pub const STACK_POINTER: u32 = 152;
/// The code segment, which tells 32-bit processes apart: their call numbers mean other calls.
pub const CODE_SEGMENT: u32 = 136;
/// `__USER_CS`.
pub const CODE_SEGMENT_64: u64 = 0x33;
