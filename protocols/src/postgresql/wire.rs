//! Reads single messages: their frame, and the few parts of a body that are looked at.
//!
//! Spec: <https://www.postgresql.org/docs/15/protocol-message-formats.html>

use crate::{protocol::Direction, sql::Backslash};

/// Type byte and length.
pub(super) const HEADER_BYTES: usize = 5;

/// The client's first message may not be longer (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`).
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;

/// PostgreSQL allocates no more than this for a message (`MaxAllocSize`).
const MESSAGE_BYTES_MAX: u32 = 0x3fff_ffff;

/// A message's type, and the length of what follows its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) length: usize,
}

/// Why there is no [`Header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// The bytes end before it does.
    Short,
    /// No message of this direction has this type or this length.
    Wrong,
}

/// Reads the frame at the start of `bytes`.
pub(super) fn header(bytes: &[u8], direction: Direction) -> Result<Header, NoHeader> {
    let kind = *bytes.first().ok_or(NoHeader::Short)?;
    let (least, most) = body_lengths(kind, direction).ok_or(NoHeader::Wrong)?;
    let length = u32_at(bytes, 1).ok_or(NoHeader::Short)?;
    let body = length.checked_sub(4).filter(|_| length <= MESSAGE_BYTES_MAX).ok_or(NoHeader::Wrong)?;
    let length = usize::try_from(body).ok().filter(|body| (least..=most).contains(body));
    Ok(Header { kind, length: length.ok_or(NoHeader::Wrong)? })
}

/// The least and greatest length of the body of a message of this type; `None` if there is no such type.
///
/// Rationale for the greatest: libpq takes a longer one than 30,000 bytes for a loss of synchronisation, unless it holds
/// values or text (`VALID_LONG_MESSAGE_TYPE`).
fn body_lengths(kind: u8, direction: Direction) -> Option<(usize, usize)> {
    const SHORT: usize = 30_000;
    const LONG: usize = MESSAGE_BYTES_MAX as usize;
    Some(match (direction, kind) {
        (Direction::ToServer, b'Q' | b'f') => (1, LONG),
        (Direction::ToServer, b'P') => (4, LONG),
        (Direction::ToServer, b'B') => (8, LONG),
        (Direction::ToServer, b'F') => (10, LONG),
        (Direction::ToServer, b'D' | b'C') => (2, SHORT),
        (Direction::ToServer, b'E') => (5, SHORT),
        (Direction::ToServer, b'S' | b'H' | b'c' | b'X') => (0, 0),
        (Direction::ToServer, b'p') => (0, 65_535),
        (_, b'd') => (0, LONG),
        (Direction::ToClient, b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c') => (0, 0),
        (Direction::ToClient, b'Z') => (1, 1),
        (Direction::ToClient, b'R') => (4, SHORT),
        (Direction::ToClient, b'K') => (8, 260),
        (Direction::ToClient, b'S') => (2, SHORT),
        (Direction::ToClient, b'C') => (2, TAG_BYTES_MAX),
        (Direction::ToClient, b'E' | b'N') => (1, LONG),
        (Direction::ToClient, b'A') => (6, LONG),
        (Direction::ToClient, b'T' | b'D') => (2, LONG),
        (Direction::ToClient, b't') => (2, SHORT * 10),
        (Direction::ToClient, b'G' | b'H' | b'W') => (3, SHORT),
        (Direction::ToClient, b'V') => (4, LONG),
        (Direction::ToClient, b'v') => (8, SHORT),
        _ => return None,
    })
}

/// A command tag with its zero (PostgreSQL's `COMPLETION_TAG_BUFSIZE`).
const TAG_BYTES_MAX: usize = 64;

/// A big-endian number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A big-endian number.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Splits a text off that ends in a zero; `None` if the zero is not there.
pub(super) fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The client's messages before there are types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Startup<'a> {
    /// The connection begins: its parameters.
    Session {
        /// The database; by default it is named like the user.
        database: Option<&'a [u8]>,
        /// It will speak the replication protocol.
        replication: bool,
    },
    /// SSLRequest or GSSENCRequest: a byte answers.
    Encryption,
    /// CancelRequest: nothing answers.
    Cancel,
}

/// Reads the first message of a client and its whole length.
///
/// The key of a cancel request is not looked at.
pub(super) fn startup(bytes: &[u8]) -> Result<(Startup<'_>, usize), NoHeader> {
    let length = u32_at(bytes, 0).ok_or(NoHeader::Short)?;
    let length = usize::try_from(length).map_err(|_| NoHeader::Wrong)?;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(NoHeader::Wrong);
    }
    let code = u32_at(bytes, 4).ok_or(NoHeader::Short)?;
    let startup = match (code, length) {
        (SSL_REQUEST | GSSENC_REQUEST, 8) => Startup::Encryption,
        // The key has 4 bytes, from protocol 3.2 on up to 256.
        (CANCEL_REQUEST, 16..=268) => Startup::Cancel,
        (PROTOCOL_3..=PROTOCOL_3_LAST, 9..) => parameters(bytes, length)?,
        _ => return Err(NoHeader::Wrong),
    };
    if bytes.len() < length { Err(NoHeader::Short) } else { Ok((startup, length)) }
}

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const PROTOCOL_3: u32 = 3 << 16;
/// Minor versions so far: 0 and 2. A server that knows less answers with NegotiateProtocolVersion.
const PROTOCOL_3_LAST: u32 = PROTOCOL_3 + 9_999;

/// Pairs of names and values, and a zero at the very end.
fn parameters(bytes: &[u8], length: usize) -> Result<Startup<'_>, NoHeader> {
    let mut rest = bytes.get(8..bytes.len().min(length)).unwrap_or_default();
    let whole = bytes.len() >= length;
    let (mut user, mut database, mut replication) = (None, None, false);
    loop {
        // What is no name cannot become one by more bytes.
        let name = memchr::memchr(0, rest).map_or(rest, |end| rest.get(..end).unwrap_or_default());
        if !name.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoHeader::Wrong);
        }
        let lacking = if whole { NoHeader::Wrong } else { NoHeader::Short };
        let (name, after) = text(rest).ok_or(lacking)?;
        if name.is_empty() {
            let well = whole && after.is_empty() && user.is_some();
            return if well { Ok(session(user, database, replication)) } else { Err(NoHeader::Wrong) };
        }
        let (value, after) = text(after).ok_or(lacking)?;
        match name {
            b"user" => user = Some(value),
            b"database" => database = Some(value),
            b"replication" => replication = !is_off(value),
            _ => {}
        }
        rest = after;
    }
}

fn session<'a>(user: Option<&'a [u8]>, database: Option<&'a [u8]>, replication: bool) -> Startup<'a> {
    let database = database.filter(|name| !name.is_empty()).or(user).filter(|name| !name.is_empty());
    Startup::Session { database, replication }
}

fn is_off(value: &[u8]) -> bool {
    [b"false".as_slice(), b"off", b"no", b"0", b"f", b"n"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

/// SQLSTATE of an ErrorResponse or NoticeResponse, and whether it ends the connection. The rest may be cut, and is not
/// looked at: messages hold values.
pub(super) fn error_fields(body: &[u8]) -> (Option<&[u8]>, bool) {
    let (mut code, mut fatal) = (None, false);
    let mut rest = body;
    while let Some((kind, after)) = rest.split_first()
        && let Some((value, after)) = text(after)
    {
        match kind {
            b'C' if value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric) => code = Some(value),
            // Severity; `V` is never translated.
            b'S' | b'V' => fatal |= matches!(value, b"FATAL" | b"PANIC"),
            _ => {}
        }
        rest = after;
    }
    (code, fatal)
}

/// What a ParameterStatus says of backslashes, if that is what it is about. What is cut off could be anything.
pub(super) fn backslash(body: &[u8]) -> Option<Backslash> {
    match body.strip_prefix(BACKSLASH_NAME) {
        Some(b"on\0") => Some(Backslash::Plain),
        Some(b"off\0") => Some(Backslash::Escape),
        Some(_) => Some(Backslash::Unclear),
        None => BACKSLASH_NAME.starts_with(body).then_some(Backslash::Unclear),
    }
}

const BACKSLASH_NAME: &[u8] = b"standard_conforming_strings\0";
/// As much of a ParameterStatus as [`backslash`] looks at.
pub(super) const BACKSLASH_BYTES: usize = BACKSLASH_NAME.len() + b"off\0".len();

/// A command tag without its zero: the verb, and its last number if it has one: `INSERT 0 5` is `INSERT` and 5.
pub(super) fn tag(body: &[u8]) -> Option<(&str, Option<u64>)> {
    let tag = str::from_utf8(body.strip_suffix(b"\0")?).ok()?;
    let numbers = tag.find(|c: char| c.is_ascii_digit()).unwrap_or(tag.len());
    let (verb, numbers) = tag.split_at_checked(numbers)?;
    let verb = verb.trim_ascii_end();
    let well = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ');
    let number = match numbers.rsplit(' ').next() {
        Some("") | None => None,
        Some(last) => Some(last.parse().ok()?),
    };
    let digits = numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ');
    (well && digits).then_some((verb, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_verbs_with_numbers() {
        assert_eq!(tag(b"SELECT 5\0"), Some(("SELECT", Some(5))));
        assert_eq!(tag(b"INSERT 0 12\0"), Some(("INSERT", Some(12))));
        assert_eq!(tag(b"CREATE TABLE\0"), Some(("CREATE TABLE", None)));
        for bad in [b"SELECT 5".as_slice(), b"\0", b"select\0", b"SELECT 5x\0", b"5\0", b"A\xff\0"] {
            assert_eq!(tag(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn of_parameters_one_is_read() {
        for (body, expected) in [
            (&b"standard_conforming_strings\0on\0"[..], Some(Backslash::Plain)),
            (b"standard_conforming_strings\0off\0", Some(Backslash::Escape)),
            (b"standard_conforming_strings\0maybe\0", Some(Backslash::Unclear)),
            (b"standard_conforming_strings\0of", Some(Backslash::Unclear)),
            (b"standard_conf", Some(Backslash::Unclear)),
            (b"", Some(Backslash::Unclear)),
            (b"TimeZone\0Etc/UTC\0", None),
        ] {
            assert_eq!(backslash(body), expected, "{:?}", body.escape_ascii().to_string());
        }
    }

    #[test]
    fn the_database_is_named_like_the_user_by_default() {
        let startup_of = |parameters: &[u8]| {
            let length = u32::try_from(8 + parameters.len()).expect("short");
            [&length.to_be_bytes(), &PROTOCOL_3.to_be_bytes(), parameters].concat()
        };
        let session = |bytes: &[u8]| match startup(bytes) {
            Ok((Startup::Session { database, replication }, length)) if length == bytes.len() => {
                (database.map(|name| String::from_utf8_lossy(name).into_owned()), replication)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(session(&startup_of(b"user\0bob\0\0")), (Some("bob".to_owned()), false));
        let both = startup_of(b"user\0bob\0database\0shop\0replication\0database\0\0");
        assert_eq!(session(&both), (Some("shop".to_owned()), true));
        for length in 0..both.len() {
            assert_eq!(startup(&both[..length]), Err(NoHeader::Short));
        }
        for bad in [b"user\0bob\0".as_slice(), b"\0", b"user\0bob\0\0x", b"a\x01\0b\0\0", b"database\0a\0\0"]
        {
            assert_eq!(startup(&startup_of(bad)), Err(NoHeader::Wrong), "{bad:?}");
        }
    }

    #[test]
    fn errors_tell_their_code_only() {
        let body = b"SERROR\0VERROR\0C42P01\0Mrelation \"secret\" does not exist\0\0";
        assert_eq!(error_fields(body), (Some(b"42P01".as_slice()), false));
        assert_eq!(error_fields(b"SFATAL\0VFATAL\0C57P01\0\0"), (Some(b"57P01".as_slice()), true));
        assert_eq!(error_fields(b"SERROR\0VERR"), (None, false));
    }
}
