//! Huffman-coded strings of HPACK: bits in, bytes out. Spec: RFC 7541, section 5.2 and appendix B.
//!
//! The code is canonical: codes of one length are consecutive and in the order of their symbols, and each length begins
//! where the one before it ends. So the lengths alone define it, and everything else is computed when compiling.

/// Decodes `bytes` to the end of `out`; false if they are no Huffman code. `out` then holds what came before.
///
/// > A padding strictly longer than 7 bits MUST be treated as a decoding error. A padding not corresponding to the most
/// > significant bits of the code for the EOS symbol MUST be treated as a decoding error. A Huffman-encoded string
/// > literal containing the EOS symbol MUST be treated as a decoding error. (RFC 7541, section 5.2)
pub(super) fn decode(bytes: &[u8], mut out: impl FnMut(u8)) -> bool {
    let mut bytes = bytes.iter();
    // The next `count` bits, left-aligned.
    let (mut bits, mut count) = (0u64, 0u32);
    loop {
        while count <= 56 {
            let Some(byte) = bytes.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = symbol(bits);
        if length > count {
            // What is left begins no whole code: padding, all ones.
            let ones = if count == 0 { 0 } else { u64::MAX << (64 - count) };
            return count < 8 && bits == ones;
        }
        let Ok(byte) = u8::try_from(symbol) else { return false };
        out(byte);
        bits <<= length;
        count -= length;
    }
}

/// The symbol that these left-aligned bits begin with, and the length of its code.
fn symbol(bits: u64) -> (u16, u32) {
    let [first, ..] = bits.to_be_bytes();
    let (symbol, length) = CODE.short[usize::from(first)];
    if length > 0 {
        return (symbol, length);
    }
    let bits = bits >> 32;
    let mut length = SHORT_BITS + 1;
    // The longest codes end where 32 bits end: some length always fits.
    while length < LENGTH_MAX && bits >= CODE.end[length as usize] {
        length += 1;
    }
    let nth = (bits - CODE.start[length as usize]) >> (32 - length);
    let at = usize::from(CODE.first[length as usize]) + usize::try_from(nth).unwrap_or(usize::MAX);
    (CODE.symbols.get(at).copied().unwrap_or(END_OF_STRING), length)
}

struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// Of each length: the index of its first symbol.
    first: [u16; LENGTH_MAX as usize + 1],
    /// Of each length: its first code, and the one behind its last, left-aligned in 32 bits.
    start: [u64; LENGTH_MAX as usize + 1],
    end: [u64; LENGTH_MAX as usize + 1],
    /// Symbol and length of the code that a byte begins with, if it holds a whole one; else a length of 0.
    short: [(u16, u32); 256],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        const ROOM: usize = LENGTH_MAX as usize + 1;
        let mut code = Self {
            symbols: [0; 257],
            first: [0; ROOM],
            start: [0; ROOM],
            end: [0; ROOM],
            short: [(0, 0); 256],
        };
        let (mut length, mut at, mut next) = (1, 0, 0u64);
        while length <= LENGTH_MAX {
            code.first[length as usize] = at;
            code.start[length as usize] = next;
            let mut symbol = 0;
            while symbol < 257 {
                if LENGTHS[symbol as usize] as u32 == length {
                    code.symbols[at as usize] = symbol;
                    at += 1;
                    let behind = next + (1 << (32 - length));
                    while length <= SHORT_BITS && next < behind {
                        code.short[(next >> 24) as usize] = (symbol, length);
                        next += 1 << 24;
                    }
                    next = behind;
                }
                symbol += 1;
            }
            code.end[length as usize] = next;
            length += 1;
        }
        code
    }
}

/// Codes up to this length are found with one look.
const SHORT_BITS: u32 = 8;
const LENGTH_MAX: u32 = 30;
const END_OF_STRING: u16 = 256;

/// Bits of the code of each byte, and of the end of string. RFC 7541, appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, |byte| out.push(byte)).then_some(out)
    }

    #[test]
    fn the_examples_of_the_specification() {
        // RFC 7541, appendix C.4 and C.6.
        for (wire, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(decoded(wire).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn every_byte_is_decoded_from_its_code() {
        for (at, symbol) in CODE.symbols.iter().enumerate() {
            let length = u32::from(LENGTHS[usize::from(*symbol)]);
            let nth = at as u64 - u64::from(CODE.first[length as usize]);
            let code = CODE.start[length as usize] + (nth << (32 - length));
            let padded = code << 32 | (u64::MAX >> length);
            let bytes = (length as usize).div_ceil(8);
            let expected = u8::try_from(*symbol).ok().map(|byte| vec![byte]);
            assert_eq!(decoded(&padded.to_be_bytes()[..bytes]), expected, "{symbol}");
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decoded(&[0x64, 0x02, 0xff]), None, "eight ones");
        assert_eq!(decoded(&[0x18]), None, "`a` is 00011, and 000 is no padding");
        assert_eq!(decoded(&[0x1f]), Some(b"a".to_vec()));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), None, "the end of string itself");
    }
}
