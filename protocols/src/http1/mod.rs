//! HTTP/1.0 and HTTP/1.1: what its first bytes look like, and the way to its parser.
//!
//! `head.rs` reads start lines and header fields, `framing.rs` what they say of the body, `body.rs` walks bodies, `parser.rs` pairs requests with responses.
//! Spec: RFC 9110 (semantics), RFC 9112 (messages).

mod body;
mod framing;
mod head;
mod parser;
#[cfg(test)]
mod tests;

use crate::protocol::{Direction, OpenContext, Parser, Protocol, Sniff};

/// HTTP/1.x; the row in [`crate::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct Http1;

impl Protocol for Http1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff {
        let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
        let head = head.get(start..).unwrap_or_default();
        match head::sniff(head) {
            Sniff::Match(direction) if expected.is_some_and(|expected| expected != direction) => {
                Sniff::Reject
            }
            // Eight empty lines are more leniency than any client needs.
            Sniff::NeedMore if start > 16 => Sniff::Reject,
            answer => answer,
        }
    }

    fn open(&self, context: OpenContext) -> Box<dyn Parser> {
        Box::new(parser::Http1Parser::new(context))
    }
}

const NAME: &str = "http1";
