//! The bytes of one direction that nobody has consumed yet, and the gaps between them, with the times of their calls.
//!
//! On the steady path a queue is empty and owns no memory: parsers are given the event's own bytes. A gap waits in
//! line behind unconsumed bytes, so that a response that is held back for its request survives its own uncopied tail.

use std::collections::VecDeque;

use spantap_protocols::BootNanos;

/// When bytes moved, as in `protocols::Segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) first: BootNanos,
    pub(super) last: BootNanos,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Those before `start` are consumed.
    bytes: Vec<u8>,
    start: usize,
    pieces: VecDeque<Piece>,
    /// How many of `pieces` are gaps.
    gaps: usize,
}

/// What one call brought.
#[derive(Debug)]
struct Piece {
    length: u64,
    gap: bool,
    times: Times,
}

/// What stands first in a [`Queue`].
#[derive(Debug, PartialEq)]
pub(super) enum Front<'a> {
    /// Nothing.
    Empty,
    /// Contiguous bytes, as many as there are.
    Run {
        /// At least one.
        bytes: &'a [u8],
        /// Of the first and the last of them.
        times: Times,
        /// True if a gap follows: the run will never grow.
        cut: bool,
    },
    /// Bytes that are not here.
    Gap {
        /// How many; at least one.
        missing: u64,
        /// Of their calls.
        times: Times,
    },
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gaps > 0
    }

    /// Unconsumed bytes.
    pub(super) fn retained(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Memory owned.
    pub(super) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.pieces.capacity() * size_of::<Piece>()
    }

    /// True if another piece cannot be merged with the last one and there are too many already.
    pub(super) fn is_crowded(&self) -> bool {
        self.gaps > PIECES_MAX / 4
    }

    pub(super) fn front(&self) -> Front<'_> {
        let Some(first) = self.pieces.front() else { return Front::Empty };
        if first.gap {
            return Front::Gap { missing: first.length, times: first.times };
        }
        let unconsumed = self.bytes.get(self.start..).unwrap_or_default();
        let mut run = 0;
        let mut last = first.times.last;
        for piece in self.pieces.iter().take_while(|piece| !piece.gap) {
            run += index(piece.length);
            last = piece.times.last;
        }
        let bytes = unconsumed.get(..run).unwrap_or(unconsumed);
        Front::Run { bytes, times: Times { first: first.times.first, last }, cut: self.gaps > 0 }
    }

    /// Takes `count` bytes off the front run.
    pub(super) fn consume(&mut self, count: usize) {
        let mut left = count as u64;
        while left > 0 {
            let Some(piece) = self.pieces.front_mut().filter(|piece| !piece.gap) else { break };
            if piece.length > left {
                piece.length -= left;
                left = 0;
            } else {
                left -= piece.length;
                self.pieces.pop_front();
            }
        }
        debug_assert_eq!(left, 0, "consumed more than was presented");
        self.start = (self.start + count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= COMPACT_BYTES && self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Drops the bytes that the first call brought and returns how many; 0 if a gap or nothing stands first.
    pub(super) fn drop_piece(&mut self) -> u64 {
        let dropped = self.pieces.front().filter(|piece| !piece.gap).map_or(0, |piece| piece.length);
        self.consume(index(dropped));
        dropped
    }

    /// Drops the bytes up to the next gap and returns how many.
    pub(super) fn drop_run(&mut self) -> u64 {
        let mut dropped = 0;
        loop {
            match self.drop_piece() {
                0 => return dropped,
                more => dropped += more,
            }
        }
    }

    /// Takes a gap off the front.
    pub(super) fn pop_gap(&mut self) {
        if self.pieces.front().is_some_and(|piece| piece.gap) {
            self.pieces.pop_front();
            self.gaps -= 1;
        }
    }

    /// Drops everything and returns how many bytes that were.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.retained() as u64;
        self.pieces.clear();
        self.bytes.clear();
        (self.start, self.gaps) = (0, 0);
        dropped
    }

    /// Appends bytes. Beyond a number of pieces, later calls share the times of earlier ones.
    pub(super) fn push(&mut self, bytes: &[u8], times: Times, spare: &mut Spare) {
        if bytes.is_empty() {
            return;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = spare.take();
        }
        self.bytes.extend_from_slice(bytes);
        let count = self.pieces.len();
        match self.pieces.back_mut().filter(|piece| !piece.gap) {
            Some(piece) if count >= PIECES_MAX => {
                piece.length += bytes.len() as u64;
                piece.times.last = piece.times.last.max(times.last);
            }
            // The newest call that contributed, which need not be the last in position.
            Some(piece) => {
                let last = piece.times.last.max(times.last);
                let times = Times { first: times.first, last };
                self.pieces.push_back(Piece { length: bytes.len() as u64, gap: false, times });
            }
            None => self.pieces.push_back(Piece { length: bytes.len() as u64, gap: false, times }),
        }
    }

    /// Appends a gap.
    pub(super) fn push_gap(&mut self, missing: u64, times: Times) {
        match self.pieces.back_mut().filter(|piece| piece.gap) {
            Some(piece) => {
                piece.length = piece.length.saturating_add(missing);
                piece.times.last = piece.times.last.max(times.last);
            }
            None => {
                self.pieces.push_back(Piece { length: missing, gap: true, times });
                self.gaps += 1;
            }
        }
    }

    /// Gives the memory back once it is not needed.
    pub(super) fn recycle(&mut self, spare: &mut Spare) {
        if self.pieces.is_empty() && self.bytes.capacity() > 0 {
            self.start = 0;
            spare.give(std::mem::take(&mut self.bytes));
            if self.pieces.capacity() > PIECES_KEPT {
                self.pieces = VecDeque::new();
            }
        }
    }
}

/// Buffers for queues, so that retaining a few bytes now and then does not allocate each time.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// A piece of a queue is a part of a buffer, so its length is an index.
fn index(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Pieces whose times are told apart in one direction. Rationale: a peer that sends byte by byte must not cost 40
/// bytes of bookkeeping each.
const PIECES_MAX: usize = 64;
/// Room for pieces that an empty queue may keep.
const PIECES_KEPT: usize = 8;
/// Consumed bytes that are tolerated at the front of a buffer.
const COMPACT_BYTES: usize = 4 * 1024;
/// At most 1 MiB of spare buffers in a table.
const SPARE_BUFFERS: usize = 64;
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Times {
        Times { first: BootNanos(ns), last: BootNanos(ns + 1) }
    }

    #[test]
    fn a_run_has_the_times_of_its_ends() {
        let (mut queue, mut spare) = (Queue::default(), Spare::default());
        queue.push(b"abc", at(10), &mut spare);
        queue.push(b"def", at(20), &mut spare);
        queue.consume(1);
        let times = Times { first: BootNanos(10), last: BootNanos(21) };
        assert_eq!(queue.front(), Front::Run { bytes: b"bcdef", times, cut: false });
        queue.consume(3);
        assert_eq!(queue.front(), Front::Run { bytes: b"ef", times: at(20), cut: false });
        assert_eq!(queue.drop_run(), 2);
        assert_eq!(queue.front(), Front::Empty);
    }

    #[test]
    fn a_gap_waits_behind_bytes() {
        let (mut queue, mut spare) = (Queue::default(), Spare::default());
        queue.push(b"ab", at(1), &mut spare);
        queue.push_gap(7, at(2));
        queue.push_gap(8, at(2));
        queue.push(b"cd", at(3), &mut spare);
        assert_eq!(queue.front(), Front::Run { bytes: b"ab", times: at(1), cut: true });
        queue.consume(2);
        assert_eq!(queue.front(), Front::Gap { missing: 15, times: at(2) });
        queue.pop_gap();
        assert_eq!(queue.front(), Front::Run { bytes: b"cd", times: at(3), cut: false });
        assert_eq!(queue.retained(), 2);
    }

    #[test]
    fn byte_by_byte_stays_within_its_pieces() {
        let (mut queue, mut spare) = (Queue::default(), Spare::default());
        for ns in 0..10_000 {
            queue.push(b"x", at(ns), &mut spare);
        }
        assert_eq!(queue.pieces.len(), PIECES_MAX);
        for _ in 0..9_000 {
            queue.consume(1);
        }
        assert_eq!(queue.retained(), 1_000);
        assert_eq!(queue.clear(), 1_000);
        queue.recycle(&mut spare);
        assert_eq!(queue.footprint(), 0);
    }
}
