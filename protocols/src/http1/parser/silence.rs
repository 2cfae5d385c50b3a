//! When may nothing be in flight? What the times of the two directions prove of one connection.
//!
//! On a client's connection that was joined late, a client that always keeps two requests in flight looks like one that
//! keeps one: each response is followed by a request, each request by a response, but that of the request before.
//! Nothing in the bytes tells the two apart, and every exchange would be paired off by one. After loss the same holds, of
//! either end, for whoever was seen to pipeline. But nobody waits much longer for a response than it ever had to: who was
//! silent after one for many times as long waits for none, and what it then sends finds nothing in flight.
//!
//! So if the first bytes seen of a client were a response's (something was in flight), nothing is paired before such a
//! silence. A client that is never silent stays unpaired, and is counted.
//!
//! A server that does not pipeline proves as much by the order of its calls: it takes the next request when it has
//! answered the one before, or takes both at once, which is seen. One that reads ahead while it works is not told apart.

use crate::protocol::{BootNanos, OpenContext, Role};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    joined: Joined,
    newest: Newest,
    /// Pairing was taken up late, or again.
    begun: bool,
    /// When the newest byte came.
    newest_at: BootNanos,
    /// Longest time that a response was waited for, or its next byte; 0 before the first.
    longest_ns: u64,
    /// The request that began here came after a long silence; 0 before the first.
    broken_at: BootNanos,
}

/// The newest byte of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Unseen,
    Request,
    Response,
}

/// What may be in flight since before the connection was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    /// Nothing.
    Settled,
    /// Not a byte was seen yet.
    Unseen,
    /// It began with a response: perhaps more.
    Busy,
}

/// How many times longer than any answer took the client must have been silent.
const FACTOR: u64 = 4;

/// And at least so long. Rationale: longer than a client that has responses waiting is busy with something else.
const AT_LEAST_NS: u64 = 200_000_000;

impl Silence {
    pub(super) fn new(context: OpenContext) -> Self {
        let joined = match context {
            OpenContext { role: Role::Client, from_start: false, answered: false, .. } => Joined::Unseen,
            OpenContext { role: Role::Client, from_start: false, .. } => Joined::Busy,
            _ => Joined::Settled,
        };
        Self {
            joined,
            newest: Newest::Unseen,
            begun: false,
            newest_at: BootNanos(0),
            longest_ns: 0,
            broken_at: BootNanos(0),
        }
    }

    /// Request bytes; of a gap, without `first_at`.
    pub(super) fn ask(&mut self, first_at: Option<BootNanos>, last_at: BootNanos) {
        if self.joined == Joined::Unseen {
            self.joined = Joined::Settled;
        }
        if let (Newest::Response, Some(first_at)) = (self.newest, first_at) {
            let enough_ns = self.longest_ns.saturating_mul(FACTOR).max(AT_LEAST_NS);
            if self.longest_ns > 0 && first_at.since(self.newest_at) >= enough_ns {
                self.broken_at = first_at;
                self.joined = Joined::Settled;
            }
        }
        self.newest = Newest::Request;
        self.newest_at = self.newest_at.max(last_at);
    }

    /// Response bytes.
    pub(super) fn answer(&mut self, first_at: BootNanos, last_at: BootNanos) {
        if self.joined == Joined::Unseen {
            self.joined = Joined::Busy;
        }
        let waited_ns = match self.newest {
            Newest::Request => first_at.since(self.newest_at).max(1),
            Newest::Response if self.longest_ns > 0 => first_at.since(self.newest_at),
            Newest::Response | Newest::Unseen => 0,
        };
        self.longest_ns = self.longest_ns.max(waited_ns);
        self.newest = Newest::Response;
        self.newest_at = self.newest_at.max(last_at);
    }

    /// Nothing is in flight since before the connection was joined.
    pub(super) fn is_settled(&self) -> bool {
        self.joined == Joined::Settled
    }

    /// Pairing is taken up.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether it was, later than at the connection's start.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The request that begins at `first_at` came after a silence that proves that nothing is in flight.
    pub(super) fn ends_at(&self, first_at: BootNanos) -> bool {
        self.broken_at == first_at && first_at > BootNanos(0)
    }
}
