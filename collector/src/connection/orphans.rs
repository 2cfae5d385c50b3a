//! TLS sessions whose socket is closed and that are not freed yet: what programs still write into one, in memory, is sent
//! to nobody (Python's asyncio and Node hand the library's output to the socket themselves). Taken for a stream of its
//! own, it would be a request that lasts until somebody frees the session.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use spantap_ebpf_common::event::{ConnectionId, Data, StreamId};

/// See the module.
#[derive(Default)]
pub(super) struct Orphans {
    sockets: HashMap<StreamId, ConnectionId, RandomState>,
    /// In the order in which they came.
    age: VecDeque<StreamId>,
}

/// Rationale: sessions are freed within seconds, by garbage collectors too.
const SESSIONS_MAX: usize = 4_096;

impl Orphans {
    /// The socket of a session is closed.
    pub(super) fn add(&mut self, session: StreamId, socket: ConnectionId) {
        if self.age.len() >= SESSIONS_MAX
            && let Some(oldest) = self.age.pop_front()
        {
            self.sockets.remove(&oldest);
        }
        if self.sockets.insert(session, socket).is_none() {
            self.age.push_back(session);
        }
    }

    /// Whether a call belongs to a session whose socket is closed. One that has got another socket is alive again.
    pub(super) fn has(&mut self, data: &Data<'_>) -> bool {
        let Some(socket) = self.sockets.get(&data.stream) else { return false };
        if data.connection.is_none_or(|now| now == *socket) {
            return true;
        }
        self.forget(data.stream);
        false
    }

    /// A session was freed.
    pub(super) fn forget(&mut self, session: StreamId) {
        if self.sockets.remove(&session).is_some() {
            self.age.retain(|other| *other != session);
        }
    }
}
