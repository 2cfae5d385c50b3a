//! What a fuzzer's bytes mean where calls are wanted: a small language in which every input is a program.
//!
//! The first byte is a connection's circumstances. Then follow calls: a byte of [`Call::kind`], two bytes of length
//! (little-endian), and the bytes themselves, which may be fewer than was said.

/// Bytes of one input that are fed at most: repetition makes much of little.
const FED_BYTES_MAX: usize = 128 * 1024;

/// One step of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Bits 0 and 1: which way, and on which of two connections. Bits 2 to 4: see the methods. Others: times and sizes.
    pub kind: u8,
    /// Its content.
    pub bytes: &'a [u8],
}

impl Call<'_> {
    /// True for one of the two ways.
    #[must_use]
    pub fn is_forth(&self) -> bool {
        self.kind & 1 == 0
    }

    /// True for the other one of two streams.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.kind & 2 != 0
    }

    /// Bytes behind those that are here, which were not copied: from few to more than anything believes.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match self.kind >> 2 & 7 {
            4 => u64::from(self.kind >> 5),
            5 => 1 << (4 * (self.kind >> 5)),
            _ => 0,
        }
    }

    /// How often it is fed: what only much of something breaks is found with little input.
    #[must_use]
    pub fn repetitions(&self) -> usize {
        match self.kind >> 2 & 7 {
            6 => 4 << (2 * (self.kind >> 5)),
            _ => 1,
        }
    }

    /// Neither bytes nor a gap of them, but something of the target's own.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.kind >> 2 & 7 == 7
    }
}

/// The circumstances, and the calls with how often each is fed.
#[must_use]
pub fn read(input: &[u8]) -> (u8, Vec<(usize, Call<'_>)>) {
    let (circumstances, mut rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let mut calls = Vec::new();
    let mut left = FED_BYTES_MAX;
    while let [kind, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let call = Call { kind: *kind, bytes };
        let repetitions = call.repetitions().min(left / length.max(1));
        left -= repetitions * length;
        calls.push((repetitions, call));
    }
    (circumstances, calls)
}

/// The input that means this.
#[must_use]
pub fn write<'a>(circumstances: u8, calls: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut input = vec![circumstances];
    for (kind, bytes) in calls {
        for piece in bytes.chunks(usize::from(u16::MAX)) {
            input.push(kind);
            input.extend((piece.len() as u16).to_le_bytes());
            input.extend(piece);
        }
    }
    input
}

#[test]
fn what_is_written_is_read() {
    let input = write(3, [(0, &b"abc"[..]), (25, b"d")]);
    let (circumstances, calls) = read(&input);
    assert_eq!(circumstances, 3);
    assert_eq!(calls, [(1, Call { kind: 0, bytes: b"abc" }), (4, Call { kind: 25, bytes: b"d" })]);
    assert!(!calls[1].1.is_forth());
    assert_eq!(read(&[0, 0, 9, 0, b'x']).1, [(1, Call { kind: 0, bytes: b"x" })]);
    assert_eq!(read(&[]), (0, Vec::new()));
}
