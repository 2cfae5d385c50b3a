//! Do these bytes begin with PostgreSQL messages of one direction? For detection, and to find frames again after loss.
//!
//! Every message that is visible must have a type, a length and a structure that fit; and what is visible must weigh
//! enough ([`ENOUGH`]): a Sync alone has five bytes that could be anything's, a query that begins with SELECT has not.

use super::wire::{self, HEADER_BYTES, Header, NoHeader, STARTUP_BYTES_MAX, Startup, u16_at, u32_at};
use crate::protocol::Direction;

/// What [`judge`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They do, beyond reasonable doubt.
    Plausible,
    /// They may.
    Unclear,
    /// They do not.
    Implausible,
}

const ENOUGH: u32 = 2;

/// Messages looked at.
const MESSAGES_MAX: usize = 8;

/// Longest message believed in here: its first length byte is 0, as no text has it.
const BELIEVED_MAX: usize = 1 << 24;

/// Columns and parameters a message may have (PostgreSQL's `MaxTupleAttributeNumber`, and 65,535 parameters).
const COLUMNS_MAX: u16 = 1_664;

/// Judges the first bytes of a direction, or those behind a gap.
pub(super) fn judge(bytes: &[u8], direction: Direction) -> Verdict {
    if direction == Direction::ToServer && bytes.first() == Some(&0) {
        return match wire::startup(bytes) {
            Ok(_) => Verdict::Plausible,
            Err(NoHeader::Short) if bytes.len() < STARTUP_BYTES_MAX => Verdict::Unclear,
            Err(_) => Verdict::Implausible,
        };
    }
    let mut weight = 0;
    let mut rest = bytes;
    for _ in 0..MESSAGES_MAX {
        let header = match wire::header(rest, direction) {
            Ok(header) if header.length < BELIEVED_MAX => header,
            Err(NoHeader::Short) if rest.get(1).is_none_or(|byte| *byte == 0) => break,
            _ => return Verdict::Implausible,
        };
        let end = HEADER_BYTES + header.length;
        let body = rest.get(HEADER_BYTES..end.min(rest.len())).unwrap_or_default();
        let Some(found) = weigh(header, body, direction) else { return Verdict::Implausible };
        weight += found;
        match rest.get(end..) {
            Some([]) | None => break,
            Some(after) => rest = after,
        }
    }
    if weight >= ENOUGH { Verdict::Plausible } else { Verdict::Unclear }
}

/// Whether bytes begin with a startup message of any kind.
pub(super) fn is_startup(bytes: &[u8]) -> bool {
    matches!(wire::startup(bytes), Ok((Startup::Session { .. } | Startup::Encryption | Startup::Cancel, _)))
}

/// How much a message speaks for this protocol; `None` if it cannot be one. `body` may be shorter than it is.
fn weigh(header: Header, body: &[u8], direction: Direction) -> Option<u32> {
    let whole = body.len() == header.length;
    match direction {
        Direction::ToServer => weigh_request(header.kind, body, whole),
        Direction::ToClient => weigh_response(header, body, whole),
    }
}

fn weigh_request(kind: u8, body: &[u8], whole: bool) -> Option<u32> {
    match kind {
        b'Q' => weigh_sql(body, whole, 1),
        b'P' => match name(body)? {
            Some(after) if whole => {
                let (sql, types) = wire::text(after)?;
                let count = usize::from(u16_at(types, 0)?);
                (types.len() == 2 + 4 * count).then_some(())?;
                weigh_sql(sql, true, 0)
            }
            Some(after) => weigh_sql(after, false, 0),
            None => Some(0),
        },
        b'B' => {
            let Some(after) = name(body)? else { return Some(0) };
            let Some(after) = name(after)? else { return Some(0) };
            bind(after, whole, false)
        }
        b'F' => bind(body.get(4..).unwrap_or_default(), whole, true),
        b'D' | b'C' => {
            body.first().is_none_or(|kind| matches!(kind, b'S' | b'P')).then_some(())?;
            match name(body.get(1..).unwrap_or_default())? {
                Some([]) => Some(2),
                Some(_) => None,
                None => (!whole).then_some(0),
            }
        }
        b'E' => match name(body)? {
            Some(after) if whole => (after.len() == 4).then_some(2),
            Some(after) => (after.len() < 4).then_some(0),
            None => (!whole).then_some(0),
        },
        b'S' | b'H' | b'c' | b'X' => Some(1),
        b'd' | b'p' | b'f' => Some(0),
        _ => None,
    }
}

/// A name of a statement or a portal: what follows it; inside `None` if it is cut; `None` if it is none.
fn name(body: &[u8]) -> Option<Option<&[u8]>> {
    let found = wire::text(body);
    let name = found.map_or(body, |(name, _)| name);
    let plain = name.len() < 256 && name.iter().all(|byte| *byte >= b' ' && *byte != 0x7f);
    plain.then_some(found.map(|(_, after)| after))
}

/// SQL, with its zero at the end if it has `zeros` of them.
fn weigh_sql(body: &[u8], whole: bool, zeros: usize) -> Option<u32> {
    let sql = if whole { body.get(..body.len().checked_sub(zeros)?)? } else { body };
    if whole && zeros == 1 {
        (body.last() == Some(&0)).then_some(())?;
    }
    let harmless = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    sql.iter().take(1024).all(harmless).then_some(())?;
    let first = sql.trim_ascii_start();
    let verb = first.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let begins = verb >= 2 || first.starts_with(b"--") || first.starts_with(b"/*") || first.starts_with(b"(");
    Some(match (whole, begins) {
        (true, true) => 2,
        (true, false) => 1,
        // A verb and what ends it.
        (false, true) if first.len() >= 8 && verb >= 4 && first.len() > verb => 2,
        (false, _) => 0,
    })
}

/// What follows the names of a Bind: formats, values, formats. A FunctionCall has `one` format at its end.
fn bind(body: &[u8], whole: bool, one: bool) -> Option<u32> {
    let unclear = (!whole).then_some(0);
    let mut at = 0;
    let Some(formats) = u16_at(body, at) else { return unclear };
    at += 2;
    for _ in 0..formats {
        let Some(format) = u16_at(body, at) else { return unclear };
        (format <= 1).then_some(())?;
        at += 2;
    }
    let Some(values) = u16_at(body, at) else { return unclear };
    at += 2;
    let Some(end) = values_end(body, at, values)? else { return unclear };
    let Some(results) = u16_at(body, end) else { return unclear };
    let end = end + 2 + if one { 0 } else { 2 * usize::from(results) };
    if whole { (end == body.len()).then_some(2) } else { unclear }
}

/// Where `count` values end that have their length before them; inside `None` if they are cut.
fn values_end(body: &[u8], mut at: usize, count: u16) -> Option<Option<usize>> {
    for _ in 0..count {
        let Some(length) = u32_at(body, at) else { return Some(None) };
        at += 4;
        if length != u32::MAX {
            let length = usize::try_from(length).ok().filter(|length| *length < BELIEVED_MAX)?;
            at += length;
        }
        if at > body.len() {
            return Some(None);
        }
    }
    Some(Some(at))
}

fn weigh_response(Header { kind, length }: Header, body: &[u8], whole: bool) -> Option<u32> {
    match kind {
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => Some(1),
        b'Z' => body.first().map_or(Some(0), |state| matches!(state, b'I' | b'T' | b'E').then_some(2)),
        b'R' => match u32_at(body, 0) {
            None => Some(0),
            Some(0 | 2 | 3 | 7 | 9) => (length == 4 || length > 4 && body.get(3) == Some(&7)).then_some(2),
            Some(5) => (length == 8).then_some(2),
            Some(8 | 10 | 11 | 12) => (length > 4).then_some(2),
            Some(_) => None,
        },
        b'S' => match name(body)? {
            Some(after) if whole => (after.last() == Some(&0)).then_some(2),
            Some(_) => Some(0),
            None => (!whole).then_some(0),
        },
        b'C' if whole => wire::tag(body).map(|_| 2),
        b'C' => Some(0),
        b'E' | b'N' => error(body),
        b'T' => columns(body, whole),
        b'D' => row(body, whole),
        b't' => match u16_at(body, 0) {
            Some(count) => (length == 2 + 4 * usize::from(count)).then_some(1),
            None => Some(0),
        },
        b'G' | b'H' | b'W' => {
            let format = body.first().is_none_or(|format| *format <= 1);
            let count = u16_at(body, 1).is_none_or(|count| length == 3 + 2 * usize::from(count));
            (format && count).then_some(u32::from(whole))
        }
        b'd' | b'A' | b'K' | b'V' | b'v' => Some(0),
        _ => None,
    }
}

/// Fields of an error or a notice: the severity is the first.
fn error(body: &[u8]) -> Option<u32> {
    let Some((first, after)) = body.split_first() else { return Some(0) };
    (*first == b'S').then_some(())?;
    match name(after)? {
        // `V` came with 9.6; before it, the code follows.
        Some([b'V' | b'C', ..]) => Some(2),
        Some([]) | None => Some(0),
        Some(_) => None,
    }
}

fn columns(body: &[u8], whole: bool) -> Option<u32> {
    let Some(count) = u16_at(body, 0) else { return Some(0) };
    (count <= COLUMNS_MAX).then_some(())?;
    let mut rest = body.get(2..).unwrap_or_default();
    for read in 0..count {
        let found = name(rest)?.and_then(|after| Some((after.get(18..)?, u16_at(after, 16)?)));
        let Some((after, format)) = found else {
            return (!whole).then_some(if read > 0 { 2 } else { 0 });
        };
        (format <= 1).then_some(())?;
        rest = after;
    }
    (rest.is_empty() && whole).then_some(if count > 0 { 2 } else { 1 })
}

fn row(body: &[u8], whole: bool) -> Option<u32> {
    let Some(count) = u16_at(body, 0) else { return Some(0) };
    (count <= COLUMNS_MAX).then_some(())?;
    match values_end(body, 2, count)? {
        Some(end) if whole => (end == body.len()).then_some(if count > 0 { 2 } else { 1 }),
        Some(_) => None,
        None => (!whole).then_some(0),
    }
}

/// What the end of the server's bytes says when their beginning is not understood: the cycle is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail<'a> {
    /// The last message before ReadyForQuery is this CommandComplete's body.
    Complete(&'a [u8]),
    /// It is this ErrorResponse's body.
    Error(&'a [u8]),
    /// It is not understood.
    Unknown,
}

/// Looks for ReadyForQuery at the very end of `bytes`, and for the message before it.
pub(super) fn tail(bytes: &[u8]) -> Option<Tail<'_>> {
    let (rest, ready) = bytes.split_at_checked(bytes.len().checked_sub(6)?)?;
    if !matches!(ready, [b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E']) {
        return None;
    }
    let newest = rest.len().saturating_sub(TAIL_BYTES_MAX);
    let window = rest.get(newest..).unwrap_or_default();
    for at in memchr::memrchr2_iter(b'C', b'E', window) {
        let message = window.get(at..).unwrap_or_default();
        let Ok(header) = wire::header(message, Direction::ToClient) else { continue };
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        if header.length != body.len() {
            continue;
        }
        match header.kind {
            b'C' if wire::tag(body).is_some() => return Some(Tail::Complete(body)),
            b'E' if error(body) == Some(2) => return Some(Tail::Error(body)),
            _ => {}
        }
    }
    Some(Tail::Unknown)
}

/// Bytes before ReadyForQuery in which the message before it is looked for.
const TAIL_BYTES_MAX: usize = 4096;
