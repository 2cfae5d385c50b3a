//! Where does the next frame begin? For a direction that is out of frame.
//!
//! A chain of plausible headers, each where the frame before it ends, is looked for at every byte of a segment. What each
//! frame proves is added up, because random bytes and above all zeros make plausible headers: a header block that decodes
//! to what its direction needs proves more than a number, DATA of a stream that is open more than DATA of another one.

use super::{
    Http2Parser, Reading, begins_with_preface,
    blocks::{Extent, joined},
};
use crate::{
    exchange::Exchange,
    http2::{
        fields::Fields,
        frame::{self, FrameHeader, HEADER_BYTES, PREFACE, are_settings},
        hpack::{Decoder, End},
    },
    protocol::{Direction, Segment},
};

impl Http2Parser {
    /// Skips what stands before the next frame.
    pub(super) fn seek(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let bytes = segment.bytes;
        let direction = segment.direction;
        if direction == Direction::ToServer {
            match begins_with_preface(bytes) {
                // Nothing came before it: not from the client, and of the server no header block.
                Some(true) => {
                    self.requests.reading = Reading::Frame;
                    self.requests_known = true;
                    return PREFACE.len();
                }
                Some(false) if !segment.cut && !bytes.is_empty() => return 0,
                _ => {}
            }
        }
        let found = find(bytes, direction, |stream| self.streams.contains(stream));
        if found != Some(0) {
            let half = self.half(direction);
            half.losses = half.losses.wrapping_add(1);
            self.streams.each(|stream| stream.lose_body(direction));
        }
        let half = self.half(direction);
        match found {
            None => bytes.len(),
            Some(0) => {
                half.reading = Reading::Frame;
                self.read_frame(segment, out)
            }
            Some(at) => {
                half.reading = Reading::Frame;
                at
            }
        }
    }
}

/// The place of the first frame of a chain that proves enough.
fn find(bytes: &[u8], direction: Direction, is_open: impl Fn(u32) -> bool) -> Option<usize> {
    // Lengths above 64 KiB are rare, and never the first frame of a chain that would be believed: its payload would
    // have to be here. So frames begin with a zero.
    memchr::memchr_iter(0, bytes).find(|at| {
        let rest = bytes.get(*at..).unwrap_or_default();
        let enough = if *at == 0 { ENOUGH_AT_START } else { ENOUGH };
        proof(rest, direction, &is_open) >= enough
    })
}

/// What the chain of frames that `bytes` begin with proves; 0 if it breaks.
fn proof(bytes: &[u8], direction: Direction, is_open: &impl Fn(u32) -> bool) -> u32 {
    let mut total = 0;
    let mut rest = bytes;
    // A few frames are enough, and a long chain at each of many places takes long.
    for _ in 0..CHAIN_MAX {
        let Some(header) = FrameHeader::read(rest) else { return total };
        let from_client = direction == Direction::ToServer;
        if !header.is_plausible() || (from_client && header.kind == frame::PUSH_PROMISE) {
            return 0;
        }
        // Any nine bytes that are nearly all zero, such as the end of a WINDOW_UPDATE.
        if total == 0 && header.kind == frame::DATA && header.length == 0 {
            return 0;
        }
        let payload = rest.get(HEADER_BYTES..header.total());
        let open = u32::from(header.stream > 0 && is_open(header.stream));
        let proved = match (header.kind, payload) {
            (frame::HEADERS, Some(_)) => proof_of_headers(rest, header, direction).map(|proof| proof + open),
            (frame::SETTINGS, Some(payload)) => {
                are_settings(payload).then_some(u32::from(!payload.is_empty()) + 1)
            }
            (_, Some(_)) => Some(1 + open),
            (_, None) => Some(open),
        };
        let Some(proved) = proved else { return 0 };
        total += proved;
        let Some(after) = rest.get(header.total()..) else { return total };
        if after.is_empty() {
            // It ends where the call does.
            return total + 2;
        }
        rest = after;
    }
    total
}

fn proof_of_headers(bytes: &[u8], header: FrameHeader, direction: Direction) -> Option<u32> {
    match Extent::of(bytes, header) {
        Extent::Whole(end) => {
            let fields = Fields::decode(&mut Decoder::new(), &joined(bytes.get(..end)?)?);
            if fields.end != End::Whole {
                return None;
            }
            let fits = match direction {
                Direction::ToServer => fields.is_request() && fields.status().is_none(),
                Direction::ToClient => fields.status().is_some() && !fields.is_request(),
            };
            Some(if fits { 3 } else { 1 })
        }
        Extent::Partial(_) => Some(1),
        Extent::Broken(_) => None,
    }
}

/// What a chain must prove in the middle of a segment.
const ENOUGH: u32 = 4;
/// And at the start of one, where most frames begin.
const ENOUGH_AT_START: u32 = 3;
const CHAIN_MAX: usize = 8;
