//! HTTP/2 with gRPC: what its first bytes look like, and the way to its parser.
//!
//! `frame.rs` reads frame headers, `hpack/` header blocks, `fields.rs` picks what matters of them, `parser.rs` walks both
//! directions, `streams.rs` and `stream.rs` are what is open, `grpc.rs` and `framing.rs` are calls. Spec: RFC 9113, RFC 7541.

mod detect;
mod fields;
mod frame;
mod framing;
mod grpc;
mod hpack;
mod parser;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub use hpack::plain::{PlainDecoder, PlainField};

use crate::exchange::Exchange;
use crate::protocol::{Appetite, Direction, OpenContext, Parser, Protocol, Sniff};

/// HTTP/2; the row in [`crate::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct Http2;

impl Protocol for Http2 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff {
        match detect::sniff(head) {
            Sniff::Match(direction) if expected.is_some_and(|expected| expected != direction) => {
                Sniff::Reject
            }
            answer => answer,
        }
    }

    fn open(&self, context: OpenContext) -> Box<dyn Parser> {
        Box::new(parser::Http2Parser::new(context))
    }

    fn appetite(&self) -> Appetite {
        Appetite::All
    }
}

/// A parser for a connection on which the server has agreed to go on with HTTP/2, and to answer `request`, which came by
/// HTTP/1.1, with it (RFC 7540, section 3.2; RFC 9113 has left it out, curl and Apache have not).
pub(crate) fn upgraded(context: OpenContext, request: Exchange) -> Box<dyn Parser> {
    Box::new(parser::Http2Parser::upgraded(context, request))
}

const NAME: &str = "http2";
