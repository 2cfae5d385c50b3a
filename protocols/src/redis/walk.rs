//! Where does a reply end? Walks one value of RESP2 or RESP3, however deep, through bytes and through gaps, and keeps
//! only what says how it went: never a value.

use compact_str::CompactString;
use smallvec::SmallVec;

use super::wire::{Bulk, GapStep, Header, Number, header};
use crate::limits;

/// A value that is being walked.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    within: Within,
    /// The aggregates around the next value, outermost first: how many values each still has, and [`ASIDE`] or [`STREAMED`].
    around: SmallVec<[u64; 4]>,
    /// What it says of itself.
    pub(super) said: Said,
}

/// What a reply says of how it went.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The prefix of the error that it is (`WRONGTYPE`).
    pub(super) error: Option<CompactString>,
    /// That of the first error among its elements.
    pub(super) inner_error: Option<CompactString>,
    /// It is `+QUEUED`.
    pub(super) queued: bool,
    /// It is nothing: a null of either version.
    pub(super) null: bool,
    /// The integer that came last, at any depth.
    pub(super) integer: Option<i64>,
    /// Its end was not seen.
    pub(super) is_cut: bool,
}

/// The place inside a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    /// Before a type byte.
    #[default]
    Nothing,
    /// In a line that ends who knows where.
    Line,
    Bulk(Bulk),
    /// In the bulk of a part of a streamed string.
    Part(Bulk),
    /// Between the parts of a streamed string.
    Parts,
}

/// What one step through bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes were of this value, more are to come.
    More(usize),
    /// So many bytes were of this value, and that was its end.
    Done(usize),
    /// This is no value.
    Broken,
}

/// An attribute, or a push in the middle of a reply: no value of what surrounds it.
const ASIDE: u64 = 1 << 63;
/// An aggregate that ends with a `.`.
const STREAMED: u64 = 1 << 62;

enum Element {
    /// It is over, after so many bytes.
    Whole(usize),
    /// So many bytes were read; it goes on.
    Begun(usize),
    Partial,
    Invalid,
}

impl Walk {
    /// Reads as far as the bytes go. What lacks its end is left, unless it will never come.
    pub(super) fn read(&mut self, bytes: &[u8], cut: bool) -> Step {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Step::More(taken);
            }
            let over = match &mut self.within {
                Within::Bulk(bulk) | Within::Part(bulk) => {
                    let Some(length) = bulk.read(rest) else { return Step::Broken };
                    taken += length;
                    if !bulk.is_over() {
                        return Step::More(taken);
                    }
                    let part = matches!(self.within, Within::Part(_));
                    self.within = if part { Within::Parts } else { Within::Nothing };
                    !part
                }
                Within::Line => {
                    let Some(end) = memchr::memchr(b'\n', rest) else { return Step::More(bytes.len()) };
                    taken += end + 1;
                    self.within = Within::Nothing;
                    true
                }
                Within::Nothing | Within::Parts => match self.element(rest, cut) {
                    Element::Whole(length) => {
                        taken += length;
                        self.within = Within::Nothing;
                        true
                    }
                    Element::Begun(length) => {
                        taken += length;
                        false
                    }
                    Element::Partial => return Step::More(if cut { bytes.len() } else { taken }),
                    Element::Invalid => return Step::Broken,
                },
            };
            if over && self.leave() {
                return Step::Done(taken);
            }
        }
    }

    /// A value is over: so may be the aggregates around it. True if that was all.
    fn leave(&mut self) -> bool {
        while let Some(around) = self.around.last_mut() {
            if *around & STREAMED != 0 {
                return false;
            }
            *around -= 1;
            if *around & !ASIDE != 0 {
                return false;
            }
            let aside = *around & ASIDE != 0;
            self.around.pop();
            if aside {
                return false;
            }
        }
        true
    }

    fn element(&mut self, bytes: &[u8], cut: bool) -> Element {
        let Some(kind) = bytes.first() else { return Element::Partial };
        if self.within == Within::Parts && *kind != b';' {
            return Element::Invalid;
        }
        match kind {
            b'+' | b'-' | b',' | b'(' | b'#' | b'_' => self.line(*kind, bytes, cut),
            b':' | b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'|' | b'>' | b';' => match header(bytes) {
                Header::Partial => Element::Partial,
                Header::Invalid => Element::Invalid,
                Header::Whole(length, number) => self.announced(*kind, length, number, bytes, cut),
            },
            b'.' => match bytes {
                [_, b'\r', b'\n', ..] => match self.around.pop() {
                    Some(around) if around & STREAMED != 0 => {
                        if around & ASIDE == 0 {
                            Element::Whole(3)
                        } else {
                            Element::Begun(3)
                        }
                    }
                    _ => Element::Invalid,
                },
                [_] | [_, b'\r'] => Element::Partial,
                _ => Element::Invalid,
            },
            _ => Element::Invalid,
        }
    }

    /// A value that is a line. Of a long one only the beginning is waited for.
    fn line(&mut self, kind: u8, bytes: &[u8], cut: bool) -> Element {
        let peek = bytes.get(..limits::REDIS_LINE_PEEK_BYTES).unwrap_or(bytes);
        let end = memchr::memchr(b'\n', peek);
        if end.is_none() && peek.len() < limits::REDIS_LINE_PEEK_BYTES && !cut {
            return Element::Partial;
        }
        let text = peek.get(1..end.unwrap_or(peek.len())).unwrap_or_default();
        match kind {
            b'-' => {
                if end.is_none() && cut && !text.contains(&b' ') {
                    // Which error it is stands behind the cut.
                    return Element::Invalid;
                }
                self.fail(text);
            }
            b'+' if self.around.is_empty() => self.said.queued = text == b"QUEUED\r",
            b'_' if self.around.is_empty() => self.said.null = true,
            _ => {}
        }
        match end {
            Some(end) => Element::Whole(end + 1),
            None => {
                self.within = Within::Line;
                Element::Begun(peek.len())
            }
        }
    }

    /// A value whose first line is a number.
    fn announced(&mut self, kind: u8, length: usize, number: Number, bytes: &[u8], cut: bool) -> Element {
        let count = match number {
            Number::Of(count) if kind == b':' => {
                self.said.integer = Some(count);
                return Element::Whole(length);
            }
            Number::Of(-1) if matches!(kind, b'$' | b'*') => {
                self.said.null = self.around.is_empty();
                return Element::Whole(length);
            }
            Number::Of(count) => match u64::try_from(count) {
                Ok(count) if count <= limits::REDIS_LENGTH_MAX => Some(count),
                _ => return Element::Invalid,
            },
            Number::Streamed => None,
        };
        match (kind, count) {
            (b'$', None) => self.within = Within::Parts,
            (b';', Some(0)) if self.within == Within::Parts => return Element::Whole(length),
            (b';', Some(count)) if self.within == Within::Parts => {
                self.within = Within::Part(Bulk::new(count))
            }
            (b'!', Some(count)) => {
                let needed = usize::try_from(count).unwrap_or(usize::MAX).min(limits::REDIS_LINE_PEEK_BYTES);
                let Some(text) = bytes.get(length..length + needed) else {
                    return if cut { Element::Invalid } else { Element::Partial };
                };
                self.fail(text);
                self.within = Within::Bulk(Bulk::new(count));
            }
            (b'$' | b'=', Some(count)) => self.within = Within::Bulk(Bulk::new(count)),
            (b'*' | b'~' | b'%' | b'|' | b'>', count) => {
                let aside = if kind == b'|' || (kind == b'>' && !self.around.is_empty()) { ASIDE } else { 0 };
                let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                match count {
                    Some(0) if aside == 0 => return Element::Whole(length),
                    Some(0) => return Element::Begun(length),
                    _ if self.around.len() >= limits::REDIS_DEPTH_MAX => return Element::Invalid,
                    Some(count) => self.around.push((count * each) | aside),
                    None => self.around.push(STREAMED | aside),
                }
            }
            _ => return Element::Invalid,
        }
        Element::Begun(length)
    }

    fn fail(&mut self, text: &[u8]) {
        let slot = match self.around.len() {
            0 => &mut self.said.error,
            1 => &mut self.said.inner_error,
            _ => return,
        };
        if slot.is_none() {
            *slot = Some(error_prefix(text));
        }
    }

    /// Walks over bytes that are not here. `None` if the end of the value cannot be known any more, else whether it is
    /// over.
    pub(super) fn skip(&mut self, missing: u64) -> Option<bool> {
        let (Within::Bulk(bulk) | Within::Part(bulk)) = &mut self.within else { return None };
        if bulk.skip(missing) != GapStep::Inside {
            return None;
        }
        if !bulk.is_over() {
            return Some(false);
        }
        let part = matches!(self.within, Within::Part(_));
        self.within = if part { Within::Parts } else { Within::Nothing };
        Some(!part && self.leave())
    }

    /// Bytes whose content does not matter.
    pub(super) fn skippable(&self) -> u64 {
        match self.within {
            Within::Bulk(bulk) | Within::Part(bulk) => bulk.skippable(),
            Within::Nothing | Within::Line | Within::Parts => 0,
        }
    }
}

/// The first word of an error, if it is one by the custom of Redis; else `ERR`, which is what older commands say.
///
/// > The first upper-case word after the `-`, up to the first space or newline, represents the kind of error returned.
/// > This word is called an error prefix. (RESP protocol specification, "Simple errors")
fn error_prefix(text: &[u8]) -> CompactString {
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).unwrap_or(text.len());
    let word = text.get(..end).unwrap_or_default();
    let custom = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    match str::from_utf8(word) {
        Ok(word)
            if !word.is_empty() && word.len() <= ERROR_PREFIX_MAX && word.as_bytes().iter().all(custom) =>
        {
            CompactString::new(word)
        }
        _ => CompactString::const_new("ERR"),
    }
}

/// Rationale: the longest of Redis itself is NOTBUSY's neighbour `MASTERDOWN`; scripts may make their own.
const ERROR_PREFIX_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the value at the start of `bytes` is, read whole and byte by byte.
    fn length(bytes: &[u8]) -> (Step, Said) {
        let mut whole = Walk::default();
        let step = whole.read(bytes, false);
        let mut pieces = Walk::default();
        let (mut from, mut to) = (0, 0);
        let pieced = loop {
            to += 1;
            if to > bytes.len() {
                break Step::More(from);
            }
            match pieces.read(&bytes[from..to], false) {
                Step::More(taken) => from += taken,
                Step::Done(taken) => break Step::Done(from + taken),
                Step::Broken => break Step::Broken,
            }
        };
        assert_eq!(step, pieced, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(whole.said.error, pieces.said.error);
        (step, whole.said)
    }

    #[test]
    fn every_type_of_both_versions_ends_where_it_should() {
        for value in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-42\r\n",
            "$5\r\nhe\r\no\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n:1\r\n*1\r\n$1\r\na\r\n",
            "_\r\n",
            "#t\r\n",
            "#f\r\n",
            ",3.14\r\n",
            ",-inf\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
            "!9\r\nOOM fail!\r\n",
            "=8\r\ntxt:Some\r\n",
            "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
            "%0\r\n",
            "~2\r\n:1\r\n:2\r\n",
            ">2\r\n+message\r\n%1\r\n:1\r\n:2\r\n",
            "|1\r\n+ttl\r\n:3600\r\n+OK\r\n",
            "*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n",
            "|0\r\n:1\r\n",
            "$?\r\n;4\r\nabcd\r\n;1\r\ne\r\n;0\r\n",
            "*?\r\n:1\r\n*?\r\n.\r\n$?\r\n;0\r\n.\r\n",
            "%?\r\n+a\r\n:1\r\n.\r\n",
            "*2\r\n:1\r\n>1\r\n+invalidate\r\n:2\r\n",
            "*3\r\n*0\r\n%0\r\n*-1\r\n",
            "+a line that is longer than what is waited for of one, so that its end is looked for without keeping it\r\n",
        ] {
            let bytes = [value.as_bytes(), b"+next\r\n"].concat();
            assert_eq!(length(&bytes).0, Step::Done(value.len()), "{value}");
        }
    }

    #[test]
    fn what_is_no_value_is_said_to_be_none() {
        for value in [
            "hello\r\n",
            "$x\r\n",
            "$3\r\nabcd\r\n",
            "*-2\r\n",
            "$99999999999999\r\n",
            ".\r\n",
            ";1\r\na\r\n",
            "*1\r\n.\r\n",
            "$?\r\n+a\r\n",
            "%-1\r\n",
        ] {
            assert_eq!(length(value.as_bytes()).0, Step::Broken, "{value}");
        }
        let deep = "*1\r\n".repeat(1000);
        assert_eq!(length(deep.as_bytes()).0, Step::Broken, "nesting is bounded");
    }

    #[test]
    fn errors_go_by_their_prefix() {
        let error = |text: &str| length(text.as_bytes()).1.error;
        assert_eq!(error("-WRONGTYPE Operation against a key\r\n").as_deref(), Some("WRONGTYPE"));
        assert_eq!(error("-MOVED 3999 127.0.0.1:6381\r\n").as_deref(), Some("MOVED"));
        assert_eq!(error("-NOSCRIPT\r\n").as_deref(), Some("NOSCRIPT"));
        assert_eq!(error("-some secret thing\r\n").as_deref(), Some("ERR"));
        assert_eq!(error("-SECRET123 of a script\r\n").as_deref(), Some("ERR"), "no prefix has digits");
        assert_eq!(error("!10\r\nOOM secret\r\n").as_deref(), Some("OOM"));
        assert_eq!(error("*1\r\n-ERR a\r\n"), None);
        let said = length(b"*3\r\n+OK\r\n-WRONGTYPE a\r\n-ERR b\r\n").1;
        assert_eq!(said.inner_error.as_deref(), Some("WRONGTYPE"), "the first");
    }

    #[test]
    fn gaps_inside_bulks_are_walked() {
        let mut walk = Walk::default();
        assert_eq!(walk.read(b"*2\r\n$1000\r\n", true), Step::More(11));
        assert_eq!(walk.skippable(), 1000);
        assert_eq!(walk.skip(999), Some(false));
        assert_eq!(walk.read(b"x\r\n", false), Step::More(3));
        assert_eq!(walk.skip(1), None, "which value it was is unknown");
        let mut walk = Walk::default();
        assert_eq!(walk.read(b"$1000\r\n", true), Step::More(7));
        assert_eq!(walk.skip(1002), Some(true));
    }
}
