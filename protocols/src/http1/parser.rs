//! Which response answers which request? The state machine of one HTTP/1 connection.
//!
//! Each direction is read by itself ([`Reading`]); requests wait in a queue and responses take its front, because
//! HTTP/1 answers in order (RFC 9112, section 9.3.2). What may be paired is the question of [`Step`]:
//!
//! ```text
//! opened at its start --> Exact --gap over a message boundary--> Lost <-- opened late
//!                                                                 |  ^
//!                              a request that opens a turn        v  |  a gap, or pipelining seen
//!                                                               Assumed
//! ```
//!
//! * `Exact`: every message since the connection's start was seen; the queue is the truth, pipelined or not.
//! * `Lost`: how many unseen requests wait is unknown. Requests that were in the queue before are still answered first
//!   and are still paired; new ones are not, until one *opens a turn*.
//! * `Assumed`: that one, and those after it, are paired.
//!
//! A request opens a turn if no known request waits, no byte of a response came after it began, and either every
//! request byte so far was understood or a response byte came after the last one that was not. A client that does not
//! pipeline sends a request only after the whole response to the one before; for such a client nothing else can wait
//! when a turn opens, so the next response byte begins its answer. That answer must then start exactly there, with a
//! status line, else the request is dropped. Pipelining cannot be ruled out by looking, so it is watched for: a second
//! request in one call, or one sent before the response to the first began, ends pairing for the rest of a connection
//! that is not `Exact`.
//!
//! A message whose end cannot be known (its head was cut, its framing lost in a gap) is *open*: it lasts until the
//! other side's turn, so its exchange is finished by the next request or by the end of the connection.
//!
//! Times: `response_start` is the first byte of the final response, interim ones (1xx) count neither into times nor
//! into bytes; `end` is the response's last byte, also if the request's body ended after it.

use std::collections::VecDeque;

use super::{
    NAME,
    body::{Body, Chunk, GapStep, Step as BodyStep},
    head::{self, Framing, Head, RequestHead, ResponseHead},
};
use crate::{
    exchange::Exchange,
    http::{self, CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Segment, Sniff},
};

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct Http1Parser {
    context: OpenContext,
    requests: Reading,
    responses: Reading,
    step: Step,
    /// Requests whose exchange is not finished, oldest first. The front is the one being answered.
    queue: VecDeque<Pending>,
    /// The request body that is being read belongs to the queue's back.
    owns_body: bool,
    /// What the head that is being held for more bytes says so far, should a gap cut it.
    cut_request: Option<Box<Pending>>,
    cut_response: Option<CutResponse>,
    /// Newest bytes of the request direction whose meaning is unknown.
    requests_unclear: Option<BootNanos>,
    /// Newest bytes of the response direction.
    responses_latest: Option<BootNanos>,
    /// A second request was seen before the response to the first began.
    pipelined: bool,
    failures: u8,
    handed_over: bool,
    dropped: u64,
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
    /// All of the request was read.
    request_read: bool,
    /// The request's end is unknown: it lasts until the response begins.
    request_open: bool,
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
            queue: VecDeque::new(),
            owns_body: false,
            cut_request: None,
            cut_response: None,
            requests_unclear: None,
            responses_latest: None,
            pipelined: false,
            failures: 0,
            handed_over: false,
            dropped: 0,
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
        {
            self.begin_response(cut.head, cut.first_at, cut.last_at, cut.length);
            self.responses = Reading::Head;
        }
        let cut_off = !matches!(self.responses, Reading::Seek | Reading::Body(Body::UntilClose));
        for mut pending in self.queue.drain(..) {
            match pending.stage {
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
        self.handed_over || self.failures >= limits::FAILURES_MAX
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn skippable(&self, direction: Direction) -> u64 {
        let reading = match direction {
            Direction::ToServer => self.requests,
            Direction::ToClient => self.responses,
        };
        match reading {
            Reading::Body(body) => body.skippable(),
            Reading::Opaque => u64::MAX,
            Reading::Head | Reading::Verdict | Reading::Seek => 0,
        }
    }
}

/// The request direction.
impl Http1Parser {
    fn on_request_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.requests {
            Reading::Opaque => segment.bytes.len(),
            Reading::Verdict => 0,
            Reading::Body(body) => self.read_request_body(body, segment, out),
            Reading::Seek => match self.sniff_request(segment.bytes) {
                Sniff::NeedMore => 0,
                Sniff::Match(Direction::ToServer) => self.read_request_head(segment, out),
                _ => self.skip_requests(segment),
            },
            Reading::Head => match empty_lines(segment.bytes) {
                // > a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty
                // > line (CRLF) received prior to the request-line (RFC 9112, section 2.2)
                0 if self.queue.len() >= limits::IN_FLIGHT_MAX => 0,
                0 => self.read_request_head(segment, out),
                empty => empty,
            },
        }
    }

    /// The first bytes after a response are the start of a call; others may be the rest of one.
    fn sniff_request(&self, bytes: &[u8]) -> Sniff {
        if self.requests_unclear.is_some() && self.responses_latest > self.requests_unclear {
            head::sniff(bytes)
        } else {
            head::sniff_torn(bytes)
        }
    }

    fn read_request_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let seeking = self.requests == Reading::Seek;
        match head::request(segment.bytes) {
            // > A client MUST send a Host header field [...] in all HTTP/1.1 request messages (RFC 9112, section 3.2)
            // Out of frame that is one more proof that this is a head and not the text of one in a body.
            Head::Whole(head, _)
                if seeking && head.request.version == Some("1.1") && head.request.fields.host.is_none() =>
            {
                self.skip_requests(segment)
            }
            Head::Whole(head, length) => {
                self.cut_request = None;
                self.accept_request(&head, length, segment, out);
                length
            }
            Head::Partial(cut) => {
                let plausible = cut.filter(|head| !seeking || head.request.version.is_some());
                self.cut_request = plausible.map(|head| {
                    let mut pending = self.pending(&head, segment);
                    pending.exchange.request_bytes = segment.bytes.len() as u64;
                    pending.request_open = true;
                    Box::new(pending)
                });
                0
            }
            Head::Invalid if seeking => self.skip_requests(segment),
            Head::Invalid => {
                self.fail();
                self.lose_requests(segment.first_at);
                segment.bytes.len()
            }
        }
    }

    fn accept_request(
        &mut self,
        head: &RequestHead<'_>,
        length: usize,
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) {
        self.end_open_response(segment.first_at, out);
        let accepted = self.step != Step::Lost || self.opens_turn(segment.first_at);
        if accepted {
            if self.step == Step::Lost {
                self.step = Step::Assumed;
                self.requests_unclear = None;
            }
            let mut pending = self.pending(head, segment);
            pending.exchange.request_bytes = length as u64;
            if self.queue.capacity() == 0 {
                self.queue.reserve_exact(1);
            }
            self.queue.push_back(pending);
        } else {
            self.dropped += 1;
            self.requests_unclear = Some(segment.first_at);
        }
        self.owns_body = accepted;
        self.requests = match head.framing {
            Framing::Length(0) => {
                self.requests = if head.upgrade && accepted { Reading::Verdict } else { Reading::Head };
                return self.request_is_read(out);
            }
            Framing::Length(length) => Reading::Body(Body::Fixed(length)),
            Framing::Chunked => Reading::Body(Body::Chunked(Chunk::Size)),
            Framing::UntilClose | Framing::Unknown => {
                self.open_request(out);
                return self.lose_requests(segment.first_at);
            }
        };
    }

    fn pending(&self, head: &RequestHead<'_>, segment: &Segment<'_>) -> Pending {
        let mut exchange = http::begin(NAME, self.context, &head.request, segment.first_at);
        exchange.request_end = segment.last_at;
        Pending {
            exchange,
            method: match head.request.method {
                b"HEAD" => Method::Head,
                b"CONNECT" => Method::Connect,
                _ => Method::Other,
            },
            stage: Stage::Waiting,
            request_read: false,
            request_open: false,
        }
    }

    fn read_request_body(&mut self, mut body: Body, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let step = body.read(segment.bytes);
        self.requests = Reading::Body(body);
        match step {
            BodyStep::NeedMore => 0,
            BodyStep::More(taken) => {
                self.count_request(taken as u64, segment.first_at, segment.last_at);
                taken
            }
            BodyStep::Done(taken) => {
                self.count_request(taken as u64, segment.first_at, segment.last_at);
                self.requests = Reading::Head;
                self.request_is_read(out);
                taken
            }
            BodyStep::Broken => {
                self.fail();
                self.open_request(out);
                self.lose_requests(segment.first_at);
                segment.bytes.len()
            }
        }
    }

    fn on_request_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        let cut = self.cut_request.take();
        match self.requests {
            Reading::Opaque => return,
            Reading::Body(mut body) => {
                let step = body.skip(gap.missing);
                self.requests = Reading::Body(body);
                let (known, ended) = match step {
                    GapStep::Inside => return self.count_request(gap.missing, gap.first_at, gap.last_at),
                    GapStep::Done => {
                        self.count_request(gap.missing, gap.first_at, gap.last_at);
                        self.requests = Reading::Head;
                        return self.request_is_read(out);
                    }
                    GapStep::Ended(known) => (known, true),
                    GapStep::Unknown(known) => (known, false),
                };
                self.count_request(known, gap.first_at, gap.last_at);
                if ended {
                    self.request_is_read(out);
                } else {
                    self.open_request(out);
                }
            }
            Reading::Head | Reading::Seek => {
                if let Some(cut) = cut {
                    self.accept_cut_request(*cut, out);
                }
                self.count_open_request(gap.missing, gap.first_at, gap.last_at);
            }
            Reading::Verdict => {}
        }
        self.lose_requests(gap.last_at);
    }

    /// A request whose head a gap cut: its response may still tell the rest.
    fn accept_cut_request(&mut self, cut: Pending, out: &mut Vec<Exchange>) {
        self.end_open_response(cut.exchange.start, out);
        if self.step != Step::Lost || self.opens_turn(cut.exchange.start) {
            self.queue.push_back(cut);
        } else {
            self.dropped += 1;
        }
    }

    /// Bytes that begin no request, out of frame.
    fn skip_requests(&mut self, segment: &Segment<'_>) -> usize {
        self.count_open_request(segment.bytes.len() as u64, segment.first_at, segment.last_at);
        if head::holds_later_request(segment.bytes) {
            self.pipelined = true;
        }
        // The first bytes after a response should begin a request. Who never does so does not speak HTTP.
        let new_turn = self.requests_unclear.is_some_and(|unclear| self.responses_latest > Some(unclear));
        if new_turn && self.queue.is_empty() {
            self.fail();
        }
        self.requests_unclear = self.requests_unclear.max(Some(segment.first_at));
        segment.bytes.len()
    }

    /// The request direction is out of frame since `at`: unseen requests may wait.
    fn lose_requests(&mut self, at: BootNanos) {
        self.requests = Reading::Seek;
        self.owns_body = false;
        self.cut_request = None;
        self.step = Step::Lost;
        self.requests_unclear = self.requests_unclear.max(Some(at));
    }

    /// See the module.
    fn opens_turn(&self, first_at: BootNanos) -> bool {
        let understood = match self.requests_unclear {
            None => true,
            unclear => self.responses_latest > unclear,
        };
        !self.pipelined && self.queue.is_empty() && understood && self.responses_latest <= Some(first_at)
    }

    /// The request that is being read, if it is going to be an exchange.
    fn owner(&mut self) -> Option<&mut Pending> {
        if self.owns_body { self.queue.back_mut() } else { None }
    }

    fn count_request(&mut self, bytes: u64, first_at: BootNanos, last_at: BootNanos) {
        if let Some(pending) = self.owner() {
            pending.exchange.request_bytes = pending.exchange.request_bytes.saturating_add(bytes);
            pending.exchange.request_end = last_at;
        } else {
            self.requests_unclear = self.requests_unclear.max(Some(first_at));
        }
    }

    fn count_open_request(&mut self, bytes: u64, first_at: BootNanos, last_at: BootNanos) {
        if let Some(pending) = self.queue.back_mut()
            && pending.request_open
            && pending.stage == Stage::Waiting
            && first_at >= pending.exchange.request_end
        {
            pending.exchange.request_bytes = pending.exchange.request_bytes.saturating_add(bytes);
            pending.exchange.request_end = last_at;
        }
    }

    /// The request that is being read lasts until its response begins.
    fn open_request(&mut self, out: &mut Vec<Exchange>) {
        let Some(pending) = self.owner() else { return };
        pending.request_open = true;
        if pending.stage == Stage::Answered {
            self.emit(out);
        }
    }

    /// The last byte of the request that is being read was read.
    fn request_is_read(&mut self, out: &mut Vec<Exchange>) {
        let Some(pending) = self.owner() else { return };
        pending.request_read = true;
        if pending.stage == Stage::Answered {
            self.emit(out);
        }
    }
}

/// The response direction.
impl Http1Parser {
    fn on_response_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let length = match self.responses {
            Reading::Opaque => return segment.bytes.len(),
            Reading::Body(body) => self.read_response_body(body, segment, out),
            Reading::Head | Reading::Verdict => match empty_lines(segment.bytes) {
                0 => self.read_response_start(segment, out),
                empty => empty,
            },
            Reading::Seek => self.seek_response(segment, out),
        };
        if length > 0 {
            self.responses_latest = self.responses_latest.max(Some(segment.first_at));
        }
        length
    }

    /// In frame, at a message boundary.
    fn read_response_start(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.queue.front() {
            // The two directions may have been read by different threads: its request may still come.
            None if self.step != Step::Lost => 0,
            None => self.skip_responses(segment),
            Some(front) if front.stage == Stage::Answered => 0,
            // Nobody had asked for it, such as a 408 on an idle connection.
            Some(front) if front.exchange.start > segment.first_at => self.skip_responses(segment),
            Some(_) => self.read_response_head(segment, out),
        }
    }

    /// Out of frame.
    fn seek_response(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.queue.front_mut() {
            None => self.skip_responses(segment),
            Some(front) if front.stage == Stage::Responding => {
                let exchange = &mut front.exchange;
                exchange.response_bytes = exchange.response_bytes.saturating_add(segment.bytes.len() as u64);
                exchange.end = segment.last_at;
                segment.bytes.len()
            }
            Some(front) if front.stage == Stage::Answered => 0,
            Some(front) if front.exchange.start > segment.first_at => self.skip_responses(segment),
            Some(_) => self.read_response_head(segment, out),
        }
    }

    fn skip_responses(&mut self, segment: &Segment<'_>) -> usize {
        self.responses = Reading::Seek;
        segment.bytes.len()
    }

    fn read_response_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match head::response(segment.bytes) {
            Head::Whole(head, length) => {
                self.cut_response = None;
                if !self.may_answer(segment.first_at) {
                    self.lose_responses(segment.first_at, out);
                    return segment.bytes.len();
                }
                if is_final(head.status) {
                    self.begin_response(head, segment.first_at, segment.last_at, length);
                    self.read_framing(head, out);
                } else {
                    self.responses = Reading::Head;
                }
                length
            }
            Head::Partial(head) => {
                self.cut_response = head.map(|head| CutResponse {
                    head,
                    first_at: segment.first_at,
                    last_at: segment.last_at,
                    length: segment.bytes.len(),
                });
                0
            }
            Head::Invalid => {
                self.fail();
                self.lose_responses(segment.first_at, out);
                segment.bytes.len()
            }
        }
    }

    /// Says whether a response that began at `first_at` answers the front of the queue. Takes note of pipelining.
    fn may_answer(&mut self, first_at: BootNanos) -> bool {
        if self.queue.get(1).is_some_and(|second| second.exchange.start < first_at) {
            self.pipelined = true;
        }
        let waits = self.queue.front().is_some_and(|front| front.stage == Stage::Waiting);
        waits && !(self.pipelined && self.step == Step::Assumed)
    }

    fn begin_response(&mut self, head: ResponseHead, first_at: BootNanos, last_at: BootNanos, length: usize) {
        let only = self.queue.len() == 1;
        let Some(front) = self.queue.front_mut() else { return };
        front.stage = Stage::Responding;
        front.exchange.response_start = Some(first_at);
        front.exchange.response_bytes = length as u64;
        front.exchange.end = last_at;
        http::set_status(&mut front.exchange, head.status);
        if only && self.requests == Reading::Verdict {
            self.requests = Reading::Head;
        }
    }

    /// Decides how the response at the front goes on after its head.
    ///
    /// > Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304 (Not
    /// > Modified) status code is always terminated by the first empty line after the header fields [...] Any 2xx
    /// > (Successful) response to a CONNECT request implies that the connection will become a tunnel (RFC 9112, 6.3)
    fn read_framing(&mut self, head: ResponseHead, out: &mut Vec<Exchange>) {
        let Some(method) = self.queue.front().map(|front| front.method) else { return };
        self.responses = Reading::Head;
        match head.framing {
            _ if head.status == 101 || (method == Method::Connect && head.status / 100 == 2) => {
                self.response_is_read(out);
                self.requests = Reading::Opaque;
                self.responses = Reading::Opaque;
                self.handed_over = head.h2c;
            }
            _ if method == Method::Head || matches!(head.status, 204 | 304) => self.response_is_read(out),
            Framing::Length(0) => self.response_is_read(out),
            Framing::Length(length) => self.responses = Reading::Body(Body::Fixed(length)),
            Framing::Chunked => self.responses = Reading::Body(Body::Chunked(Chunk::Size)),
            Framing::UntilClose => self.responses = Reading::Body(Body::UntilClose),
            Framing::Unknown => self.open_response(out),
        }
    }

    fn read_response_body(
        &mut self,
        mut body: Body,
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) -> usize {
        let step = body.read(segment.bytes);
        self.responses = Reading::Body(body);
        match step {
            BodyStep::NeedMore => 0,
            BodyStep::More(taken) => {
                self.count_response(taken as u64, segment.last_at);
                taken
            }
            BodyStep::Done(taken) => {
                self.count_response(taken as u64, segment.last_at);
                self.responses = Reading::Head;
                self.response_is_read(out);
                taken
            }
            BodyStep::Broken => {
                self.fail();
                self.count_response(segment.bytes.len() as u64, segment.last_at);
                self.open_response(out);
                segment.bytes.len()
            }
        }
    }

    fn on_response_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        let cut = self.cut_response.take();
        self.responses_latest = self.responses_latest.max(Some(gap.last_at));
        match self.responses {
            Reading::Opaque => {}
            Reading::Body(mut body) => {
                let step = body.skip(gap.missing);
                self.responses = Reading::Body(body);
                match step {
                    GapStep::Inside => self.count_response(gap.missing, gap.last_at),
                    GapStep::Done => {
                        self.count_response(gap.missing, gap.last_at);
                        self.responses = Reading::Head;
                        self.response_is_read(out);
                    }
                    GapStep::Ended(known) => {
                        self.count_response(known, gap.last_at);
                        self.response_is_read(out);
                        self.lose_responses(gap.last_at, out);
                    }
                    GapStep::Unknown(_) => {
                        self.count_response(gap.missing, gap.last_at);
                        self.open_response(out);
                    }
                }
            }
            Reading::Seek if self.queue.front().is_some_and(|front| front.stage == Stage::Responding) => {
                self.count_response(gap.missing, gap.last_at);
            }
            Reading::Seek if self.queue.front().is_some_and(|front| front.exchange.start > gap.last_at) => {}
            Reading::Head | Reading::Verdict | Reading::Seek => match cut {
                Some(cut) if is_final(cut.head.status) && self.may_answer(cut.first_at) => {
                    self.begin_response(cut.head, cut.first_at, cut.last_at, cut.length);
                    self.count_response(gap.missing, gap.last_at);
                    self.open_response(out);
                }
                _ => self.lose_responses(gap.last_at, out),
            },
        }
    }

    fn count_response(&mut self, bytes: u64, last_at: BootNanos) {
        if let Some(front) = self.queue.front_mut() {
            front.exchange.response_bytes = front.exchange.response_bytes.saturating_add(bytes);
            front.exchange.end = last_at;
        }
    }

    /// The end of the response at the front is unknown: it lasts until the next request, unless that is already here.
    fn open_response(&mut self, out: &mut Vec<Exchange>) {
        self.responses = Reading::Seek;
        self.step = Step::Lost;
        if let (Some(front), 2..) = (self.queue.front(), self.queue.len()) {
            self.lose_responses(front.exchange.end, out);
        }
    }

    /// A request that begins at `first_at` ends the response whose end was unknown.
    fn end_open_response(&mut self, first_at: BootNanos, out: &mut Vec<Exchange>) {
        let Some(front) = self.queue.front() else { return };
        if self.responses != Reading::Seek || front.stage != Stage::Responding {
            return;
        }
        if front.exchange.end <= first_at {
            self.response_is_read(out);
        } else {
            self.lose_responses(first_at, out);
        }
    }

    /// The response direction is out of frame since `at`: how many of the waiting requests were answered is unknown.
    fn lose_responses(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        if self.queue.front().is_some_and(|front| front.stage == Stage::Answered) {
            self.emit(out);
        }
        if self.queue.get(1).is_some_and(|second| second.exchange.start < at) {
            self.pipelined = true;
        }
        self.dropped += self.queue.len() as u64;
        let newest = self.queue.back().map(|pending| pending.exchange.start);
        self.requests_unclear = self.requests_unclear.max(newest);
        self.queue.clear();
        self.owns_body = false;
        self.cut_request = None;
        self.cut_response = None;
        if self.requests == Reading::Verdict {
            self.requests = Reading::Seek;
        }
        self.responses = Reading::Seek;
        self.step = Step::Lost;
    }

    /// The last byte of the response at the front was read.
    fn response_is_read(&mut self, out: &mut Vec<Exchange>) {
        self.failures = 0;
        let Some(front) = self.queue.front_mut() else { return };
        front.stage = Stage::Answered;
        if front.request_read || front.request_open {
            self.emit(out);
        }
    }

    fn emit(&mut self, out: &mut Vec<Exchange>) {
        if let Some(pending) = self.queue.pop_front() {
            out.push(pending.exchange);
        }
        if self.queue.is_empty() {
            self.owns_body = false;
            self.queue.shrink_to(1);
        }
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}

/// 101 ends the exchange, the other 1xx announce that the answer is still to come.
fn is_final(status: u16) -> bool {
    status >= 200 || status == 101
}

fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}
