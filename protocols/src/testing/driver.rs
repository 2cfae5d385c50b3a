//! Feeding one parser as the connection layer does: what it does not consume is kept, presented again, and bounded.

use std::collections::VecDeque;

use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Segment},
};

/// Feeds a parser as the contract says: keeps what was not consumed, presents it again when more has come or the other
/// direction has made progress, and turns too much of it into a gap.
pub struct Driver {
    parser: Box<dyn Parser>,
    kept: [Kept; 2],
    /// What the parser found so far.
    pub exchanges: Vec<Exchange>,
}

/// Bytes of one direction that the parser has not consumed, with the calls they came in.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Length that is left, and times, of each call.
    calls: VecDeque<(usize, BootNanos, BootNanos)>,
}

impl Driver {
    /// Opens a parser.
    #[must_use]
    pub fn new(protocol: &dyn Protocol, context: OpenContext) -> Self {
        Self { parser: protocol.open(context), kept: Default::default(), exchanges: Vec::new() }
    }

    /// The parser, for its counters.
    #[must_use]
    pub fn parser(&self) -> &dyn Parser {
        &*self.parser
    }

    /// Bytes that it holds because the parser did not consume them, of both directions.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.bytes.len()).sum()
    }

    /// Bytes that one call sent or received.
    pub fn feed(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, bytes: &[u8]) {
        if bytes.is_empty() || self.parser.lost() {
            return;
        }
        self.keep(direction, first_at, last_at, bytes);
        if self.present(direction, false) {
            self.alternate(direction);
        }
        let kept = &mut self.kept[direction as usize];
        if kept.bytes.len() > limits::RETAINED_BYTES_MAX {
            let missing = kept.bytes.len() as u64;
            let first_at = kept.calls.front().map_or(first_at, |call| call.1);
            *kept = Kept::default();
            self.gap(direction, first_at, last_at, missing);
        }
    }

    /// One call of which `bytes` were copied and `missing` more were not.
    pub fn feed_cut(
        &mut self,
        direction: Direction,
        first_at: BootNanos,
        last_at: BootNanos,
        bytes: &[u8],
        missing: u64,
    ) {
        if missing == 0 {
            return self.feed(direction, first_at, last_at, bytes);
        }
        if !bytes.is_empty() && !self.parser.lost() {
            self.keep(direction, first_at, last_at, bytes);
        }
        self.gap(direction, first_at, last_at, missing);
    }

    /// Bytes that are missing.
    pub fn gap(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, missing: u64) {
        if missing == 0 || self.parser.lost() {
            return;
        }
        self.present(direction, true);
        self.kept[direction as usize] = Kept::default();
        self.parser.on_gap(Gap { direction, first_at, last_at, missing }, &mut self.exchanges);
        self.alternate(direction);
    }

    /// The end of the connection.
    pub fn close(&mut self, at: BootNanos) {
        self.parser.on_close(at, &mut self.exchanges);
    }

    fn keep(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, bytes: &[u8]) {
        let kept = &mut self.kept[direction as usize];
        kept.bytes.extend_from_slice(bytes);
        kept.calls.push_back((bytes.len(), first_at, last_at));
    }

    /// Progress in a direction may release what the other one holds, and so on in turn.
    fn alternate(&mut self, direction: Direction) {
        let mut turn = direction.reverse();
        while self.present(turn, false) {
            turn = turn.reverse();
        }
    }

    /// Presents what is kept until nothing more is consumed; true if anything was. With `cut`, a gap follows.
    fn present(&mut self, direction: Direction, cut: bool) -> bool {
        let kept = &mut self.kept[direction as usize];
        let mut progress = false;
        while let (Some((_, first_at, _)), Some((_, _, last_at))) = (kept.calls.front(), kept.calls.back()) {
            let (first_at, last_at, bytes) = (*first_at, *last_at, &kept.bytes);
            let segment = Segment { direction, first_at, last_at, bytes, cut };
            let consumed = self.parser.on_segment(segment, &mut self.exchanges);
            assert!(consumed <= kept.bytes.len(), "consumed more than there was");
            if let Some((_, parser)) = self.parser.successor() {
                self.parser = parser;
            }
            if consumed == 0 || self.parser.lost() {
                break;
            }
            progress = true;
            kept.drop_front(consumed);
        }
        progress
    }
}

impl Kept {
    fn drop_front(&mut self, mut length: usize) {
        self.bytes.drain(..length);
        while let Some((left, _, _)) = self.calls.front_mut() {
            if *left > length {
                *left -= length;
                return;
            }
            length -= *left;
            self.calls.pop_front();
        }
    }
}
