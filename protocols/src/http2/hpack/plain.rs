//! The decoder with fields as they are, for tests: every name is itself, every value is wanted.

use super::{Decoder, End, HeaderField, Name};

/// A name is its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plain(pub(super) Vec<u8>);

impl Name for Plain {
    fn of(name: &[u8]) -> Self {
        Self(name.to_vec())
    }

    fn is_wanted(&self) -> bool {
        true
    }
}

/// A name and a value; `None` if that is not known.
pub type PlainField = Option<(Vec<u8>, Vec<u8>)>;

/// Decodes the header blocks of one direction into fields as they are.
#[derive(Debug)]
pub struct PlainDecoder(Decoder<Plain>);

impl Default for PlainDecoder {
    fn default() -> Self {
        Self(Decoder::new())
    }
}

impl PlainDecoder {
    /// The fields of `block`, and whether it was whole and valid.
    pub fn decode(&mut self, block: &[u8]) -> (bool, Vec<PlainField>) {
        let mut fields = Vec::new();
        let end = self.0.decode(block, |field| {
            fields.push(match field {
                HeaderField::Known(name, value) => Some((name.0.clone(), value.to_vec())),
                HeaderField::Unknown => None,
            });
        });
        (end == End::Whole, fields)
    }
}
