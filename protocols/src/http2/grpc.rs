//! A gRPC call in the words of the semantic conventions: its method, its status, its deadline.
//!
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>,
//! <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/rpc/grpc.md>.

use compact_str::CompactString;

use super::{NAME, fields::Field, fields::Fields};
use crate::{
    exchange::{Attributes, Exchange, Outcome, Value},
    http::{HttpRequest, push_authority, scheme},
    limits,
    protocol::{BootNanos, OpenContext, Role},
    redact::BoundedText,
    semconv::{GRPC_STATUSES as STATUSES, RPC_CLIENT_CALL_DURATION, RPC_SERVER_CALL_DURATION, key},
};

/// What is known of a call besides its exchange.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// How long the client is ready to wait, in nanoseconds.
    timeout_ns: Option<u64>,
    /// It may have named a time that was not seen.
    may_expire: bool,
    status: Option<u32>,
    message: Option<CompactString>,
}

/// What stands in the place of a status if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The response is over; its HTTP status, if it is known.
    Response(Option<u16>),
    /// The stream was reset with this code, by the client or not, so long after the call began.
    Reset { code: u32, by_client: bool, after_ns: u64 },
}

impl Call {
    pub(super) fn new(request: &Fields) -> Self {
        let timeout_ns = request.get(Field::GrpcTimeout).and_then(timeout);
        Self { timeout_ns, may_expire: timeout_ns.is_none() && request.is_partial, ..Self::default() }
    }

    /// Takes note of the status in a header block of the response.
    pub(super) fn take_status(&mut self, fields: &Fields) {
        let status = fields.get(Field::GrpcStatus).and_then(|value| str::from_utf8(value).ok()?.parse().ok());
        self.status = status.or(self.status);
        if let Some(message) = fields.get(Field::GrpcMessage).filter(|message| !message.is_empty()) {
            let mut text = BoundedText::new(limits::GRPC_MESSAGE_BYTES_MAX);
            // > When decoding invalid values, implementations MUST NOT error or throw away the message. (The last character
            // that fits may have four bytes.)
            let decoded = percent_encoding::percent_decode(message).take(limits::GRPC_MESSAGE_BYTES_MAX + 4);
            text.push_lossy(&decoded.collect::<Vec<_>>());
            self.message = Some(text.finish());
        }
    }

    /// Notes how the call ended.
    pub(super) fn finish(self, exchange: &mut Exchange, ended: Ended) {
        let status = self.status.or_else(|| match ended {
            Ended::Response(Some(200) | None) => None,
            Ended::Reset { code: CANCEL, by_client: true, .. } if self.may_expire => None,
            Ended::Response(Some(status)) => Some(status_of_http(status)),
            Ended::Reset { code, by_client, after_ns } if by_client && code == CANCEL => {
                // A client that gives up when its time is over and one that does not want the answer any more send the
                // same code. Timeouts are sent rounded, and count from a little before the request was sent.
                let near = |timeout: u64| after_ns + (timeout / 16).max(5_000_000) >= timeout;
                let expired = self.timeout_ns.is_some_and(near);
                Some(if expired { DEADLINE_EXCEEDED } else { CANCELLED })
            }
            Ended::Reset { code, .. } => Some(status_of_reset(code)),
        });
        let Some(status) = status else { return };
        let Some(name) = STATUSES.get(status as usize) else {
            // No status of gRPC; clients take it for this one.
            return set_status(exchange, UNKNOWN, STATUSES[UNKNOWN as usize], self.message);
        };
        set_status(exchange, status, name, self.message);
    }
}

/// True if a content type says that it is a gRPC call; gRPC-Web and Connect have others.
pub(super) fn is_content_type(value: &[u8]) -> bool {
    value
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Starts an exchange with what the request tells. A method that is not known is `_OTHER`, and the span is called
/// `grpc`.
pub(super) fn begin(context: OpenContext, request: &HttpRequest<'_>, first_at: BootNanos) -> Exchange {
    let mut attributes = Attributes::new();
    attributes.push(key::RPC_SYSTEM_NAME, Value::Static("grpc"));
    let method = request.path.map(|path| path.strip_prefix(b"/").unwrap_or(path));
    let operation = match method.filter(|method| !method.is_empty()) {
        Some(method) => {
            let mut text = BoundedText::new(limits::PATH_BYTES_MAX);
            text.push_url(method);
            let text = text.finish();
            attributes.push(key::RPC_METHOD, Value::Text(text.clone()));
            text
        }
        None => {
            attributes.push(key::RPC_METHOD, Value::Static("_OTHER"));
            CompactString::const_new("grpc")
        }
    };
    push_authority(&mut attributes, scheme(context, request), request, request.authority);
    if let Some(version) = request.version {
        attributes.push(key::NETWORK_PROTOCOL_VERSION, Value::Static(version));
    }
    request.fields.push_request_id(&mut attributes, key::RPC_REQUEST_METADATA_X_REQUEST_ID);
    Exchange {
        protocol: NAME,
        role: context.role,
        start: first_at,
        request_end: first_at,
        response_start: None,
        end: first_at,
        request_bytes: 0,
        response_bytes: 0,
        operation,
        target: None,
        attributes,
        outcome: Outcome::Unset,
        trace: request.fields.trace(),
        metric: Some(match context.role {
            Role::Server => &RPC_SERVER_CALL_DURATION,
            Role::Client => &RPC_CLIENT_CALL_DURATION,
        }),
    }
}

/// > All status codes except OK SHOULD be considered errors (CLIENT); UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// > UNAVAILABLE, DATA_LOSS (SERVER) (conventions)
fn set_status(exchange: &mut Exchange, status: u32, name: &'static str, message: Option<CompactString>) {
    exchange.attributes.push(key::RPC_RESPONSE_STATUS_CODE, Value::Static(name));
    let is_error = match exchange.role {
        Role::Client => status != 0,
        Role::Server => matches!(status, 2 | 4 | 12 | 13 | 14 | 15),
    };
    if is_error {
        exchange.attributes.push(key::ERROR_TYPE, Value::Static(name));
        exchange.outcome = Outcome::Error(CompactString::const_new(name));
    }
    if let Some(message) = message {
        exchange.attributes.push(key::SPANTAP_RPC_RESPONSE_MESSAGE, Value::Text(message));
    }
}

/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn status_of_http(status: u16) -> u32 {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// The section "Errors" of the specification.
fn status_of_reset(code: u32) -> u32 {
    match code {
        7 => UNAVAILABLE,
        CANCEL => CANCELLED,
        11 => RESOURCE_EXHAUSTED,
        12 => PERMISSION_DENIED,
        _ => INTERNAL,
    }
}

/// > Timeout → "grpc-timeout" TimeoutValue TimeoutUnit; TimeoutValue → positive integer of at most 8 digits
fn timeout(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    let unit_ns = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    let count: u64 = str::from_utf8(digits).ok().filter(|digits| digits.len() <= 8)?.parse().ok()?;
    count.checked_mul(unit_ns)
}

/// RFC 9113, section 7.
const CANCEL: u32 = 8;

const CANCELLED: u32 = 1;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const PERMISSION_DENIED: u32 = 7;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_and_messages_are_read() {
        assert_eq!(timeout(b"99m"), Some(99_000_000));
        assert_eq!(timeout(b"2S"), Some(2_000_000_000));
        for bad in [&b""[..], b"m", b"1", b"1s", b"-1m", b"123456789m", b"99999999H\xff"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_grpc_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_content_type(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", "application/connect+proto"] {
            assert!(!is_content_type(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn statuses_of_other_ends_are_those_of_the_specification() {
        let second = 1_000_000_000;
        let reset = |code, by_client, after_ns| Ended::Reset { code, by_client, after_ns };
        for (role, ended, timeout_ns, name, is_error) in [
            (Role::Client, Ended::Response(Some(503)), None, "UNAVAILABLE", true),
            (Role::Server, Ended::Response(Some(401)), None, "UNAUTHENTICATED", false),
            (Role::Client, reset(8, true, second), Some(second), "DEADLINE_EXCEEDED", true),
            (Role::Server, reset(8, true, second), Some(2 * second), "CANCELLED", false),
            (Role::Client, reset(8, true, second), None, "CANCELLED", true),
            (Role::Client, reset(8, false, second), Some(second), "CANCELLED", true),
            (Role::Server, reset(7, false, 0), None, "UNAVAILABLE", true),
            (Role::Server, reset(2, false, 0), None, "INTERNAL", true),
        ] {
            let context = OpenContext { role, from_start: true, answered: false, tls: false };
            let mut exchange = begin(context, &HttpRequest::default(), BootNanos(1));
            Call { timeout_ns, ..Call::default() }.finish(&mut exchange, ended);
            let found = exchange.attributes.get(key::RPC_RESPONSE_STATUS_CODE).and_then(Value::as_str);
            assert_eq!((found, exchange.outcome != Outcome::Unset), (Some(name), is_error), "{ended:?}");
        }
    }
}
