//! What is known of the sockets: who opened them, their addresses, and which streams lie on them.
//!
//! Kept longer than streams: an idle connection of a pool may speak again after an hour, and its addresses are told
//! only once.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use spantap_ebpf_common::{
    event::{ConnectionId, Endpoint, Open, Opener},
    limits::COMM_BYTES,
};
use spantap_protocols::BootNanos;

use super::{
    arena::{Arena, Order},
    counters::Counters,
};

/// See the module.
pub(super) struct Connections {
    max: usize,
    arena: Arena<Connection>,
    slots: HashMap<ConnectionId, u32, RandomState>,
    /// Who was added, or found to have streams, the longest ago first.
    age: Order,
}

/// What is known of a socket.
pub(super) struct Connection {
    id: ConnectionId,
    pub(super) info: Option<Info>,
    /// When it was last known to be in use; its streams know better.
    active_at: BootNanos,
    /// A stream on it has begun: a second one is not from the start.
    pub(super) begun: bool,
    /// A TLS session on it has begun: a second one may be the rest of the first.
    pub(super) tls_begun: bool,
    /// A TLS session on it is seen: its own bytes are ciphertext.
    pub(super) below_tls: bool,
    /// Slots of its streams.
    pub(super) streams: SmallVec<[u32; 2]>,
}

/// What [`Open`] told.
#[derive(Clone)]
pub(super) struct Info {
    pub(super) opener: Option<Opener>,
    pub(super) from_start: bool,
    /// When its first call was.
    pub(super) opened_at: BootNanos,
    pub(super) local: Endpoint<Arc<str>>,
    pub(super) peer: Endpoint<Arc<str>>,
    pub(super) netns: u32,
    pub(super) comm: [u8; COMM_BYTES],
}

impl From<&Open<'_>> for Info {
    fn from(open: &Open<'_>) -> Self {
        let Open { opener, from_start, boot_ns, local, peer, netns, comm, .. } = *open;
        let (local, peer) = (readable(local), readable(peer));
        Self { opener, from_start, opened_at: BootNanos(boot_ns), local, peer, netns, comm }
    }
}

/// Names are bytes of any kind. One that is in no file system has `@` in place of its zero bytes, as in
/// /proc/net/unix.
fn readable(endpoint: Endpoint<&[u8]>) -> Endpoint<Arc<str>> {
    match endpoint {
        Endpoint::Inet(address) => Endpoint::Inet(address),
        Endpoint::Unix(name) => Endpoint::Unix(String::from_utf8_lossy(name).replace('\0', "@").into()),
    }
}

impl Connections {
    /// None yet; at most `max` will be kept.
    pub(super) fn new(max: usize) -> Self {
        Self { max, arena: Arena::new(), slots: HashMap::default(), age: Order::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, id: ConnectionId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.arena.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.arena.get_mut(slot)
    }

    /// Adds a connection that is not known; [`Connections::crowded`] has made room.
    pub(super) fn insert(&mut self, id: ConnectionId, at: BootNanos) -> u32 {
        let connection = Connection {
            id,
            info: None,
            active_at: at,
            begun: false,
            tls_begun: false,
            below_tls: false,
            streams: SmallVec::new(),
        };
        let slot = self.arena.insert(connection);
        self.slots.insert(id, slot);
        self.age.push(slot);
        slot
    }

    /// If there are too many: one to forget, old and without streams, or after a few tries just old.
    pub(super) fn crowded(&mut self) -> Option<u32> {
        if self.slots.len() < self.max {
            return None;
        }
        for _ in 0..EVICTION_TRIES {
            let slot = self.age.first()?;
            if self.arena.get(slot).is_none_or(|connection| connection.streams.is_empty()) {
                break;
            }
            self.age.push(slot);
        }
        self.age.first()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        self.age.remove(slot);
        let connection = self.arena.remove(slot)?;
        self.slots.remove(&connection.id);
        Some(connection)
    }

    /// Notes that a stream on `slot` is over.
    pub(super) fn unbind(&mut self, slot: u32, stream: u32, at: BootNanos) {
        let Some(connection) = self.arena.get_mut(slot) else { return };
        connection.streams.retain(|other| *other != stream);
        connection.active_at = connection.active_at.max(at);
    }

    /// Forgets those that have had no stream for `idle_ns`.
    pub(super) fn expire(&mut self, now: BootNanos, idle_ns: u64, counters: &mut Counters) {
        for _ in 0..self.slots.len() {
            let Some(slot) = self.age.first() else { return };
            let Some(connection) = self.arena.get_mut(slot) else { return };
            if now.since(connection.active_at) < idle_ns {
                return;
            }
            if connection.streams.is_empty() {
                counters.expired_connections += 1;
                self.remove(slot);
            } else {
                connection.active_at = now;
                self.age.push(slot);
            }
        }
    }
}

/// Connections with streams that are passed over before one is forgotten all the same.
const EVICTION_TRIES: usize = 8;
