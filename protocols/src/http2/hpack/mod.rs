//! Header blocks of HTTP/2 (HPACK): bytes in, fields out, with what a bystander cannot know said to be unknown.
//!
//! `table.rs` knows what an index stands for, `huffman.rs` decodes strings. Spec: RFC 7541.

mod huffman;
#[cfg(any(test, feature = "testing"))]
pub(super) mod plain;
mod table;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

pub(super) use self::table::Name;
use self::table::{Found, Table};

/// Decodes the header blocks of one direction, in their order.
#[derive(Debug)]
pub(super) struct Decoder<N> {
    table: Table<N>,
}

/// A field of a header block. Of one whose name is not wanted the value is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderField<'a, N> {
    /// Its name and value.
    Known(&'a N, &'a [u8]),
    /// It refers to what was inserted before we came.
    Unknown,
}

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its last byte.
    Whole,
    /// In the middle of a field: those before it were told.
    Cut,
    /// No encoder writes this: those before it were told.
    Invalid,
}

impl<N: Name> Decoder<N> {
    /// With the empty table that a connection begins with.
    pub(super) fn new() -> Self {
        Self { table: Table::new() }
    }

    /// Some header block was not seen, or not all of it.
    pub(super) fn forget(&mut self) {
        self.table.forget();
    }

    /// Tells the fields of `block`. After another end than [`End::Whole`] the table is forgotten.
    pub(super) fn decode(&mut self, block: &[u8], mut tell: impl FnMut(HeaderField<'_, N>)) -> End {
        let mut rest = Bytes(block);
        let end = loop {
            if rest.0.is_empty() {
                return End::Whole;
            }
            match self.instruction(&mut rest, &mut tell) {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        self.forget();
        end
    }

    /// One representation (RFC 7541, section 6).
    fn instruction(
        &mut self,
        rest: &mut Bytes<'_>,
        tell: &mut impl FnMut(HeaderField<'_, N>),
    ) -> Result<(), End> {
        let first = rest.peek()?;
        if first & 0x80 != 0 {
            return self.indexed(rest.integer(7)?, tell);
        }
        if first & 0xe0 == 0x20 {
            self.table.resize(rest.integer(5)?);
            return Ok(());
        }
        let inserts = first & 0x40 != 0;
        let index = rest.integer(if inserts { 6 } else { 4 })?;
        let mut scratch = SmallVec::<[u8; 64]>::new();
        let (name, name_length) = match index {
            0 => {
                let name = rest.string()?.decode(&mut scratch)?;
                (Some(N::of(name)), name.len())
            }
            _ => match self.table.get(index) {
                Found::Static(name, _) => (Some(N::of(name.as_bytes())), name.len()),
                Found::Dynamic(name, length, _) => (name.cloned(), length),
                Found::Unknown => (None, 0),
                Found::Invalid => return Err(End::Invalid),
            },
        };
        let value = rest.string()?;
        let wanted = name.as_ref().is_some_and(Name::is_wanted);
        let mut scratch = SmallVec::<[u8; 256]>::new();
        let value = if wanted || inserts { value.decode(&mut scratch)? } else { &[] };
        match &name {
            Some(name) => tell(HeaderField::Known(name, if wanted { value } else { &[] })),
            None => tell(HeaderField::Unknown),
        }
        if inserts {
            self.table.insert(name, name_length, value);
        }
        Ok(())
    }

    fn indexed(&self, index: usize, tell: &mut impl FnMut(HeaderField<'_, N>)) -> Result<(), End> {
        match self.table.get(index) {
            Found::Static(name, value) => {
                let name = N::of(name.as_bytes());
                let value = if name.is_wanted() { value } else { "" };
                tell(HeaderField::Known(&name, value.as_bytes()));
            }
            Found::Dynamic(Some(name), _, value) => tell(HeaderField::Known(name, value)),
            Found::Dynamic(None, ..) | Found::Unknown => tell(HeaderField::Unknown),
            Found::Invalid => return Err(End::Invalid),
        }
        Ok(())
    }
}

/// What is left of a block.
struct Bytes<'a>(&'a [u8]);

/// A string as it stands in a block.
struct Text<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl<'a> Bytes<'a> {
    fn peek(&self) -> Result<u8, End> {
        self.0.first().copied().ok_or(End::Cut)
    }

    fn next(&mut self) -> Result<u8, End> {
        let (first, rest) = self.0.split_first().ok_or(End::Cut)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer whose first `bits` bits stand at the end of the next byte (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Result<usize, End> {
        let mask = (1usize << bits) - 1;
        let mut value = usize::from(self.next()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        // Larger than any block that is read here.
        Err(End::Invalid)
    }

    fn string(&mut self) -> Result<Text<'a>, End> {
        let is_huffman = self.peek()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(End::Cut)?;
        self.0 = rest;
        Ok(Text { bytes, is_huffman })
    }
}

impl<'a> Text<'a> {
    /// The string itself, which may stand in `scratch`.
    fn decode<A: smallvec::Array<Item = u8>>(&self, scratch: &'a mut SmallVec<A>) -> Result<&'a [u8], End> {
        if !self.is_huffman {
            return Ok(self.bytes);
        }
        if huffman::decode(self.bytes, |byte| scratch.push(byte)) { Ok(scratch) } else { Err(End::Invalid) }
    }
}
