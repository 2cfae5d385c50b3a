//! The response direction: gives each response to the front of the queue, and ends exchanges.

use super::{CutResponse, Http1Parser, Method, Reading, Stage, Step, empty_lines, is_final, unfinished};
use crate::{
    exchange::Exchange,
    http::{self, captured},
    http1::{
        body::{Body, Chunk, GapStep, Step as BodyStep},
        framing::Framing,
        head::{self, Head, ResponseHead},
    },
    protocol::{BootNanos, Direction, Gap, Segment, Sniff},
};

impl Http1Parser {
    pub(super) fn on_response_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.silence.answer(segment.first_at, segment.last_at);
        let length = match self.responses {
            Reading::Opaque => return segment.bytes.len(),
            Reading::Body(body) => self.read_response_body(body, segment, out),
            Reading::Head | Reading::Verdict | Reading::Declined(_) => match empty_lines(segment.bytes) {
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
    pub(super) fn read_response_start(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.queue.front() {
            // The two directions may have been read by different threads: its request may still come.
            None if self.step != Step::Lost => 0,
            None => self.skip_responses(segment),
            Some(front) if front.stage == Stage::Answered => 0,
            // Nobody had asked for it, such as a 408 on an idle connection.
            Some(front) if front.exchange.start > segment.first_at => {
                self.dropped += 1;
                // If the turn was assumed, it may answer a request that was in flight before.
                self.pipelined |= self.step == Step::Assumed && begins_response(segment.bytes);
                self.skip_responses(segment)
            }
            Some(_) => self.read_response_head(segment, out),
        }
    }

    /// Out of frame.
    pub(super) fn seek_response(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.queue.front_mut() {
            None => {
                self.dropped += u64::from(begins_response(segment.bytes));
                self.skip_responses(segment)
            }
            // Another answer: the end of the one before was lost, and with it the request that this one answers.
            Some(front) if front.stage == Stage::Responding && begins_response(segment.bytes) => {
                self.dropped += 1;
                self.response_is_read(out);
                self.skip_responses(segment)
            }
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

    pub(super) fn skip_responses(&mut self, segment: &Segment<'_>) -> usize {
        self.responses = Reading::Seek;
        self.cut_response = None;
        segment.bytes.len()
    }

    pub(super) fn read_response_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        if !self.response_trickle.is_due(segment) {
            return 0;
        }
        let taken = self.look_at_response_head(segment, out);
        if taken > 0 {
            self.response_trickle.over();
        }
        taken
    }

    fn look_at_response_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.cut_response = None;
        match head::response(segment.bytes) {
            Head::Whole(head, length) => {
                let refused = is_final(head.status) && head.status < 400 && self.is_unreadable();
                if refused || !self.may_answer(segment.first_at) {
                    self.lose_responses(segment.first_at, out);
                    return segment.bytes.len();
                }
                if is_final(head.status) {
                    self.begin_response(head, segment.first_at, segment.last_at, length);
                    self.capture(segment.bytes.get(..length).unwrap_or_default());
                    self.read_framing(head, out);
                } else {
                    // It has what it waited for: the body comes.
                    self.queue.iter_mut().take(1).for_each(|front| front.expects = false);
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
                unfinished(segment)
            }
            Head::Invalid => {
                self.fail();
                self.lose_responses(segment.first_at, out);
                segment.bytes.len()
            }
        }
    }

    /// Says whether a response that began at `first_at` answers the front of the queue. Takes note of pipelining.
    pub(super) fn may_answer(&mut self, first_at: BootNanos) -> bool {
        self.watch(first_at);
        let front = self.queue.front();
        front.is_some_and(|front| front.stage == Stage::Waiting && !(self.pipelined && front.assumed))
    }

    /// True if the front of the queue is an exchange only if it is refused.
    pub(super) fn is_unreadable(&self) -> bool {
        self.queue.front().is_some_and(|front| front.unreadable)
    }

    /// Takes note of a second request that was sent before `at`, while the first one waited.
    pub(super) fn watch(&mut self, at: BootNanos) {
        let second = self.queue.get(1).map(|second| second.exchange.start);
        self.pipelined |= [second, self.left_out_at].into_iter().flatten().any(|start| start < at);
    }

    /// Tells the fields of the response's head that the configuration lists.
    fn capture(&mut self, head: &[u8]) {
        if captured::any()
            && let Some(front) = self.queue.front_mut()
        {
            let exchange = &mut front.exchange;
            let found = head::captured(head);
            captured::push(&mut exchange.attributes, exchange.role, http::Head::Response, found.into_iter());
        }
    }

    pub(super) fn begin_response(
        &mut self,
        head: ResponseHead,
        first_at: BootNanos,
        last_at: BootNanos,
        length: usize,
    ) {
        let only = self.queue.len() == 1;
        if only {
            self.left_out_at = None;
        }
        let Some(front) = self.queue.front_mut() else { return };
        front.stage = Stage::Responding;
        front.exchange.response_start = Some(first_at);
        front.exchange.response_bytes = length as u64;
        front.exchange.end = last_at;
        http::set_status(&mut front.exchange, head.status);
        match self.requests {
            Reading::Verdict if only => self.requests = Reading::Head,
            Reading::Body(body) if only && self.owns_body && front.expects => {
                self.requests = Reading::Declined(body);
                self.owns_body = false;
                front.request_read = true;
            }
            _ => {}
        }
    }

    /// Decides how the response at the front goes on after its head.
    ///
    /// > Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304 (Not
    /// > Modified) status code is always terminated by the first empty line after the header fields [...] Any 2xx
    /// > (Successful) response to a CONNECT request implies that the connection will become a tunnel (RFC 9112, 6.3)
    pub(super) fn read_framing(&mut self, head: ResponseHead, out: &mut Vec<Exchange>) {
        let Some(method) = self.queue.front().map(|front| front.method) else { return };
        self.responses = Reading::Head;
        match head.framing {
            _ if head.status == 101 && head.h2c => {
                self.upgraded = self.queue.pop_front().map(|front| front.exchange);
                self.requests = Reading::Opaque;
                self.responses = Reading::Opaque;
            }
            _ if head.status == 101 || (method == Method::Connect && head.status / 100 == 2) => {
                self.response_is_read(out);
                self.requests = Reading::Opaque;
                self.responses = Reading::Opaque;
            }
            _ if method == Method::Head || matches!(head.status, 204 | 304) => self.response_is_read(out),
            Framing::Length(0) => self.response_is_read(out),
            Framing::Length(length) => self.responses = Reading::Body(Body::Fixed(length)),
            Framing::Chunked => self.responses = Reading::Body(Body::Chunked(Chunk::Size)),
            Framing::UntilClose => self.responses = Reading::Body(Body::UntilClose),
            Framing::Unknown => self.open_response(out),
        }
    }

    pub(super) fn read_response_body(
        &mut self,
        mut body: Body,
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) -> usize {
        let step = body.read(segment.bytes);
        self.responses = Reading::Body(body);
        match step {
            BodyStep::NeedMore => {
                let taken = unfinished(segment);
                if taken > 0 {
                    self.count_response(taken as u64, segment.last_at);
                }
                taken
            }
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

    pub(super) fn on_response_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        self.silence.answer(gap.first_at, gap.last_at);
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
                        self.forget_requests(out);
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
            Reading::Head | Reading::Verdict | Reading::Declined(_) | Reading::Seek => match cut {
                Some(cut)
                    if is_final(cut.head.status)
                        && (cut.head.status >= 400 || !self.is_unreadable())
                        && self.may_answer(cut.first_at) =>
                {
                    self.cut_heads += 1;
                    self.begin_response(cut.head, cut.first_at, cut.last_at, cut.length);
                    self.count_response(gap.missing, gap.last_at);
                    self.open_response(out);
                }
                _ => self.forget_requests(out),
            },
        }
    }

    pub(super) fn count_response(&mut self, bytes: u64, last_at: BootNanos) {
        if let Some(front) = self.queue.front_mut() {
            front.exchange.response_bytes = front.exchange.response_bytes.saturating_add(bytes);
            front.exchange.end = last_at;
        }
    }

    /// The end of the response at the front is unknown: it lasts until the next request, unless that is already here.
    pub(super) fn open_response(&mut self, out: &mut Vec<Exchange>) {
        self.responses = Reading::Seek;
        self.step = Step::Lost;
        // That a second one is here already says nothing about pipelining: the first had its answer by then, and where a
        // gap in that is noticed only now, perhaps all of it.
        if self.queue.len() > 1 {
            self.forget_requests(out);
        }
    }

    /// A request that begins at `first_at` ends the response whose end was unknown.
    pub(super) fn end_open_response(&mut self, first_at: BootNanos, out: &mut Vec<Exchange>) {
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
    pub(super) fn lose_responses(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        if self.queue.front().is_some_and(|front| front.stage == Stage::Answered) {
            self.emit(out);
        }
        self.watch(at);
        self.forget_requests(out);
    }

    /// Which requests the responses to come belong to cannot be known: those that wait are dropped.
    ///
    /// After a gap nothing is said about pipelining. A gap of lost calls is noticed at the next call, and has its time:
    /// by then a second request may wait because the answer to the first is what was lost.
    fn forget_requests(&mut self, out: &mut Vec<Exchange>) {
        if self.queue.front().is_some_and(|front| front.stage == Stage::Answered) {
            self.emit(out);
        }
        self.left_out_at = None;
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
    pub(super) fn response_is_read(&mut self, out: &mut Vec<Exchange>) {
        self.failures = 0;
        let Some(front) = self.queue.front_mut() else { return };
        front.stage = Stage::Answered;
        if front.request_read || front.request_open {
            self.emit(out);
        }
    }

    pub(super) fn emit(&mut self, out: &mut Vec<Exchange>) {
        if let Some(pending) = self.queue.pop_front() {
            out.push(pending.exchange);
        }
        if self.queue.is_empty() {
            self.left_out_at = None;
            self.owns_body = false;
            self.queue.shrink_to(1);
        }
    }

    pub(super) fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}

fn begins_response(bytes: &[u8]) -> bool {
    head::sniff(bytes) == Sniff::Match(Direction::ToClient)
}
