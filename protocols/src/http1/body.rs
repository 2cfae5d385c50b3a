//! Where does a body end? Walks content-length and chunked bodies through bytes and through gaps.
//!
//! ```text
//! Chunked:  Size --0--> Trailers --empty line--> done
//!            ^  \--n--> Data(n) --> DataEnd
//!            \_______________________/
//! ```
//! Spec: RFC 9112, sections 6 and 7.

use httparse::Status;

use crate::limits;

/// A body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are still to come; never 0.
    Fixed(u64),
    /// Transfer-coding `chunked`.
    Chunked(Chunk),
    /// Until the connection is closed; responses only.
    UntilClose,
}

/// The place inside a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before the line with a chunk's size.
    Size,
    /// So many bytes of the chunk are still to come; never 0.
    Data(u64),
    /// Before the line end that follows a chunk's data.
    DataEnd,
    /// After the last chunk; so many bytes of trailers have been read.
    Trailers(usize),
}

/// What one step through bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes were of this body, more are to come.
    More(usize),
    /// So many bytes were of this body, and that was its end.
    Done(usize),
    /// The next line is not complete.
    NeedMore,
    /// This is not the body that was announced.
    Broken,
}

/// What a gap did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapStep {
    /// All of it was of this body.
    Inside,
    /// All of it was of this body, and that was its end.
    Done,
    /// The body ended after so many bytes of the gap; what followed is unknown.
    Ended(u64),
    /// So many bytes of the gap were of this body; after them its end cannot be known.
    Unknown(u64),
}

impl Body {
    /// Reads one step from the start of `bytes`.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::UntilClose => Step::More(bytes.len()),
            Self::Fixed(rest) => {
                let taken = bytes.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= taken as u64;
                if *rest == 0 { Step::Done(taken) } else { Step::More(taken) }
            }
            Self::Chunked(chunk) => chunk.read(bytes),
        }
    }

    /// Walks over bytes that are not here.
    pub(super) fn skip(&mut self, missing: u64) -> GapStep {
        match self {
            Self::UntilClose => GapStep::Inside,
            Self::Fixed(rest) if missing < *rest => {
                *rest -= missing;
                GapStep::Inside
            }
            Self::Fixed(rest) if missing == *rest => GapStep::Done,
            Self::Fixed(rest) => GapStep::Ended(*rest),
            Self::Chunked(chunk) => chunk.skip(missing),
        }
    }

    /// Bytes whose content does not matter.
    pub(super) fn skippable(&self) -> u64 {
        match self {
            Self::Fixed(rest) | Self::Chunked(Chunk::Data(rest)) => *rest,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }
}

impl Chunk {
    fn read(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Size => self.read_size(bytes),
            Self::Data(rest) => {
                let taken = bytes.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= taken as u64;
                if *rest == 0 {
                    *self = Self::DataEnd;
                }
                Step::More(taken)
            }
            Self::DataEnd => {
                let taken = match bytes {
                    [b'\r', b'\n', ..] => 2,
                    [b'\n', ..] => 1,
                    [b'\r'] | [] => return Step::NeedMore,
                    _ => return Step::Broken,
                };
                *self = Self::Size;
                Step::More(taken)
            }
            Self::Trailers(seen) => {
                let Some(line) = memchr::memchr(b'\n', bytes) else {
                    return need_more(seen.saturating_add(bytes.len()), limits::TRAILER_BYTES_MAX);
                };
                *seen = seen.saturating_add(line + 1);
                match bytes.get(..line) {
                    Some([] | [b'\r']) => Step::Done(line + 1),
                    _ if *seen > limits::TRAILER_BYTES_MAX => Step::Broken,
                    _ => Step::More(line + 1),
                }
            }
        }
    }

    fn read_size(&mut self, bytes: &[u8]) -> Step {
        // `parse_chunk_size` takes an empty line for the size 0.
        if !bytes.first().is_none_or(u8::is_ascii_hexdigit) {
            return Step::Broken;
        }
        match httparse::parse_chunk_size(bytes) {
            Ok(Status::Complete((taken, size))) => {
                *self = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                Step::More(taken)
            }
            Ok(Status::Partial) => need_more(bytes.len(), limits::CHUNK_LINE_BYTES_MAX),
            Err(_) => Step::Broken,
        }
    }

    fn skip(&mut self, missing: u64) -> GapStep {
        let Self::Data(rest) = self else { return GapStep::Unknown(0) };
        let Some(beyond) = missing.checked_sub(*rest) else {
            *rest -= missing;
            return GapStep::Inside;
        };
        let known = *rest;
        match beyond {
            0 => *self = Self::DataEnd,
            // The two bytes after a chunk's data can only be its line end.
            2 => *self = Self::Size,
            _ => return GapStep::Unknown(known),
        }
        GapStep::Inside
    }
}

fn need_more(length: usize, max: usize) -> Step {
    if length > max { Step::Broken } else { Step::NeedMore }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(mut body: Body, mut bytes: &[u8]) -> (usize, Step) {
        let whole = bytes.len();
        loop {
            match body.read(bytes) {
                Step::More(taken) if taken < bytes.len() => bytes = &bytes[taken..],
                Step::More(taken) => return (whole - bytes.len() + taken, Step::NeedMore),
                Step::Done(taken) => return (whole - bytes.len() + taken, Step::Done(0)),
                other => return (whole - bytes.len(), other),
            }
        }
    }

    #[test]
    fn chunks_extensions_and_trailers_are_walked() {
        let chunked = Body::Chunked(Chunk::Size);
        let whole = b"5;a=b\r\nhello\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\nGET";
        assert_eq!(walk(chunked, whole), (whole.len() - 3, Step::Done(0)));
        assert_eq!(walk(chunked, b"\r\n"), (0, Step::Broken), "an empty line is no size");
        assert_eq!(walk(chunked, b"g\r\n"), (0, Step::Broken));
        assert_eq!(walk(chunked, b"3\r\nabcd"), (6, Step::Broken), "no line end after the data");
        assert_eq!(walk(chunked, b"fffffffffffffffff\r\n"), (0, Step::Broken), "17 digits");
        assert_eq!(walk(chunked, &[b'1'; 5000]), (0, Step::Broken));
        assert_eq!(
            walk(chunked, &[b"1;".as_slice(), &[b'a'; 5000]].concat()),
            (0, Step::Broken),
            "over the cap"
        );
    }

    #[test]
    fn gaps_are_subtracted_up_to_the_end() {
        assert_eq!(Body::Fixed(5).skip(4), GapStep::Inside);
        assert_eq!(Body::Fixed(5).skip(5), GapStep::Done);
        assert_eq!(Body::Fixed(5).skip(6), GapStep::Ended(5));
        let skip = |missing| {
            let mut body = Body::Chunked(Chunk::Data(5));
            (body.skip(missing), body)
        };
        assert_eq!(skip(5), (GapStep::Inside, Body::Chunked(Chunk::DataEnd)));
        assert_eq!(skip(7), (GapStep::Inside, Body::Chunked(Chunk::Size)));
        assert_eq!(skip(6).0, GapStep::Unknown(5));
        assert_eq!(skip(12).0, GapStep::Unknown(5), "the last chunk, or a line end and a chunk of two bytes");
        assert_eq!(Body::Chunked(Chunk::Size).skip(1), GapStep::Unknown(0));
    }
}
