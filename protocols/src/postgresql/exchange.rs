//! A finished exchange in the words of the semantic conventions.
//!
//! `db.operation.name` is the command tag of the response, never taken from the text; SQLSTATE is the status. Neither the
//! user nor a message of the server is kept.
//! Spec: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/db/postgresql.md>

use compact_str::CompactString;

use super::{
    NAME,
    queue::{Pending, Text, What},
};
use crate::{
    exchange::{Attributes, Exchange, Outcome, Value},
    protocol::{BootNanos, OpenContext, Role},
    semconv::{DB_CLIENT_OPERATION_DURATION, db_system, key},
    sql::Statement,
};

/// `error.type` of a statement of a pipeline that the server did not execute since one before it had failed.
pub(super) const ABORTED: &str = "pipeline_aborted";

/// What was seen of a response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Response {
    pub(super) start: Option<BootNanos>,
    pub(super) bytes: u64,
    /// DataRow, and CopyData of the server.
    pub(super) rows: u64,
    /// CopyInResponse: it takes rows, and gives none.
    pub(super) takes: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending<'a> {
    /// CommandComplete: its verb and its last number.
    Complete(&'a str, Option<u64>),
    /// PortalSuspended: there are more rows.
    Suspended,
    /// EmptyQueryResponse, or a FunctionCallResponse.
    Done,
    /// ErrorResponse, with its SQLSTATE if that was seen.
    Failed(Option<&'a str>),
    /// It is over, but its last message was not seen: it may have failed.
    Unseen,
    /// There will be no response, or not more of it.
    Broken(&'static str),
}

/// Makes the exchange of `pending`, of a simple query its next statement.
pub(super) fn finish(
    context: OpenContext,
    database: Option<&CompactString>,
    pending: &mut Pending,
    response: Response,
    ending: Ending<'_>,
    end: BootNanos,
) -> Exchange {
    let joined;
    let mut request_bytes = pending.request_bytes;
    let mut unknown = None;
    if let What::Query(query) = &mut pending.what {
        query.done += 1;
    }
    let statement = match &pending.what {
        What::Query(query) => {
            let first = query.done == 1;
            request_bytes = if first { request_bytes } else { 0 };
            // The text is read as a whole before anything is executed: the mistake may be in any statement.
            if first && query.statements.len() > 1 && matches!(ending, Ending::Failed(Some("42601"))) {
                joined = join(&query.statements);
                Some(&joined)
            } else {
                query.statements.get(query.done - 1)
            }
        }
        What::Execute(Text::Known(statement)) => Some(&**statement),
        What::Execute(Text::Unknown(name)) => {
            unknown = Some(name.clone());
            None
        }
        What::Startup | What::Function => None,
    };
    let cut = statement.map_or(matches!(&pending.what, What::Query(query) if query.more), |found| found.cut);
    let verb = match ending {
        Ending::Complete(verb, _) => Some(verb),
        _ => None,
    };
    let fallback = match &pending.what {
        What::Startup => Some("CONNECT"),
        What::Function => Some("FUNCTION CALL"),
        _ => verb,
    };
    let (operation, target) = name(statement, fallback, database);
    let mut attributes = Attributes::new();
    attributes.push(key::DB_SYSTEM_NAME, Value::Static(db_system::POSTGRESQL));
    if let Some(database) = database {
        attributes.push(key::DB_NAMESPACE, Value::Text(database.clone()));
    }
    if let Some(verb) = verb {
        attributes.push(key::DB_OPERATION_NAME, verb_value(verb));
    }
    if let Some(Statement { text, summary, .. }) = statement {
        if !summary.is_empty() {
            attributes.push(key::DB_QUERY_SUMMARY, Value::Text(summary.clone()));
        }
        if !text.is_empty() {
            attributes.push(key::DB_QUERY_TEXT, Value::Text(text.clone()));
        }
    }
    if cut {
        attributes.push(key::SPANTAP_QUERY_TRUNCATED, Value::Bool(true));
    }
    if let Some(name) = unknown {
        let name = if name.is_empty() { Value::Static("(unnamed)") } else { Value::Text(name) };
        attributes.push(key::SPANTAP_UNKNOWN_STATEMENT, name);
    }
    if matches!(ending, Ending::Unseen) {
        attributes.push(key::SPANTAP_STATUS_UNKNOWN, Value::Bool(true));
    }
    if let Some(rows) = returned_rows(ending, response.rows) {
        attributes.push(key::DB_RESPONSE_RETURNED_ROWS, Value::Int(rows));
    }
    let outcome = match ending {
        Ending::Failed(code) => {
            if let Some(code) = code {
                attributes.push(key::DB_RESPONSE_STATUS_CODE, Value::Text(code.into()));
            }
            Outcome::Error(code.unwrap_or("_OTHER").into())
        }
        Ending::Broken(why) => Outcome::Error(why.into()),
        Ending::Complete(..) | Ending::Suspended | Ending::Done | Ending::Unseen => Outcome::Unset,
    };
    Exchange {
        protocol: NAME,
        role: context.role,
        start: pending.start,
        request_end: pending.request_end,
        response_start: response.start,
        end,
        request_bytes,
        response_bytes: response.bytes,
        operation,
        target,
        attributes,
        outcome,
        trace: None,
        metric: match context.role {
            Role::Client => Some(&DB_CLIENT_OPERATION_DURATION),
            Role::Server => None,
        },
    }
}

fn join(statements: &[Statement]) -> Statement {
    let mut joined = Statement::default();
    for Statement { text, summary, cut } in statements {
        joined.cut |= *cut || joined.text.len() + text.len() + 2 > crate::limits::QUERY_TEXT_BYTES_MAX;
        if joined.cut {
            break;
        }
        for (all, one, between) in [(&mut joined.text, text, "; "), (&mut joined.summary, summary, " ")] {
            let room = crate::limits::QUERY_SUMMARY_BYTES_MAX;
            if between == " " && all.len() + 1 + one.len() > room {
                continue;
            }
            all.push_str(if all.is_empty() || one.is_empty() { "" } else { between });
            all.push_str(one);
        }
    }
    joined
}

/// Both parts of the span's name.
///
/// > `{db.query.summary}` [...], `{db.operation.name} {target}` [...], `{target}` [...], `{db.system.name}`
/// > (conventions, "Database spans", "Name")
fn name(
    statement: Option<&Statement>,
    verb: Option<&str>,
    database: Option<&CompactString>,
) -> (CompactString, Option<CompactString>) {
    let summary = statement.map(|statement| statement.summary.as_str()).filter(|summary| !summary.is_empty());
    match (summary.map(|summary| summary.split_once(' ').ok_or(summary)), verb, database) {
        (Some(Ok((verb, objects))), ..) => (verb.into(), Some(objects.into())),
        (Some(Err(verb)), ..) => (verb.into(), None),
        (None, Some(verb), database) => (verb.into(), database.cloned()),
        (None, None, Some(database)) => (database.clone(), None),
        (None, None, None) => (CompactString::const_new(db_system::POSTGRESQL), None),
    }
}

fn verb_value(verb: &str) -> Value {
    const USUAL: &[&str] =
        &["SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK", "SET", "COPY"];
    match USUAL.iter().find(|usual| **usual == verb) {
        Some(usual) => Value::Static(usual),
        None => Value::Text(verb.into()),
    }
}

/// Rows that came back. The number of a command tag is that of rows *affected*: `CREATE TABLE AS` says `SELECT 5`,
/// `INSERT … RETURNING` says `INSERT 0 5`, `COPY … FROM` says `COPY 5`. It is taken where rows have been seen, or where there
/// are none.
fn returned_rows(ending: Ending<'_>, seen: u64) -> Option<i64> {
    let rows = match ending {
        Ending::Complete("SELECT" | "FETCH", Some(0)) => 0,
        Ending::Complete(
            "SELECT" | "FETCH" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY",
            Some(rows),
        ) if seen > 0 => rows,
        Ending::Suspended => seen,
        _ => return None,
    };
    i64::try_from(rows).ok()
}
