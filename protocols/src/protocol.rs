//! The contract between the connection layer and a protocol: what a parser is given, and what it owes.
//!
//! Three things are law. Time comes in as an argument. A [`Gap`] is a normal input (prefixes are copied by design and
//! bytes are lost under load), after which a parser says less, never something wrong. And every parser passes the same
//! harness, see `testing`.

use crate::exchange::Exchange;

/// A point in time in nanoseconds of `CLOCK_BOOTTIME`. Only `telemetry::clock` of the agent turns it into wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNanos(pub u64);

impl BootNanos {
    /// Nanoseconds from `earlier` to `self`, 0 if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which way bytes travel, seen from the two roles of the conversation (not from the process that was watched).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client: requests.
    ToServer,
    /// From the server: responses.
    ToClient,
}

impl Direction {
    /// The opposite way.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// Which end of the conversation the watched process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends requests: its exchanges become CLIENT spans.
    Client,
    /// It answers them: its exchanges become SERVER spans.
    Server,
}

/// Contiguous bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Which way they travel.
    pub direction: Direction,
    /// When `bytes[0]` was sent (entry of the sending call) or had been received (return of the receiving call).
    pub first_at: BootNanos,
    /// When the last byte was sent or received: the return of the newest call that contributed to `bytes`.
    pub last_at: BootNanos,
    /// At least one byte.
    pub bytes: &'a [u8],
    /// A [`Gap`] follows `bytes` at once: they will never be presented longer. Most often the call that carried their
    /// end moved more than is copied of one.
    pub cut: bool,
}

/// Bytes of one direction that passed but are not here: not copied by design, or lost.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Which way they travelled.
    pub direction: Direction,
    /// As in [`Segment::first_at`]; where the calls themselves were lost, the time of the next one that was seen.
    pub first_at: BootNanos,
    /// As in [`Segment::last_at`].
    pub last_at: BootNanos,
    /// How many bytes; at least 1.
    pub missing: u64,
}

/// What a protocol says of the first bytes of one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// These bytes are this protocol's, and travel this way.
    Match(Direction),
    /// They are not, whatever follows.
    Reject,
    /// Every byte so far fits, but it is too early to tell.
    NeedMore,
}

/// What is known of a connection when its parser is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenContext {
    /// The end that is watched.
    pub role: Role,
    /// False if bytes had passed before the first one that the parser will see.
    pub from_start: bool,
    /// Some of those came from the server: it was answering.
    pub answered: bool,
    /// True if the bytes were taken inside TLS.
    pub tls: bool,
}

/// One protocol: a row in [`crate::ALL`].
pub trait Protocol: Sync {
    /// Lower-case name; also the key under `protocols:` in the configuration.
    fn name(&self) -> &'static str;

    /// Says whether `head`, the first bytes seen of one direction, is this protocol's. `expected` is the direction if
    /// the kernel told which end connected; a [`Sniff::Match`] must then agree with it.
    ///
    /// The bytes may begin in the middle of a message (late attach): then the honest answer is [`Sniff::Reject`], and
    /// detection asks again at the next message.
    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff;

    /// A parser for one connection.
    fn open(&self, context: OpenContext) -> Box<dyn Parser>;

    /// How much of each call is wanted as soon as the protocol is recognised.
    fn appetite(&self) -> Appetite {
        Appetite::Usual
    }
}

/// How much of each system call a protocol wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// A head: bodies are skipped by their lengths.
    Usual,
    /// Several messages: they stand behind one another in a call (pipelines, rows).
    More,
    /// All there is: of what is not copied not even the next message's place is known, and others cannot be read without it
    /// (frames of HTTP/2, HPACK's table).
    All,
}

/// The state machine of one connection. Never blocks, reads no clock, never panics, holds bounded memory.
pub trait Parser: Send {
    /// Takes at most one step (a head, a piece of a body, a frame) from the start of `segment.bytes` and returns how
    /// many bytes it consumed.
    ///
    /// The caller calls again with the rest, with times that fit the rest, until all is consumed or the parser
    /// returns 0. Zero means "not yet": the bytes are kept (within a budget) and presented again, longer, when more
    /// have come in this direction, or unchanged when the *other* direction has made progress; a parser may therefore
    /// return 0 to hold a response back until its request has arrived.
    ///
    /// Of bytes that are [`Segment::cut`], 0 says that they wait for the other direction, and the gap waits behind
    /// them: what only lacks its end must be consumed, or nothing moves until the caller gives it up.
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize;

    /// Bytes that the parser will never see. Everything unconsumed before the gap has been presented and is dropped.
    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>);

    /// The connection is over (closed, reset, or idle for too long): finish or fail what is open.
    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>);

    /// True once the parser has seen too much that is not its protocol: the connection returns to detection.
    fn lost(&self) -> bool {
        false
    }

    /// How many messages it began to read, or saw, and could not report: lost to gaps, not to be paired with certainty,
    /// over a cap. Only grows; the caller exports it.
    fn dropped(&self) -> u64 {
        0
    }

    /// How many exchanges have begun and are not finished.
    fn in_flight(&self) -> usize {
        0
    }

    /// How many messages it read whose head a gap cut: header fields behind it, such as the caller's trace, were not
    /// seen. Only grows.
    fn cut_heads(&self) -> u64 {
        0
    }

    /// The protocol that the connection goes on with, where it has just changed, and a parser for it. Asked after each
    /// step; the caller puts it in this one's place and presents to it what is not consumed, in both directions.
    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        None
    }

    /// How many further bytes of this direction the parser does not need to see (inside a body of known length): they
    /// may be passed as a [`Gap`] without loss. 0 if it needs the next byte.
    fn skippable(&self, _direction: Direction) -> u64 {
        0
    }
}
