//! Which frame belongs to which stream, and what is still known after bytes went missing? One HTTP/2 connection.
//!
//! Each direction is walked by itself ([`Reading`]), frame by frame; of payloads only header blocks are read, the rest is
//! skipped by its length, copied or not. A direction that loses its way (a gap beyond the end of a payload, a header that
//! can be none) seeks the next frame, see `resync.rs`. What is lost with it:
//!
//! * Of HPACK's table everything: how many entries were inserted is unknown. Later ones are known again. Where it can be
//!   proved that no header block was lost, nothing (`loss.rs`).
//! * Requests whose HEADERS were not seen give no exchange; their responses are counted as dropped.
//! * Of streams that were open it is *doubtful* whether they still are ([`Stream::response_losses`] tells since when).
//!   One whose response's head comes later, or more of its DATA, is not doubtful any more: numbers are not used twice.
//!   A doubtful one whose response had begun is told without its end; one that waited is dropped.
//!
//! A request without a known field that only requests have (`:method` and its kin; behind a cut, or all of them from
//! before we came) is none: it could be trailers. With one of them it is an exchange, and what is not known is not told:
//! a method is `_OTHER` then, a path is marked `spantap.url.truncated`. Without its content type a request may be a gRPC
//! call or not; it is one if its response says so, or else if what both sides sent is whole messages (`framing.rs`).
//!
//! The two directions may have been read by different threads, so the head of a response waits for its request, as long as
//! requests are known to come without a hole. A promised request is an exchange at the server, which handles it as any
//! other; the client never asked for it, and has none.

mod blocks;
mod loss;
mod resync;

use self::loss::Proof;
use super::{
    fields::Field,
    frame::{self, FrameHeader, HEADER_BYTES, PREFACE},
    hpack::Decoder,
    stream::{Body, Ending, Seen, Stage, Stream},
    streams::Streams,
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Segment},
    semconv::key,
};

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct Http2Parser {
    context: OpenContext,
    requests: Half,
    responses: Half,
    streams: Streams,
    /// Streams that the client has reset. That bytes of the response are missing shows only when more of them come, so
    /// what is said of these waits for that.
    cancelled: Vec<(Stream, Ending)>,
    /// The newest stream that the client has opened.
    last_request: u32,
    /// The newest stream whose response came when its request was not known.
    last_orphan: u32,
    /// Calls of gRPC were seen, and other requests.
    has_calls: bool,
    has_others: bool,
    /// Every request up to there was seen, or one that came after those that were not.
    requests_known: bool,
    /// All there were since the connection's start were seen.
    all_requests: bool,
    /// Streams that were reset of late: what still comes of them is no surprise.
    resets: [u32; RESETS],
    swept_at: BootNanos,
    failures: u8,
    dropped: u64,
    cut_heads: u64,
}

/// One direction.
#[derive(Debug)]
struct Half {
    reading: Reading,
    decoder: Decoder<Field>,
    /// Bytes were lost; what would prove that the decoder's table is whole all the same.
    proof: Option<Proof>,
    /// How often bytes were lost of which it is not known what they were.
    losses: u32,
}

/// Where one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// At the connection's start: the client's preface, the server's SETTINGS.
    Preface,
    /// At the header of a frame.
    Frame,
    /// In a payload, so many bytes before its end.
    Inside {
        /// Whose DATA it is; 0 if it is not DATA.
        stream: u32,
        left: u64,
        /// It ends the stream.
        ends: bool,
    },
    /// Out of frame.
    Seek,
}

impl Http2Parser {
    pub(super) fn new(context: OpenContext) -> Self {
        let reading = if context.from_start { Reading::Preface } else { Reading::Seek };
        let half = || Half { reading, decoder: Decoder::new(), proof: None, losses: 0 };
        Self {
            context,
            requests: half(),
            responses: half(),
            streams: Streams::default(),
            cancelled: Vec::new(),
            last_request: 0,
            last_orphan: 0,
            has_calls: false,
            has_others: false,
            requests_known: context.from_start,
            all_requests: context.from_start,
            resets: [0; RESETS],
            swept_at: BootNanos(0),
            failures: 0,
            dropped: 0,
            cut_heads: 0,
        }
    }

    /// See [`crate::http2::upgraded`].
    pub(super) fn upgraded(context: OpenContext, request: Exchange) -> Self {
        let mut parser = Self::new(OpenContext { from_start: true, ..context });
        parser.last_request = 1;
        parser.streams.insert(Stream::upgraded(request));
        parser
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::ToServer => &mut self.requests,
            Direction::ToClient => &mut self.responses,
        }
    }

    fn read_preface(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let bytes = segment.bytes;
        if segment.direction == Direction::ToServer {
            return match begins_with_preface(bytes) {
                Some(true) => {
                    self.requests.reading = Reading::Frame;
                    PREFACE.len()
                }
                Some(false) if segment.cut => self.lose(segment, out),
                Some(false) => 0,
                // Bytes of another protocol: the server will say so.
                None => self.give_up(segment),
            };
        }
        match FrameHeader::read(bytes) {
            None if segment.cut => self.lose(segment, out),
            None => 0,
            // > The server connection preface consists of a potentially empty SETTINGS frame that MUST be the first
            // > frame the server sends (RFC 9113, section 3.4)
            Some(header) if header.kind == frame::SETTINGS && header.is_plausible() && !header.is_ack() => {
                self.responses.reading = Reading::Frame;
                self.read_frame(segment, out)
            }
            Some(_) => self.give_up(segment),
        }
    }

    /// This is no HTTP/2.
    fn give_up(&mut self, segment: &Segment<'_>) -> usize {
        self.failures = limits::FAILURES_MAX;
        segment.bytes.len()
    }

    fn read_frame(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let Some(header) = FrameHeader::read(segment.bytes) else {
            return if segment.cut { self.lose(segment, out) } else { 0 };
        };
        let from_client = segment.direction == Direction::ToServer;
        if !header.is_valid() || (from_client && header.kind == frame::PUSH_PROMISE) {
            self.failures = self.failures.saturating_add(1);
            self.lose_way(segment.direction, out);
            return self.seek(segment, out);
        }
        let payload = segment.bytes.get(HEADER_BYTES..).unwrap_or_default();
        match header.kind {
            frame::DATA => {
                let (stream, ends) = (header.stream, header.ends_stream());
                if let Some(known) = self.streams.get(stream) {
                    let body = payload.get(..header.length).unwrap_or(payload);
                    let body = if header.is_padded() { Body::Unclear } else { Body::Bytes(body) };
                    known.take_body(segment.direction, body);
                }
                self.read_payload(segment, stream, header.total() as u64, ends, out)
            }
            frame::HEADERS | frame::PUSH_PROMISE => self.read_block(segment, header, out),
            frame::RST_STREAM | frame::GOAWAY => match payload.get(..8.min(header.length)) {
                Some(known) => {
                    if header.kind == frame::RST_STREAM {
                        self.reset(header.stream, known, segment, out);
                    } else if !from_client {
                        self.go_away(known, segment, out);
                    }
                    self.skip(segment, header, out)
                }
                None if !segment.cut => 0,
                None => {
                    // How streams end that it speaks of is not known.
                    if header.kind == frame::RST_STREAM {
                        self.finish(header.stream, Ending::Unknown, out);
                    } else {
                        self.responses.losses = self.responses.losses.wrapping_add(1);
                    }
                    self.skip(segment, header, out)
                }
            },
            frame::CONTINUATION => {
                // Of a block whose beginning was not read.
                self.half(segment.direction).decoder.forget();
                self.skip(segment, header, out)
            }
            _ => self.skip(segment, header, out),
        }
    }

    fn skip(&mut self, segment: &Segment<'_>, header: FrameHeader, out: &mut Vec<Exchange>) -> usize {
        self.read_payload(segment, 0, header.total() as u64, false, out)
    }

    /// Takes what is here of the next `left` bytes, which are DATA of `stream`, or nobody's if that is 0.
    fn read_payload(
        &mut self,
        segment: &Segment<'_>,
        stream: u32,
        left: u64,
        ends: bool,
        out: &mut Vec<Exchange>,
    ) -> usize {
        let taken = segment.bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (first_at, last_at) = (segment.first_at, segment.last_at);
        self.pass(segment.direction, stream, left, ends, (taken as u64, first_at, last_at), out);
        taken
    }

    /// `taken` of the `left` bytes of a payload have passed.
    fn pass(
        &mut self,
        direction: Direction,
        stream: u32,
        left: u64,
        ends: bool,
        (taken, first_at, last_at): (u64, BootNanos, BootNanos),
        out: &mut Vec<Exchange>,
    ) {
        let left = left - taken;
        self.half(direction).reading =
            if left > 0 { Reading::Inside { stream, left, ends } } else { Reading::Frame };
        let losses = (self.requests.losses, self.responses.losses);
        let Some(known) = (stream > 0).then(|| self.streams.get(stream)).flatten() else { return };
        let seen = Seen { first_at, last_at, bytes: taken, ends_stream: ends && left == 0 };
        match direction {
            Direction::ToServer => {
                known.take_request(seen);
                known.request_losses = losses.0;
            }
            // The final response may be what was lost.
            Direction::ToClient if known.may_be_interim() && known.response_losses != losses.1 => {
                return self.finish(stream, Ending::Unknown, out);
            }
            Direction::ToClient => {
                known.take_data(seen);
                // A response that goes on has not ended in what was lost.
                known.response_losses =
                    if known.stage == Stage::Waiting { known.response_losses } else { losses.1 };
            }
        }
        if seen.ends_stream {
            self.settle(stream, out);
        }
    }

    /// Ends the exchange of a stream whose two sides have ended.
    fn settle(&mut self, id: u32, out: &mut Vec<Exchange>) {
        let losses = self.requests.losses;
        let Some(stream) = self.streams.get(id) else { return };
        // If bytes of requests were lost, the request's end may have been among them.
        let over = stream.request_ended || stream.request_losses != losses;
        if stream.stage == Stage::Answered && over {
            self.failures = 0;
            self.finish(id, Ending::Complete, out);
        }
    }

    fn finish(&mut self, id: u32, ending: Ending, out: &mut Vec<Exchange>) {
        if let Some(stream) = self.streams.remove(id) {
            self.tell(stream, ending, out);
        }
    }

    fn tell(&mut self, stream: Stream, ending: Ending, out: &mut Vec<Exchange>) {
        match stream.finish(ending, self.has_calls && !self.has_others) {
            Some(exchange) => {
                let unknown = exchange.attributes.get(key::SPANTAP_STATUS_UNKNOWN).is_some();
                self.cut_heads += u64::from(unknown);
                out.push(exchange);
            }
            None => self.dropped += 1,
        }
    }

    fn reset(&mut self, id: u32, payload: &[u8], segment: &Segment<'_>, out: &mut Vec<Exchange>) {
        let Some(code) = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) else { return };
        self.resets.rotate_right(1);
        self.resets[0] = id;
        let doubtful = self.is_doubtful(id);
        let by_client = segment.direction == Direction::ToServer;
        let reset = Ending::Reset { code, by_client, at: segment.last_at };
        let Some(stream) = self.streams.remove(id) else { return };
        if doubtful {
            self.tell(stream, Ending::Unknown, out);
        } else if by_client && stream.stage != Stage::Answered && self.cancelled.len() < limits::STREAMS_MAX {
            self.cancelled.push((stream, reset));
        } else {
            self.tell(stream, reset, out);
        }
    }

    /// Tells of the streams that the client has reset: all of their responses was seen, or not.
    fn tell_cancelled(&mut self, sure: bool, out: &mut Vec<Exchange>) {
        for (stream, ending) in std::mem::take(&mut self.cancelled) {
            self.tell(stream, if sure { ending } else { Ending::Unknown }, out);
        }
    }

    /// > Activity on streams numbered lower than or equal to the last stream identifier might still complete
    /// > successfully. (RFC 9113, section 6.8)
    fn go_away(&mut self, payload: &[u8], segment: &Segment<'_>, out: &mut Vec<Exchange>) {
        let Some(last) = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff) else {
            return;
        };
        let refused =
            |stream: &Stream| stream.id % 2 == 1 && stream.id > last && stream.stage == Stage::Waiting;
        for stream in self.streams.take(refused) {
            self.tell(stream, Ending::Refused(segment.last_at), out);
        }
    }

    /// Whether the response of a stream may have ended, or begun, in what was lost.
    fn is_doubtful(&mut self, id: u32) -> bool {
        let losses = self.responses.losses;
        self.streams
            .get(id)
            .is_some_and(|stream| stream.response_losses != losses && stream.stage != Stage::Answered)
    }

    /// Tells of responses that began, and whose end was probably lost, since nothing comes any more.
    fn sweep(&mut self, now: BootNanos, out: &mut Vec<Exchange>) {
        let losses = self.responses.losses;
        if losses == 0 || now.since(self.swept_at) < SILENT_NS {
            return;
        }
        self.swept_at = now;
        let silent = |stream: &Stream| {
            stream.response_losses != losses
                && stream.stage == Stage::Responding
                && now.since(stream.exchange.end) >= SILENT_NS
        };
        for stream in self.streams.take(silent) {
            self.tell(stream, Ending::Unknown, out);
        }
    }
}

impl Parser for Http2Parser {
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        if segment.direction == Direction::ToClient && !self.cancelled.is_empty() {
            self.tell_cancelled(true, out);
        }
        match self.half(segment.direction).reading {
            Reading::Preface => self.read_preface(&segment, out),
            Reading::Frame => self.read_frame(&segment, out),
            Reading::Inside { stream, left, ends } => {
                if let Some(known) = self.streams.get(stream) {
                    let length = segment.bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let body = segment.bytes.get(..length).unwrap_or_default();
                    known.take_body(segment.direction, Body::Bytes(body));
                }
                self.read_payload(&segment, stream, left, ends, out)
            }
            Reading::Seek => self.seek(&segment, out),
        }
    }

    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>) {
        match self.half(gap.direction).reading {
            Reading::Inside { stream, left, ends } if gap.missing <= left => {
                if let Some(known) = self.streams.get(stream) {
                    known.take_body(gap.direction, Body::Missing(gap.missing));
                }
                self.pass(gap.direction, stream, left, ends, (gap.missing, gap.first_at, gap.last_at), out);
            }
            Reading::Inside { stream, left, ends } => {
                // All of this payload has passed, and something behind it.
                self.pass(gap.direction, stream, left, ends, (left, gap.first_at, gap.last_at), out);
                self.lose_bytes(gap.direction, out);
            }
            Reading::Preface | Reading::Frame | Reading::Seek => self.lose_bytes(gap.direction, out),
        }
    }

    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        let losses = (self.requests.losses, self.responses.losses);
        self.tell_cancelled(true, out);
        for stream in self.streams.take(|_| true) {
            let sure = (stream.request_losses, stream.response_losses) == losses;
            self.tell(stream, if sure { Ending::Closed(at) } else { Ending::Unknown }, out);
        }
    }

    fn lost(&self) -> bool {
        self.failures >= limits::FAILURES_MAX
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn in_flight(&self) -> usize {
        self.streams.len() + self.cancelled.len()
    }

    fn cut_heads(&self) -> u64 {
        self.cut_heads
    }

    fn skippable(&self, direction: Direction) -> u64 {
        let half = match direction {
            Direction::ToServer => &self.requests,
            Direction::ToClient => &self.responses,
        };
        match half.reading {
            Reading::Inside { left, .. } => left,
            Reading::Preface | Reading::Frame | Reading::Seek => 0,
        }
    }
}

/// `Some(false)` if these are only the beginning of a preface.
fn begins_with_preface(bytes: &[u8]) -> Option<bool> {
    let length = bytes.len().min(PREFACE.len());
    let fits = bytes.get(..length) == PREFACE.get(..length);
    fits.then_some(length == PREFACE.len())
}

/// Rationale: frames of a reset stream that are still under way are not older than a few round trips.
const RESETS: usize = 16;
/// A response that is silent for so long, after bytes were lost, is taken to have ended in them.
const SILENT_NS: u64 = 1_000_000_000;
