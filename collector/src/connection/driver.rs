//! Feeds one parser as `protocols::Parser` demands: step by step, with fitting times, and again when it held back.
//!
//! After each step of one direction the other one is offered again, since its parser may have waited for just that.
//! Bytes before a gap are presented as cut. A parser that returns 0 for them is holding a response until its request
//! arrives, or the like; so the gap waits until the other direction has moved, and no longer than
//! [`super::reassembly::HELD_NS`].

use compact_str::CompactString;
use spantap_ebpf_common::event::Flow;
use spantap_protocols::{
    BootNanos, Direction, Exchange, Gap, Outcome, Parser, Protocol, Role, Segment, Value,
    http::{CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    semconv::key,
};

use super::{
    counters::Counters,
    detect,
    queue::{Front, Queue, Spare, Times},
    reassembly::Lanes,
    verdict::Verdicts,
};

/// A parser at work on one stream.
pub(super) struct Driver {
    pub(super) protocol: &'static dyn Protocol,
    pub(super) role: Role,
    parser: Box<dyn Parser>,
    /// What the parser has dropped as far as counted.
    dropped: u64,
    /// Likewise.
    cut_heads: u64,
    /// The connection has gone on with a protocol that is switched off.
    is_abandoned: bool,
}

/// `error.type` of an exchange that was not waited for any longer.
pub(super) const TIMEOUT: &str = "timeout";

/// In-order bytes, and how many follow them that are not here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) missing: u64,
    pub(super) times: Times,
}

/// What all streams of a table work with.
pub(super) struct Shared {
    /// In the order in which detection asks them.
    pub(super) protocols: &'static [&'static dyn Protocol],
    /// Bytes that one direction may retain.
    pub(super) direction_bytes_max: usize,
    pub(super) counters: Counters,
    pub(super) spare: Spare,
    /// What parsers have finished during the present event.
    pub(super) exchanges: Vec<Exchange>,
    /// What the kernel side is to know.
    pub(super) verdicts: Verdicts,
}

impl Driver {
    pub(super) fn new(protocol: &'static dyn Protocol, role: Role, parser: Box<dyn Parser>) -> Self {
        Self { protocol, role, parser, dropped: 0, cut_heads: 0, is_abandoned: false }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_abandoned || self.parser.lost()
    }

    /// Exchanges that are not finished.
    pub(super) fn in_flight(&self) -> u64 {
        self.parser.in_flight() as u64
    }

    pub(super) fn close(&mut self, at: BootNanos, shared: &mut Shared) {
        self.parser.on_close(at, &mut shared.exchanges);
        self.count_dropped(shared);
    }

    /// What is under way will not be waited for any longer. The connection may go on; its parser is not used any more.
    pub(super) fn time_out(&mut self, at: BootNanos, shared: &mut Shared) {
        let before = shared.exchanges.len();
        self.close(at, shared);
        for exchange in shared.exchanges.iter_mut().skip(before) {
            // To the parser it looks like an end. What the server itself has called an error stays that.
            let Outcome::Error(error) = &mut exchange.outcome else { continue };
            if [CONNECTION_CLOSED, RESPONSE_TRUNCATED].contains(&error.as_str()) {
                *error = CompactString::const_new(TIMEOUT);
                exchange.attributes.set(key::ERROR_TYPE, Value::Static(TIMEOUT));
            }
        }
    }

    /// How many further bytes of `flow` the parser does not need to see.
    pub(super) fn skippable(&self, flow: Flow) -> u64 {
        self.parser.skippable(detect::direction(flow, self.role))
    }

    /// Adds to the counters what the parser has dropped since the last time; true if there was anything.
    pub(super) fn count_dropped(&mut self, shared: &mut Shared) -> bool {
        let before = (self.dropped, self.cut_heads);
        let dropped = self.parser.dropped();
        shared.counters.dropped_messages += dropped.saturating_sub(self.dropped);
        self.dropped = dropped;
        let cut_heads = self.parser.cut_heads();
        shared.counters.cut_heads += cut_heads.saturating_sub(self.cut_heads);
        self.cut_heads = cut_heads;
        before != (self.dropped, self.cut_heads)
    }

    /// Takes the next bytes of one direction.
    pub(super) fn feed(&mut self, lanes: &mut Lanes, flow: Flow, chunk: Chunk<'_>, shared: &mut Shared) {
        let direction = detect::direction(flow, self.role);
        let queue = &mut lanes.of(flow).queue;
        let mut progress = false;
        let mut rest = chunk.bytes;
        if queue.is_empty() {
            // The steady path: straight from the event, without a copy.
            let taken = self.step_through(direction, chunk, shared);
            progress = taken > 0;
            rest = rest.get(taken..).unwrap_or_default();
            progress |= self.keep(direction, queue, rest, chunk.times, shared);
            progress |= self.pass_gap(direction, queue, chunk.missing, chunk.times, shared);
        } else {
            progress |= self.keep(direction, queue, rest, chunk.times, shared);
            // Before the bytes are presented: they are cut then.
            progress |= self.pass_gap(direction, queue, chunk.missing, chunk.times, shared);
            progress |= self.drain(direction, queue, false, shared);
        }
        if progress {
            self.alternate(lanes, flow, shared);
        }
    }

    /// Offers what `flow` retains, then in turn the other direction's, until neither moves. With `force`, what stands
    /// before a gap is given up.
    pub(super) fn offer(&mut self, lanes: &mut Lanes, flow: Flow, force: bool, shared: &mut Shared) {
        let direction = detect::direction(flow, self.role);
        if self.drain(direction, &mut lanes.of(flow).queue, force, shared) {
            self.alternate(lanes, flow, shared);
        }
    }

    /// After `flow` has moved: offers the other direction, then `flow` again, until one does not move.
    fn alternate(&mut self, lanes: &mut Lanes, mut flow: Flow, shared: &mut Shared) {
        loop {
            flow = other(flow);
            let direction = detect::direction(flow, self.role);
            if !self.drain(direction, &mut lanes.of(flow).queue, false, shared) {
                return;
            }
        }
    }

    /// Presents the bytes of `chunk` until the parser returns 0 or all is consumed; returns how many were.
    fn step_through(&mut self, direction: Direction, chunk: Chunk<'_>, shared: &mut Shared) -> usize {
        let Chunk { bytes, missing, times } = chunk;
        let mut taken = 0;
        while let Some(bytes) = bytes.get(taken..).filter(|bytes| !bytes.is_empty()) {
            let (first_at, last_at) = (times.first, times.last);
            let segment = Segment { direction, first_at, last_at, bytes, cut: missing > 0 };
            let step = self.present(segment, shared);
            if step == 0 {
                break;
            }
            taken += step;
        }
        taken
    }

    fn present(&mut self, segment: Segment<'_>, shared: &mut Shared) -> usize {
        let length = segment.bytes.len();
        let step = self.parser.on_segment(segment, &mut shared.exchanges);
        debug_assert!(step <= length, "{} consumed more than it was given", self.protocol.name());
        let step = step.min(length);
        shared.counters.parsed_bytes += step as u64;
        if let Some((protocol, parser)) = self.parser.successor() {
            self.hand_over(protocol, parser, shared);
        }
        step
    }

    /// Another protocol goes on where the present one ended.
    fn hand_over(&mut self, protocol: &'static dyn Protocol, parser: Box<dyn Parser>, shared: &mut Shared) {
        self.count_dropped(shared);
        (self.dropped, self.cut_heads) = (0, 0);
        self.is_abandoned = !shared.protocols.iter().any(|known| known.name() == protocol.name());
        self.protocol = protocol;
        self.parser = parser;
    }

    /// Presents what a queue holds, as far as it goes. True if something moved.
    fn drain(&mut self, direction: Direction, queue: &mut Queue, force: bool, shared: &mut Shared) -> bool {
        let mut progress = false;
        loop {
            match queue.front() {
                Front::Empty => break,
                Front::Gap { missing, times } => {
                    queue.pop_gap();
                    self.tell_gap(direction, missing, times, shared);
                }
                Front::Run { bytes, times: Times { first, last }, cut } => {
                    let segment = Segment { direction, first_at: first, last_at: last, bytes, cut };
                    match self.present(segment, shared) {
                        0 if cut && force => shared.counters.incomplete_bytes += queue.drop_run(),
                        0 => break,
                        step => queue.consume(step),
                    }
                }
            }
            progress = true;
        }
        queue.recycle(&mut shared.spare);
        progress
    }

    /// Retains `bytes` within the budget: over it, what is retained already is given up as a gap. True if it was.
    fn keep(
        &mut self,
        direction: Direction,
        queue: &mut Queue,
        bytes: &[u8],
        times: Times,
        shared: &mut Shared,
    ) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let full = queue.retained() + bytes.len() > shared.direction_bytes_max;
        let gave_up = (full || queue.is_crowded()) && self.give_up(direction, queue, shared);
        if bytes.len() <= shared.direction_bytes_max {
            queue.push(bytes, times, &mut shared.spare);
            return gave_up;
        }
        shared.counters.direction_budget_bytes += bytes.len() as u64;
        shared.counters.gaps += 1;
        self.tell_gap(direction, bytes.len() as u64, times, shared);
        true
    }

    /// Drops all that a queue holds; the parser is told of a gap as long as it.
    fn give_up(&mut self, direction: Direction, queue: &mut Queue, shared: &mut Shared) -> bool {
        let mut progress = false;
        loop {
            match queue.front() {
                Front::Empty => return progress,
                Front::Gap { missing, times } => {
                    queue.pop_gap();
                    self.tell_gap(direction, missing, times, shared);
                }
                Front::Run { times, .. } => {
                    let dropped = queue.drop_run();
                    shared.counters.direction_budget_bytes += dropped;
                    shared.counters.gaps += 1;
                    self.tell_gap(direction, dropped, times, shared);
                }
            }
            progress = true;
        }
    }

    /// Drops all that both directions hold, because the table holds too much; returns how many bytes.
    pub(super) fn shed(&mut self, lanes: &mut Lanes, shared: &mut Shared) -> u64 {
        let before = shared.counters.direction_budget_bytes;
        for flow in [Flow::Sent, Flow::Received] {
            let direction = detect::direction(flow, self.role);
            let queue = &mut lanes.of(flow).queue;
            self.give_up(direction, queue, shared);
        }
        let shed = shared.counters.direction_budget_bytes - before;
        shared.counters.direction_budget_bytes = before;
        shed
    }

    /// A gap comes next, if anything is missing: now if nothing stands before it, else in line. True if it was told.
    fn pass_gap(
        &mut self,
        direction: Direction,
        queue: &mut Queue,
        missing: u64,
        times: Times,
        shared: &mut Shared,
    ) -> bool {
        if missing == 0 {
            return false;
        }
        if !queue.is_empty() {
            queue.push_gap(missing, times);
            return false;
        }
        self.tell_gap(direction, missing, times, shared);
        true
    }

    fn tell_gap(&mut self, direction: Direction, missing: u64, times: Times, shared: &mut Shared) {
        let gap = Gap { direction, first_at: times.first, last_at: times.last, missing };
        self.parser.on_gap(gap, &mut shared.exchanges);
    }
}

/// The opposite flow.
pub(super) fn other(flow: Flow) -> Flow {
    match flow {
        Flow::Sent => Flow::Received,
        Flow::Received => Flow::Sent,
    }
}
