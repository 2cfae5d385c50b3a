//! An HTTP exchange in the words of the semantic conventions, whatever version of HTTP carried it.
//!
//! A parser fills [`HttpRequest`] with borrowed bytes, [`begin`] turns it into an owned, bounded, redacted
//! [`Exchange`], and [`set_status`] or [`set_error`] ends it.
//! Spec: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/http/http-spans.md>

pub(crate) mod captured;
mod request;

use compact_str::{CompactString, ToCompactString};

pub use captured::{CapturedHeaders, Head};
pub use request::{HttpRequest, REQUEST_FIELDS, RequestFields, UrlPart};

use crate::{
    exchange::{Attributes, Exchange, Outcome, Value},
    limits,
    protocol::{BootNanos, OpenContext, Role},
    redact::{BoundedText, REDACTED, strip_credentials},
    semconv::{HTTP_CLIENT_REQUEST_DURATION, HTTP_SERVER_REQUEST_DURATION, key},
};

/// `error.type` of a request whose connection ended before a response began.
pub const CONNECTION_CLOSED: &str = "connection_closed";

/// `error.type` of a response whose connection ended before its announced end.
pub const RESPONSE_TRUNCATED: &str = "response_truncated";

/// The methods that the conventions call known. Case-sensitive; every other one is `_OTHER`.
pub const KNOWN_METHODS: &[&str] =
    &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// Starts an exchange with everything that its request tells. Response times and sizes are the parser's to fill in.
///
/// SERVER: method, `url.path`, `url.scheme`, `url.query`, `server.*` and `client.address` as forwarded or as in `Host`,
/// user agent, version. CLIENT: method, `server.*`, `url.full`, version. A CONNECT has no URL. A CLIENT request without
/// any authority cannot have `url.full`: it gets `url.path` and `url.query`, and whoever knows the socket completes it.
/// Where the URL is shorter than what was sent, `spantap.url.truncated` names the first part that is.
#[must_use]
pub fn begin(
    protocol: &'static str,
    context: OpenContext,
    request: &HttpRequest<'_>,
    first_at: BootNanos,
) -> Exchange {
    let mut attributes = Attributes::new();
    let operation = push_method(&mut attributes, request.method);
    let scheme = scheme(context, request);
    let capped = match context.role {
        Role::Server => push_server(&mut attributes, scheme, request),
        Role::Client => push_client(&mut attributes, scheme, request),
    };
    if let Some(part) = first(request.cut, capped) {
        attributes.push(key::SPANTAP_URL_TRUNCATED, Value::Static(part.name()));
    }
    if let Some(version) = request.version {
        attributes.push(key::NETWORK_PROTOCOL_VERSION, Value::Static(version));
    }
    request.fields.push_request_id(&mut attributes, key::HTTP_REQUEST_HEADER_X_REQUEST_ID);
    let listed = request.fields.captured.iter().copied();
    captured::push(&mut attributes, context.role, Head::Request, listed);
    Exchange {
        protocol,
        role: context.role,
        start: first_at,
        request_end: first_at,
        response_start: None,
        end: first_at,
        request_bytes: 0,
        response_bytes: 0,
        operation: CompactString::const_new(operation),
        target: None,
        attributes,
        outcome: Outcome::Unset,
        trace: request.fields.trace(),
        metric: Some(match context.role {
            Role::Server => &HTTP_SERVER_REQUEST_DURATION,
            Role::Client => &HTTP_CLIENT_REQUEST_DURATION,
        }),
    }
}

/// Notes the status of the final response.
///
/// > [...] for HTTP status codes in the 4xx range span status MUST be left unset in case of SpanKind.SERVER and SHOULD be
/// > set to Error in case of SpanKind.CLIENT. For 5xx [...] SHOULD be set to Error. (conventions, "Status")
pub fn set_status(exchange: &mut Exchange, status: u16) {
    exchange.attributes.push(key::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(status)));
    let first_error = match exchange.role {
        Role::Server => 500,
        Role::Client => 400,
    };
    if status >= first_error {
        fail(exchange, status.to_compact_string());
    }
}

/// Notes a failure other than a status: [`CONNECTION_CLOSED`], [`RESPONSE_TRUNCATED`]. An error status that is already
/// there stays, it says more.
pub fn set_error(exchange: &mut Exchange, error_type: &'static str) {
    if exchange.outcome == Outcome::Unset {
        fail(exchange, CompactString::const_new(error_type));
    }
}

fn fail(exchange: &mut Exchange, error_type: CompactString) {
    exchange.attributes.push(key::ERROR_TYPE, Value::Text(error_type.clone()));
    exchange.outcome = Outcome::Error(error_type);
}

/// Returns what the method is called in the span's name: itself, or `HTTP` if it is not a known one.
fn push_method(attributes: &mut Attributes, method: &[u8]) -> &'static str {
    if let Some(known) = KNOWN_METHODS.iter().find(|known| known.as_bytes() == method) {
        attributes.push(key::HTTP_REQUEST_METHOD, Value::Static(known));
        return known;
    }
    attributes.push(key::HTTP_REQUEST_METHOD, Value::Static("_OTHER"));
    if !method.is_empty() {
        attributes.push(key::HTTP_REQUEST_METHOD_ORIGINAL, lossy(method, limits::METHOD_BYTES_MAX));
    }
    "HTTP"
}

/// The part that comes first in a URL.
fn first(one: Option<UrlPart>, other: Option<UrlPart>) -> Option<UrlPart> {
    if one == Some(UrlPart::Path) { one } else { other.or(one) }
}

/// Returns the part of the URL that a limit cut.
fn push_server(
    attributes: &mut Attributes,
    scheme: &'static str,
    request: &HttpRequest<'_>,
) -> Option<UrlPart> {
    let fields = &request.fields;
    let path = push_path(attributes, request.path);
    attributes.push(key::URL_SCHEME, Value::Static(scheme));
    let query = push_query(attributes, request.query);
    let authority = fields.forwarded("host", fields.forwarded_host).or(request.authority).or(fields.host);
    push_authority(attributes, scheme, request, authority);
    if let Some((address, _)) = fields.forwarded("for", fields.forwarded_for).and_then(host_and_port) {
        // > nodename [...] "unknown" (RFC 7239, section 6); obfuscated names begin with an underscore.
        if !address.eq_ignore_ascii_case("unknown") && !address.starts_with('_') {
            attributes.push(key::CLIENT_ADDRESS, Value::Text(address.into()));
        }
    }
    if let Some(agent) = fields.user_agent {
        attributes.push(key::USER_AGENT_ORIGINAL, lossy(agent, limits::USER_AGENT_BYTES_MAX));
    }
    first(path, query)
}

/// As [`push_server`].
fn push_client(
    attributes: &mut Attributes,
    scheme: &'static str,
    request: &HttpRequest<'_>,
) -> Option<UrlPart> {
    let authority = request.authority.or(request.fields.host).filter(|authority| !authority.is_empty());
    push_authority(attributes, scheme, request, authority);
    match (request.path, authority) {
        (Some(path), Some(authority)) => {
            let (url, cut) = full_url(scheme, authority, path, request.query);
            attributes.push(key::URL_FULL, Value::Text(url));
            cut
        }
        (path, _) => first(push_path(attributes, path), push_query(attributes, request.query)),
    }
}

fn push_path(attributes: &mut Attributes, path: Option<&[u8]>) -> Option<UrlPart> {
    let mut text = BoundedText::new(limits::PATH_BYTES_MAX);
    text.push_url(path?);
    let cut = text.is_cut().then_some(UrlPart::Path);
    attributes.push(key::URL_PATH, Value::Text(text.finish()));
    cut
}

fn push_query(attributes: &mut Attributes, query: Option<&[u8]>) -> Option<UrlPart> {
    let mut text = BoundedText::new(limits::QUERY_BYTES_MAX);
    text.push_query(query?);
    let cut = text.is_cut().then_some(UrlPart::Query);
    attributes.push(key::URL_QUERY, Value::Text(text.finish()));
    cut
}

/// `server.address` and `server.port`; without a port in the authority it is the scheme's, for CONNECT there is none.
pub(crate) fn push_authority(
    attributes: &mut Attributes,
    scheme: &str,
    request: &HttpRequest<'_>,
    authority: Option<&[u8]>,
) {
    let Some((address, port)) = authority.and_then(host_and_port) else { return };
    attributes.push(key::SERVER_ADDRESS, Value::Text(address.into()));
    let default = match scheme {
        _ if request.method == b"CONNECT" => None,
        "https" | "wss" => Some(443),
        _ => Some(80),
    };
    if let Some(port) = port.or(default) {
        attributes.push(key::SERVER_PORT, Value::Int(i64::from(port)));
    }
}

fn full_url(
    scheme: &str,
    authority: &[u8],
    path: &[u8],
    query: Option<&[u8]>,
) -> (CompactString, Option<UrlPart>) {
    let mut url = BoundedText::new(limits::URL_BYTES_MAX);
    url.push_str(scheme);
    url.push_str("://");
    let (credentials, authority) = strip_credentials(authority);
    if credentials {
        url.push_str(REDACTED);
        url.push_str(":");
        url.push_str(REDACTED);
        url.push_str("@");
    }
    url.push_url(authority);
    // > If the target URI's authority component is empty or the request is a server-wide OPTIONS [...] "*" [...] the
    // > target URI's combined path and query component is empty (RFC 9112, section 3.3)
    if path != b"*" {
        url.push_url(path);
    }
    let mut cut = url.is_cut().then_some(UrlPart::Path);
    if let Some(query) = query {
        url.push_str("?");
        url.push_query(query);
        cut = cut.or(url.is_cut().then_some(UrlPart::Query));
    }
    (url.finish(), cut)
}

pub(crate) fn scheme(context: OpenContext, request: &HttpRequest<'_>) -> &'static str {
    let known = |scheme: &[u8]| {
        ["http", "https", "ws", "wss"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
    };
    let fields = &request.fields;
    let forwarded = match context.role {
        Role::Server => fields.forwarded("proto", fields.forwarded_proto).and_then(known),
        Role::Client => None,
    };
    forwarded.or_else(|| known(request.scheme?)).unwrap_or(if context.tls { "https" } else { "http" })
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and a bare v6 address, credentials removed; `None` if it is no host.
fn host_and_port(authority: &[u8]) -> Option<(&str, Option<u16>)> {
    let (_, authority) = strip_credentials(authority);
    let text = str::from_utf8(authority).ok()?;
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => (text, ""),
            Some((host, _)) => text.split_at(host.len()),
            None => (text, ""),
        },
    };
    let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
    let plausible = !host.is_empty()
        && host.len() <= limits::HOST_BYTES_MAX
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#\"<>\\".contains(&byte));
    plausible.then_some((host, port))
}

fn lossy(bytes: &[u8], max: usize) -> Value {
    let mut text = BoundedText::new(max);
    text.push_lossy(bytes);
    Value::Text(text.finish())
}

#[cfg(test)]
mod tests;
