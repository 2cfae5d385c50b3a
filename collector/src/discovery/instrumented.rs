//! Which processes export their own spans: what they publish of themselves, and exports that were seen leaving them.
//!
//! An export proves nothing of a process that takes in spans of others as well: a collector or a proxy passes them on. And
//! metrics or logs prove nothing, for they are no spans.

use std::collections::HashMap;

use spantap_ebpf_common::event::Tgid;
use spantap_protocols::{BootNanos, Role};

use super::{ProcessContext, process_context};

/// Processes remembered at once; beyond it all are met anew.
const PROCESSES_MAX: usize = 32_768;
/// Between the first two looks for a context; then each time twice as long: SDKs begin with the program or never.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;
/// The longest: reading the mappings of a large process takes a millisecond.
const LAST_PAUSE_NS: u64 = 600_000_000_000;

/// Remembers what is known of each process.
pub struct Instrumented {
    by_process: HashMap<Tgid, Known, foldhash::fast::RandomState>,
    context_of: fn(Tgid) -> Option<ProcessContext>,
}

/// How it is known that a process exports its own spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It has published a process context.
    Context,
    /// It has sent spans to a backend, which took them.
    Export,
}

impl Evidence {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Context => "it publishes a process context (OTEL_CTX)",
            Self::Export => "it sends spans by OTLP",
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    context: bool,
    sends: bool,
    receives: bool,
    /// When the next look for a context is due, and how long to wait after it.
    look_ns: u64,
    pause_ns: u64,
    /// Whether somebody was told of the evidence.
    told: bool,
}

impl Known {
    fn evidence(&self) -> Option<Evidence> {
        if self.context {
            Some(Evidence::Context)
        } else {
            (self.sends && !self.receives).then_some(Evidence::Export)
        }
    }
}

impl Default for Instrumented {
    fn default() -> Self {
        Self { by_process: HashMap::default(), context_of: process_context::read }
    }
}

impl Instrumented {
    /// Something of the process was seen at this time. Now and then, but always at the first time, it is asked for its
    /// context, which is returned once.
    pub fn look(&mut self, tgid: Tgid, at: BootNanos) -> Option<ProcessContext> {
        let context_of = self.context_of;
        let known = self.known(tgid);
        if known.context || at.0 < known.look_ns {
            return None;
        }
        known.pause_ns = (known.pause_ns * 2).clamp(FIRST_PAUSE_NS, LAST_PAUSE_NS);
        known.look_ns = at.0.saturating_add(known.pause_ns);
        let context = context_of(tgid);
        known.context = context.is_some();
        context
    }

    /// Spans by OTLP have passed, which their receiver took: they were sent by the process, or it is the receiver. True if
    /// it has been told that the process exports its own spans, and now turns out to pass on those of others.
    pub fn spans_passed(&mut self, tgid: Tgid, role: Role) -> bool {
        let known = self.known(tgid);
        match role {
            Role::Client => known.sends = true,
            Role::Server => known.receives = true,
        }
        known.evidence().is_none() && std::mem::take(&mut known.told)
    }

    /// Whether the process exports its own spans, as far as is known; and whether that is told for the first time.
    pub fn evidence(&mut self, tgid: Tgid) -> Option<(Evidence, bool)> {
        let known = self.by_process.get_mut(&tgid)?;
        let evidence = known.evidence()?;
        Some((evidence, !std::mem::replace(&mut known.told, true)))
    }

    /// The process runs something else now, or its number may be given to another.
    pub fn forget(&mut self, tgid: Tgid) {
        self.by_process.remove(&tgid);
    }

    fn known(&mut self, tgid: Tgid) -> &mut Known {
        if self.by_process.len() >= PROCESSES_MAX && !self.by_process.contains_key(&tgid) {
            self.by_process.clear();
        }
        self.by_process.entry(tgid).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const PUBLISHER: Tgid = Tgid(1);
    const OTHER: Tgid = Tgid(2);

    fn instrumented() -> Instrumented {
        let context_of = |tgid| (tgid == PUBLISHER).then(ProcessContext::default);
        Instrumented { context_of, ..Instrumented::default() }
    }

    #[test]
    fn a_context_is_found_at_first_sight_and_told_once() {
        let mut known = instrumented();
        assert_eq!(known.evidence(PUBLISHER), None);
        assert_eq!(known.look(PUBLISHER, BootNanos(5)), Some(ProcessContext::default()));
        assert_eq!(known.look(PUBLISHER, BootNanos(900 * SECOND)), None);
        assert_eq!(known.evidence(PUBLISHER), Some((Evidence::Context, true)));
        assert_eq!(known.evidence(PUBLISHER), Some((Evidence::Context, false)));
        known.forget(PUBLISHER);
        assert_eq!(known.evidence(PUBLISHER), None);
        assert!(known.look(PUBLISHER, BootNanos(6)).is_some(), "another process of this number is met anew");
    }

    #[test]
    fn looks_become_rare_and_never_end() {
        let mut known = instrumented();
        let mut looks = Vec::new();
        for second in 0..3_000 {
            let due = known.by_process.get(&OTHER).map_or(0, |known| known.look_ns);
            known.look(OTHER, BootNanos(second * SECOND));
            if known.by_process[&OTHER].look_ns != due {
                looks.push(second);
            }
        }
        assert_eq!(looks, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1623, 2223, 2823]);
    }

    #[test]
    fn who_sends_spans_makes_them_unless_others_send_them_to_it() {
        let mut known = instrumented();
        assert!(!known.spans_passed(OTHER, Role::Client));
        assert_eq!(known.evidence(OTHER), Some((Evidence::Export, true)));
        // A proxy's own request ends before the one that it serves.
        assert!(known.spans_passed(OTHER, Role::Server), "what was told is wrong");
        assert!(!known.spans_passed(OTHER, Role::Client), "that is told once, too");
        assert_eq!(known.evidence(OTHER), None);
        let collector = Tgid(3);
        assert!(!known.spans_passed(collector, Role::Server));
        assert!(!known.spans_passed(collector, Role::Client), "nothing was told, so nothing is wrong");
        assert_eq!(known.evidence(collector), None);
    }

    #[test]
    fn a_collector_that_publishes_a_context_makes_spans_of_its_own() {
        let mut known = instrumented();
        known.spans_passed(PUBLISHER, Role::Server);
        known.look(PUBLISHER, BootNanos(0));
        assert!(!known.spans_passed(PUBLISHER, Role::Client));
        assert_eq!(known.evidence(PUBLISHER), Some((Evidence::Context, true)));
    }
}
