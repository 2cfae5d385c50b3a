//! What the kernel side is asked to leave out of a stream, so that nobody pays for bytes that nobody reads.
//!
//! Three things are asked: not to copy what lies inside a body whose length is known; not to report a stream for a while
//! that speaks no known protocol, or TLS that cannot be read; and to copy more of each call where what is usually copied
//! was too little. None is final, and all are savings: a stream that is reported all the same is handled as ever.

use spantap_ebpf_common::{
    Verdict,
    event::{Flow, StreamId},
};
use spantap_protocols::BootNanos;

/// Verdicts on their way to the kernel side.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// Those since the last call.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Verdict> {
        self.0.drain(..)
    }

    fn push(&mut self, verdict: Verdict) {
        // Of a recording nobody takes them.
        if self.0.len() < WAITING_MAX {
            self.0.push(verdict);
        }
    }
}

/// What was asked about one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    verdict: Verdict,
    /// Segments since the last request for quiet, or since the stream was understood, that nobody could use.
    useless: u32,
    /// How often quiet was asked for since the stream was last understood.
    quiets: u32,
    /// By flow: the next jump is what was left out while it was quiet.
    quiet: [bool; 2],
}

impl Asked {
    /// Everything of `flow` before `here` is consumed, and the parser needs none of the `away` bytes that follow.
    pub(super) fn skip(
        &mut self,
        stream: StreamId,
        flow: Flow,
        here: u64,
        away: u64,
        verdicts: &mut Verdicts,
    ) {
        let known = match flow {
            Flow::Sent => &mut self.verdict.sent_until,
            Flow::Received => &mut self.verdict.received_until,
        };
        let until = here.saturating_add(away);
        // It may turn out that what was to be skipped is needed: a tunnel that turns into something known.
        let is_news = if away < SKIPPED_BYTES_MIN { *known > until } else { *known != until };
        if is_news {
            *known = if away < SKIPPED_BYTES_MIN { 0 } else { until };
            self.tell(stream, verdicts);
        }
    }

    /// So many bytes of each call are wanted, at least.
    pub(super) fn copy(&mut self, stream: StreamId, bytes: u32, verdicts: &mut Verdicts) {
        if self.verdict.copy_bytes < bytes {
            self.verdict.copy_bytes = bytes;
            self.tell(stream, verdicts);
        }
    }

    /// Nobody can use the stream as it is: after many segments it may be quiet for a while, then for longer.
    pub(super) fn useless(&mut self, stream: StreamId, at: BootNanos, verdicts: &mut Verdicts) {
        self.useless += 1;
        if self.useless < USELESS_SEGMENTS_MAX {
            return;
        }
        self.useless = 0;
        let length = (QUIET_NS_MIN << self.quiets.min(QUIET_DOUBLINGS_MAX)).min(QUIET_NS_MAX);
        self.quiets += 1;
        self.quiet = [true; 2];
        self.verdict.quiet_until_ns = at.0 + length;
        self.verdict.active_ns = at.0;
        self.tell(stream, verdicts);
    }

    /// The stream is understood: all of it is wanted, at once.
    pub(super) fn understood(&mut self, stream: StreamId, verdicts: &mut Verdicts) {
        (self.useless, self.quiets) = (0, 0);
        if self.verdict.quiet_until_ns != 0 {
            self.verdict.quiet_until_ns = 0;
            self.tell(stream, verdicts);
        }
    }

    /// Whether bytes of `flow` that are missing now were left out because that was asked for.
    pub(super) fn is_quiet(&self, flow: Flow) -> bool {
        self.quiet[flow as usize]
    }

    /// A call of `flow` was reported that returned `at`; `jumped`: others were not before it.
    pub(super) fn reported(&mut self, flow: Flow, at: BootNanos, jumped: bool) {
        self.quiet[flow as usize] &= !jumped && at.0 < self.verdict.quiet_until_ns;
    }

    fn tell(&mut self, stream: StreamId, verdicts: &mut Verdicts) {
        self.verdict.stream = stream.0;
        verdicts.push(self.verdict);
    }
}

/// Rationale: each verdict is a system call, which costs as much as copying some ten kilobytes.
const SKIPPED_BYTES_MIN: u64 = 64 * 1024;
/// Rationale: detection rests after 16; by then it has looked at some twenty more, in both directions.
const USELESS_SEGMENTS_MAX: u32 = 128;
/// The first silence. A request that comes during it is missed, if the stream begins to speak something known at all.
const QUIET_NS_MIN: u64 = 250_000_000;
/// The longest.
const QUIET_NS_MAX: u64 = 8_000_000_000;
/// From the shortest to the longest.
const QUIET_DOUBLINGS_MAX: u32 = 5;
/// Rationale: they are taken after each batch of events.
const WAITING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(7);

    #[test]
    fn silences_grow_and_end_when_the_stream_is_understood() {
        let (mut asked, mut verdicts) = (Asked::default(), Verdicts::default());
        let mut quiet_after = |asked: &mut Asked, at| {
            (0..USELESS_SEGMENTS_MAX).for_each(|_| asked.useless(STREAM, BootNanos(at), &mut verdicts));
            let told: Vec<_> = verdicts.take().collect();
            assert_eq!(told.len(), 1);
            told[0].quiet_until_ns - at
        };
        let lengths: Vec<_> = (0..8).map(|n| quiet_after(&mut asked, n)).collect();
        assert_eq!(lengths[..3], [QUIET_NS_MIN, 2 * QUIET_NS_MIN, 4 * QUIET_NS_MIN]);
        assert_eq!(lengths[7], QUIET_NS_MAX);
        asked.understood(STREAM, &mut verdicts);
        assert_eq!(verdicts.take().map(|verdict| verdict.quiet_until_ns).collect::<Vec<_>>(), [0]);
        asked.understood(STREAM, &mut verdicts);
        assert_eq!(verdicts.take().count(), 0, "told once");
    }

    #[test]
    fn each_direction_jumps_once_after_a_silence() {
        let (mut asked, mut verdicts) = (Asked::default(), Verdicts::default());
        (0..USELESS_SEGMENTS_MAX).for_each(|_| asked.useless(STREAM, BootNanos(5), &mut verdicts));
        asked.reported(Flow::Sent, BootNanos(6), false); // was under way already
        assert!(asked.is_quiet(Flow::Sent));
        asked.reported(Flow::Sent, BootNanos(7), true);
        assert!(!asked.is_quiet(Flow::Sent));
        assert!(asked.is_quiet(Flow::Received));
        asked.reported(Flow::Received, BootNanos(5 + QUIET_NS_MIN), false);
        assert!(!asked.is_quiet(Flow::Received));
    }

    #[test]
    fn only_long_bodies_are_worth_a_word() {
        let (mut asked, mut verdicts) = (Asked::default(), Verdicts::default());
        asked.skip(STREAM, Flow::Sent, 100, 900, &mut verdicts);
        assert_eq!(verdicts.take().count(), 0);
        asked.skip(STREAM, Flow::Sent, 1_000, 999_000, &mut verdicts);
        asked.skip(STREAM, Flow::Sent, 500_000, 500_000, &mut verdicts);
        asked.skip(STREAM, Flow::Sent, 999_000, 1_000, &mut verdicts);
        asked.skip(STREAM, Flow::Sent, 1_000_000, 0, &mut verdicts);
        let told: Vec<_> = verdicts.take().collect();
        assert_eq!(told, [Verdict { stream: 7, sent_until: 1_000_000, ..Verdict::default() }]);
    }

    #[test]
    fn what_was_to_be_skipped_may_be_needed_after_all() {
        let (mut asked, mut verdicts) = (Asked::default(), Verdicts::default());
        asked.skip(STREAM, Flow::Received, 10, u64::MAX, &mut verdicts);
        asked.skip(STREAM, Flow::Received, 20, 0, &mut verdicts);
        asked.skip(STREAM, Flow::Received, 30, 0, &mut verdicts);
        let told: Vec<_> = verdicts.take().map(|verdict| verdict.received_until).collect();
        assert_eq!(told, [u64::MAX, 0]);
    }
}
