//! Which response answers which request? The state machine of one HTTP/1 connection.
//!
//! Each direction is read by itself ([`Reading`]); requests wait in a queue and responses take its front, because
//! HTTP/1 answers in order (RFC 9112, section 9.3.2). What may be paired is the question of [`Step`]:
//!
//! ```text
//! opened at its start --> Exact --gap over a message boundary--> Lost <-- opened late
//!                           ^                                     |  ^
//!                           |         a request that opens a turn v  |  a gap, or pipelining seen
//!                           +------ one after a long silence --- Assumed
//! ```
//!
//! * `Exact`: every message was seen since the connection's start, or since nothing was in flight for certain (see
//!   `silence.rs`); the queue is the truth, pipelined or not.
//! * `Lost`: how many unseen requests wait is unknown. Requests that were in the queue before are still answered first
//!   and are still paired; new ones are not, until one *opens a turn*.
//! * `Assumed`: that one, and those after it, are paired.
//!
//! A request opens a turn if no known request waits, no byte of a response came after it began, and either every
//! request byte so far was understood or a response byte came after the last one that was not. A client that does not
//! pipeline sends a request only after the whole response to the one before; for such a client nothing else can wait
//! when a turn opens, so the next response byte begins its answer. That answer must then start exactly there, with a
//! status line, else the request is dropped. On a client's connection that was joined late it must also be known that
//! nothing is in flight (see `silence.rs`). Pipelining cannot be ruled out by looking, so it is watched for: a second
//! request in one call, one sent before the response to the first began (whether it was queued or left out), or a
//! response that no request waits for ends pairing until the next long silence, but for requests that were queued while it
//! was `Exact`.
//!
//! A message whose end cannot be known (its head was cut, its framing lost in a gap) is *open*: it lasts until the
//! other side's turn, so its exchange is finished by the next request or by the end of the connection. A request whose
//! head is cut is queued as one that is whole, and leaves `Lost` behind it: what was not copied may hide a body, or
//! more requests. So every request of a client whose heads are always cut has to open a turn. For those that hide
//! behind a cut head the rule above holds as for any others: they cannot be seen, only watched for.
//!
//! Bytes in the place of a request that are none by our reading (a version that is not 1.x, control characters in the
//! method) are queued all the same: a server that answers them with 4xx or 5xx has taken them for one, and that is an
//! exchange. If anything else follows, they are dropped.
//!
//! After a final response to a request with `Expect: 100-continue` whose body has not begun, the body may follow or not
//! (RFC 9110, section 10.1.1). The exchange is then over; if what comes next is no request, it is that body.
//!
//! Times: `response_start` is the first byte of the final response, interim ones (1xx) count neither into times nor
//! into bytes; `end` is the response's last byte, also if the request's body ended after it.

mod requests;
mod responses;
mod silence;
mod trickle;

use std::collections::VecDeque;

use self::{silence::Silence, trickle::Trickle};
use super::{body::Body, head::ResponseHead};
use crate::{
    exchange::Exchange,
    http::{self, CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    http2::{self, Http2},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Segment},
};

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct Http1Parser {
    context: OpenContext,
    requests: Reading,
    responses: Reading,
    step: Step,
    silence: Silence,
    /// Requests whose exchange is not finished, oldest first. The front is the one being answered.
    queue: VecDeque<Pending>,
    /// The request body that is being read belongs to the queue's back.
    owns_body: bool,
    /// What the head that is being held for more bytes says so far, should a gap cut it.
    cut_request: Option<Box<Pending>>,
    cut_response: Option<CutResponse>,
    /// And when to look at it again.
    request_trickle: Trickle,
    response_trickle: Trickle,
    /// Newest bytes of the request direction whose meaning is unknown.
    requests_unclear: Option<BootNanos>,
    /// Newest bytes of the response direction.
    responses_latest: Option<BootNanos>,
    /// A second request was seen before the response to the first began.
    pipelined: bool,
    /// When the first request began that was left out since the front of the queue waits.
    left_out_at: Option<BootNanos>,
    failures: u8,
    /// The request with which the client left HTTP/1: HTTP/2 answers it.
    upgraded: Option<Exchange>,
    dropped: u64,
    cut_heads: u64,
}

/// Where one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// At a message boundary.
    Head,
    /// In a body.
    Body(Body),
    /// After a request that may turn the connection into a tunnel: nothing is read until its response tells.
    Verdict,
    /// Before a body that the client announced with `Expect: 100-continue` and may keep to itself, since a final
    /// response came instead of 100: the next bytes tell.
    Declined(Body),
    /// Out of frame: the next head is looked for at the start of a segment.
    Seek,
    /// In a tunnel: nothing is read any more.
    Opaque,
}

/// How well requests and responses are known to match; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Exact,
    Assumed,
    Lost,
}

/// A request on its way to an exchange.
#[derive(Debug)]
struct Pending {
    exchange: Exchange,
    method: Method,
    stage: Stage,
    /// Queued while the connection was not `Exact`.
    assumed: bool,
    /// All of the request was read.
    request_read: bool,
    /// The request's end is unknown: it lasts until the response begins.
    request_open: bool,
    /// It waits for 100 before it sends its body.
    expects: bool,
    /// It is no request that we understand: only an answer that refuses it shows that it was one.
    unreadable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No final response yet.
    Waiting,
    /// The response is being read; it is open if `responses` is [`Reading::Seek`].
    Responding,
    /// The response is over, the request is not.
    Answered,
}

/// The beginning of a response's head.
#[derive(Clone, Copy, Debug)]
struct CutResponse {
    head: ResponseHead,
    first_at: BootNanos,
    last_at: BootNanos,
    length: usize,
}

impl Http1Parser {
    pub(super) fn new(context: OpenContext) -> Self {
        let (reading, step) =
            if context.from_start { (Reading::Head, Step::Exact) } else { (Reading::Seek, Step::Lost) };
        Self {
            context,
            requests: reading,
            responses: reading,
            step,
            silence: Silence::new(context),
            queue: VecDeque::new(),
            owns_body: false,
            cut_request: None,
            cut_response: None,
            request_trickle: Trickle::default(),
            response_trickle: Trickle::default(),
            requests_unclear: None,
            responses_latest: None,
            pipelined: false,
            left_out_at: None,
            failures: 0,
            upgraded: None,
            dropped: 0,
            cut_heads: 0,
        }
    }
}

impl Parser for Http1Parser {
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match segment.direction {
            Direction::ToServer => self.on_request_bytes(&segment, out),
            Direction::ToClient => self.on_response_bytes(&segment, out),
        }
    }

    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>) {
        match gap.direction {
            Direction::ToServer => self.on_request_gap(&gap, out),
            Direction::ToClient => self.on_response_gap(&gap, out),
        }
    }

    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        if let Some(cut) = self.cut_response.take()
            && self.may_answer(cut.first_at)
            && is_final(cut.head.status)
            && (cut.head.status >= 400 || !self.is_unreadable())
        {
            self.begin_response(cut.head, cut.first_at, cut.last_at, cut.length);
            self.responses = Reading::Head;
        }
        let cut_off = !matches!(self.responses, Reading::Seek | Reading::Body(Body::UntilClose));
        // Several that wait where pairing was taken up late: perhaps the answers went to the wrong ones.
        let doubtful = self.silence.has_begun() && self.queue.len() > 1;
        for mut pending in self.queue.drain(..) {
            match pending.stage {
                Stage::Waiting if pending.unreadable || doubtful => {
                    self.dropped += 1;
                    continue;
                }
                Stage::Waiting => {
                    pending.exchange.end = at;
                    http::set_error(&mut pending.exchange, CONNECTION_CLOSED);
                }
                Stage::Responding if cut_off => http::set_error(&mut pending.exchange, RESPONSE_TRUNCATED),
                Stage::Responding | Stage::Answered => {}
            }
            out.push(pending.exchange);
        }
        self.owns_body = false;
        self.requests = Reading::Opaque;
        self.responses = Reading::Opaque;
    }

    fn lost(&self) -> bool {
        self.failures >= limits::FAILURES_MAX
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn cut_heads(&self) -> u64 {
        self.cut_heads
    }

    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        let request = self.upgraded.take()?;
        Some((&Http2, http2::upgraded(self.context, request)))
    }

    fn skippable(&self, direction: Direction) -> u64 {
        let reading = match direction {
            Direction::ToServer => self.requests,
            Direction::ToClient => self.responses,
        };
        // A body that is only announced may be kept back, and what comes in its place is needed.
        let may_be_declined = direction == Direction::ToServer
            && self.owns_body
            && self.queue.back().is_some_and(|owner| owner.expects);
        match reading {
            Reading::Body(body) if !may_be_declined => body.skippable(),
            Reading::Opaque => u64::MAX,
            Reading::Body(_) | Reading::Head | Reading::Verdict | Reading::Declined(_) | Reading::Seek => 0,
        }
    }
}

/// 101 ends the exchange, the other 1xx announce that the answer is still to come.
fn is_final(status: u16) -> bool {
    status >= 200 || status == 101
}

/// What to consume of a line or a head that lacks its end: nothing, or all if the end will never come.
fn unfinished(segment: &Segment<'_>) -> usize {
    if segment.cut { segment.bytes.len() } else { 0 }
}

fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}
