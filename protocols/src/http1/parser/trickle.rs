//! When is a head that comes in many pieces worth another look?
//!
//! A head is read from its first byte, for nearly all come whole. One that does not is held, and would be read anew with
//! every piece; whoever sends it byte by byte could make that cost as much as the square of its length. So it is looked
//! at when its end is there, when nothing more will come, and each time that it has doubled.

use super::super::head;
use crate::{
    limits,
    protocol::{BootNanos, Segment},
};

/// The head that one direction holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trickle {
    /// When it began.
    first_at: BootNanos,
    /// Bytes in which its end is not.
    searched: u32,
    /// Bytes at the last look.
    looked_at: u32,
}

impl Trickle {
    /// Whether to read what is there of it. After bytes were taken, call [`Trickle::over`].
    pub(super) fn is_due(&mut self, segment: &Segment<'_>) -> bool {
        let length = u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX);
        if self.first_at != segment.first_at || length < self.searched {
            *self = Self { first_at: segment.first_at, ..Self::default() };
        }
        /// One less than the longest end of a head, which may lie across the border.
        const OVERLAP: u32 = 2;
        let from = self.searched.saturating_sub(OVERLAP) as usize;
        let fresh = segment.bytes.get(from..).unwrap_or_default();
        self.searched = length;
        let is_due = segment.cut
            || length >= self.looked_at.saturating_mul(2)
            || segment.bytes.len() > limits::HEAD_BYTES_MAX
            || head::holds_end(fresh);
        if is_due {
            self.looked_at = length;
        }
        is_due
    }

    /// What comes next is another head.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Direction;

    fn segment(bytes: &[u8], cut: bool) -> Segment<'_> {
        let at = BootNanos(7);
        Segment { direction: Direction::ToServer, first_at: at, last_at: at, bytes, cut }
    }

    #[test]
    fn looks_are_few_and_the_end_is_never_missed() {
        for end in [&b"\n\n"[..], b"\r\n\r\n", b"\n\r\n"] {
            let head = [&[b'x'; 20_000], end].concat();
            let mut trickle = Trickle::default();
            let mut is_due = |length: usize| trickle.is_due(&segment(&head[..length], false));
            let looks: Vec<usize> = (1..=head.len()).filter(|length| is_due(*length)).collect();
            assert_eq!(looks.last(), Some(&head.len()));
            assert!(looks.len() < 20, "{looks:?}");
        }
    }

    #[test]
    fn what_will_not_go_on_or_is_another_head_is_looked_at() {
        let mut trickle = Trickle::default();
        assert!(trickle.is_due(&segment(b"GET / HTTP/1.1\r\nA", false)));
        assert!(!trickle.is_due(&segment(b"GET / HTTP/1.1\r\nAb", false)));
        assert!(trickle.is_due(&segment(b"GET / HTTP/1.1\r\nAb", true)));
        assert!(trickle.is_due(&segment(b"GET / H", false)), "shorter: another one");
        assert!(!trickle.is_due(&segment(b"GET / HTT", false)));
        trickle.over();
        assert!(trickle.is_due(&segment(b"GET / HTT", false)));
        let later = Segment { first_at: BootNanos(8), ..segment(b"GET / HTTP", false) };
        assert!(trickle.is_due(&later));
    }
}
