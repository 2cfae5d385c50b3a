//! SQL as attributes: text without its literals, a summary of low cardinality, and where one statement ends.
//!
//! Nothing here knows the protocol that carried the text. The text may be cut anywhere.
//! Spec: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/db/database-spans.md>, sections
//! "Sanitization of `db.query.text`" and "Generating a summary of the query".

mod lexer;
mod setting;
mod statement;
mod summary;
#[cfg(test)]
mod tests;

pub use lexer::Backslash;
pub use statement::{Statement, Statements, prepared, simple};
