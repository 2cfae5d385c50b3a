//! When may nothing be in flight? What the order and the times of the two directions prove of one connection.
//!
//! After loss, and on a connection that was joined late, replies can be given to requests again from a moment on at which
//! nothing is in flight. Such a moment cannot be seen in the bytes: of a client that always keeps one more command in
//! flight than we know of, every reply would go to the command after its own. Three things show it:
//!
//! * A *server* reads on when it has answered all it has read (Redis itself does so, but for commands that block), so a
//!   command that it reads after it has written finds nothing in flight.
//! * A *client* that was watched taking turns, [`TURNS`] times, sends when it has read all replies.
//! * A client that was silent after a reply for much longer than it ever waited for one waits for none.
//!
//! Of a TLS session it is never known whether its first bytes were seen. One that begins, for us, with a client's request
//! is taken for new, with nothing in flight.
//!
//! A connection that once had a command sent after a part of the replies, while others were still owed, does not take
//! turns, whichever end it is: only silence counts for it from then on. Such as many clients that share a connection.

use crate::protocol::{BootNanos, OpenContext, Role};

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    role: Role,
    /// A TLS session of which nothing was seen yet.
    unseen: bool,
    /// Turns that were taken as they should be.
    kept: u32,
    /// A command was sent between the replies to others.
    overlaps: bool,
    /// It seems so, unless replies were lost.
    suspected: bool,
    /// The newest request byte, if no response byte came after it.
    asked_at: Option<BootNanos>,
    /// The newest response byte.
    answered_at: Option<BootNanos>,
    /// Longest time between a request and the response byte after it; 0 before the first.
    longest_ns: u64,
    /// The request that began here came after a long silence.
    quiet_at: Option<BootNanos>,
}

/// Turns after which a client is believed to take them. Rationale: more than the commands of a handshake.
const TURNS: u32 = 8;

/// How many times longer than any answer took the client must have been silent.
const SILENCE_FACTOR: u64 = 4;

/// And at least so long. Rationale: longer than a client needs to send its next request if it has one.
const SILENCE_NS: u64 = 1_000_000;

impl Turns {
    pub(super) fn new(context: OpenContext) -> Self {
        Self {
            role: context.role,
            unseen: context.tls && !context.answered,
            kept: 0,
            overlaps: false,
            suspected: false,
            asked_at: None,
            answered_at: None,
            longest_ns: 0,
            quiet_at: None,
        }
    }

    /// Request bytes; of a gap, without `first_at`.
    pub(super) fn ask(&mut self, first_at: Option<BootNanos>, last_at: BootNanos) {
        if let (None, Some(first_at), Some(answered_at)) = (self.asked_at, first_at, self.answered_at) {
            let enough_ns = self.longest_ns.saturating_mul(SILENCE_FACTOR).max(SILENCE_NS);
            if self.longest_ns > 0 && first_at.since(answered_at) >= enough_ns {
                self.quiet_at = Some(first_at);
            }
        }
        if std::mem::take(&mut self.unseen) {
            self.quiet_at = first_at;
        }
        self.asked_at = self.asked_at.max(Some(last_at));
    }

    /// Response bytes.
    pub(super) fn answer(&mut self, first_at: BootNanos, last_at: BootNanos) {
        self.unseen = false;
        if let Some(asked_at) = self.asked_at.take() {
            self.longest_ns = first_at.since(asked_at).max(self.longest_ns).max(1);
        }
        self.answered_at = self.answered_at.max(Some(last_at));
    }

    /// A request was sent when every reply before it had come.
    pub(super) fn keep(&mut self) {
        self.kept = self.kept.saturating_add(1);
    }

    /// A request was sent after some replies while others are owed, unless those are lost.
    pub(super) fn suspect(&mut self) {
        self.suspected = true;
    }

    /// The next of the replies that were owed has come.
    pub(super) fn confirm(&mut self) {
        self.overlaps |= std::mem::take(&mut self.suspected);
    }

    /// Replies were lost: what was owed may have come.
    pub(super) fn clear_suspicion(&mut self) {
        self.suspected = false;
    }

    /// There was a reply more than requests.
    pub(super) fn refute(&mut self) {
        self.overlaps = true;
    }

    /// Whether commands were seen between the replies to others.
    pub(super) fn do_overlap(&self) -> bool {
        self.overlaps
    }

    /// Whether nothing can be in flight when a request begins after all response bytes, at `first_at`.
    pub(super) fn allow(&self, first_at: BootNanos) -> bool {
        let takes_turns = match self.role {
            Role::Server => true,
            Role::Client => self.kept >= TURNS,
        };
        (takes_turns && !self.overlaps) || self.quiet_at == Some(first_at)
    }
}
