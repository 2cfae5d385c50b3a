//! How much work something is, counted and not timed: the edges of the control flow that were taken.
//!
//! The coverage pass of the compiler (`-sanitizer-coverage-trace-pc`) calls a function at every edge of all Rust code; by
//! the linker's `--wrap` (`build.rs`) it is this one. It is assembly, since any other would be instrumented itself. Not
//! atomic: the fuzzer has one thread.

use std::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

std::arch::global_asm!(
    ".globl __wrap___sanitizer_cov_trace_pc",
    "__wrap___sanitizer_cov_trace_pc:",
    "incq {steps}(%rip)",
    "ret",
    steps = sym STEPS,
    options(att_syntax),
);

/// So far.
pub fn taken() -> u64 {
    STEPS.load(Ordering::Relaxed)
}
