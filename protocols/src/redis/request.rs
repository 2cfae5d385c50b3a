//! Reads one command, word by word, through bytes and gaps: its name, its keys, how long it is. Never a value.

use compact_str::CompactString;

use super::{
    commands::{self, Command, Kind},
    text::QueryText,
    wire::{Bulk, GapStep, Header, Number, header},
};
use crate::{limits, protocol::BootNanos};

/// A command that is being read.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) started: BootNanos,
    pub(super) bytes: u64,
    /// `None` if it is in no list.
    pub(super) command: Option<&'static Command>,
    /// As sent, with its subcommand.
    pub(super) operation: CompactString,
    pub(super) text: QueryText,
    pub(super) detail: Detail,
    /// How many words it has, the name included.
    pub(super) words: u32,
    /// All that `operation` is made of was seen.
    pub(super) is_named: bool,
    /// The word that comes next.
    next: u32,
    bulk: Bulk,
}

/// What an argument says of the conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Detail {
    #[default]
    None,
    /// `SELECT`: this database.
    Database(u16),
    /// `CLIENT REPLY`, and which.
    ReplyOn,
    ReplyOff,
    ReplySkip,
    /// `REPLCONF ACK` or `GETACK`: this is a replication stream.
    Replication,
    /// It would be one of these, but was not seen.
    Unknown,
}

/// What stands at the beginning of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// So many bytes announce so many words.
    Words(usize, u32),
    /// So many bytes are a command of no words, which is none.
    Nothing(usize),
    Partial,
    Invalid,
}

/// What one step through bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes were of this command, more are to come.
    More(usize),
    /// So many bytes were of this command, and that was its end.
    Done(usize),
    /// This is no command.
    Invalid,
}

/// The operation of a command that is in no list.
pub(super) const OTHER: &str = "_OTHER";

/// Reads the line that begins a command of the protocol proper.
pub(super) fn begin(bytes: &[u8]) -> Begin {
    match header(bytes) {
        Header::Whole(length, Number::Of(count)) if count <= 0 => Begin::Nothing(length),
        Header::Whole(length, Number::Of(count)) => match u32::try_from(count) {
            Ok(count) if count <= WORDS_MAX => Begin::Words(length, count),
            _ => Begin::Invalid,
        },
        Header::Partial => Begin::Partial,
        Header::Whole(_, Number::Streamed) | Header::Invalid => Begin::Invalid,
    }
}

/// > if (!ok || ll > INT_MAX) "Protocol error: invalid multibulk length" (networking.c of Redis 7.0)
const WORDS_MAX: u32 = i32::MAX as u32;

impl Request {
    /// One of so many words that begins here.
    pub(super) fn new(started: BootNanos, words: u32) -> Self {
        Self { started, words, ..Self::default() }
    }

    /// Reads as far as the bytes go, from behind the line that began it.
    pub(super) fn read(&mut self, bytes: &[u8], cut: bool) -> Read {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            if !self.bulk.is_over() {
                let Some(length) = self.bulk.read(rest) else { return Read::Invalid };
                taken += length;
                if !self.bulk.is_over() {
                    return Read::More(taken);
                }
                continue;
            }
            if self.next >= self.words {
                return Read::Done(taken);
            }
            let (length, size) = match rest.first() {
                None => return Read::More(taken),
                Some(b'$') => match header(rest) {
                    Header::Whole(length, Number::Of(size)) => match u64::try_from(size) {
                        Ok(size) if size <= limits::REDIS_LENGTH_MAX => (length, size),
                        _ => return Read::Invalid,
                    },
                    Header::Partial => return Read::More(if cut { bytes.len() } else { taken }),
                    Header::Whole(_, Number::Streamed) | Header::Invalid => return Read::Invalid,
                },
                Some(_) => return Read::Invalid,
            };
            let content = rest.get(length..).unwrap_or_default();
            let wanted = self.wanted().min(usize::try_from(size).unwrap_or(usize::MAX));
            let content = content.get(..wanted);
            if content.is_none() && !cut {
                return Read::More(taken);
            }
            self.word(content, size);
            self.bulk = Bulk::new(size);
            taken += length;
        }
    }

    /// How many bytes of the next word are looked at.
    fn wanted(&self) -> usize {
        match (self.next, self.command.map(|command| (command.kind, command.keys))) {
            (0, _) => limits::REDIS_NAME_BYTES_MAX,
            (1, Some((Kind::Container(_) | Kind::Client(_) | Kind::Select | Kind::Replconf, _)))
            | (2, Some((Kind::Client(_), _))) => limits::REDIS_NAME_BYTES_MAX,
            (index, Some((_, keys))) if self.text.takes(index) && keys.shows(index, self.words) => {
                limits::REDIS_KEY_BYTES_MAX
            }
            _ => 0,
        }
    }

    /// Takes the next word, which is `size` bytes long; `content` is as much of it as is [`Self::wanted`], or `None` if
    /// that was not seen.
    pub(super) fn word(&mut self, content: Option<&[u8]>, size: u64) {
        let index = self.next;
        self.next += 1;
        if index == 0 {
            return self.name(content, size);
        }
        let Some(command) = self.command else { return self.text.push_redacted(index) };
        match (command.kind, index) {
            (Kind::Container(names) | Kind::Client(names), 1) => {
                return self.subcommand(names, content, size);
            }
            (Kind::Client(_), 2) => self.detail = reply_mode(&self.operation, content),
            (Kind::Select, 1) => self.detail = database(content),
            (Kind::Replconf, 1) => {
                self.detail = match content {
                    Some(word) if is_ack(word) => Detail::Replication,
                    Some(_) => Detail::None,
                    None => Detail::Unknown,
                };
            }
            _ => {}
        }
        if !command.keys.shows(index, self.words) {
            return self.text.push_redacted(index);
        }
        match content {
            Some(content) => self.text.push_key(index, content, size),
            None if self.text.takes(index) => self.text.give_up(),
            None => self.text.push_redacted(index),
        }
    }

    fn name(&mut self, name: Option<&[u8]>, size: u64) {
        let Some(name) = name else { return };
        self.command = commands::find(name).filter(|_| size == name.len() as u64);
        let module = size == name.len() as u64 && commands::is_of_module(name);
        match str::from_utf8(name) {
            Ok(name) if self.command.is_some() || module => {
                self.operation = CompactString::new(name);
                self.text.begin(name);
            }
            _ => self.operation = CompactString::const_new(OTHER),
        }
        let subcommands = self.command.is_some_and(|command| !command.subcommands().is_empty());
        self.is_named = !(subcommands && self.words > 1);
    }

    fn subcommand(&mut self, names: &[&str], content: Option<&[u8]>, size: u64) {
        let Some(content) = content else { return self.text.give_up() };
        self.is_named = true;
        let known = names.iter().any(|name| content.eq_ignore_ascii_case(name.as_bytes()));
        match str::from_utf8(content) {
            Ok(name) if known && size == content.len() as u64 => {
                self.operation.push(' ');
                self.operation.push_str(name);
                self.text.begin(&self.operation);
            }
            _ => self.text.push_redacted(1),
        }
    }

    /// Walks over bytes that are not here. `None` if where the next word begins cannot be known any more, else whether
    /// the command is over.
    pub(super) fn skip(&mut self, missing: u64) -> Option<bool> {
        if self.bulk.is_over() {
            return None;
        }
        match self.bulk.skip(missing) {
            GapStep::Inside => {
                self.bytes = self.bytes.saturating_add(missing);
                Some(self.bulk.is_over() && self.next >= self.words)
            }
            GapStep::Ended(known) => {
                self.bytes = self.bytes.saturating_add(known);
                None
            }
        }
    }

    /// The words that will not be seen: a key among them leaves no text.
    pub(super) fn end_unseen(&mut self) {
        self.detail = match self.command.map(|command| command.kind) {
            Some(Kind::Client(_)) if self.next <= 2 => reply_mode(&self.operation, None),
            Some(Kind::Replconf) if self.next <= 1 => Detail::Unknown,
            _ => self.detail,
        };
        for index in self.next..self.words {
            if !self.text.takes(index) {
                self.text.push_redacted(index);
                return;
            }
            match self.command {
                Some(command) if command.keys.shows(index, self.words) => return self.text.give_up(),
                _ => self.text.push_redacted(index),
            }
        }
    }

    /// Bytes whose content does not matter.
    pub(super) fn skippable(&self) -> u64 {
        self.bulk.skippable()
    }
}

/// A command on a line of its own, without the line's end: words between blanks. `None` if there is no word.
///
/// Words may be quoted; of such a line only the name is understood.
pub(super) fn inline(line: &[u8], started: BootNanos) -> Option<Request> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = || line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let count = u32::try_from(words().count()).ok().filter(|count| *count > 0)?;
    let mut request = Request::new(started, count);
    let quoted = line.iter().any(|byte| matches!(byte, b'"' | b'\''));
    for word in words() {
        let wanted = word.len().min(request.wanted());
        request.word(word.get(..wanted), word.len() as u64);
    }
    if quoted {
        request.text.give_up();
    }
    Some(request)
}

fn reply_mode(operation: &str, content: Option<&[u8]>) -> Detail {
    if !operation.eq_ignore_ascii_case("CLIENT REPLY") {
        return Detail::None;
    }
    match content {
        Some(word) if word.eq_ignore_ascii_case(b"ON") => Detail::ReplyOn,
        Some(word) if word.eq_ignore_ascii_case(b"OFF") => Detail::ReplyOff,
        Some(word) if word.eq_ignore_ascii_case(b"SKIP") => Detail::ReplySkip,
        Some(_) => Detail::None,
        None => Detail::Unknown,
    }
}

fn database(content: Option<&[u8]>) -> Detail {
    let number = content.and_then(|content| str::from_utf8(content).ok()?.parse().ok());
    number.map_or(Detail::None, Detail::Database)
}

fn is_ack(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"ACK") || word.eq_ignore_ascii_case(b"GETACK")
}
