//! PostgreSQL's protocol 3: what its first bytes look like, and the way to its parser.
//!
//! `wire.rs` reads messages, `plausible.rs` says whether bytes begin with some, `queue.rs` keeps what the server still
//! owes, `statements.rs` what was prepared, `parser.rs` pairs requests with responses, `exchange.rs` names them.
//! Spec: <https://www.postgresql.org/docs/15/protocol.html>

mod exchange;
mod parser;
mod plausible;
mod queue;
mod statements;
#[cfg(test)]
mod tests;
mod wire;

use self::plausible::{Verdict, judge};
use crate::protocol::{Appetite, Direction, OpenContext, Parser, Protocol, Sniff};

/// PostgreSQL; the row in [`crate::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct Postgresql;

impl Protocol for Postgresql {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff {
        let judge = |direction| match expected {
            Some(expected) if expected != direction => Verdict::Implausible,
            _ => judge(head, direction),
        };
        match (judge(Direction::ToServer), judge(Direction::ToClient)) {
            (Verdict::Plausible, Verdict::Implausible) => Sniff::Match(Direction::ToServer),
            (Verdict::Implausible, Verdict::Plausible) => Sniff::Match(Direction::ToClient),
            (Verdict::Implausible, Verdict::Implausible) => Sniff::Reject,
            _ => Sniff::NeedMore,
        }
    }

    fn open(&self, context: OpenContext) -> Box<dyn Parser> {
        Box::new(parser::PostgresqlParser::new(context))
    }

    fn appetite(&self) -> Appetite {
        Appetite::More
    }
}

const NAME: &str = "postgresql";
