//! Processes that are left alone: the agent itself, and those that it was told to ignore; all, until every program is
//! attached.

use spantap_ebpf_common::limits::IGNORED_SLOTS;

use crate::{
    maps::{IGNORED, STARTED},
    settings,
};

/// Whether the calls of the process behind `pid_tgid` are not reported.
#[inline(always)]
pub fn is(pid_tgid: u64) -> bool {
    let tgid = (pid_tgid >> 32) as u32;
    tgid == settings::AGENT_TGID.load()
        || !started()
        || IGNORED.get(slot(tgid)).is_some_and(|&held| held == tgid as u64)
}

/// Whether every program is attached.
#[inline(always)]
pub fn started() -> bool {
    STARTED.get(0).is_some_and(|&started| started != 0)
}

/// The process is another one from now on.
#[inline(always)]
pub fn forget(pid_tgid: u64) {
    let tgid = (pid_tgid >> 32) as u32;
    if let Some(held) = IGNORED.get_ptr_mut(slot(tgid)) {
        // SAFETY: the map owns the slot; a whole word, which the agent writes anew if it was for another process.
        unsafe {
            if *held == tgid as u64 {
                *held = 0;
            }
        }
    }
}

#[inline(always)]
fn slot(tgid: u32) -> u32 {
    tgid & (IGNORED_SLOTS - 1)
}
