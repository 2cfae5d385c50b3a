//! Which reply answers which command? The state machine of one Redis connection.
//!
//! Commands wait in a queue and replies take its front, because Redis answers in order, however many commands a client
//! sends ahead. What may be paired is the question of [`Step`]:
//!
//! ```text
//! opened at its start --> Exact --gap over a message boundary--> Lost <-- opened late
//!                                                                |  ^
//!                             a command that opens a turn        v  |  a gap, or a reply that nobody asked for
//!                                                              Assumed
//! ```
//!
//! * `Exact`: every message since the connection's start was seen; the queue is the truth, pipelined or not.
//! * `Lost`: how many unseen commands wait is unknown. Those that were in the queue before are still answered first and
//!   are still paired; new ones are not, until one *opens a turn*.
//! * `Assumed`: that one, and all after it, are paired.
//!
//! A command opens a turn if no known command waits, no byte of a reply came after it began, either every request byte so
//! far was understood or a reply byte came after the last one that was not, and [`Turns`] says that nothing else can be
//! in flight. The next reply byte then begins its answer. What is paired in that first turn is told when the turn is over,
//! each command answered and no reply left; else it was none, all of it is dropped, and the connection does not take turns.
//!
//! Replies whose end is lost in a gap are *open*: if only one command waits, all that comes until the next command is its
//! reply, and that command opens a turn unless clients of this connection were seen to overlap. With several, how many of them were answered is unknown, and all are dropped.
//!
//! What a server sends by itself (RESP3 pushes, messages of RESP2, the lines of `MONITOR`) answers nothing and is passed
//! over. `SUBSCRIBE` and its kin get one confirmation for each channel; `CLIENT REPLY` decides whether there are replies at
//! all; a command in a transaction is answered by `QUEUED`, which is its exchange, and the results are `EXEC`'s. After
//! `SYNC` or `PSYNC` the connection is a replication stream and nothing is read any more.
//!
//! The database is known from the connection's start, or since the last `SELECT`; each reply is told to the database that
//! was selected when it was made. After loss it is unknown until the next `SELECT`.

mod exchange;

mod replies;
mod requests;
mod turns;

use std::collections::VecDeque;

use compact_str::CompactString;

use self::{exchange::Circumstances, turns::Turns};
use super::{
    commands::Command,
    pubsub::Subscriptions,
    request::{Detail, Request},
    walk::Walk,
};
use crate::{
    exchange::Exchange,
    http::{CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Role, Segment},
};

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct RedisParser {
    role: Role,
    from_start: bool,
    requests: Requests,
    /// The command that is being read, in [`Requests::Within`].
    request: Request,
    /// It will be an exchange.
    accepted: bool,
    /// The one before was an inline command.
    inline: bool,
    replies: Replies,
    /// The value that is being read, in [`Replies::Within`].
    walk: Walk,
    /// The answer to the front of the queue, once it has begun.
    answer: Option<Answer>,
    step: Step,
    turns: Turns,
    /// No turn has come after the one that ended [`Step::Lost`].
    fresh: bool,
    /// What was paired in that turn, until it is over as it should be.
    held: Vec<Exchange>,
    /// Commands that wait, oldest first.
    queue: VecDeque<Slot>,
    /// Bytes of query texts in the queue that do not stand inline.
    text_bytes: usize,
    /// Newest bytes of the request direction whose meaning is unknown.
    requests_unclear: Option<BootNanos>,
    /// Begin and end of the newest reply bytes.
    replied_first: Option<BootNanos>,
    replied_last: Option<BootNanos>,
    modes: Modes,
    /// Some reply was paired.
    confirmed: bool,
    failures: u8,
    dropped: u64,
    cut_requests: u64,
}

/// Where the request direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requests {
    /// Between two commands.
    Between,
    /// In a command.
    Within,
    /// Out of frame: the next command is looked for at the start of a segment.
    Seek,
    /// Not read any more.
    Opaque,
}

/// Where the reply direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    /// Between two values.
    Between,
    /// In a value.
    Within(Target),
    /// In a reply whose end is not known: it lasts until the next command.
    Open {
        /// Nothing but its end was lost.
        certain: bool,
    },
    /// Out of frame: nothing is understood until a turn.
    Seek,
    /// Not read any more.
    Opaque,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The reply to the front of the queue.
    Front,
    /// A part of it.
    Confirmation {
        /// It came as an array.
        resp2: bool,
    },
    /// No reply.
    Push,
}

/// How well commands and replies are known to match; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Exact,
    Assumed,
    Lost,
}

/// What waits for a reply.
#[derive(Debug)]
enum Slot {
    Command(Pending),
    /// So many commands of which nothing is kept.
    Skipped(u64),
}

/// A command that waits.
#[derive(Debug)]
struct Pending {
    start: BootNanos,
    request_end: BootNanos,
    request_bytes: u64,
    command: Option<&'static Command>,
    operation: CompactString,
    text: CompactString,
    detail: Detail,
    /// Replies it will get; 0 for as many as there are subscriptions.
    replies: u32,
}

/// The reply to the front of the queue, as far as it has come.
#[derive(Clone, Copy, Debug)]
struct Answer {
    start: BootNanos,
    end: BootNanos,
    bytes: u64,
}

/// What earlier messages say of later ones.
#[derive(Debug, Default)]
struct Modes {
    /// Selected when the next reply was made; `None` if unknown.
    database: Option<u16>,
    subscriptions: Option<Subscriptions>,
    /// `MULTI` was sent, its end was not.
    transaction_asked: bool,
    /// Commands queued since the reply to `MULTI`; `None` if that was not seen.
    queued: Option<u32>,
    /// The `SELECT` among them.
    queued_database: Option<Option<u16>>,
    /// One among them gets replies of its own way when they are executed: after that nothing is certain.
    murky: bool,
    answers: Answers,
}

/// What `CLIENT REPLY` has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answers {
    #[default]
    On,
    Off,
    /// Not to the next command.
    Skip,
}

impl RedisParser {
    pub(super) fn new(context: OpenContext) -> Self {
        let start = context.from_start;
        let modes = if start {
            let subscriptions = Some(Subscriptions::default());
            Modes { database: Some(0), subscriptions, ..Modes::default() }
        } else {
            Modes::default()
        };
        Self {
            role: context.role,
            from_start: start,
            requests: if start { Requests::Between } else { Requests::Seek },
            request: Request::default(),
            accepted: false,
            inline: false,
            replies: if start { Replies::Between } else { Replies::Seek },
            walk: Walk::default(),
            answer: None,
            step: if start { Step::Exact } else { Step::Lost },
            turns: Turns::new(context),
            fresh: false,
            held: Vec::new(),
            queue: VecDeque::new(),
            text_bytes: 0,
            requests_unclear: None,
            replied_first: None,
            replied_last: None,
            modes,
            confirmed: false,
            failures: 0,
            dropped: 0,
            cut_requests: 0,
        }
    }

    fn front(&self) -> Option<&Pending> {
        match self.queue.front() {
            Some(Slot::Command(pending)) => Some(pending),
            _ => None,
        }
    }

    /// Takes the front of the queue.
    fn pop(&mut self) -> Option<Pending> {
        let Some(Slot::Command(_)) = self.queue.front() else { return None };
        let Some(Slot::Command(pending)) = self.queue.pop_front() else { return None };
        if pending.text.is_heap_allocated() {
            self.text_bytes = self.text_bytes.saturating_sub(pending.text.len());
        }
        self.shrink();
        Some(pending)
    }

    /// Gives back what a deep pipeline took.
    fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > IDLE_SLOTS {
            self.queue.shrink_to(IDLE_SLOTS);
        }
    }

    /// Which commands the replies to come belong to cannot be known: those that wait are dropped.
    fn forget(&mut self) {
        let waiting = self.queue.iter().filter(|slot| matches!(slot, Slot::Command(_))).count();
        self.dropped += (waiting + self.held.len()) as u64;
        self.held = Vec::new();
        if let Some(Slot::Command(newest)) = self.queue.back() {
            self.requests_unclear = self.requests_unclear.max(Some(newest.request_end));
        }
        self.queue.clear();
        self.text_bytes = 0;
        self.shrink();
        self.answer = None;
        self.accepted = false;
        self.step = Step::Lost;
        if self.replies != Replies::Opaque {
            self.replies = Replies::Seek;
        }
    }

    /// From here on it is a replication stream.
    fn leave_alone(&mut self) {
        self.forget();
        self.requests = Requests::Opaque;
        self.replies = Replies::Opaque;
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}

/// Slots that an idle connection keeps.
const IDLE_SLOTS: usize = 12;

impl Parser for RedisParser {
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match segment.direction {
            Direction::ToServer => self.on_request_bytes(&segment, out),
            Direction::ToClient => self.on_reply_bytes(&segment, out),
        }
    }

    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>) {
        match gap.direction {
            Direction::ToServer => self.on_request_gap(&gap, out),
            Direction::ToClient => self.on_reply_gap(&gap, out),
        }
    }

    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        self.end_open_reply(at, out);
        // A command that was cut off by the end was never answered.
        if self.requests == Requests::Within && self.accepted && self.request.is_named {
            self.request.end_unseen();
            self.request_is_read(at, out);
        }
        // Joined late, a connection without replies may have been told to have none.
        let certain = (self.from_start || self.confirmed) && !self.fresh;
        self.dropped += self.held.len() as u64;
        self.held = Vec::new();
        while let Some(slot) = self.queue.pop_front() {
            match slot {
                Slot::Skipped(_) => {}
                Slot::Command(_) if !certain => self.dropped += 1,
                Slot::Command(pending) => {
                    let answer = self.answer.take();
                    let known = Circumstances { database: self.modes.database, ..Circumstances::default() };
                    let mut exchange = exchange::exchange(self.role, pending, answer.as_ref(), known);
                    match answer {
                        Some(_) => exchange::fail(&mut exchange, RESPONSE_TRUNCATED, None),
                        None => exchange::fail(&mut exchange, CONNECTION_CLOSED, Some(at)),
                    }
                    out.push(exchange);
                    // What follows may have another.
                    self.modes.database = None;
                }
            }
        }
        self.requests = Requests::Opaque;
        self.replies = Replies::Opaque;
    }

    fn lost(&self) -> bool {
        self.failures >= limits::FAILURES_MAX
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + self.held.len()
    }

    fn cut_heads(&self) -> u64 {
        self.cut_requests
    }

    fn skippable(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToServer => match self.requests {
                Requests::Within => self.request.skippable(),
                Requests::Opaque => u64::MAX,
                Requests::Between | Requests::Seek => 0,
            },
            Direction::ToClient => match self.replies {
                Replies::Within(_) => self.walk.skippable(),
                Replies::Opaque => u64::MAX,
                Replies::Between | Replies::Open { .. } | Replies::Seek => 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of::<RedisParser>() + IDLE_SLOTS * size_of::<Slot>();
        assert!(size <= 2048, "{size} bytes, {} each slot", size_of::<Slot>());
    }
}
