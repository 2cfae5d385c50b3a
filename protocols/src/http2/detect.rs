//! Do these bytes begin HTTP/2, and which way do they travel?
//!
//! The client's preface says so by itself, the server's first SETTINGS nearly so. Who joins late needs frames in a row, all
//! plausible, with a header block that says whose it is: `:method` and its kin stand in requests, `:status` in responses,
//! and most of them are in the static table.

use super::{
    fields::Fields,
    frame::{self, FrameHeader, HEADER_BYTES, PREFACE, are_settings},
    hpack::{Decoder, End},
};
use crate::protocol::{Direction, Sniff};

pub(super) fn sniff(head: &[u8]) -> Sniff {
    if head.starts_with(PREFACE) {
        return Sniff::Match(Direction::ToServer);
    }
    if PREFACE.starts_with(head) {
        return Sniff::NeedMore;
    }
    let mut rest = head;
    let mut settings = false;
    for nth in 0.. {
        if rest.is_empty() && nth > 0 {
            break;
        }
        let Some(header) = FrameHeader::read(rest) else { return unfinished(rest) };
        if !header.is_plausible() {
            return Sniff::Reject;
        }
        let payload = rest.get(HEADER_BYTES..).unwrap_or_default();
        let whole = payload.get(..header.length);
        match (header.kind, whole) {
            (frame::HEADERS | frame::PUSH_PROMISE, Some(payload)) if header.ends_headers() => {
                let Some(block) = header.block(payload) else { return Sniff::Reject };
                let fields = Fields::decode(&mut Decoder::new(), block);
                return match (fields.end, fields.is_request(), fields.status()) {
                    (End::Whole, true, None) if header.kind == frame::PUSH_PROMISE => {
                        Sniff::Match(Direction::ToClient)
                    }
                    (End::Whole, true, None) => Sniff::Match(Direction::ToServer),
                    (End::Whole, false, Some(_)) => Sniff::Match(Direction::ToClient),
                    _ => Sniff::Reject,
                };
            }
            (frame::SETTINGS, Some(payload)) if nth == 0 && !header.is_ack() => {
                if !are_settings(payload) {
                    return Sniff::Reject;
                }
                // A client that begins so has sent its preface before.
                settings = true;
            }
            (frame::DATA, None) => return Sniff::Reject,
            (_, Some(_)) => {}
            (_, None) => return Sniff::NeedMore,
        }
        rest = payload.get(header.length..).unwrap_or_default();
    }
    if settings { Sniff::Match(Direction::ToClient) } else { Sniff::Reject }
}

/// Fewer bytes than a header has.
fn unfinished(bytes: &[u8]) -> Sniff {
    let mut header = [0; HEADER_BYTES];
    // What is not here yet: the least implausible.
    header[3] = frame::SETTINGS;
    for (slot, byte) in header.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    let long = bytes.first().is_some_and(|high| *high > 0x10);
    if long || bytes.get(3).is_some_and(|kind| *kind > frame::CONTINUATION) {
        return Sniff::Reject;
    }
    Sniff::NeedMore
}
