//! What a failed attempt means, and how long to wait before the next one.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otlp/#failures> and, for HTTP, `#failures-1`.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use prost::Message;
use tonic::{Code, Status};

use super::settings::RetrySettings;
use crate::telemetry::{clock, id::Random};

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Try again, not sooner than the server asked for.
    Retryable { not_before: Option<Duration> },
    /// Try again in halves.
    TooLarge,
    /// Never try again.
    Permanent,
}

/// Full jitter: uniform between zero and a bound that doubles.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug)]
pub(super) struct Backoff {
    settings: RetrySettings,
    attempt: u32,
}

impl Backoff {
    pub(super) fn new(settings: RetrySettings) -> Self {
        Self { settings, attempt: 0 }
    }

    /// The next wait; `None` if it would go beyond the time to give up, of which `spent` is gone.
    pub(super) fn next(
        &mut self,
        spent: Duration,
        not_before: Option<Duration>,
        random: &mut Random,
    ) -> Option<Duration> {
        let bound = self.settings.initial.saturating_mul(1 << self.attempt.min(16)).min(self.settings.max);
        self.attempt += 1;
        let jittered =
            Duration::from_nanos(random.up_to(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)));
        let wait = jittered.max(not_before.unwrap_or_default());
        (spent.saturating_add(wait) < self.settings.give_up_after).then_some(wait)
    }
}

/// Judges a gRPC status.
pub(super) fn of_grpc(status: &Status) -> Failure {
    let retry_info = retry_info(status.details());
    let retryable = FailureKind::Retryable { not_before: retry_info };
    let kind = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => retryable,
        // The server is recovering if it says when; else the message itself is too much for it.
        Code::ResourceExhausted if retry_info.is_some() => retryable,
        Code::ResourceExhausted => FailureKind::TooLarge,
        // Made on our side of the wire: the connection broke before there was an answer.
        _ if std::error::Error::source(status).is_some() => retryable,
        _ => FailureKind::Permanent,
    };
    Failure { kind, message: format!("{:?}: {}", status.code(), deepest(status, status.message())) }
}

/// Judges an HTTP status other than 2xx.
pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let kind = match status.as_u16() {
        429 | 502 | 503 | 504 => {
            FailureKind::Retryable { not_before: retry_after(headers, clock::unix_now_s()) }
        }
        413 => FailureKind::TooLarge,
        _ => FailureKind::Permanent,
    };
    let said = RpcStatus::decode(body).map(|status| status.message).unwrap_or_default();
    let colon = if said.is_empty() { "" } else { ": " };
    Failure { kind, message: format!("HTTP {status}{colon}{}", printable(&said)) }
}

/// No connection, no answer, or none in time.
pub(super) fn of_transport(error: &(dyn std::error::Error + 'static)) -> Failure {
    let message = deepest(error, &error.to_string());
    Failure { kind: FailureKind::Retryable { not_before: None }, message }
}

pub(super) fn timed_out(after: Duration) -> Failure {
    Failure {
        kind: FailureKind::Retryable { not_before: None },
        message: format!("no answer within {after:?}"),
    }
}

/// The innermost cause says most ("Connection refused"); the outer ones say "transport error".
fn deepest(error: &(dyn std::error::Error + 'static), outer: &str) -> String {
    let mut cause = error.source();
    let mut text = outer.to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    printable(&text)
}

/// A server's words in our log: one line, bounded.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(date.saturating_sub(now_s)).unwrap_or(0)))
}

/// The delay of a `google.rpc.RetryInfo` in `grpc-status-details-bin`.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    Some(Duration::new(seconds, u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999)))
}

/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(seconds: i64) -> Vec<u8> {
        let info = RetryInfo { retry_delay: Some(ProtoDuration { seconds, nanos: 5 }) };
        let any =
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
        RpcStatus { code: 8, message: String::new(), details: vec![any] }.encode_to_vec()
    }

    const RETRY: FailureKind = FailureKind::Retryable { not_before: None };

    #[test]
    fn grpc_table() {
        for (code, expected) in [
            (Code::Cancelled, RETRY),
            (Code::Unknown, FailureKind::Permanent),
            (Code::InvalidArgument, FailureKind::Permanent),
            (Code::DeadlineExceeded, RETRY),
            (Code::NotFound, FailureKind::Permanent),
            (Code::AlreadyExists, FailureKind::Permanent),
            (Code::PermissionDenied, FailureKind::Permanent),
            (Code::ResourceExhausted, FailureKind::TooLarge),
            (Code::FailedPrecondition, FailureKind::Permanent),
            (Code::Aborted, RETRY),
            (Code::OutOfRange, RETRY),
            (Code::Unimplemented, FailureKind::Permanent),
            (Code::Internal, FailureKind::Permanent),
            (Code::Unavailable, RETRY),
            (Code::DataLoss, RETRY),
            (Code::Unauthenticated, FailureKind::Permanent),
        ] {
            assert_eq!(of_grpc(&Status::new(code, "x")).kind, expected, "{code:?}");
        }
        let exhausted = Status::with_details(Code::ResourceExhausted, "slow down", details(7).into());
        let expected = FailureKind::Retryable { not_before: Some(Duration::new(7, 5)) };
        assert_eq!(of_grpc(&exhausted).kind, expected);
        let garbage = Status::with_details(Code::Unavailable, "", vec![0xff; 9].into());
        assert_eq!(of_grpc(&garbage).kind, RETRY);
        assert_eq!(retry_info(&details(-3)), Some(Duration::new(0, 5)));
    }

    #[test]
    fn http_table() {
        let of = |status: u16| of_http(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"").kind;
        for status in 100..600 {
            let expected = match status {
                429 | 502 | 503 | 504 => RETRY,
                413 => FailureKind::TooLarge,
                _ => FailureKind::Permanent,
            };
            assert_eq!(of(status), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, 784_111_770)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn waits_grow_to_their_bound_and_end() {
        let settings = RetrySettings {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(300),
        };
        let mut random = Random::seeded(1);
        let mut longest = [Duration::ZERO; 10];
        for _ in 0..300 {
            let mut backoff = Backoff::new(settings);
            for longest in &mut longest {
                *longest = backoff.next(Duration::ZERO, None, &mut random).unwrap().max(*longest);
            }
        }
        for (at, longest) in longest.iter().enumerate() {
            let bound = (1_u64 << at).min(30) as f64;
            assert!(
                longest.as_secs_f64() <= bound && longest.as_secs_f64() > bound * 0.9,
                "{at}: {longest:?}"
            );
        }
        let mut backoff = Backoff::new(settings);
        let floor = Some(Duration::from_secs(60));
        assert_eq!(backoff.next(Duration::ZERO, floor, &mut random), floor);
        assert_eq!(backoff.next(Duration::from_secs(250), floor, &mut random), None);
        assert_eq!(backoff.next(Duration::from_secs(300), None, &mut random), None);
    }
}
