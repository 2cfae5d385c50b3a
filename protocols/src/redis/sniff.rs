//! Are these bytes Redis? A match must be certain: much that is text begins like an inline command, and POP3 answers `+OK`.
//!
//! Certain are commands of the protocol proper with a known name, inline commands of names that no other protocol uses,
//! and replies that only RESP has. What only fits (`GET hello`, `+OK`) needs more: the bytes are kept, and the other
//! direction decides.

use super::{
    commands, pubsub,
    request::{self, Begin},
    wire::{Header, Number, header},
};
use crate::{
    limits,
    protocol::{Direction, Sniff},
};

/// First bytes of either direction.
pub(super) fn either(head: &[u8], expected: Option<Direction>) -> Sniff {
    let answers =
        [(Direction::ToServer, request(head, expected.is_some())), (Direction::ToClient, reply(head))];
    let mut verdict = Sniff::Reject;
    for (direction, answer) in answers {
        if expected.is_some_and(|expected| expected != direction) {
            continue;
        }
        match answer {
            Fit::Certain => return Sniff::Match(direction),
            Fit::Maybe => verdict = Sniff::NeedMore,
            Fit::No => {}
        }
    }
    verdict
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Certain,
    Maybe,
    No,
}

/// Whether a command begins here, of which only the name has to be here.
pub(super) fn command(bytes: &[u8]) -> Sniff {
    let fit = match bytes.first() {
        Some(b'*') => array_of_words(bytes, true),
        _ => match inline(bytes) {
            Sniff::Match(_) => Fit::Certain,
            // A whole line that begins with the name of a command, where a command must begin.
            Sniff::NeedMore if bytes.contains(&b'\n') => Fit::Certain,
            Sniff::NeedMore => Fit::Maybe,
            Sniff::Reject => Fit::No,
        },
    };
    match fit {
        Fit::Certain => Sniff::Match(Direction::ToServer),
        Fit::Maybe => Sniff::NeedMore,
        Fit::No => Sniff::Reject,
    }
}

fn request(bytes: &[u8], directed: bool) -> Fit {
    match bytes.first() {
        None => Fit::Maybe,
        Some(b'*') => array_of_words(bytes, directed),
        Some(_) => match inline(bytes) {
            Sniff::Match(_) => Fit::Certain,
            Sniff::NeedMore => Fit::Maybe,
            Sniff::Reject => Fit::No,
        },
    }
}

/// `*2\r\n$3\r\nGET\r\n`: a command, or a reply that lists words. If it is known to be no reply, any name of a command
/// does; else the word after it is looked at, too.
fn array_of_words(bytes: &[u8], directed: bool) -> Fit {
    let (length, words) = match request::begin(bytes) {
        Begin::Words(length, words) => (length, words),
        Begin::Partial => return Fit::Maybe,
        Begin::Nothing(_) | Begin::Invalid => return Fit::No,
    };
    let rest = bytes.get(length..).unwrap_or_default();
    let Some((name, after)) = word(rest) else {
        return if may_become_word(rest) { Fit::Maybe } else { Fit::No };
    };
    let alone = words > 1 && ALONE.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    let module = directed && commands::is_of_module(name);
    if alone || !(module || commands::find(name).is_some()) {
        return Fit::No;
    }
    if words == 3 && name.ends_with(b"subscribe") {
        // A confirmation has an integer in its third place.
        return match word(after) {
            None if after.len() < 64 => Fit::Maybe,
            None => Fit::No,
            Some((_, [])) => Fit::Maybe,
            Some((_, [b'$', ..])) => Fit::Certain,
            Some(_) => Fit::No,
        };
    }
    match after.first() {
        _ if words == 1 => Fit::Certain,
        None => Fit::Maybe,
        Some(b'$') => Fit::Certain,
        Some(_) => Fit::No,
    }
}

/// Commands of one word that lists of settings and of commands begin with.
const ALONE: &[&str] = &["DBSIZE", "EXEC", "LASTSAVE", "MULTI", "RANDOMKEY", "ROLE", "SAVE", "SYNC", "TIME"];

/// A short bulk at the start of `bytes`, and what follows it.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.first() != Some(&b'$') {
        return None;
    }
    let Header::Whole(length, Number::Of(size)) = header(bytes) else { return None };
    let size = usize::try_from(size).ok()?;
    let end = length.checked_add(size)?;
    match bytes.get(end..)? {
        [b'\r', b'\n', after @ ..] => Some((bytes.get(length..end)?, after)),
        _ => None,
    }
}

fn may_become_word(bytes: &[u8]) -> bool {
    match bytes.first() {
        None => true,
        Some(b'$') => match header(bytes) {
            Header::Partial => true,
            Header::Whole(length, Number::Of(size)) => {
                let named = (1..=limits::REDIS_NAME_BYTES_MAX as i64).contains(&size);
                let end = length.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
                named && bytes.get(end..).is_none_or(|rest| rest.is_empty() || rest == b"\r")
            }
            _ => false,
        },
        Some(_) => false,
    }
}

/// Inline commands: certain are those of names that are nobody else's.
pub(super) fn inline(bytes: &[u8]) -> Sniff {
    let line = memchr::memchr(b'\n', bytes).map(|end| bytes.get(..end).unwrap_or_default());
    let text = line.map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if text.len() > limits::REDIS_INLINE_BYTES_MAX {
        return Sniff::Reject;
    }
    let text = if line.is_none() { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
    let name_end = text.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let name = text.get(..name_end.unwrap_or(text.len())).unwrap_or_default();
    if name_end.is_none() && line.is_none() {
        let possible = name.len() <= limits::REDIS_NAME_BYTES_MAX
            && name.first().is_none_or(u8::is_ascii_alphabetic)
            && name.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'));
        return if possible { Sniff::NeedMore } else { Sniff::Reject };
    }
    let blind = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if commands::find(name).is_none() || text.iter().any(blind) || is_http(text) {
        return Sniff::Reject;
    }
    let ours = UNMISTAKABLE.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())) || is_set(text);
    if ours && line.is_some() { Sniff::Match(Direction::ToServer) } else { Sniff::NeedMore }
}

/// `GET / HTTP/1.1`, which Redis would take for a command. So would it `GET /`, which is HTTP/0.9, or a key.
fn is_http(line: &[u8]) -> bool {
    memchr::memmem::find(line, b" HTTP/").is_some()
}

/// `SET key value`, which is answered by `+OK` alone, so that nothing else would tell. Memcached's has four numbers:
///
/// > set <key> <flags> <exptime> <bytes> [noreply]\r\n (protocol.txt, "Storage commands")
fn is_set(line: &[u8]) -> bool {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"SET")) && words.count() == 2
}

/// Commands that people type and that no other protocol of text lines has. `GET`, `SET`, `INCR` and others are Memcached's
/// too, `AUTH`, `QUIT`, `APPEND` those of mail, `PING`, `INFO`, `SUBSCRIBE` those of NATS and IRC.
const UNMISTAKABLE: &[&str] = &[
    "BLPOP", "CONFIG", "DBSIZE", "FLUSHALL", "FLUSHDB", "HGET", "HGETALL", "HMSET", "HSET", "LLEN", "LPOP",
    "LPUSH", "LRANGE", "MGET", "MSET", "RPOP", "RPUSH", "SADD", "SETEX", "SETNX", "SLOWLOG", "SMEMBERS",
    "TTL", "ZADD", "ZRANGE", "ZSCORE",
];

/// Replies. `+OK` and `-ERR` are POP3's too, and `_` is three bytes.
fn reply(bytes: &[u8]) -> Fit {
    match bytes.first() {
        None => Fit::Maybe,
        Some(b'+') => status(bytes),
        Some(b'-') => error(bytes),
        Some(b':') => match header(bytes) {
            Header::Whole(..) => Fit::Certain,
            Header::Partial => Fit::Maybe,
            Header::Invalid => Fit::No,
        },
        Some(b'$' | b'=') => bulk(bytes),
        Some(b'*' | b'~' | b'%' | b'>' | b'|') => aggregate(bytes),
        Some(b'_' | b'#' | b',' | b'(' | b'!') => scalar(bytes),
        Some(_) => Fit::No,
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', bytes)?;
    bytes.get(1..end)?.strip_suffix(b"\r")
}

fn status(bytes: &[u8]) -> Fit {
    if pubsub::is_monitored(bytes) == Some(true) {
        return Fit::Certain;
    }
    let text = bytes.get(1..).unwrap_or_default();
    match line(bytes) {
        Some(b"OK") => Fit::Maybe,
        Some(line) if STATUSES.iter().any(|status| line == status.as_bytes()) => Fit::Certain,
        Some(line) if line.starts_with(b"FULLRESYNC ") || line.starts_with(b"CONTINUE") => Fit::Certain,
        Some(_) => Fit::No,
        None if pubsub::is_monitored(bytes).is_none() => Fit::Maybe,
        None => {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let begins = |word: &str| word.as_bytes().starts_with(text);
            let maybe = STATUSES.iter().any(|status| begins(status))
                || begins("OK")
                || text.starts_with(b"FULLRESYNC ")
                || begins("FULLRESYNC ")
                || text.starts_with(b"CONTINUE")
                || begins("CONTINUE");
            if maybe && text.len() < limits::REDIS_LINE_PEEK_BYTES { Fit::Maybe } else { Fit::No }
        }
    }
}

/// Simple strings that are Redis's own: of `PING`, transactions, `TYPE`, `RESET`.
const STATUSES: &[&str] =
    &["PONG", "QUEUED", "RESET", "hash", "list", "none", "set", "stream", "string", "zset"];

fn error(bytes: &[u8]) -> Fit {
    let text = bytes.get(1..).unwrap_or_default();
    let end = text.iter().position(|byte| !(byte.is_ascii_uppercase() || *byte == b'_'));
    let word = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let own = |prefix: &&str| prefix.as_bytes() == word;
    match end {
        None if text.len() < 24 => Fit::Maybe,
        Some(end) if matches!(text.get(end), Some(b' ' | b'\r')) => {
            if ERRORS.iter().any(own) {
                return Fit::Certain;
            }
            let rest = text.get(end..).unwrap_or_default();
            let ours = word == b"ERR" && ERR_TEXTS.iter().any(|own| rest.starts_with(own.as_bytes()));
            let short = word == b"ERR" && ERR_TEXTS.iter().any(|own| own.as_bytes().starts_with(rest));
            match (ours, short, word) {
                (true, ..) => Fit::Certain,
                (_, true, _) | (.., b"ERR") => Fit::Maybe,
                _ => Fit::No,
            }
        }
        _ => Fit::No,
    }
}

/// Prefixes that nobody else has.
const ERRORS: &[&str] = &[
    "ASK",
    "BUSYGROUP",
    "BUSYKEY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOGROUP",
    "NOPERM",
    "NOPROTO",
    "NOREPLICAS",
    "NOSCRIPT",
    "READONLY",
    "TRYAGAIN",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
];

const ERR_TEXTS: &[&str] = &[
    " unknown command ",
    " unknown command, ",
    " unknown subcommand ",
    " wrong number of arguments for ",
    " value is not ",
    " syntax error\r\n",
    " DB index is out of range",
    " no such key",
    " AUTH ",
    " EXEC without MULTI",
    " Protocol error: ",
    " Error running script",
    " max number of clients reached",
    " Client sent AUTH",
];

/// `$5\r\nhello\r\n`, with as much of it as is here.
fn bulk(bytes: &[u8]) -> Fit {
    match header(bytes) {
        Header::Whole(length, Number::Of(size)) if size >= 0 => {
            let end = length.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            match bytes.get(end..) {
                Some([b'\r', b'\n', ..]) => Fit::Certain,
                Some([] | [b'\r']) => Fit::Maybe,
                Some(_) => Fit::No,
                // It is longer than what is here.
                None if u64::try_from(size).is_ok_and(|size| size <= limits::REDIS_LENGTH_MAX) => {
                    Fit::Certain
                }
                None => Fit::No,
            }
        }
        Header::Whole(_, Number::Of(-1)) => Fit::Certain,
        Header::Partial => Fit::Maybe,
        Header::Whole(..) | Header::Invalid => Fit::No,
    }
}

/// `*2\r\n$3...`: its first element must be one, too.
fn aggregate(bytes: &[u8]) -> Fit {
    let (length, count) = match header(bytes) {
        Header::Whole(length, Number::Of(count)) => (length, count),
        Header::Whole(_, Number::Streamed) | Header::Partial => return Fit::Maybe,
        Header::Invalid => return Fit::No,
    };
    if matches!(count, 0 | -1) {
        return Fit::Certain;
    }
    if !u64::try_from(count).is_ok_and(|count| count <= limits::REDIS_LENGTH_MAX) {
        return Fit::No;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    let element = match rest.first() {
        None => Fit::Maybe,
        Some(b'$' | b':' | b'*' | b'%' | b'~' | b'=') => match header(rest) {
            Header::Whole(..) => Fit::Certain,
            Header::Partial => Fit::Maybe,
            Header::Invalid => Fit::No,
        },
        Some(b'+' | b'-' | b'_' | b'#' | b',' | b'(') if rest.len() < limits::REDIS_LINE_PEEK_BYTES => {
            match line(rest) {
                Some(text) if text.is_ascii() => Fit::Certain,
                Some(_) => Fit::No,
                None => Fit::Maybe,
            }
        }
        Some(_) => Fit::No,
    };
    // A list of words that begins with the name of a command is one, whatever is said of the direction.
    if bytes.first() == Some(&b'*') && element == Fit::Certain && rest.first() == Some(&b'$') {
        return match array_of_words(bytes, false) {
            Fit::Certain => Fit::No,
            Fit::Maybe => Fit::Maybe,
            Fit::No if word(rest).is_some_and(|(name, _)| commands::is_of_module(name)) => Fit::Maybe,
            Fit::No => Fit::Certain,
        };
    }
    element
}

fn scalar(bytes: &[u8]) -> Fit {
    let Some(text) = line(bytes) else {
        return if bytes.len() < limits::REDIS_LINE_PEEK_BYTES { Fit::Maybe } else { Fit::No };
    };
    match bytes.first() {
        Some(b'#') if matches!(text, b"t" | b"f") => Fit::Certain,
        Some(b',') if str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok()) => Fit::Certain,
        Some(b'(') if text.len() > 18 && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') => {
            Fit::Certain
        }
        Some(b'!') if text.iter().all(u8::is_ascii_digit) && !text.is_empty() => Fit::Certain,
        // Three bytes prove nothing.
        Some(b'_') if text.is_empty() => Fit::Maybe,
        _ => Fit::No,
    }
}
