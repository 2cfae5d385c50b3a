//! How much of a call's bytes is wanted.

use spantap_ebpf_common::{
    Counter, Verdict, limits,
    record::{self, flag},
};

use crate::{counters, maps::VERDICTS, settings};

/// How many of a call's bytes are copied at most; `None` if the call is not reported at all.
#[inline(always)]
pub fn wanted(data: &record::Data) -> Option<u64> {
    let usual = usual(data.position);
    let Some(verdict) = VERDICTS.get_ptr_mut(Verdict::slot(data.stream)) else {
        return Some(smaller(data.size, usual));
    };
    // SAFETY: the map owns the slot while the program runs. The agent may write it at the same time; each field is a
    // whole word, and a mixture costs at worst the bytes of one call, which are counted.
    let verdict = unsafe { &mut *verdict };
    if verdict.stream != data.stream {
        return Some(smaller(data.size, usual));
    }
    let until = if data.header.flags & flag::SENT != 0 { verdict.sent_until } else { verdict.received_until };
    if data.position + data.size as u64 <= until {
        return Some(0);
    }
    let now = data.header.boot_ns;
    if now < verdict.quiet_until_ns {
        if now.saturating_sub(verdict.active_ns) < Verdict::IDLE_NS {
            verdict.active_ns = now;
            counters::bump(Counter::UnwantedCalls);
            counters::add(Counter::UnwantedBytes, data.size as u64);
            return None;
        }
        verdict.quiet_until_ns = 0;
    }
    Some(smaller(data.size, if usual > verdict.copy_bytes { usual } else { verdict.copy_bytes }))
}

/// Of the beginning of a stream more is copied: what is lost there may be missed for all of it (HPACK's table, what is
/// prepared), and the agent can only ask for more once it has seen something.
#[inline(always)]
fn usual(position: u64) -> u32 {
    if position < limits::BEGINNING_BYTES {
        settings::COPY_BYTES_BEGINNING.load()
    } else {
        settings::COPY_BYTES.load()
    }
}

#[inline(always)]
fn smaller(size: u32, limit: u32) -> u64 {
    (if size < limit { size } else { limit }) as u64
}
