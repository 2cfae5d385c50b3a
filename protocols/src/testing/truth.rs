//! Whether exchanges found through loss are true: each is one that is found without, and says nothing else of it.

use super::render;
use crate::{
    exchange::{Exchange, Outcome, Value},
    protocol::BootNanos,
    semconv::key,
};

/// How exchanges that begin well after a gap must be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    None,
    /// As if there had been no gap.
    Whole,
    /// With the right end, and nothing wrong.
    Partly,
}

/// Each found exchange says nothing that the true one of its start does not; and if the parser has to recover, all but
/// the first of those that begin after `after` are there.
pub(super) fn check_found(
    found: &[Exchange],
    truth: &[Exchange],
    after: BootNanos,
    recovery: Recovery,
    what: &str,
) {
    let mut unused: Vec<&Exchange> = truth.iter().collect();
    // Those that say least fit most of the true ones: they take what is left.
    let mut by_knowledge: Vec<&Exchange> = found.iter().collect();
    by_knowledge.sort_by_key(|exchange| {
        let marks =
            exchange.attributes.iter().filter(|(key, _)| key.as_str().starts_with("spantap.")).count();
        (marks, std::cmp::Reverse(exchange.attributes.len()))
    });
    for exchange in by_knowledge {
        match unused.iter().position(|candidate| is_part_of(exchange, candidate)) {
            Some(at) => drop(unused.remove(at)),
            None => panic!(
                "{what}: this never was:\n{}the truth:\n{}",
                render(std::slice::from_ref(exchange)),
                render(truth)
            ),
        }
    }
    for (expected, is_found) in found_again(found, truth, after, recovery) {
        assert!(
            is_found,
            "{what}: not found again:\n{}among:\n{}",
            render(std::slice::from_ref(expected)),
            render(found)
        );
    }
}

/// Each found exchange says nothing that the true one of its start does not.
///
/// # Panics
/// If not so.
pub fn check_true(found: &[Exchange], truth: &[Exchange], what: &str) {
    check_found(found, truth, BootNanos(u64::MAX), Recovery::None, what);
}

/// All but the first of the true exchanges that begin after `after`, and whether they are there; none without recovery.
pub(super) fn found_again<'a>(
    found: &[Exchange],
    truth: &'a [Exchange],
    after: BootNanos,
    recovery: Recovery,
) -> Vec<(&'a Exchange, bool)> {
    if recovery == Recovery::None {
        return Vec::new();
    }
    let mut later = truth.iter().filter(|exchange| exchange.start > after);
    // One request may be several exchanges: the statements of a query.
    let first = later.next().map(|exchange| exchange.start);
    let is_found = |expected: &Exchange| {
        found.iter().any(|candidate| match recovery {
            Recovery::Partly => candidate.end == expected.end && is_part_of(candidate, expected),
            _ => is_found_again(candidate, expected),
        })
    };
    let expected = later.filter(|exchange| Some(exchange.start) != first);
    expected.map(|expected| (expected, is_found(expected))).collect()
}

/// As it is, but for what only an earlier message said.
fn is_found_again(found: &Exchange, expected: &Exchange) -> bool {
    let (mut found, mut expected) = (found.clone(), expected.clone());
    found.attributes.remove(key::SPANTAP_UNKNOWN_STATEMENT);
    // The message that prepared it was cut.
    let is_cut = found.attributes.remove(key::SPANTAP_QUERY_TRUNCATED).is_some();
    for name in LEARNT_EARLIER {
        if is_cut && TEXT.contains(name) {
            found.attributes.remove(name);
        }
        if found.attributes.get(name).is_none() {
            expected.attributes.remove(name);
        }
    }
    if is_named_by_text(&expected) {
        expected.operation.clone_from(&found.operation);
        expected.target.clone_from(&found.target);
    }
    found == expected
}

/// What a message does not say itself: the database, the text of a prepared statement, what else is in a pipeline.
const LEARNT_EARLIER: &[&str] =
    &[key::DB_NAMESPACE, key::DB_QUERY_TEXT, key::DB_QUERY_SUMMARY, key::DB_OPERATION_BATCH_SIZE];

const TEXT: &[&str] = &[key::DB_QUERY_TEXT, key::DB_QUERY_SUMMARY];

/// The text of a statement, or the database, is what its span is named after.
fn is_named_by_text(exchange: &Exchange) -> bool {
    exchange.protocol == "postgresql"
}

/// That it may have failed has to be said. (Of HTTP/1 the status comes first; what fails behind it is another matter.)
fn says_that_it_is_unknown(exchange: &Exchange) -> bool {
    exchange.protocol == "http1" || exchange.attributes.get(key::SPANTAP_STATUS_UNKNOWN).is_some()
}

fn is_part_of(part: &Exchange, whole: &Exchange) -> bool {
    let same_times = part.start == whole.start && part.response_start == whole.response_start;
    let is_call = |exchange: &Exchange| exchange.attributes.get(key::RPC_SYSTEM_NAME).is_some();
    if is_call(whole) && !is_call(part) {
        // Of a call whose content type is unknown only the HTTP exchange is told, and that it may have failed.
        let failed = whole.outcome != Outcome::Unset;
        return same_times
            && part.role == whole.role
            && (!failed || part.outcome != Outcome::Unset || says_that_it_is_unknown(part));
    }
    // Without the text the span is named after what else is known.
    let nameless = is_named_by_text(whole) && part.attributes.get(key::DB_QUERY_SUMMARY).is_none();
    same_times
        && part.role == whole.role
        && (part.operation == whole.operation || nameless || is_of_unknown_method(part))
        && (part.outcome == whole.outcome
            || (part.outcome == Outcome::Unset && says_that_it_is_unknown(part))
            // An error whose code was not seen.
            || (part.outcome == Outcome::Error("_OTHER".into()) && whole.outcome != Outcome::Unset))
        && part.attributes.iter().all(|(key, value)| is_part_of_attribute(part, key.as_str(), value, whole))
        && match (&part.trace, &whole.trace) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(part), Some(whole)) => {
                part.trace_id == whole.trace_id
                    && part.parent_id == whole.parent_id
                    && whole.state.starts_with(part.state.as_str())
            }
        }
}

/// It says that the method is not known.
fn is_of_unknown_method(part: &Exchange) -> bool {
    let is_other = |name| part.attributes.get(name).and_then(Value::as_str) == Some("_OTHER");
    let original = part.attributes.get(key::HTTP_REQUEST_METHOD_ORIGINAL);
    (is_other(key::HTTP_REQUEST_METHOD) && original.is_none()) || is_other(key::RPC_METHOD)
}

/// The same value; or, where the part says that its URL or query is cut, a beginning of it.
fn is_part_of_attribute(part: &Exchange, name: &str, value: &Value, whole: &Exchange) -> bool {
    let text = |name| whole.attributes.get(name).and_then(Value::as_str);
    let cut = part.attributes.get(key::SPANTAP_URL_TRUNCATED).and_then(Value::as_str);
    match (name, value.as_str()) {
        (
            key::SPANTAP_URL_TRUNCATED
            | key::SPANTAP_QUERY_TRUNCATED
            | key::SPANTAP_UNKNOWN_STATEMENT
            | key::SPANTAP_STATUS_UNKNOWN,
            _,
        ) => true,
        (key::HTTP_REQUEST_METHOD | key::RPC_METHOD, Some("_OTHER")) => true,
        (key::DB_QUERY_TEXT | key::DB_QUERY_SUMMARY, Some(query))
            if part.attributes.get(key::SPANTAP_QUERY_TRUNCATED).is_some() =>
        {
            text(name).is_some_and(|whole| whole.starts_with(query))
        }
        (key::URL_PATH, Some(path)) if cut == Some("path") => {
            // Of a client whose authority lies behind the cut.
            text(key::URL_PATH).is_some_and(|whole| whole.starts_with(path))
                || text(key::URL_FULL).is_some_and(|whole| whole.contains(path))
        }
        // The client's authority is not known: who knows the socket makes the URL of these.
        (key::URL_PATH | key::URL_QUERY, Some(piece)) if part.attributes.get(key::URL_FULL).is_none() => {
            text(name).or_else(|| text(key::URL_FULL).and_then(|url| piece_of(url, name))) == Some(piece)
        }
        (key::URL_FULL, Some(url)) if cut.is_some() => {
            text(key::URL_FULL).is_some_and(|whole| whole.starts_with(url))
        }
        _ => whole.attributes.get(name) == Some(value),
    }
}

/// The path or the query of a URL with a scheme.
fn piece_of<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let rest = url.split_once("://")?.1;
    let target = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    match (target.split_once('?'), name) {
        (Some((_, query)), key::URL_QUERY) => Some(query),
        (None, key::URL_QUERY) => None,
        (Some((path, _)), _) => Some(path),
        (None, _) => Some(target),
    }
}
