//! May anything be in flight on a client's connection that was joined late?
//!
//! A client that always keeps two requests in flight looks like one that keeps one: each response is followed by a
//! request, each request by a response, but that of the request before. Nothing in the bytes tells the two apart, and
//! every exchange would be paired off by one. Such a client answers a response with its next request at once, though. So
//! if the first bytes seen were a response's (something was in flight), nothing is paired until the client has been
//! silent after a response for much longer than it had to wait for any: then nothing can be in flight. A client that is
//! never silent stays unpaired, and is counted.
//!
//! A server proves as much by the order of its calls: it takes the next request when it has answered the one before, or
//! takes both at once, which is seen. One that reads ahead while it works is not told apart.

use crate::protocol::{BootNanos, OpenContext, Role};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Nothing is in flight that is not known.
    Settled,
    /// Not a byte was seen yet.
    Unseen,
    /// It began with a response.
    Busy {
        /// The newest request byte, if no response byte came after it.
        asked_at: Option<BootNanos>,
        /// The newest response byte.
        answered_at: BootNanos,
        /// Longest time between a request and the response after it; 0 before the first.
        longest_ns: u64,
    },
}

impl Joined {
    pub(super) fn new(context: OpenContext) -> Self {
        match context {
            OpenContext { role: Role::Client, from_start: false, answered: false, .. } => Self::Unseen,
            OpenContext { role: Role::Client, from_start: false, .. } => Self::busy(BootNanos(0)),
            _ => Self::Settled,
        }
    }

    fn busy(answered_at: BootNanos) -> Self {
        Self::Busy { asked_at: None, answered_at, longest_ns: 0 }
    }

    /// Request bytes; of a gap, without `first_at`.
    pub(super) fn ask(&mut self, first_at: Option<BootNanos>, last_at: BootNanos) {
        match self {
            Self::Settled => {}
            Self::Unseen => *self = Self::Settled,
            Self::Busy { asked_at, answered_at, longest_ns } => {
                let silent_ns = first_at.map_or(0, |first_at| first_at.since(*answered_at));
                let enough_ns = longest_ns.saturating_mul(SILENCE_FACTOR).max(SILENCE_NS);
                if asked_at.is_none() && *longest_ns > 0 && silent_ns >= enough_ns {
                    *self = Self::Settled;
                } else {
                    *asked_at = Some(last_at);
                }
            }
        }
    }

    /// Response bytes.
    pub(super) fn answer(&mut self, first_at: BootNanos, last_at: BootNanos) {
        match self {
            Self::Settled => {}
            Self::Unseen => *self = Self::busy(last_at),
            Self::Busy { asked_at, answered_at, longest_ns } => {
                if let Some(asked_at) = asked_at.take() {
                    *longest_ns = first_at.since(asked_at).max(*longest_ns).max(1);
                }
                *answered_at = last_at;
            }
        }
    }
}

/// How many times longer than any answer took the client must have been silent.
const SILENCE_FACTOR: u64 = 4;

/// And at least so long. Rationale: longer than a client needs to send its next request if it has one.
const SILENCE_NS: u64 = 1_000_000;
