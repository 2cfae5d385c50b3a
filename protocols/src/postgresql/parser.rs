//! Which response answers which request? The state machine of one PostgreSQL connection.
//!
//! Each direction is framed by itself ([`Reading`]). What the server owes waits in a [`Queue`], and each of its messages
//! must be what is owed next, or the pairing is given up.
//!
//! An exchange is one statement that was executed: each statement of a simple query (as `pg_stat_statements` counts
//! them), each Execute. It begins with the first byte of the messages that were sent for it (of a simple query with that
//! query, of an extended one with its Parse or Bind) and ends with its own completion, not with ReadyForQuery. What is
//! only prepared is no exchange unless it fails; nor is a connection that is made. Statements that a server skips after
//! an error in their pipeline are errors of their own.
//!
//! After loss:
//!
//! ```text
//!           a gap over a request's frame          a response that was not owed
//! exact ----------------------------------> lost <----------------------------
//!   ^                                         |
//!   '---- a request that opens a turn --------'
//!
//!           a gap over a response's frame
//! exact <---------------------------------> blurred
//!           ReadyForQuery, or the next request
//! ```
//!
//! * *lost*: requests were not seen ([`Owed::Unknown`]), so nothing can be paired. ReadyForQuery says that the server has
//!   nothing more to answer, as long as the client asks for one cycle after the other: the request that follows it *opens
//!   a turn* if nothing that is not understood was sent since. For a client that was seen to ask for a second cycle
//!   before the first was over, that proves nothing, and nothing is paired any more.
//!   A simple query that a server reads first on a connection that was joined late opens a turn too: it reads when it has
//!   answered all it has read (but extended ones, until a Sync comes). What is paired in that cycle is held until the next
//!   one, and dropped if there was an answer more than that.
//! * *blurred*: in the middle of a response, most often of one with more rows than are copied of a call. Of the cycle one
//!   statement may survive, if its response had begun and no other was to follow it; its completion is taken from the
//!   end of the server's bytes if it is there, else its exchange ends with them. It is held until the client asks again: if
//!   requests were lost before that, what ended it may have answered them, and it is dropped.
//!
//! A text, a statement's name or a database that was not seen is left out or marked, never guessed: after a gap between
//! requests all prepared statements are unknown, because they may have been closed and prepared anew.
//!
//! Which bytes of a query are text depends on `standard_conforming_strings` in one case, a backslash before a quote. The
//! server reports it when a session begins, and after a cycle that has changed it. It is unknown for who came later, once
//! bytes of the server were not seen, and as long as something that may change it is under way.

mod recovery;
mod requests;
mod responses;

use compact_str::CompactString;

use super::{
    exchange::{self, Ending, Response},
    queue::{Owed, Pending, Queue, Text, What},
    statements::PreparedStatements,
};
use crate::{
    exchange::Exchange,
    http::{CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Role, Segment},
    sql::Backslash,
};

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct PostgresqlParser {
    context: OpenContext,
    requests: Reading,
    responses: Reading,
    queue: Queue,
    prepared: PreparedStatements,
    /// Parse, Bind and Describe that no Execute has followed yet.
    group: Option<Group>,
    database: Option<CompactString>,
    /// As the server reported it last.
    backslash: Backslash,
    /// Of the request that is being answered.
    response: Response,
    /// See the module.
    blurred: bool,
    first: First,
    /// What was paired in a blurred cycle, until the next request shows that none was lost.
    held: Option<Box<Exchange>>,
    /// An error has come: the server skips to the end of the cycle.
    failed: bool,
    /// It hit the group that is still being sent.
    group_failed: bool,
    /// The server takes rows: until they end it ignores Sync.
    copying: bool,
    /// A second cycle was asked for before the first was over.
    pipelined: bool,
    /// A turn was opened, and ReadyForQuery has not confirmed it yet.
    assumed: bool,
    /// What the newest ReadyForQuery said of the transaction, if none was missed since.
    transaction: Option<u8>,
    /// When ReadyForQuery came, if nothing came after it.
    ready_at: Option<BootNanos>,
    /// Newest request bytes whose meaning is unknown.
    requests_unclear: Option<BootNanos>,
    /// Newest response bytes.
    responses_latest: BootNanos,
    strays: u32,
    failures: u8,
    handed_over: bool,
    dropped: u64,
    cut_heads: u64,
}

/// The first cycle of a connection that was joined late, at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// Nothing was seen yet.
    Possible,
    /// It is under way; what is paired in it is held.
    Taken,
    /// Its ReadyForQuery has come. What is held is told if the client asks again before the server says anything else.
    Answered,
    /// It is over, or there was none.
    Over,
}

/// Where one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Before the client's first message, which has no type.
    Startup,
    /// At a message boundary.
    Header,
    /// In a body of which so many bytes are left. `owned`: they are the newest request's.
    Skip { left: usize, owned: bool },
    /// Out of frame: a message is looked for at the start of each segment.
    Seek,
    /// Replication, or a cancel request: nothing is read any more.
    Opaque,
}

/// See [`PostgresqlParser::group`].
#[derive(Debug)]
struct Group {
    start: BootNanos,
    end: BootNanos,
    bytes: u64,
    text: Option<Text>,
}

impl PostgresqlParser {
    pub(super) fn new(context: OpenContext) -> Self {
        let mut queue = Queue::default();
        let (requests, responses) = if context.from_start {
            (Reading::Startup, Reading::Header)
        } else {
            queue.push(Owed::Unknown);
            (Reading::Seek, Reading::Seek)
        };
        Self {
            context,
            requests,
            responses,
            queue,
            prepared: PreparedStatements::default(),
            group: None,
            database: None,
            backslash: Backslash::Unclear,
            response: Response::default(),
            blurred: false,
            first: match context {
                OpenContext { role: Role::Server, from_start: false, answered: false, .. } => First::Possible,
                _ => First::Over,
            },
            held: None,
            failed: false,
            group_failed: false,
            copying: false,
            transaction: None,
            pipelined: false,
            assumed: false,
            ready_at: None,
            requests_unclear: None,
            responses_latest: BootNanos(0),
            strays: 0,
            failures: 0,
            handed_over: false,
            dropped: 0,
            cut_heads: 0,
        }
    }

    fn emit(&mut self, pending: &mut Pending, ending: Ending<'_>, end: BootNanos, out: &mut Vec<Exchange>) {
        let response = std::mem::take(&mut self.response);
        let exchange = exchange::finish(self.context, self.database.as_ref(), pending, response, ending, end);
        self.tell(exchange, out);
    }

    /// Finishes the exchange that is being answered; of a simple query its present statement.
    fn emit_first(&mut self, ending: Ending<'_>, end: BootNanos, out: &mut Vec<Exchange>) {
        let Some(pending) = self.queue.first() else { return };
        let response = std::mem::take(&mut self.response);
        let exchange = exchange::finish(self.context, self.database.as_ref(), pending, response, ending, end);
        self.tell(exchange, out);
    }

    fn tell(&mut self, exchange: Exchange, out: &mut Vec<Exchange>) {
        if self.blurred || self.first == First::Taken {
            self.dropped += u64::from(self.held.replace(Box::new(exchange)).is_some());
        } else {
            out.push(exchange);
        }
        self.failures = 0;
        self.strays = 0;
    }
}

impl Parser for PostgresqlParser {
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match segment.direction {
            Direction::ToServer => self.on_request_bytes(&segment, out),
            Direction::ToClient => self.on_response_bytes(&segment, out),
        }
    }

    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>) {
        match gap.direction {
            Direction::ToServer => self.on_request_gap(&gap, out),
            Direction::ToClient => self.on_response_gap(&gap),
        }
    }

    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        if self.first == First::Taken {
            self.distrust_first();
        }
        self.first = First::Over;
        if self.blurred {
            self.end_blur(self.responses_latest, out);
        }
        out.extend(self.held.take().map(|held| *held));
        let mut known = true;
        while let (Some(owed), pending, _) = self.queue.pop() {
            known &= owed != Owed::Unknown;
            let Some(mut pending) = pending.filter(|_| known) else { continue };
            let ending = match (&pending.what, owed) {
                _ if owed == Owed::Prepared => continue,
                // Whoever connects may leave again.
                (What::Startup, _) => continue,
                (What::Query(query), _) if query.done > 0 && query.done >= query.statements.len() => continue,
                _ if self.failed => Ending::Broken(exchange::ABORTED),
                _ if self.response.start.is_some() => Ending::Broken(RESPONSE_TRUNCATED),
                _ => Ending::Broken(CONNECTION_CLOSED),
            };
            self.emit(&mut pending, ending, at, out);
        }
        self.group = None;
        self.requests = Reading::Opaque;
        self.responses = Reading::Opaque;
    }

    fn lost(&self) -> bool {
        self.handed_over || self.failures >= limits::FAILURES_MAX || self.strays >= limits::STRAY_SEGMENTS_MAX
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight() + usize::from(self.held.is_some())
    }

    fn cut_heads(&self) -> u64 {
        self.cut_heads
    }

    fn skippable(&self, direction: Direction) -> u64 {
        let reading = match direction {
            Direction::ToServer => self.requests,
            Direction::ToClient => self.responses,
        };
        match reading {
            Reading::Skip { left, .. } => left as u64,
            Reading::Opaque => u64::MAX,
            Reading::Startup | Reading::Header | Reading::Seek => 0,
        }
    }
}
