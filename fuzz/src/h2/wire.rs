//! The frames of a recorded connection, read in the simplest way: which bytes are whose.

use std::collections::BTreeMap;

use spantap_protocols::{BootNanos, Direction, testing::Chunk};

/// One header block without its frames.
#[derive(Debug)]
pub(super) struct Block {
    /// Which exchange it belongs to, in the order of the client's requests.
    pub(super) exchange: usize,
    pub(super) bytes: Vec<u8>,
}

/// What one side sent on a stream: HEADERS, CONTINUATION and DATA with their frame headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) bytes: u64,
    /// When its first byte was sent.
    pub(super) start: BootNanos,
    /// When its last byte was sent.
    pub(super) end: BootNanos,
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// One frame, its header included.
pub(super) struct Frame<'a>(pub(super) &'a [u8]);

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, if all of it is here (RFC 9113, section 4.1).
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]) as usize;
        bytes.get(..FRAME_HEADER_BYTES + length).map(Self)
    }

    fn kind(&self) -> u8 {
        self.0[3]
    }

    fn flags(&self) -> u8 {
        self.0[4]
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.0[5], self.0[6], self.0[7], self.0[8]])
    }

    /// True if other frames may not follow at once.
    pub(super) fn leaves_block_open(&self) -> bool {
        [HEADERS, CONTINUATION].contains(&self.kind()) && self.flags() & 4 == 0
    }

    pub(super) fn is_settings(&self) -> bool {
        self.kind() == SETTINGS && self.flags() & 1 == 0
    }

    pub(super) fn is_settings_ack(&self) -> bool {
        self.kind() == SETTINGS && self.flags() & 1 == 1
    }
}

/// SETTINGS with a SETTINGS_HEADER_TABLE_SIZE.
pub(super) fn table_size(bytes: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 1];
    frame.extend(bytes.to_be_bytes());
    frame
}

/// Calls `tell` with each frame of a direction, and the times of its first and last byte.
fn each_frame(calls: &[Chunk], direction: Direction, mut tell: impl FnMut(Frame<'_>, BootNanos, BootNanos)) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for call in calls.iter().filter(|call| call.direction == direction) {
        bytes.extend_from_slice(&call.bytes);
        ends.push((bytes.len(), call.first_at));
    }
    let at_time = |byte: usize| ends[ends.partition_point(|(end, _)| *end <= byte)].1;
    let mut at = if direction == Direction::ToServer { PREFACE.len() } else { 0 };
    while let Some(frame) = bytes.get(at..).and_then(Frame::first) {
        let end = at + frame.0.len();
        tell(frame, at_time(at), at_time(end - 1));
        at = end;
    }
    assert_eq!(at, bytes.len(), "a frame without its end");
}

/// The header blocks of a direction in their order.
pub(super) fn blocks(calls: &[Chunk], direction: Direction) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    each_frame(calls, direction, |frame, _, _| {
        let payload = &frame.0[FRAME_HEADER_BYTES..];
        match frame.kind() {
            HEADERS => {
                assert_eq!(frame.flags() & 0x28, 0, "h2 writes neither padding nor priorities");
                let exchange = (frame.stream() as usize - 1) / 2;
                blocks.push(Block { exchange, bytes: payload.to_vec() });
            }
            CONTINUATION => blocks.last_mut().expect("HEADERS before it").bytes.extend_from_slice(payload),
            _ => {}
        }
    });
    blocks
}

/// What the client and the server sent on the stream of an exchange.
pub(super) fn streams(calls: &[Chunk], exchange: usize) -> [Extent; 2] {
    let mut extents = BTreeMap::new();
    for direction in [Direction::ToServer, Direction::ToClient] {
        each_frame(calls, direction, |frame, start, end| {
            let counts = [HEADERS, CONTINUATION, DATA].contains(&frame.kind());
            if counts && frame.stream() as usize == 2 * exchange + 1 {
                let new = Extent { bytes: 0, start, end };
                let extent = extents.entry(direction as usize).or_insert(new);
                extent.bytes += frame.0.len() as u64;
                extent.end = end;
            }
        });
    }
    [Direction::ToServer, Direction::ToClient].map(|direction| extents[&(direction as usize)])
}
