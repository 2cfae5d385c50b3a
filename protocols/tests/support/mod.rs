//! Conversations of a known shape, and what it takes to read them: shared by the benchmark and by `steady.rs`.

pub mod conversations;
pub mod counting;
mod messages;

use spantap_protocols::{BootNanos, Direction, Exchange, OpenContext, Parser, Protocol, Role, Segment};

/// What one system call moves.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which way.
    pub direction: Direction,
    /// What.
    pub bytes: Vec<u8>,
}

/// A connection that repeats itself: what opens it, and calls that make the same exchanges again and again.
pub struct Conversation {
    /// What it is called in tables.
    pub name: &'static str,
    /// Who reads it.
    pub protocol: &'static dyn Protocol,
    /// Once.
    pub opening: Vec<Call>,
    /// Over and over.
    pub round: Vec<Call>,
    /// How many exchanges a round makes.
    pub exchanges: usize,
    /// Where the numbers of HTTP/2 streams stand in `round`: call, offset. Each round needs new ones.
    pub stream_ids: Vec<(usize, usize)>,
    /// Streams of one round.
    pub streams: u32,
    /// `opening` holds a whole exchange too: it fills the tables of HTTP/2.
    pub opens_with_an_exchange: bool,
}

impl Conversation {
    /// Bytes of a round, both ways.
    pub fn bytes(&self) -> usize {
        self.round.iter().map(|call| call.bytes.len()).sum()
    }

    /// Makes `round` the next one.
    pub fn renumber(&mut self) {
        for &(call, at) in &self.stream_ids {
            let field = &mut self.round[call].bytes[at..at + 4];
            let number = u32::from_be_bytes(field.try_into().expect("4 bytes")) + 2 * self.streams;
            field.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// A parser that reads a [`Conversation`].
pub struct Connection {
    parser: Box<dyn Parser>,
    out: Vec<Exchange>,
    now: u64,
    /// Exchanges so far.
    pub exchanges: usize,
}

impl Connection {
    /// Reads what opens the conversation.
    pub fn open(conversation: &Conversation) -> Self {
        let context = OpenContext { role: Role::Server, from_start: true, answered: false, tls: false };
        let parser = conversation.protocol.open(context);
        // The caller's, and no part of the parser.
        let mut connection = Self { parser, out: Vec::with_capacity(128), now: 0, exchanges: 0 };
        conversation.opening.iter().for_each(|call| connection.read(call));
        connection.exchanges = 0;
        connection
    }

    /// Reads a round.
    pub fn round(&mut self, conversation: &mut Conversation) {
        conversation.renumber();
        conversation.round.iter().for_each(|call| self.read(call));
    }

    /// Bytes on the heap that are not the parser's.
    pub fn outside(&self) -> usize {
        self.out.capacity() * size_of::<Exchange>()
    }

    /// Each call is one segment to begin with, and read as the agent does: until all of it is consumed.
    fn read(&mut self, call: &Call) {
        self.now += 1000;
        let at = BootNanos(self.now);
        let mut rest = call.bytes.as_slice();
        while !rest.is_empty() {
            let segment =
                Segment { direction: call.direction, first_at: at, last_at: at, bytes: rest, cut: false };
            let taken = self.parser.on_segment(segment, &mut self.out);
            assert!(taken > 0, "{} stands still at {:?}", self.now, rest.escape_ascii().to_string());
            rest = &rest[taken..];
        }
        self.exchanges += self.out.len();
        self.out.clear();
    }
}
