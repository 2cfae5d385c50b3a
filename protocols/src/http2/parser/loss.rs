//! What is lost with bytes that were not seen? The way, until the next frame is found; and HPACK's table, unless it can be
//! proved that no header block was among them. Then it is kept, for without it next to nothing is known of what follows.
//!
//! * Of requests: streams are opened in the order of their numbers (RFC 9113, section 5.1.1), and clients leave out none. If
//!   the next one has the number after the last one that was seen, no request was lost; and calls of gRPC, of which alone
//!   DATA was under way, have no trailers there.
//! * Of responses: if one stream was unfinished, a call whose response had begun, and there was no other until its trailers
//!   came, nothing but its DATA can have been sent.
//!
//! What then does not decode to a whole request, or to trailers with a status, proves that something is wrong all the same.

use super::{Http2Parser, RESETS, Reading};
use crate::{
    exchange::Exchange,
    http2::{
        fields::{Field, Fields},
        frame::{self, FrameHeader},
        stream::{Ending, Stage},
    },
    protocol::{Direction, Segment},
};

/// What would prove that the table of a direction is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The next stream that is opened has the number after this one.
    NextStream(u32),
    /// The next header block ends this stream, and no request came after the one numbered `last`.
    Trailers { of: u32, last: u32 },
}

impl Http2Parser {
    /// A direction lost its way at the end of a segment that is cut: nothing of it can be read.
    pub(super) fn lose(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.lose_bytes(segment.direction, out);
        segment.bytes.len()
    }

    /// Bytes were lost behind what was read to the end of a frame, or of its payload.
    pub(super) fn lose_bytes(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let known = match self.half(direction).reading {
            Reading::Seek => self.half(direction).proof,
            Reading::Frame => self.possible_proof(direction),
            Reading::Preface | Reading::Inside { .. } => None,
        };
        match known {
            Some(proof) => {
                self.lose_frame(direction, out);
                self.half(direction).proof = Some(proof);
            }
            None => self.lose_way(direction, out),
        }
    }

    /// See the module.
    pub(super) fn lose_way(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let half = self.half(direction);
        half.decoder.forget();
        half.proof = None;
        self.lose_frame(direction, out);
    }

    /// The same, but for HPACK's table.
    pub(super) fn lose_frame(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let half = self.half(direction);
        half.reading = Reading::Seek;
        half.losses = half.losses.wrapping_add(1);
        self.streams.each(|stream| stream.lose_body(direction));
        if direction == Direction::ToClient {
            self.tell_cancelled(false, out);
        } else {
            self.requests_known = false;
            self.all_requests = false;
            for stream in self.streams.take(|stream| stream.stage == Stage::Answered) {
                self.tell(stream, Ending::Complete, out);
            }
        }
    }

    /// What can prove later that bytes of a direction that are lost now hold no header block.
    fn possible_proof(&self, direction: Direction) -> Option<Proof> {
        if !self.all_requests || self.last_request == 0 || self.streams.is_full() {
            return None;
        }
        match direction {
            Direction::ToServer => {
                let mut unfinished = self.streams.iter().filter(|stream| !stream.request_ended);
                let calls_only = unfinished.all(|stream| stream.is_call() == Some(true));
                calls_only.then_some(Proof::NextStream(self.last_request))
            }
            Direction::ToClient => {
                let of = self.only_call_under_way()?;
                Some(Proof::Trailers { of, last: self.last_request })
            }
        }
    }

    /// The stream that alone is unfinished, if it is a call whose response has begun.
    fn only_call_under_way(&self) -> Option<u32> {
        let whole = self.requests.reading != Reading::Seek && self.all_requests;
        if !whole || self.resets != [0; RESETS] || !self.cancelled.is_empty() {
            return None;
        }
        let mut unfinished = self.streams.iter().filter(|stream| stream.stage != Stage::Answered);
        let only = unfinished.next().filter(|_| unfinished.next().is_none())?;
        let begun = only.stage == Stage::Responding && !only.may_be_interim();
        (begun && only.is_call() == Some(true)).then_some(only.id)
    }

    /// Decodes a header block: with the table as it is, if that is whole or proves to be, else without.
    pub(super) fn decode(&mut self, direction: Direction, header: FrameHeader, block: &[u8]) -> Fields {
        let Some(proof) = self.half(direction).proof.take() else {
            return Fields::decode(&mut self.half(direction).decoder, block);
        };
        let holds = header.kind == frame::HEADERS
            && match proof {
                Proof::NextStream(last) => header.stream == last.saturating_add(2),
                Proof::Trailers { of, last } => {
                    let alone = self.only_call_under_way() == Some(of) && self.last_request == last;
                    alone && header.stream == of && header.ends_stream()
                }
            };
        if holds {
            let fields = Fields::decode(&mut self.half(direction).decoder, block);
            let fits = match proof {
                Proof::NextStream(_) => fields.is_request() && fields.status().is_none(),
                Proof::Trailers { .. } => {
                    fields.get(Field::GrpcStatus).is_some() && fields.status().is_none()
                }
            };
            if fits && !fields.is_partial {
                self.all_requests |= direction == Direction::ToServer;
                return fields;
            }
        }
        let half = self.half(direction);
        half.decoder.forget();
        Fields::decode(&mut half.decoder, block)
    }
}
