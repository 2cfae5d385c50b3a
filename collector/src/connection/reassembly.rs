//! One direction of one stream: puts what calls brought in order by position.
//!
//! The kernel side numbers bytes at the return of a call, and two threads that use one socket at once may report
//! their calls in either order; so a jump forward is at first only a doubt. The piece behind it is held until the
//! missing one comes. It becomes a gap when bytes of the other direction come (the conversation has moved on, and an
//! answer must not overtake its request), when [`HELD_NS`] of event time have passed, when a tick finds it that old,
//! or when too much is held ([`HELD_PIECES_MAX`], [`HELD_BYTES_MAX`]). A jump backward repeats what was seen: it is
//! trimmed off.

use spantap_ebpf_common::event::Flow;
use spantap_protocols::BootNanos;

use super::queue::{Queue, Times};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Position of the next byte in order; `None` until the first one has told where we joined.
    next: Option<u64>,
    /// In order, but not consumed.
    pub(super) queue: Queue,
    /// When the front of `queue` was found to wait before a gap.
    pub(super) blocked_at: Option<BootNanos>,
    /// Ahead of `next`; at most [`HELD_PIECES_MAX`].
    held: Vec<Held>,
}

/// Both directions of a stream.
#[derive(Debug)]
pub(super) struct Lanes {
    sent: Lane,
    received: Lane,
}

/// A piece that came ahead of others.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) position: u64,
    pub(super) size: u64,
    pub(super) times: Times,
    pub(super) bytes: Vec<u8>,
    arrived: BootNanos,
}

/// Where bytes stand relative to those before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All of them have passed before.
    Old,
    /// They are next, but for the first `overlap` of them.
    Next {
        /// Bytes to be trimmed.
        overlap: u64,
    },
    /// `missing` bytes should come before them.
    Ahead {
        /// How many.
        missing: u64,
    },
}

impl Lane {
    /// A direction whose first byte has the position 0.
    pub(super) fn from_zero() -> Self {
        Self { next: Some(0), ..Self::default() }
    }

    /// Compares a piece of `size` bytes at `position` with what was seen.
    pub(super) fn place(&self, position: u64, size: u64) -> Place {
        let next = self.next.unwrap_or(position);
        if position > next {
            return Place::Ahead { missing: position - next };
        }
        let overlap = next - position;
        if overlap > 0 && overlap >= size { Place::Old } else { Place::Next { overlap } }
    }

    /// Everything before `position` has passed. Never goes back.
    pub(super) fn advance(&mut self, position: u64) {
        self.next = Some(self.next.map_or(position, |next| next.max(position)));
    }

    /// Bytes between what was seen and the `total` that the kernel counted.
    pub(super) fn missing_before(&self, total: u64) -> u64 {
        total.saturating_sub(self.next.unwrap_or(total))
    }

    /// The position before which everything has passed and been consumed; `None` if something waits.
    pub(super) fn passed(&self) -> Option<u64> {
        self.next.filter(|_| self.queue.is_empty() && self.held.is_empty())
    }

    /// True if any byte has passed.
    pub(super) fn is_touched(&self) -> bool {
        self.next.is_some_and(|next| next > 0)
    }

    /// True if something came ahead of others.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// True if one more piece with this many copied bytes can be held.
    pub(super) fn can_hold(&self, copied: usize) -> bool {
        let held: usize = self.held.iter().map(|held| held.bytes.len()).sum();
        self.held.len() < HELD_PIECES_MAX && held + copied <= HELD_BYTES_MAX
    }

    /// Holds a piece that came ahead.
    pub(super) fn hold(&mut self, position: u64, size: u64, bytes: &[u8], times: Times, arrived: BootNanos) {
        self.held.push(Held { position, size, times, bytes: bytes.to_vec(), arrived });
    }

    /// The held piece that stands first, if it is not ahead any more or if `force`.
    pub(super) fn take_held(&mut self, force: bool) -> Option<Held> {
        let (index, first) = self.held.iter().enumerate().min_by_key(|(_, held)| held.position)?;
        let ready = force || !matches!(self.place(first.position, first.size), Place::Ahead { .. });
        if !ready {
            return None;
        }
        let held = self.held.swap_remove(index);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        Some(held)
    }

    /// Since when something here waits for bytes that may never come.
    pub(super) fn waiting_since(&self) -> Option<BootNanos> {
        let held = self.held.iter().map(|held| held.arrived).min();
        match (held, self.blocked_at) {
            (Some(held), Some(blocked)) => Some(held.min(blocked)),
            (held, blocked) => held.or(blocked),
        }
    }

    /// Bytes that were seen and are still here.
    pub(super) fn retained(&self) -> u64 {
        self.queue.retained() as u64 + self.held.iter().map(|held| held.size).sum::<u64>()
    }

    /// Forgets the held pieces and returns how many bytes they stood for.
    pub(super) fn drop_held(&mut self) -> u64 {
        std::mem::take(&mut self.held).iter().map(|held| held.size).sum()
    }

    /// Memory owned.
    pub(super) fn footprint(&self) -> usize {
        let held: usize = self.held.iter().map(|held| held.bytes.capacity() + size_of::<Held>()).sum();
        self.queue.footprint() + held
    }
}

impl Lanes {
    /// Directions whose first byte has the position 0, or whichever position comes first.
    pub(super) fn new(from_zero: bool) -> Self {
        let lane = || if from_zero { Lane::from_zero() } else { Lane::default() };
        Self { sent: lane(), received: lane() }
    }

    pub(super) fn of(&mut self, flow: Flow) -> &mut Lane {
        match flow {
            Flow::Sent => &mut self.sent,
            Flow::Received => &mut self.received,
        }
    }

    pub(super) fn both(&mut self) -> [&mut Lane; 2] {
        [&mut self.sent, &mut self.received]
    }

    /// As in [`Lane::waiting_since`], of either.
    pub(super) fn waiting_since(&self) -> Option<BootNanos> {
        match (self.sent.waiting_since(), self.received.waiting_since()) {
            (Some(sent), Some(received)) => Some(sent.min(received)),
            (sent, received) => sent.or(received),
        }
    }

    /// As in [`Lane::retained`], of both.
    pub(super) fn retained(&self) -> u64 {
        self.sent.retained() + self.received.retained()
    }

    /// As in [`Lane::footprint`], of both.
    pub(super) fn footprint(&self) -> usize {
        self.sent.footprint() + self.received.footprint()
    }
}

/// How long a gap is doubted. Rationale: two threads of one process return from their calls microseconds apart, or a
/// scheduling delay apart; a tenth of a second covers a busy machine and is not noticed in telemetry.
pub(super) const HELD_NS: u64 = 100_000_000;
/// Pieces held in one direction.
pub(super) const HELD_PIECES_MAX: usize = 8;
/// Copied bytes held in one direction.
pub(super) const HELD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Times = Times { first: BootNanos(1), last: BootNanos(2) };

    #[test]
    fn positions_tell_old_next_and_ahead() {
        let mut lane = Lane::from_zero();
        assert_eq!(lane.place(0, 5), Place::Next { overlap: 0 });
        lane.advance(5);
        assert_eq!(lane.place(5, 1), Place::Next { overlap: 0 });
        assert_eq!(lane.place(3, 4), Place::Next { overlap: 2 });
        assert_eq!(lane.place(0, 5), Place::Old);
        assert_eq!(lane.place(9, 1), Place::Ahead { missing: 4 });
        assert_eq!(lane.missing_before(12), 7);
    }

    #[test]
    fn the_first_piece_of_a_late_join_is_next() {
        let mut lane = Lane::default();
        assert_eq!(lane.place(1_000, 5), Place::Next { overlap: 0 });
        assert_eq!(lane.missing_before(9_000), 0);
        lane.advance(1_005);
        assert_eq!(lane.place(1_006, 5), Place::Ahead { missing: 1 });
    }

    #[test]
    fn held_pieces_come_out_by_position_once_reached() {
        let mut lane = Lane::from_zero();
        lane.hold(8, 2, b"cc", AT, BootNanos(7));
        lane.hold(4, 4, b"bbbb", AT, BootNanos(9));
        assert_eq!(lane.waiting_since(), Some(BootNanos(7)));
        assert!(lane.take_held(false).is_none());
        lane.advance(4);
        assert_eq!(lane.take_held(false).map(|held| held.position), Some(4));
        assert!(lane.take_held(false).is_none());
        assert_eq!(lane.take_held(true).map(|held| held.position), Some(8));
        assert_eq!(lane.footprint(), 0);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut lane = Lane::from_zero();
        let mut held = 0;
        while lane.can_hold(1) {
            held += 1;
            lane.hold(held * 10, 1, b"x", AT, BootNanos(0));
        }
        assert_eq!(held, HELD_PIECES_MAX as u64);
        assert!(!Lane::default().can_hold(HELD_BYTES_MAX + 1));
    }
}
