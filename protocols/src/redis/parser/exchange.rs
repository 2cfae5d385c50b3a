//! A command and its reply in the words of the semantic conventions.
//!
//! Spec: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/db/redis.md>

use compact_str::{CompactString, ToCompactString};

use super::{Answer, Pending};
use crate::{
    exchange::{Attributes, Exchange, Outcome, Value},
    protocol::{BootNanos, Role},
    redis::NAME,
    semconv::{DB_CLIENT_OPERATION_DURATION, db_system, key},
};

/// What is known of an exchange beside its request.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    /// The database that was selected.
    pub(super) database: Option<u16>,
    /// How many commands a transaction had.
    pub(super) batch: Option<u32>,
    /// The prefix of the error that was the reply.
    pub(super) error: Option<CompactString>,
    /// There may be an error in what was not seen of the reply.
    pub(super) is_unclear: bool,
}

/// Makes the exchange of a command; without an answer it ends with its request.
pub(super) fn exchange(
    role: Role,
    pending: Pending,
    answer: Option<&Answer>,
    circumstances: Circumstances,
) -> Exchange {
    let mut attributes = Attributes::new();
    attributes.push(key::DB_SYSTEM_NAME, Value::Static(db_system::REDIS));
    attributes.push(key::DB_OPERATION_NAME, Value::Text(pending.operation.clone()));
    if let Some(database) = circumstances.database {
        let value =
            if database == 0 { Value::Static("0") } else { Value::Text(database.to_compact_string()) };
        attributes.push(key::DB_NAMESPACE, value);
    }
    if !pending.text.is_empty() {
        attributes.push(key::DB_QUERY_TEXT, Value::Text(pending.text));
    }
    // > Operations are only considered batches when they contain two or more operations (conventions, "Batch operations")
    if let Some(batch) = circumstances.batch.filter(|batch| *batch != 1) {
        attributes.push(key::DB_OPERATION_BATCH_SIZE, Value::Int(batch.into()));
    }
    let mut outcome = Outcome::Unset;
    if let Some(error) = circumstances.error {
        attributes.push(key::DB_RESPONSE_STATUS_CODE, Value::Text(error.clone()));
        attributes.push(key::ERROR_TYPE, Value::Text(error.clone()));
        outcome = Outcome::Error(error);
    } else if circumstances.is_unclear {
        attributes.push(key::SPANTAP_STATUS_UNKNOWN, Value::Bool(true));
    }
    Exchange {
        protocol: NAME,
        role,
        start: pending.start,
        request_end: pending.request_end,
        response_start: answer.map(|answer| answer.start),
        end: answer.map_or(pending.request_end, |answer| answer.end),
        request_bytes: pending.request_bytes,
        response_bytes: answer.map_or(0, |answer| answer.bytes),
        operation: pending.operation,
        target: None,
        attributes,
        outcome,
        trace: None,
        // The conventions have no metric of a database's own side.
        metric: (role == Role::Client).then_some(&DB_CLIENT_OPERATION_DURATION),
    }
}

/// Ends an exchange whose reply never came, or not all of it.
pub(super) fn fail(exchange: &mut Exchange, error: &'static str, at: Option<BootNanos>) {
    exchange.end = at.unwrap_or(exchange.end);
    if exchange.outcome == Outcome::Unset {
        exchange.attributes.push(key::ERROR_TYPE, Value::Static(error));
        exchange.outcome = Outcome::Error(CompactString::const_new(error));
    }
}
