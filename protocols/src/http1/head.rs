//! What does a head say? Start lines, header fields, and the framing of the body that follows.
//!
//! The start line is read here, because a cut one must still yield what it holds and a target need not be UTF-8; the
//! fields are read by `httparse`, and line by line where it refuses (an odd field, too many of them) or where the head
//! was cut. Spec: RFC 9112, sections 2 to 6.

use httparse::EMPTY_HEADER;

use super::framing::{Framing, FramingFields};
use crate::{
    http::{HttpRequest, KNOWN_METHODS, UrlPart, captured},
    limits,
    protocol::{Direction, Sniff},
};

/// The head of a request.
#[derive(Debug)]
pub(super) struct RequestHead<'a> {
    pub(super) request: HttpRequest<'a>,
    pub(super) framing: Framing,
    /// It asks for another protocol.
    pub(super) upgrade: bool,
    /// It has `Expect: 100-continue`: its body may not follow.
    pub(super) expects: bool,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    /// As if the request had not been HEAD or CONNECT.
    pub(super) framing: Framing,
    /// It names `h2c` as the protocol to go on with.
    pub(super) h2c: bool,
}

/// What the bytes of a head gave.
#[derive(Debug)]
pub(super) enum Head<T> {
    /// A whole head of so many bytes.
    Whole(T, usize),
    /// Not whole yet; what it says so far, if the part that identifies it is there.
    Partial(Option<T>),
    /// Not a head.
    Invalid,
}

/// Reads a request's head. The caller has skipped empty lines before it.
pub(super) fn request(bytes: &[u8]) -> Head<RequestHead<'_>> {
    let end = end_of_head(bytes);
    let length = end.unwrap_or(bytes.len());
    if length > limits::HEAD_BYTES_MAX || sniff_request(bytes) == Sniff::Reject {
        return Head::Invalid;
    }
    let Some(end) = end else { return Head::Partial(cut_request(bytes)) };
    let (line, fields) = split_line(bytes.get(..end).unwrap_or_default());
    match request_line(line) {
        Some(request) => Head::Whole(with_fields(request, fields), end),
        None => Head::Invalid,
    }
}

/// Reads a response's head.
pub(super) fn response(bytes: &[u8]) -> Head<ResponseHead> {
    let end = end_of_head(bytes);
    let (line, fields) = split_line(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default());
    let status = match status_line(line) {
        Ok(status) => status,
        Err(Sniff::Reject) => return Head::Invalid,
        Err(_) => return Head::Partial(None),
    };
    match end {
        _ if end.unwrap_or(bytes.len()) > limits::HEAD_BYTES_MAX => Head::Invalid,
        None => Head::Partial(Some(ResponseHead { status, framing: Framing::Unknown, h2c: false })),
        Some(end) => {
            let mut framing = FramingFields::default();
            for_each_field(fields, |name, value| framing.take(name, value));
            Head::Whole(ResponseHead { status, framing: framing.of_response(), h2c: framing.h2c }, end)
        }
    }
}

/// The fields of a response's whole head that the configuration lists, by their places in the list.
pub(super) fn captured(head: &[u8]) -> Vec<(u8, &[u8])> {
    let (_, fields) = split_line(head);
    let mut found = Vec::new();
    for_each_field(fields, |name, value| found.extend(captured::find(name.as_bytes()).map(|at| (at, value))));
    found
}

/// Says whether these bytes begin a request or a response.
///
/// A request line must be `METHOD SP target SP HTTP/1.`, where the target is a path, an absolute URL, or what else its
/// method allows: text protocols with lines of words must not pass. What RFC 9112 forbids in a target (spaces, control
/// characters) passes where the line's end shows that it is one: servers answer such requests, if only with 400.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    if bytes.starts_with(b"HTTP/") || b"HTTP/".starts_with(bytes) {
        let (line, _) = split_line(bytes);
        return match status_line(line) {
            Ok(_) => Sniff::Match(Direction::ToClient),
            Err(answer) => answer,
        };
    }
    sniff_request(bytes)
}

/// As [`sniff`], for the start of a segment that may be the middle of a message: there only a known method counts,
/// `ET / HTTP/1.1` is a cut `GET`.
pub(super) fn sniff_torn(bytes: &[u8]) -> Sniff {
    match (sniff(bytes), memchr::memchr(b' ', bytes).and_then(|space| bytes.get(..space))) {
        (_, Some(method)) if !is_known(method) => Sniff::Reject,
        (answer, _) => answer,
    }
}

fn sniff_request(bytes: &[u8]) -> Sniff {
    let Some(space) = memchr::memchr(b' ', bytes.get(..limits::METHOD_BYTES_MAX + 1).unwrap_or(bytes)) else {
        let plausible = bytes.len() <= limits::METHOD_BYTES_MAX && bytes.iter().all(|byte| is_token(*byte));
        return if plausible { Sniff::NeedMore } else { Sniff::Reject };
    };
    let (method, rest) = bytes.split_at(space);
    let rest = rest.get(1..).unwrap_or_default();
    let known = is_known(method);
    if method.len() < 2 || !method.iter().all(|byte| is_token(*byte)) {
        return Sniff::Reject;
    }
    let line = rest;
    let length = rest.iter().position(|byte| !is_target(*byte)).unwrap_or(rest.len());
    let (target, rest) = rest.split_at(length);
    match (target_form(method, target), rest) {
        (Sniff::Reject, _) => Sniff::Reject,
        (_, []) if target.len() < limits::SNIFF_TARGET_BYTES => Sniff::NeedMore,
        (Sniff::Match(_), []) if known => Sniff::Match(Direction::ToServer),
        (Sniff::Match(_), [b' ', version @ ..]) => {
            let (version, _) = version.split_at(version.len().min(8));
            match version {
                b"HTTP/1.0" | b"HTTP/1.1" => Sniff::Match(Direction::ToServer),
                part if part.len() < 8 && b"HTTP/1.".starts_with(part) => Sniff::NeedMore,
                _ => sniff_odd_target(line),
            }
        }
        (Sniff::Match(_), [_, ..]) => sniff_odd_target(line),
        _ => Sniff::Reject,
    }
}

/// What follows the method in a line whose target holds what it must not: only its end can tell.
fn sniff_odd_target(line: &[u8]) -> Sniff {
    match memchr::memchr(b'\n', line).and_then(|end| line.get(..end)) {
        Some(line) if split_version(line).is_some() => Sniff::Match(Direction::ToServer),
        None if line.len() < limits::SNIFF_TARGET_BYTES => Sniff::NeedMore,
        _ => Sniff::Reject,
    }
}

/// Says whether a request line stands somewhere behind the start of `bytes`: several requests in one call.
pub(super) fn holds_later_request(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, b" HTTP/1.").any(|at| {
        let ends_line = matches!(bytes.get(at + 9), Some(b'\r' | b'\n'));
        let before = bytes.get(..at).unwrap_or_default();
        let Some(space) = memchr::memrchr(b' ', before) else { return false };
        let (method, target) = before.split_at(space);
        let plausible = target.get(1).is_some_and(|byte| matches!(byte, b'/' | b'*' | b'h'));
        let is_later = |known: &&str| method.ends_with(known.as_bytes()) && method.len() > known.len();
        ends_line && plausible && KNOWN_METHODS.iter().any(is_later)
    })
}

/// True if an empty line ends here somewhere.
pub(super) fn holds_end(bytes: &[u8]) -> bool {
    end_of_head(bytes).is_some()
}

/// The index behind the empty line that ends the head. `bytes` does not begin with an empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The first line without its end, and what follows it; all of it if it has no end yet.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => {
            let (line, rest) = bytes.split_at(at);
            (line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default())
        }
        None => (bytes.strip_suffix(b"\r").unwrap_or(bytes), &[]),
    }
}

/// Reads a whole request line.
fn request_line(line: &[u8]) -> Option<HttpRequest<'_>> {
    let (method, rest) = split_space(line)?;
    let (target, version) = split_version(rest)?;
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return None;
    }
    let mut request = HttpRequest { method, version: Some(version), ..HttpRequest::default() };
    set_target(&mut request, target);
    Some(request)
}

/// Splits what follows the method into the target, which may hold spaces, and the version.
fn split_version(rest: &[u8]) -> Option<(&[u8], &'static str)> {
    let rest = rest.trim_ascii_end();
    let (target, version) = rest.split_at_checked(rest.len().checked_sub(9)?)?;
    let version = match version {
        b" HTTP/1.1" => "1.1",
        b" HTTP/1.0" => "1.0",
        _ => return None,
    };
    Some((target.trim_ascii(), version)).filter(|(target, _)| !target.is_empty())
}

/// The method of a line that is no request line but begins as one; empty if it does not.
pub(super) fn method(bytes: &[u8]) -> &[u8] {
    let word = memchr::memchr(b' ', bytes).and_then(|space| bytes.get(..space)).unwrap_or_default();
    let plausible = word.len() <= limits::METHOD_BYTES_MAX && word.iter().all(|byte| is_token(*byte));
    if plausible { word } else { &[] }
}

/// What a head that will never be whole says for certain: the method, and of the target what is there. `None` if not
/// even the method is whole.
fn cut_request(bytes: &[u8]) -> Option<RequestHead<'_>> {
    let (line, fields) = split_line(bytes);
    let cut = |request| Some(RequestHead { framing: Framing::Unknown, ..with_fields(request, fields) });
    if let Some(request) = request_line(line) {
        return cut(request);
    }
    let (method, rest) = split_space(line)?;
    let mut request = HttpRequest { method, ..HttpRequest::default() };
    match memchr::memrchr(b' ', rest).and_then(|space| rest.split_at_checked(space)) {
        // The last word is the version, as far as it goes; else the target holds spaces.
        Some((target, version)) if b" HTTP/1.".starts_with(version) => set_target(&mut request, target),
        _ => set_cut_target(&mut request, rest),
    }
    cut(request)
}

/// As [`set_target`], of a target without its end: a prefix of the path is told, for it says where the request went. A
/// query is not, its last key could be a secret's cut in half; nor is an authority that nothing follows.
fn set_cut_target<'a>(request: &mut HttpRequest<'a>, target: &'a [u8]) {
    let query = memchr::memchr(b'?', target);
    request.cut = Some(if query.is_some() { UrlPart::Query } else { UrlPart::Path });
    let known = match query {
        Some(at) => target.get(..at).unwrap_or_default(),
        None => without_torn_escape(target),
    };
    let authority = memchr::memmem::find(known, b"://").and_then(|colon| known.get(colon + 3..));
    let whole = authority.is_some_and(|authority| query.is_some() || authority.contains(&b'/'));
    if known.starts_with(b"/") || (whole && request.method != b"CONNECT") {
        set_target(request, known);
    }
}

/// Without the part of a percent-encoded byte at the end.
fn without_torn_escape(path: &[u8]) -> &[u8] {
    match path {
        [whole @ .., b'%'] | [whole @ .., b'%', _] => whole,
        whole => whole,
    }
}

/// Sorts out the four forms of a target.
///
/// > request-target = origin-form / absolute-form / authority-form / asterisk-form (RFC 9112, section 3.2)
fn set_target<'a>(request: &mut HttpRequest<'a>, target: &'a [u8]) {
    if request.method == b"CONNECT" {
        request.authority = Some(target);
        return;
    }
    let mut rest = target;
    if !target.starts_with(b"/")
        && let Some(colon) = memchr::memmem::find(target, b"://")
    {
        let (scheme, after) = target.split_at(colon);
        let after = after.get(3..).unwrap_or_default();
        let length = after.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after.len());
        let (authority, path) = after.split_at(length);
        request.scheme = Some(scheme);
        request.authority = Some(authority);
        rest = if path.is_empty() { b"/" } else { path };
    }
    request.set_target(rest);
}

fn with_fields<'a>(mut request: HttpRequest<'a>, fields: &'a [u8]) -> RequestHead<'a> {
    let mut framing = FramingFields::default();
    for_each_field(fields, |name, value| {
        framing.take(name, value);
        request.fields.take(name, value);
    });
    let upgrade = framing.upgrade || request.method == b"CONNECT";
    // > Content [...] in a CONNECT request has no defined semantics (RFC 9110, section 9.3.6); what follows is the tunnel's.
    let fields = framing;
    let framing = if request.method == b"CONNECT" { Framing::Length(0) } else { fields.of_request() };
    RequestHead { request, framing, upgrade, expects: fields.expects }
}

/// Reads `HTTP/1.x NNN` and a reason, which may be missing.
fn status_line(line: &[u8]) -> Result<u16, Sniff> {
    const SHAPE: &[u8; 12] = b"HTTP/1.v 100";
    let fits = line.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'v' => matches!(byte, b'0' | b'1'),
        b'1' if *byte != b'1' => matches!(byte, b'2'..=b'9'),
        b'0' => byte.is_ascii_digit(),
        shape => byte == shape,
    });
    // The first digit after the slash is `1` and nothing else.
    if !fits || line.get(5).is_some_and(|byte| *byte != b'1') {
        return Err(Sniff::Reject);
    }
    match (line.get(9..12), line.get(12)) {
        (Some([a, b, c]), None | Some(b' ')) => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        (Some(_), Some(_)) => Err(Sniff::Reject),
        (None, _) => Err(Sniff::NeedMore),
        _ => Err(Sniff::Reject),
    }
}

/// Calls `sink` with every field of a head whose start line is gone; values without surrounding white space.
fn for_each_field<'a>(fields: &'a [u8], mut sink: impl FnMut(&'a str, &'a [u8])) {
    let mut headers = [EMPTY_HEADER; limits::HEADER_FIELDS_MAX];
    if let Ok(httparse::Status::Complete((_, headers))) = httparse::parse_headers(fields, &mut headers) {
        for header in headers {
            sink(header.name, header.value);
        }
        return;
    }
    let mut rest = fields;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        // A folded line belongs to the field before it and none of ours is ever folded; other lines without a name
        // are no fields.
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        if let Ok(name) = str::from_utf8(name.trim_ascii_end())
            && !name.is_empty()
            && name.bytes().all(is_token)
        {
            sink(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
    }
}

/// How well a target, perhaps not whole, fits its method: `Match`, `NeedMore` or `Reject`.
fn target_form(method: &[u8], target: &[u8]) -> Sniff {
    let fits = |yes: bool| if yes { Sniff::Match(Direction::ToServer) } else { Sniff::Reject };
    match target {
        [] => Sniff::NeedMore,
        _ if method == b"CONNECT" => fits(!target.contains(&b'/')),
        [b'/', ..] => fits(true),
        // OPTIONS and M-SEARCH; the preface of HTTP/2 has it too and is told apart by its version.
        b"*" => fits(true),
        _ => match memchr::memchr(b':', target).map(|at| target.split_at(at)) {
            Some((scheme, rest))
                if scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https") =>
            {
                match rest {
                    [b':', b'/', b'/', _, ..] => fits(true),
                    part if b"://".starts_with(part) => Sniff::NeedMore,
                    _ => Sniff::Reject,
                }
            }
            Some(_) => Sniff::Reject,
            None if b"https".starts_with(target.to_ascii_lowercase().as_slice()) => Sniff::NeedMore,
            None => Sniff::Reject,
        },
    }
}

fn split_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', bytes)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

fn is_known(method: &[u8]) -> bool {
    KNOWN_METHODS.iter().any(|known| known.as_bytes() == method)
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}
