//! HPACK against an encoder and a decoder that others wrote.
//!
//! The first byte chooses: blocks as the input has them, which both decoders must read alike where both read them; or
//! fields that the other one encodes, which must come out as they went in.

use httlib_hpack::{Decoder, Encoder};
use spantap_protocols::{
    Direction,
    http2::{Http2, PlainDecoder, PlainField},
    testing::fixtures,
};

use crate::input;

pub(crate) fn run(input: &[u8]) -> u64 {
    let (circumstances, calls) = input::read(input);
    if circumstances & 1 == 0 { encoded(&calls) } else { decoded(&calls) }
}

/// Each call is a block: of its bytes some are the lengths of names and values.
fn encoded(calls: &[(usize, input::Call<'_>)]) -> u64 {
    let mut encoder = Encoder::default();
    let mut decoder = PlainDecoder::default();
    let mut fed = 0;
    for (_, call) in calls {
        let mut block = Vec::new();
        if call.is_special() {
            let size = u32::from(call.kind >> 5) * 300;
            encoder.update_max_dynamic_size(size, &mut block).expect("a size");
        }
        let (mut expected, mut rest) = (Vec::new(), call.bytes);
        while let [how, after @ ..] = rest {
            let name_length = usize::from(how >> 5).min(after.len());
            let (name, after) = after.split_at(name_length);
            let value_length =
                after.first().map_or(0, |length| usize::from(*length)).min(after.len().saturating_sub(1));
            let (value, after) = after.get(1..).unwrap_or_default().split_at(value_length);
            rest = after;
            // Few names, so that the table is of use; an empty one is none.
            let name = if name.is_empty() { &b":path"[..] } else { name };
            let flags = how & 0x1f;
            encoder.encode((name.to_vec(), value.to_vec(), flags), &mut block).expect("a field");
            expected.push(Some((name.to_vec(), value.to_vec())));
        }
        fed += (call.bytes.len() + block.len()) as u64 + BLOCK_BYTES;
        assert_eq!(decoder.decode(&block), (true, expected), "{block:02x?}");
    }
    fed
}

/// Each call is a block as it is.
fn decoded(calls: &[(usize, input::Call<'_>)]) -> u64 {
    let mut other = Decoder::default();
    let mut decoder = PlainDecoder::default();
    let mut fed = 0;
    for (_, call) in calls {
        fed += call.bytes.len() as u64 + BLOCK_BYTES;
        let (whole, fields) = decoder.decode(call.bytes);
        if !whole {
            // The other one may panic on such a block.
            return fed;
        }
        let mut expected = Vec::new();
        if other.decode(&mut call.bytes.to_vec(), &mut expected).is_err() {
            // What each makes of the rest of the connection is its own.
            return fed;
        }
        let expected: Vec<PlainField> =
            expected.into_iter().map(|(name, value, _)| Some((name, value))).collect();
        assert!(fields.len() == expected.len(), "{fields:?} or {expected:?}");
        // An index beyond the table is unknown to a bystander.
        let agrees = |(ours, theirs): (&PlainField, &PlainField)| ours.is_none() || ours == theirs;
        assert!(fields.iter().zip(&expected).all(agrees), "{fields:?} or {expected:?}");
    }
    fed
}

/// Recorded header blocks, and fields to encode.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        input::write(0, [(0, &b"\x5fab\x03xyz\x5fab\x03xyz\x1c\x04/abc\x1f\x04/abc"[..])]),
        input::write(0, [(0, &b"\xf7content\x0capplication/\x17\x20/a/very/long/path/that/fills/it"[..]); 6]),
        input::write(
            0,
            [(0x3c, &b"\x44ab\x05value"[..]), (0x1c, b"\x44ab\x05value"), (0xfc, b"\x55ab\x01v")],
        ),
    ];
    for fixture in fixtures(&Http2) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let of_one = fixture.chunks.iter().filter(|chunk| chunk.direction == direction);
            let bytes: Vec<u8> = of_one.flat_map(|chunk| chunk.bytes.clone()).collect();
            seeds.push(input::write(1, blocks(&bytes).into_iter().take(20).map(|block| (0, block))));
        }
    }
    seeds.retain(|seed| seed.len() > 1);
    seeds
}

/// The payloads of HEADERS frames without padding and priority (RFC 9113, section 6.2).
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
    let mut blocks = Vec::new();
    while let [high, middle, low, kind, flags, _, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        rest = after;
        if *kind == 1 && flags & 0x28 == 0 {
            blocks.push(payload);
        }
    }
    blocks
}

/// See `parser.rs`.
const BLOCK_BYTES: u64 = 16;
