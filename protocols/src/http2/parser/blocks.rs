//! Header blocks: where one ends, what it says, and which stream it opens, answers or ends.

use smallvec::SmallVec;

use super::{Http2Parser, Reading};
use crate::{
    exchange::Exchange,
    http2::{
        fields::Fields,
        frame::{self, FrameHeader, HEADER_BYTES},
        hpack::End,
        stream::{Ending, Seen, Stage, Stream},
    },
    limits,
    protocol::{Direction, Role, Segment},
};

/// How much of a header block is here, from the header of its first frame on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it, so many bytes with its frames.
    Whole(usize),
    /// Not all; the frame that is here last will end there, if its header is here.
    Partial(Option<usize>),
    /// What stands there, at the place of its next frame, is none.
    Broken(usize),
}

impl Extent {
    pub(super) fn of(bytes: &[u8], first: FrameHeader) -> Self {
        let mut header = first;
        let mut at = 0;
        loop {
            let end = at + header.total();
            if end > bytes.len() {
                return Self::Partial(Some(end));
            }
            if header.ends_headers() {
                return Self::Whole(end);
            }
            at = end;
            match bytes.get(at..).and_then(FrameHeader::read) {
                None => return Self::Partial(None),
                Some(next) if next.kind == frame::CONTINUATION && next.stream == first.stream => {
                    header = next
                }
                Some(_) => return Self::Broken(at),
            }
        }
    }
}

/// A header block without its frames, which are `bytes`; of the last one perhaps not all. `None` if one makes no sense.
pub(super) fn joined(bytes: &[u8]) -> Option<SmallVec<[u8; 512]>> {
    let mut block = SmallVec::new();
    let mut rest = bytes;
    while let Some(header) = FrameHeader::read(rest) {
        let payload = rest.get(HEADER_BYTES..).unwrap_or_default();
        let payload = payload.get(..header.length).unwrap_or(payload);
        block.extend_from_slice(header.block(payload)?);
        rest = rest.get(header.total()..).unwrap_or_default();
    }
    Some(block)
}

impl Http2Parser {
    pub(super) fn read_block(
        &mut self,
        segment: &Segment<'_>,
        header: FrameHeader,
        out: &mut Vec<Exchange>,
    ) -> usize {
        if self.waits_for_its_request(segment, header) {
            return 0;
        }
        let extent = Extent::of(segment.bytes, header);
        let (end, whole) = match extent {
            Extent::Whole(end) => (end, true),
            Extent::Broken(end) => (end, false),
            Extent::Partial(_) if segment.cut => (segment.bytes.len(), false),
            Extent::Partial(end) => {
                let too_long = end.unwrap_or(segment.bytes.len()) > limits::HEADER_BLOCK_BYTES_MAX;
                if !too_long {
                    return 0;
                }
                self.half(segment.direction).decoder.forget();
                return self.skip(segment, header, out);
            }
        };
        let Some(block) = joined(segment.bytes.get(..end).unwrap_or_default()) else {
            self.failures = self.failures.saturating_add(1);
            self.half(segment.direction).decoder.forget();
            return self.skip(segment, header, out);
        };
        let mut fields = self.decode(segment.direction, header, &block);
        if whole && fields.end != End::Whole {
            self.failures = self.failures.saturating_add(1);
        }
        let half = self.half(segment.direction);
        if !whole {
            fields.is_partial = true;
            half.decoder.forget();
        }
        half.reading = Reading::Frame;
        let mut bytes = end;
        match extent {
            Extent::Partial(Some(end)) => {
                bytes = end;
                let left = (end - segment.bytes.len()) as u64;
                half.reading = Reading::Inside { stream: 0, left, ends: false };
            }
            Extent::Partial(None) => self.lose_way(segment.direction, out),
            Extent::Whole(_) | Extent::Broken(_) => {}
        }
        let seen = Seen {
            first_at: segment.first_at,
            last_at: segment.last_at,
            bytes: bytes as u64,
            ends_stream: header.ends_stream(),
        };
        match (header.kind, segment.direction) {
            (frame::PUSH_PROMISE, _) => self.promise(segment, header, &fields, seen, out),
            (_, Direction::ToServer) => self.request(header.stream, &fields, seen, out),
            (_, Direction::ToClient) => self.response(header.stream, &fields, seen, out),
        }
        end
    }

    /// The head of a response whose request must still come.
    fn waits_for_its_request(&self, segment: &Segment<'_>, header: FrameHeader) -> bool {
        segment.direction == Direction::ToClient
            && header.stream % 2 == 1
            && header.stream > self.last_request
            && self.requests_known
            && self.requests.reading != Reading::Seek
    }

    fn request(&mut self, id: u32, fields: &Fields, seen: Seen, out: &mut Vec<Exchange>) {
        if let Some(stream) = self.streams.get(id) {
            stream.take_request(seen);
            return self.settle(id, out);
        }
        // Trailers of a stream that is over, or whose request was not seen.
        if id.is_multiple_of(2) || id <= self.last_request {
            return;
        }
        self.last_request = id;
        if fields.is_request() {
            self.requests_known |= self.requests.reading != Reading::Seek;
            self.cut_heads += u64::from(fields.is_partial);
            self.open(id, fields, seen, out);
        }
    }

    fn promise(
        &mut self,
        segment: &Segment<'_>,
        header: FrameHeader,
        fields: &Fields,
        seen: Seen,
        out: &mut Vec<Exchange>,
    ) {
        let payload = segment.bytes.get(HEADER_BYTES..).unwrap_or_default();
        let Some(id) = header.promised(payload) else { return };
        let is_new = id > 0 && id.is_multiple_of(2) && !self.streams.contains(id);
        if self.context.role == Role::Server && is_new && fields.is_request() {
            self.open(id, fields, Seen { ends_stream: true, ..seen }, out);
        }
    }

    fn open(&mut self, id: u32, fields: &Fields, seen: Seen, out: &mut Vec<Exchange>) {
        self.sweep(seen.first_at, out);
        if self.streams.is_full() {
            let losses = self.responses.losses;
            for stream in self.streams.take(|stream| stream.response_losses != losses) {
                self.tell(stream, Ending::Unknown, out);
            }
            if self.streams.is_full() {
                return;
            }
        }
        let mut stream = Stream::new(id, self.context, fields, seen);
        self.has_calls |= stream.is_call() == Some(true);
        self.has_others |= stream.is_call() == Some(false);
        stream.request_losses = self.requests.losses;
        stream.response_losses = self.responses.losses;
        if id <= self.last_orphan {
            // Requests were read late, and this one's response may be among those that found none.
            stream.response_losses = stream.response_losses.wrapping_sub(1);
        }
        self.streams.insert(stream);
    }

    fn response(&mut self, id: u32, fields: &Fields, seen: Seen, out: &mut Vec<Exchange>) {
        let losses = self.responses.losses;
        let Some(stream) = self.streams.get(id) else {
            let is_final = fields.status().map_or(!seen.ends_stream, |status| status >= 200);
            let expected = id.is_multiple_of(2) || self.resets.contains(&id);
            self.dropped += u64::from(is_final && !expected);
            self.last_orphan = self.last_orphan.max(id);
            return;
        };
        let doubtful = stream.response_losses != losses;
        if !stream.take_response_fields(fields, seen, doubtful) {
            self.streams.remove(id);
            self.dropped += 1;
            return;
        }
        if stream.stage != Stage::Waiting {
            stream.response_losses = losses;
        }
        self.settle(id, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_with_its_last_frame() {
        let headers = b"\x00\x00\x02\x01\x00\x00\x00\x00\x01\x82\x84";
        let more = b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x86";
        let first = FrameHeader::read(headers).expect("a header");
        let both = [&headers[..], more].concat();
        assert_eq!(Extent::of(&both, first), Extent::Whole(21));
        assert_eq!(joined(&both).as_deref(), Some(&b"\x82\x84\x86"[..]));
        assert_eq!(Extent::of(&both[..20], first), Extent::Partial(Some(21)));
        assert_eq!(Extent::of(&both[..15], first), Extent::Partial(None));
        assert_eq!(Extent::of(&both[..5], first), Extent::Partial(Some(11)));
        let other = [&headers[..], b"\x00\x00\x01\x09\x04\x00\x00\x00\x03\x86"].concat();
        assert_eq!(Extent::of(&other, first), Extent::Broken(11));
    }
}
