//! The request direction: takes requests into the queue, or leaves them out where they could be paired wrongly.

use super::{Http1Parser, Method, Pending, Reading, Stage, Step, empty_lines, unfinished};
use crate::{
    exchange::Exchange,
    http::{self, HttpRequest},
    http1::{
        NAME,
        body::{Body, Chunk, GapStep, Step as BodyStep},
        framing::Framing,
        head::{self, Head, RequestHead},
    },
    limits,
    protocol::{BootNanos, Direction, Gap, Segment, Sniff},
};

impl Http1Parser {
    pub(super) fn on_request_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.silence.ask(Some(segment.first_at), segment.last_at);
        match self.requests {
            Reading::Opaque => segment.bytes.len(),
            Reading::Verdict => 0,
            Reading::Body(body) => self.read_request_body(body, segment, out),
            Reading::Declined(body) => match sniff_next(body, segment.bytes) {
                Sniff::NeedMore if !segment.cut => 0,
                Sniff::Match(Direction::ToServer) | Sniff::NeedMore => {
                    self.requests = Reading::Head;
                    self.read_request_head(segment, out)
                }
                _ => self.read_request_body(body, segment, out),
            },
            Reading::Seek => match self.sniff_request(segment.bytes) {
                // Bytes that the other side has answered begin no request that could open a turn. They may be the rest
                // of a body, and the next request must not be taken for their continuation.
                Sniff::NeedMore if segment.cut || self.responses_latest > Some(segment.first_at) => {
                    self.pass_requests(segment)
                }
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
    pub(super) fn sniff_request(&self, bytes: &[u8]) -> Sniff {
        if self.requests_unclear.is_some() && self.responses_latest > self.requests_unclear {
            head::sniff(bytes)
        } else {
            head::sniff_torn(bytes)
        }
    }

    pub(super) fn read_request_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        if !self.request_trickle.is_due(segment) {
            return 0;
        }
        let taken = self.look_at_request_head(segment, out);
        if taken > 0 {
            self.request_trickle.over();
        }
        taken
    }

    fn look_at_request_head(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
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
                // Out of frame, a target cut before its end is one only where a request must begin.
                let begins = !seeking || (segment.cut && self.opens_turn(segment.first_at));
                let plausible = cut.filter(|head| begins || head.request.version.is_some());
                self.cut_request = plausible.map(|head| {
                    let mut pending = self.pending(&head, segment);
                    pending.exchange.request_bytes = segment.bytes.len() as u64;
                    pending.request_open = true;
                    Box::new(pending)
                });
                if segment.cut && self.cut_request.is_none() {
                    self.leave_out(segment.first_at);
                }
                unfinished(segment)
            }
            Head::Invalid if seeking => self.skip_requests(segment),
            Head::Invalid => {
                self.fail();
                self.accept_unreadable(segment, out);
                self.lose_requests(segment.first_at);
                segment.bytes.len()
            }
        }
    }

    /// What stands in the place of a request and is none, as far as we can tell; see the module.
    fn accept_unreadable(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) {
        self.drop_unreadable();
        self.end_open_response(segment.first_at, out);
        if self.step == Step::Lost || segment.bytes.len() > limits::HEAD_BYTES_MAX {
            return self.leave_out(segment.first_at);
        }
        let request = HttpRequest { method: head::method(segment.bytes), ..HttpRequest::default() };
        let head = RequestHead { request, framing: Framing::Unknown, upgrade: false, expects: false };
        let mut pending = self.pending(&head, segment);
        pending.exchange.request_bytes = segment.bytes.len() as u64;
        pending.request_open = true;
        pending.unreadable = true;
        self.queue.push_back(pending);
    }

    /// A request that comes before anything has answered what we could not read shows that nothing will.
    fn drop_unreadable(&mut self) {
        if self.queue.back().is_some_and(|back| back.unreadable && back.stage == Stage::Waiting) {
            self.queue.pop_back();
            self.dropped += 1;
        }
    }

    pub(super) fn accept_request(
        &mut self,
        head: &RequestHead<'_>,
        length: usize,
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) {
        self.drop_unreadable();
        self.end_open_response(segment.first_at, out);
        let accepted = self.step != Step::Lost || self.opens_turn(segment.first_at);
        if accepted {
            self.take_turn(segment.first_at);
            let mut pending = self.pending(head, segment);
            pending.exchange.request_bytes = length as u64;
            if self.queue.capacity() == 0 {
                self.queue.reserve_exact(1);
            }
            self.queue.push_back(pending);
        } else {
            self.leave_out(segment.first_at);
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

    pub(super) fn pending(&self, head: &RequestHead<'_>, segment: &Segment<'_>) -> Pending {
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
            assumed: self.step != Step::Exact,
            request_read: false,
            request_open: false,
            expects: head.expects,
            unreadable: false,
        }
    }

    pub(super) fn read_request_body(
        &mut self,
        mut body: Body,
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) -> usize {
        if let Some(owner) = self.owner() {
            owner.expects = false;
        }
        let step = body.read(segment.bytes);
        self.requests = Reading::Body(body);
        match step {
            BodyStep::NeedMore => {
                let taken = unfinished(segment);
                if taken > 0 {
                    self.count_request(taken as u64, segment.first_at, segment.last_at);
                }
                taken
            }
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

    pub(super) fn on_request_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        self.silence.ask(None, gap.last_at);
        let cut = self.cut_request.take();
        if let Some(owner) = self.owner() {
            owner.expects = false;
        }
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
                if let Some(mut cut) = cut {
                    self.cut_heads += 1;
                    let exchange = &mut cut.exchange;
                    exchange.request_bytes = exchange.request_bytes.saturating_add(gap.missing);
                    exchange.request_end = exchange.request_end.max(gap.last_at);
                    self.accept_cut_request(*cut, out);
                } else {
                    self.count_open_request(gap.missing, gap.last_at);
                }
            }
            Reading::Verdict | Reading::Declined(_) => {}
        }
        self.lose_requests(gap.last_at);
    }

    /// A request whose head a gap cut: its response may still tell the rest.
    pub(super) fn accept_cut_request(&mut self, cut: Pending, out: &mut Vec<Exchange>) {
        self.drop_unreadable();
        self.end_open_response(cut.exchange.start, out);
        if self.step != Step::Lost || self.opens_turn(cut.exchange.start) {
            self.take_turn(cut.exchange.start);
            self.queue.push_back(cut);
        } else {
            self.leave_out(cut.exchange.start);
        }
    }

    /// A request that began at `at` would not be paired with certainty.
    pub(super) fn leave_out(&mut self, at: BootNanos) {
        self.dropped += 1;
        self.requests_unclear = self.requests_unclear.max(Some(at));
        if self.queue.front().is_some_and(|front| front.stage == Stage::Waiting) {
            self.left_out_at = self.left_out_at.or(Some(at));
        }
    }

    /// Bytes that begin no request, out of frame.
    pub(super) fn skip_requests(&mut self, segment: &Segment<'_>) -> usize {
        if head::holds_later_request(segment.bytes) {
            self.pipelined = true;
        }
        // The first bytes after a response should begin a request. Who never does so does not speak HTTP.
        let new_turn = self.requests_unclear.is_some_and(|unclear| self.responses_latest > Some(unclear));
        if new_turn && self.queue.is_empty() {
            self.fail();
        }
        self.pass_requests(segment)
    }

    /// Bytes that may or may not begin a request, out of frame.
    pub(super) fn pass_requests(&mut self, segment: &Segment<'_>) -> usize {
        self.count_open_request(segment.bytes.len() as u64, segment.last_at);
        self.cut_request = None;
        self.requests_unclear = self.requests_unclear.max(Some(segment.first_at));
        segment.bytes.len()
    }

    /// The request direction is out of frame since `at`: unseen requests may wait.
    pub(super) fn lose_requests(&mut self, at: BootNanos) {
        self.requests = Reading::Seek;
        self.owns_body = false;
        self.cut_request = None;
        self.step = Step::Lost;
        self.requests_unclear = self.requests_unclear.max(Some(at));
    }

    /// See the module.
    pub(super) fn opens_turn(&self, first_at: BootNanos) -> bool {
        let understood = match self.requests_unclear {
            None => true,
            unclear => self.responses_latest > unclear,
        };
        let alone = (self.silence.is_settled() && !self.pipelined) || self.silence.ends_at(first_at);
        alone && self.queue.is_empty() && understood && self.responses_latest <= Some(first_at)
    }

    /// The request that begins at `first_at` is going to be an exchange.
    fn take_turn(&mut self, first_at: BootNanos) {
        if self.step != Step::Lost {
            return;
        }
        self.requests_unclear = None;
        self.silence.begin();
        if self.silence.ends_at(first_at) {
            self.step = Step::Exact;
            self.pipelined = false;
        } else {
            self.step = Step::Assumed;
        }
    }

    /// The request that is being read, if it is going to be an exchange.
    pub(super) fn owner(&mut self) -> Option<&mut Pending> {
        if self.owns_body { self.queue.back_mut() } else { None }
    }

    pub(super) fn count_request(&mut self, bytes: u64, first_at: BootNanos, last_at: BootNanos) {
        if let Some(pending) = self.owner() {
            pending.exchange.request_bytes = pending.exchange.request_bytes.saturating_add(bytes);
            pending.exchange.request_end = last_at;
        } else {
            self.requests_unclear = self.requests_unclear.max(Some(first_at));
        }
    }

    pub(super) fn count_open_request(&mut self, bytes: u64, last_at: BootNanos) {
        if let Some(pending) = self.queue.back_mut()
            && pending.request_open
            && pending.stage == Stage::Waiting
            && last_at >= pending.exchange.request_end
        {
            pending.exchange.request_bytes = pending.exchange.request_bytes.saturating_add(bytes);
            pending.exchange.request_end = last_at;
        }
    }

    /// The request that is being read lasts until its response begins.
    pub(super) fn open_request(&mut self, out: &mut Vec<Exchange>) {
        let Some(pending) = self.owner() else { return };
        pending.request_open = true;
        if pending.stage == Stage::Answered {
            self.emit(out);
        }
    }

    /// The last byte of the request that is being read was read.
    pub(super) fn request_is_read(&mut self, out: &mut Vec<Exchange>) {
        let Some(pending) = self.owner() else { return };
        pending.request_read = true;
        if pending.stage == Stage::Answered {
            self.emit(out);
        }
    }
}

/// As [`head::sniff`], where `body` may come instead: a short one could pass for the beginning of a method.
fn sniff_next(body: Body, bytes: &[u8]) -> Sniff {
    let behind = match body {
        Body::Fixed(length) => usize::try_from(length).ok().and_then(|length| bytes.get(length..)),
        Body::Chunked(_) | Body::UntilClose => None,
    };
    match behind.map(head::sniff_torn) {
        Some(Sniff::Match(Direction::ToServer)) => Sniff::Reject,
        _ => head::sniff(bytes),
    }
}
