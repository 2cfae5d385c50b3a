//! What a request says of itself: its target and the header fields that attributes are made of.

use super::captured;
use crate::{
    exchange::{Attributes, TraceContext, Value},
    limits,
    redact::BoundedText,
    semconv::truncated,
    trace_context::TraceHeaders,
};

/// The header fields, in lower case, that [`RequestFields::take`] takes note of.
pub const REQUEST_FIELDS: &[&str] = &[
    "host",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// What a request says of itself.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest<'a> {
    /// The method token.
    pub method: &'a [u8],
    /// From an absolute-form target or `:scheme`.
    pub scheme: Option<&'a [u8]>,
    /// From an absolute-form or authority-form target, or `:authority`; wins over `Host`.
    pub authority: Option<&'a [u8]>,
    /// Without the query; `None` if it was cut off or the target has none (CONNECT). See `cut`.
    pub path: Option<&'a [u8]>,
    /// Without its `?`.
    pub query: Option<&'a [u8]>,
    /// The first part of the target whose end was not seen: what is here of it is a prefix of what was sent.
    pub cut: Option<UrlPart>,
    /// `1.0`, `1.1`, `2`; `None` if it was cut off.
    pub version: Option<&'static str>,
    /// The header fields that attributes are made of.
    pub fields: RequestFields<'a>,
}

impl<'a> HttpRequest<'a> {
    /// Splits a target of the origin form, `/path?query`.
    pub fn set_target(&mut self, target: &'a [u8]) {
        match memchr::memchr(b'?', target) {
            Some(at) => {
                let (path, query) = target.split_at(at);
                self.path = Some(path);
                self.query = query.get(1..);
            }
            None => self.path = Some(target),
        }
    }
}

/// A part of a URL that can be longer than what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlPart {
    /// The path, or what stands before it. A route must not be made of it.
    Path,
    /// The query; the path is whole.
    Query,
}

impl UrlPart {
    /// The value of [`SPANTAP_URL_TRUNCATED`](crate::semconv::key::SPANTAP_URL_TRUNCATED).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => truncated::PATH,
            Self::Query => truncated::QUERY,
        }
    }
}

/// The request header fields that attributes are made of; of a repeated one the first counts.
#[derive(Clone, Debug, Default)]
pub struct RequestFields<'a> {
    /// `Host`.
    pub host: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    pub(super) forwarded_for: Option<&'a [u8]>,
    pub(super) forwarded_host: Option<&'a [u8]>,
    pub(super) forwarded_proto: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    trace: TraceHeaders<'a>,
    /// Those that the configuration lists, by their places in the list.
    pub(crate) captured: Vec<(u8, &'a [u8])>,
}

impl<'a> RequestFields<'a> {
    /// Takes note of a field if it is one of these.
    pub fn take(&mut self, name: &str, value: &'a [u8]) {
        if let Some(at) = captured::find(name.as_bytes()) {
            self.captured.push((at, value));
        }
        let slot = match name.len() {
            4 if name.eq_ignore_ascii_case("host") => &mut self.host,
            9 if name.eq_ignore_ascii_case("forwarded") => &mut self.forwarded,
            10 if name.eq_ignore_ascii_case("user-agent") => &mut self.user_agent,
            12 if name.eq_ignore_ascii_case("x-request-id") => &mut self.request_id,
            15 if name.eq_ignore_ascii_case("x-forwarded-for") => &mut self.forwarded_for,
            16 if name.eq_ignore_ascii_case("x-forwarded-host") => &mut self.forwarded_host,
            17 if name.eq_ignore_ascii_case("x-forwarded-proto") => &mut self.forwarded_proto,
            _ => return self.trace.take(name, value),
        };
        slot.get_or_insert(value);
    }

    /// The caller's trace.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace.context()
    }

    /// Adds `X-Request-Id` under the name that `key` gives it: it joins logs with spans.
    pub fn push_request_id(&self, attributes: &mut Attributes, key: &'static str) {
        let Some(id) = self.request_id.filter(|id| !id.is_empty()) else { return };
        let mut text = BoundedText::new(limits::REQUEST_ID_BYTES_MAX);
        text.push_lossy(id);
        attributes.push(key, Value::Texts(vec![text.finish()]));
    }

    /// The value of `name` in the first element of `Forwarded`, else the first element of its `X-Forwarded-` sibling.
    ///
    /// > the first [...] `Forwarded: host=`, `X-Forwarded-Host` (conventions, "Setting server.address")
    pub(super) fn forwarded(&self, name: &str, sibling: Option<&'a [u8]>) -> Option<&'a [u8]> {
        let first = |list: &'a [u8]| list.split(|byte| *byte == b',').next().map(<[u8]>::trim_ascii);
        let standard = first(self.forwarded.unwrap_or_default()).and_then(|element| {
            element.split(|byte| *byte == b';').find_map(|pair| {
                let equals = memchr::memchr(b'=', pair)?;
                let (pair_name, value) = pair.split_at_checked(equals)?;
                let value = value.get(1..)?.trim_ascii();
                let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
                pair_name.trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| quoted.unwrap_or(value))
            })
        });
        standard.or_else(|| first(sibling?)).filter(|value| !value.is_empty())
    }
}
