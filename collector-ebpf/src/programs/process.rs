//! Processes: begun and ended, so that user space looks at /proc while there is something to see.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use spantap_ebpf_common::{
    Counter,
    record::{self, kind},
};

use crate::{counters, emit, ignored, read, settings};

/// Hooks `include/trace/events/sched.h: sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm
/// *bprm)`; checked on 6.18.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(_ctx: RawTracePointContext) -> i32 {
    if let Err(counter) = executed() {
        counters::bump(counter);
    }
    0
}

/// The current process runs another executable now.
#[inline(always)]
pub(super) fn executed() -> Result<(), Counter> {
    ignored::forget(bpf_get_current_pid_tgid());
    report(kind::EXEC)
}

/// Hooks `include/trace/events/sched.h: sched_process_exit(struct task_struct *p)`; checked on 6.18. It fires for each
/// thread, after `do_exit` has taken the thread off `signal->live`; the last one finds 0 there.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(_ctx: RawTracePointContext) -> i32 {
    if let Err(counter) = ended() {
        counters::bump(counter);
    }
    0
}

/// A thread has ended, perhaps the last one of its process.
#[inline(always)]
pub(super) fn ended() -> Result<(), Counter> {
    // SAFETY: the current task, a pointer and an integer, read through the checking helper.
    let live: u32 = unsafe {
        let signal: u64 = read::kernel(bpf_get_current_task(), settings::TASK_SIGNAL.load())?;
        read::kernel(signal, settings::SIGNAL_LIVE.load())?
    };
    if live != 0 {
        return Ok(());
    }
    ignored::forget(bpf_get_current_pid_tgid());
    report(kind::EXIT)
}

/// Reports a change of the current process.
#[inline(always)]
pub fn report(kind: u16) -> Result<(), Counter> {
    if (bpf_get_current_pid_tgid() >> 32) as u32 == settings::AGENT_TGID.load() {
        return Ok(());
    }
    emit::urgent(record::Process {
        header: emit::header(kind, 0, size_of::<record::Process>(), emit::now()),
        comm: emit::comm(),
    })
}
