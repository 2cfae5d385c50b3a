//! A stream whose protocol is not known yet: its bytes on the way to a parser.

use spantap_ebpf_common::event::{Flow, Layer};
use spantap_protocols::{Direction, OpenContext, Protocol, Sniff};

use super::{
    super::{
        detect::{self, Verdict},
        driver::{Chunk, Driver, Shared, other},
        queue::Front,
    },
    State, Stream,
};

impl Stream {
    /// Asks the protocols about the bytes of one direction.
    pub(super) fn detect(&mut self, flow: Flow, chunk: Chunk<'_>, shared: &mut Shared) {
        let State::Detecting(detector) = &mut self.state else { return };
        let queue = &mut self.lanes.of(flow).queue;
        let pending = !queue.is_empty();
        if chunk.bytes.is_empty() {
            shared.counters.unknown_bytes += queue.clear();
            queue.recycle(&mut shared.spare);
            self.intact = false;
            return;
        }
        if detector.rests() {
            self.asked.useless(self.id, chunk.times.last, &mut shared.verdicts);
        }
        if !detector.is_due(flow, chunk.times.last) && !pending {
            shared.counters.unknown_bytes += chunk.bytes.len() as u64;
            self.intact = false;
            return;
        }
        if !pending && self.layer == Layer::Socket && detect::is_tls_record(chunk.bytes) {
            shared.counters.ciphertext_bytes += chunk.bytes.len() as u64;
            self.drop_queues(shared);
            self.become_ciphertext(Some(0), shared);
            return;
        }
        let expected = detect::expected(flow, self.opener);
        if pending {
            queue.push(chunk.bytes, chunk.times, &mut shared.spare);
        }
        let found = loop {
            let (head, queued) = match queue.front() {
                Front::Run { bytes, .. } => (bytes, true),
                _ => (chunk.bytes, false),
            };
            let verdict = detect::sniff(shared.protocols, head, expected);
            match verdict {
                Verdict::Match(protocol, direction) => break Some((protocol, direction, queued)),
                Verdict::NeedMore if head.len() < detect::HEAD_BYTES_MAX && chunk.missing == 0 => {
                    if !queued {
                        queue.push(chunk.bytes, chunk.times, &mut shared.spare);
                    }
                    break None;
                }
                Verdict::NeedMore | Verdict::Reject => {
                    detector.reject();
                    self.intact = false;
                    if !queued {
                        shared.counters.unknown_bytes += chunk.bytes.len() as u64;
                        break None;
                    }
                    shared.counters.unknown_bytes += queue.drop_piece();
                    if queue.is_empty() {
                        break None;
                    }
                }
            }
        };
        queue.recycle(&mut shared.spare);
        let Some((protocol, direction, queued)) = found else {
            self.intact &= chunk.missing == 0;
            return;
        };
        self.open(protocol, direction, flow, shared);
        let State::Parsing(driver) = &mut self.state else { return };
        // What came first in the other direction; then this one.
        driver.offer(&mut self.lanes, other(flow), false, shared);
        if queued {
            driver.offer(&mut self.lanes, flow, false, shared);
        }
        let bytes = if queued { &[] } else { chunk.bytes };
        driver.feed(&mut self.lanes, flow, Chunk { bytes, ..chunk }, shared);
        self.after_feeding(flow, chunk, shared);
    }

    /// Opens a parser: `flow` carries bytes in `direction`.
    fn open(
        &mut self,
        protocol: &'static dyn Protocol,
        direction: Direction,
        flow: Flow,
        shared: &mut Shared,
    ) {
        // What the other direction keeps may be the middle of something.
        let queue = &mut self.lanes.of(other(flow)).queue;
        while let Front::Run { bytes, .. } = queue.front() {
            if protocol.sniff(bytes, Some(direction.reverse())) != Sniff::Reject {
                break;
            }
            shared.counters.unknown_bytes += queue.drop_piece();
            self.intact = false;
        }
        queue.recycle(&mut shared.spare);
        let begins_anew = matches!(&self.state, State::Detecting(detector) if detector.begins_anew());
        let role = detect::role(flow, direction);
        let tls = self.layer == Layer::Tls;
        let answers = if direction == Direction::ToClient { flow } else { other(flow) };
        let answered = !self.intact && !begins_anew && self.lanes.of(answers).is_touched();
        let parser = protocol.open(OpenContext { role, from_start: self.intact, answered, tls });
        shared.counters.detected_streams += 1;
        self.asked.understood(self.id, &mut shared.verdicts);
        self.state = State::Parsing(Driver::new(protocol, role, parser));
    }
}
