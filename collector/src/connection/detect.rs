//! Which protocol a stream speaks: asks each protocol in order, and rests when none answers for a while.
//!
//! Never final. A segment that every protocol rejects is dropped (we may have joined in the middle of a message) and
//! the next one is asked about. After [`REJECTED_MAX`] rejected segments in a row the stream is unknown: from then on
//! only some segments are asked about, namely those that are likeliest to begin a message.

use spantap_ebpf_common::event::{Flow, Opener};
use spantap_protocols::{BootNanos, Direction, Protocol, Role, Sniff};

/// What detection remembers of one stream.
#[derive(Debug, Default)]
pub(super) struct Detector {
    /// Segments rejected in a row, up to [`REJECTED_MAX`].
    rejected: u32,
    /// Segments since then, and changes of direction among them.
    rested: u32,
    turns: u32,
    /// The last segment.
    flow: Option<Flow>,
    at: BootNanos,
    /// It came after long talk that nobody recognised and a pause.
    begins_anew: bool,
}

impl Detector {
    /// Notes a segment and says whether it is worth asking about.
    pub(super) fn is_due(&mut self, flow: Flow, at: BootNanos) -> bool {
        let turned = self.flow.replace(flow) != Some(flow);
        let idle = at.since(std::mem::replace(&mut self.at, at)) >= IDLE_NS;
        self.begins_anew = idle && self.rests();
        if !self.rests() || idle {
            return true;
        }
        self.rested = self.rested.wrapping_add(1);
        if !turned {
            return self.rested.is_multiple_of(RESTED_SEGMENTS);
        }
        self.turns = self.turns.wrapping_add(1);
        self.turns.is_multiple_of(RESTED_TURNS)
    }

    /// True if nothing has been recognised for long.
    pub(super) fn rests(&self) -> bool {
        self.rejected >= REJECTED_MAX
    }

    /// True if whatever the last segment begins has nothing to do with what came before.
    pub(super) fn begins_anew(&self) -> bool {
        self.begins_anew
    }

    /// Notes that every protocol rejected a segment.
    pub(super) fn reject(&mut self) {
        self.rejected = (self.rejected + 1).min(REJECTED_MAX);
    }
}

/// What the protocols together say of a head.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    /// This one, travelling this way.
    Match(&'static dyn Protocol, Direction),
    /// None.
    Reject,
    /// Some may, later.
    NeedMore,
}

/// Asks all protocols about the first bytes of one direction.
///
/// The first match wins, even if a protocol before it needs more: a match is certain, a need is only a maybe.
pub(super) fn sniff(
    protocols: &'static [&'static dyn Protocol],
    head: &[u8],
    expected: Option<Direction>,
) -> Verdict {
    let mut verdict = Verdict::Reject;
    for protocol in protocols {
        match protocol.sniff(head, expected) {
            Sniff::Match(direction) if expected.is_none_or(|expected| expected == direction) => {
                return Verdict::Match(*protocol, direction);
            }
            Sniff::NeedMore => verdict = Verdict::NeedMore,
            Sniff::Match(_) | Sniff::Reject => {}
        }
    }
    verdict
}

/// The direction in which `flow` carries bytes, by which end connected.
pub(super) fn expected(flow: Flow, opener: Option<Opener>) -> Option<Direction> {
    opener.map(|opener| match opener {
        Opener::Us => direction(flow, Role::Client),
        Opener::Peer => direction(flow, Role::Server),
    })
}

/// The direction in which `flow` carries bytes when the watched process has `role`.
pub(super) fn direction(flow: Flow, role: Role) -> Direction {
    match (flow, role) {
        (Flow::Sent, Role::Client) | (Flow::Received, Role::Server) => Direction::ToServer,
        (Flow::Sent, Role::Server) | (Flow::Received, Role::Client) => Direction::ToClient,
    }
}

/// The watched process's role if `flow` carries bytes in `direction`.
pub(super) fn role(flow: Flow, direction: Direction) -> Role {
    match (flow, direction) {
        (Flow::Sent, Direction::ToServer) | (Flow::Received, Direction::ToClient) => Role::Client,
        (Flow::Sent, Direction::ToClient) | (Flow::Received, Direction::ToServer) => Role::Server,
    }
}

/// True if `head` begins with the header of a TLS record of a plausible kind, version and length.
///
/// Spec: <https://www.rfc-editor.org/rfc/rfc8446#section-5.1>
pub(super) fn is_tls_record(head: &[u8]) -> bool {
    let &[kind, major, minor, high, low, ..] = head else { return false };
    let length = u16::from_be_bytes([high, low]);
    (20..=24).contains(&kind) && major == 3 && minor <= 4 && (1..=RECORD_BYTES_MAX).contains(&length)
}

/// Rationale: more than enough for a handshake of an unknown kind and for the rest of a message joined in its middle;
/// afterwards a stream of an unknown protocol costs next to nothing.
const REJECTED_MAX: u32 = 16;
/// An unknown stream is asked about again at the first segment after such a pause.
const IDLE_NS: u64 = 1_000_000_000;
/// And at one of so many segments. Odd numbers, so that both halves of a regular back and forth get their turn.
const RESTED_SEGMENTS: u32 = 17;
/// And at one of so many changes of direction: those are where messages begin.
const RESTED_TURNS: u32 = 5;
/// Bytes that wait for a protocol to make up its mind, in one direction.
pub(super) const HEAD_BYTES_MAX: usize = 4 * 1024;
/// RFC 8446, section 5.2: 2^14 + 256; TLS 1.2 allows 2^14 + 2048.
const RECORD_BYTES_MAX: u16 = (1 << 14) + 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_stream_is_asked_about_now_and_then_in_both_directions() {
        let mut detector = Detector::default();
        for _ in 0..REJECTED_MAX {
            assert!(detector.is_due(Flow::Sent, BootNanos(1)));
            detector.reject();
        }
        let mut asked = [0, 0];
        for _ in 0..100 {
            asked[0] += u32::from(detector.is_due(Flow::Received, BootNanos(2)));
            asked[1] += u32::from(detector.is_due(Flow::Sent, BootNanos(2)));
        }
        assert_eq!(asked, [20, 20]);
        let bulk = (0..1_000).filter(|_| detector.is_due(Flow::Sent, BootNanos(3))).count();
        assert!((50..70).contains(&bulk), "{bulk}");
        assert!(!detector.begins_anew());
        assert!(detector.is_due(Flow::Sent, BootNanos(3 + IDLE_NS)));
        assert!(detector.begins_anew());
    }

    #[test]
    fn roles_and_directions_agree() {
        for flow in [Flow::Sent, Flow::Received] {
            for role_ in [Role::Client, Role::Server] {
                assert_eq!(role(flow, direction(flow, role_)), role_);
            }
        }
        assert_eq!(expected(Flow::Received, Some(Opener::Peer)), Some(Direction::ToServer));
        assert_eq!(expected(Flow::Received, Some(Opener::Us)), Some(Direction::ToClient));
        assert_eq!(expected(Flow::Received, None), None);
    }

    #[test]
    fn tls_records_are_told_from_text() {
        assert!(is_tls_record(b"\x16\x03\x01\x02\x00\x01"));
        assert!(is_tls_record(b"\x17\x03\x03\x40\x11"));
        assert!(!is_tls_record(b"\x17\x03\x03\xff\xff"));
        assert!(!is_tls_record(b"\x16\x03\x01"));
        assert!(!is_tls_record(b"GET / HTTP/1.1"));
        assert!(!is_tls_record(b""));
    }
}
