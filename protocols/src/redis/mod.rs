//! Redis, and what speaks its protocol (RESP, version 2 and 3): what its first bytes look like, and the way to its parser.
//!
//! `wire.rs` reads lines and bulks, `request.rs` commands, `walk.rs` replies, `commands.rs` is what we know of each
//! command, `text.rs` what may be shown of it, `parser.rs` pairs commands with replies.
//! Spec: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

mod commands;
mod parser;
mod pubsub;
mod request;
mod sniff;
#[cfg(test)]
mod tests;
mod text;
mod walk;
mod wire;

use crate::protocol::{Appetite, Direction, OpenContext, Parser, Protocol, Sniff};

/// Redis; the row in [`crate::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct Redis;

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff {
        sniff::either(head, expected)
    }

    fn open(&self, context: OpenContext) -> Box<dyn Parser> {
        Box::new(parser::RedisParser::new(context))
    }

    fn appetite(&self) -> Appetite {
        Appetite::More
    }
}

const NAME: &str = "redis";
