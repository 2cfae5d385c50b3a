//! Connections that a client asked for and did not get, as exchanges that failed: if it is known what would have been
//! spoken.
//!
//! Not a byte passed, so that only experience tells: what the same program (the same process, or a thread of the same
//! name) speaks to that very address, before or within [`HELD_NS`] after. All others are counted and no exchange is made of
//! them, since a wrong one is worse than none: a probe that only asks whether a port is open would look like a client.
//! Nor is one made of attempts that the process itself gave up, which may be the slower of two addresses of a host.
//!
//! Bounds: [`KNOWN_MAX`] programs and addresses (twice, the older half is forgotten then), [`HELD_MAX`] failures.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use compact_str::CompactString;
use foldhash::fast::RandomState;
use spantap_ebpf_common::{
    event::{ConnectFailed, Endpoint, Tgid},
    limits::COMM_BYTES,
};
use spantap_protocols::{
    Attributes, BootNanos, Exchange, Outcome, Role, Value,
    semconv::{Metric, key},
};

use super::{Finished, connections::Info, counters::Counters};

/// What is known of clients, and the failures that wait to be understood.
#[derive(Default)]
pub(super) struct Refused {
    known: Known,
    older: Known,
    /// Where each process is known to have spoken.
    places: HashMap<Tgid, Vec<Place>, RandomState>,
    held: VecDeque<ConnectFailed>,
}

type Known = HashMap<(Client, Place), Spoken, RandomState>;

/// By what a program is known again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Process(Tgid),
    Named([u8; COMM_BYTES]),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    peer: SocketAddr,
    netns: u32,
}

/// What a client speaks: as much of its exchanges as is the same for all of them.
#[derive(Clone)]
struct Spoken {
    protocol: &'static str,
    metric: Option<&'static Metric>,
    /// The name of a span that says no more.
    operation: CompactString,
    attributes: Attributes,
}

impl Refused {
    /// A client's stream has its first exchange: what it speaks is known from now on.
    pub(super) fn learn(
        &mut self,
        tgid: Tgid,
        info: &Info,
        exchange: &Exchange,
        counters: &mut Counters,
        out: &mut Vec<Finished>,
    ) {
        let Endpoint::Inet(peer) = info.peer else { return };
        if exchange.role != Role::Client {
            return;
        }
        let place = Place { peer: plain(peer), netns: info.netns };
        let clients = [Client::Process(tgid), Client::Named(info.comm)];
        let is_known = |client| self.known.get(&(client, place)).is_some_and(|spoken| spoken.is_of(exchange));
        if clients.into_iter().all(is_known) {
            return;
        }
        let Some(spoken) = Spoken::of(exchange) else { return };
        if self.known.len() + 2 > KNOWN_MAX {
            self.older = std::mem::take(&mut self.known);
            let older = &self.older;
            self.places.retain(|tgid, places| {
                places.retain(|place| older.contains_key(&(Client::Process(*tgid), *place)));
                !places.is_empty()
            });
        }
        for client in clients {
            self.known.insert((client, place), spoken.clone());
        }
        let places = self.places.entry(tgid).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
        let explained = |failed: &ConnectFailed| {
            (failed.tgid == tgid || failed.comm == info.comm) && Place::of(failed) == place
        };
        self.held.retain(|failed| {
            let explained = explained(failed);
            if let Some(errno) = failed.errno.filter(|_| explained) {
                counters.exchanges += 1;
                out.push(spoken.finished(failed, errno));
            }
            !explained
        });
    }

    /// An attempt failed: it is told, waits, or is counted.
    pub(super) fn on_failed(
        &mut self,
        failed: ConnectFailed,
        counters: &mut Counters,
        out: &mut Vec<Finished>,
    ) {
        let Some(errno) = failed.errno else {
            counters.failed_connects_unknown += 1;
            return;
        };
        let place = Place::of(&failed);
        let clients = [Client::Process(failed.tgid), Client::Named(failed.comm)];
        let known = |client| self.known.get(&(client, place)).or_else(|| self.older.get(&(client, place)));
        if let Some(spoken) = clients.into_iter().find_map(known) {
            counters.exchanges += 1;
            out.push(spoken.finished(&failed, errno));
            return;
        }
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
            counters.failed_connects_unknown += 1;
        }
        self.held.push_back(failed);
    }

    /// The process is over, or runs another program: its number says nothing any more.
    pub(super) fn forget(&mut self, tgid: Tgid) {
        for place in self.places.remove(&tgid).unwrap_or_default() {
            self.known.remove(&(Client::Process(tgid), place));
            self.older.remove(&(Client::Process(tgid), place));
        }
    }

    /// Gives up those that have waited too long.
    pub(super) fn expire(&mut self, now: BootNanos, counters: &mut Counters) {
        while self.held.front().is_some_and(|failed| now.since(BootNanos(failed.boot_ns)) >= HELD_NS) {
            self.held.pop_front();
            counters.failed_connects_unknown += 1;
        }
    }

    /// Nothing more will be learnt.
    pub(super) fn finish(&mut self, counters: &mut Counters) {
        counters.failed_connects_unknown += self.held.drain(..).len() as u64;
    }
}

impl Place {
    fn of(failed: &ConnectFailed) -> Self {
        Self { peer: plain(failed.peer), netns: failed.netns }
    }
}

impl Spoken {
    /// Whether it is what this exchange says, as far as that can be told at a glance.
    fn is_of(&self, exchange: &Exchange) -> bool {
        let metric = |metric: Option<&'static Metric>| metric.map(|metric| metric.name);
        self.protocol == exchange.protocol && metric(self.metric) == metric(exchange.metric)
    }

    /// Without a name for what would have been asked, the conventions have words for "any": `_OTHER`, and the system.
    fn of(exchange: &Exchange) -> Option<Self> {
        let mut attributes = Attributes::new();
        let text = |name| exchange.attributes.get(name).and_then(Value::as_str);
        let operation = if let Some(system) = text(key::DB_SYSTEM_NAME) {
            attributes.push(key::DB_SYSTEM_NAME, Value::Text(system.into()));
            system.into()
        } else if let Some(system) = text(key::RPC_SYSTEM_NAME) {
            attributes.push(key::RPC_SYSTEM_NAME, Value::Text(system.into()));
            attributes.push(key::RPC_METHOD, Value::Static("_OTHER"));
            system.into()
        } else {
            text(key::HTTP_REQUEST_METHOD)?;
            attributes.push(key::HTTP_REQUEST_METHOD, Value::Static("_OTHER"));
            CompactString::const_new("HTTP")
        };
        Some(Self { protocol: exchange.protocol, metric: exchange.metric, operation, attributes })
    }

    fn finished(&self, failed: &ConnectFailed, errno: i32) -> Finished {
        let (start, end) = (BootNanos(failed.begun_ns), BootNanos(failed.boot_ns));
        let exchange = Exchange {
            protocol: self.protocol,
            role: Role::Client,
            start,
            request_end: start,
            response_start: None,
            end,
            request_bytes: 0,
            response_bytes: 0,
            operation: self.operation.clone(),
            target: None,
            attributes: self.attributes.clone(),
            outcome: Outcome::Error(CompactString::const_new(error_type(errno))),
            trace: None,
            metric: self.metric,
        };
        Finished {
            exchange,
            tgid: failed.tgid,
            comm: failed.comm,
            netns: failed.netns,
            local: None,
            peer: Some(Endpoint::<Arc<str>>::Inet(failed.peer)),
            tls: false,
        }
    }
}

/// The same address, whichever family the socket was of.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `error.type` of an errno(3) that a handshake can end with (tcp(7), "ERRORS").
fn error_type(errno: i32) -> &'static str {
    match errno {
        libc::ECONNREFUSED => "connection_refused",
        libc::ECONNRESET => "connection_reset",
        libc::ETIMEDOUT => "timeout",
        libc::EHOSTUNREACH => "host_unreachable",
        libc::ENETUNREACH => "network_unreachable",
        _ => "_OTHER",
    }
}

/// How long a failure waits for its client to speak. Rationale: who is refused tries again, mostly within seconds.
const HELD_NS: u64 = 30_000_000_000;
const HELD_MAX: usize = 256;
const KNOWN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use spantap_protocols::semconv;

    use super::*;

    const REDIS: &str = "127.0.0.1:6379";

    fn info(peer: &str, comm: &[u8; COMM_BYTES]) -> Info {
        Info {
            opener: None,
            from_start: true,
            opened_at: BootNanos(0),
            local: Endpoint::Inet(([127, 0, 0, 1], 40_000).into()),
            peer: Endpoint::Inet(peer.parse().unwrap()),
            netns: 3,
            comm: *comm,
        }
    }

    fn spoken(role: Role, attributes: &[(&'static str, &'static str)]) -> Exchange {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.push(*name, Value::Static(value)));
        all.push(key::DB_QUERY_TEXT, Value::Static("SET secret ?"));
        Exchange {
            protocol: "redis",
            role,
            start: BootNanos(0),
            request_end: BootNanos(0),
            response_start: None,
            end: BootNanos(0),
            request_bytes: 10,
            response_bytes: 10,
            operation: "SET".into(),
            target: Some("secret".into()),
            attributes: all,
            outcome: Outcome::Unset,
            trace: None,
            metric: Some(&semconv::DB_CLIENT_OPERATION_DURATION),
        }
    }

    fn failed(peer: &str, tgid: u32, comm: &[u8; COMM_BYTES], errno: Option<i32>) -> ConnectFailed {
        ConnectFailed {
            begun_ns: 5,
            boot_ns: 9,
            tgid: Tgid(tgid),
            peer: peer.parse().unwrap(),
            errno,
            netns: 3,
            parent: Tgid(0),
            comm: *comm,
        }
    }

    const CLI: &[u8; COMM_BYTES] = b"redis-cli\0\0\0\0\0\0\0";
    const PROBE: &[u8; COMM_BYTES] = b"probe\0\0\0\0\0\0\0\0\0\0\0";

    /// Learns of Redis at [`REDIS`], spoken by process 7.
    fn redis(refused: &mut Refused, counters: &mut Counters, out: &mut Vec<Finished>) {
        let exchange = spoken(Role::Client, &[(key::DB_SYSTEM_NAME, "redis")]);
        refused.learn(Tgid(7), &info(REDIS, CLI), &exchange, counters, out);
    }

    #[test]
    fn who_spoke_there_before_is_understood_and_nobody_else() {
        let (mut refused, mut counters, mut out) = (Refused::default(), Counters::default(), Vec::new());
        redis(&mut refused, &mut counters, &mut out);
        for (peer, tgid, comm, errno, is_told) in [
            (REDIS, 7, CLI, Some(libc::ECONNREFUSED), true),
            ("[::ffff:127.0.0.1]:6379", 8, CLI, Some(libc::ECONNREFUSED), true),
            (REDIS, 7, PROBE, Some(libc::ETIMEDOUT), true),
            (REDIS, 9, PROBE, Some(libc::ECONNREFUSED), false),
            ("127.0.0.1:6380", 7, CLI, Some(libc::ECONNREFUSED), false),
            ("127.0.0.2:6379", 7, CLI, Some(libc::ECONNREFUSED), false),
            (REDIS, 7, CLI, None, false),
        ] {
            out.clear();
            refused.on_failed(failed(peer, tgid, comm, errno), &mut counters, &mut out);
            assert_eq!(!out.is_empty(), is_told, "{peer} {tgid} {errno:?}");
        }
        let mut elsewhere = failed(REDIS, 7, CLI, Some(libc::ECONNREFUSED));
        elsewhere.netns = 4;
        refused.on_failed(elsewhere, &mut counters, &mut out);
        assert!(out.is_empty(), "the same address in another network is another host");
        // The number of a process that is over may be another's, its name is still that of its program.
        refused.forget(Tgid(7));
        refused.on_failed(failed(REDIS, 7, PROBE, Some(libc::ECONNREFUSED)), &mut counters, &mut out);
        assert!(out.is_empty() && refused.places.is_empty());
        refused.on_failed(failed(REDIS, 7, CLI, Some(libc::ECONNREFUSED)), &mut counters, &mut out);
        assert_eq!(out.len(), 1);
        refused.finish(&mut counters);
        assert_eq!((counters.exchanges, counters.failed_connects_unknown), (4, 6));
    }

    #[test]
    fn an_exchange_says_what_is_known_and_no_more() {
        for (attributes, operation, expected) in [
            (&[(key::DB_SYSTEM_NAME, "redis")][..], "redis", &[(key::DB_SYSTEM_NAME, "redis")][..]),
            (
                &[(key::HTTP_REQUEST_METHOD, "GET"), (key::URL_FULL, "http://a/b")],
                "HTTP",
                &[(key::HTTP_REQUEST_METHOD, "_OTHER")],
            ),
            (
                &[(key::RPC_SYSTEM_NAME, "grpc"), (key::RPC_METHOD, "a/B")],
                "grpc",
                &[(key::RPC_SYSTEM_NAME, "grpc"), (key::RPC_METHOD, "_OTHER")],
            ),
        ] {
            let (mut refused, mut counters, mut out) = (Refused::default(), Counters::default(), Vec::new());
            let exchange = spoken(Role::Client, attributes);
            refused.learn(Tgid(7), &info(REDIS, CLI), &exchange, &mut counters, &mut out);
            refused.on_failed(failed(REDIS, 7, CLI, Some(libc::ECONNREFUSED)), &mut counters, &mut out);
            let [Finished { exchange, local: None, peer: Some(_), .. }] = &out[..] else { panic!("{out:?}") };
            let found: Vec<_> =
                exchange.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, Some(*value))).collect();
            assert_eq!((exchange.operation.as_str(), found), (operation, expected));
            assert_eq!(exchange.outcome, Outcome::Error("connection_refused".into()));
            assert_eq!((exchange.start, exchange.end), (BootNanos(5), BootNanos(9)));
            assert_eq!((exchange.target.as_ref(), exchange.response_start), (None, None));
        }
    }

    #[test]
    fn what_is_spoken_later_explains_what_failed_before_but_not_for_ever() {
        let (mut refused, mut counters, mut out) = (Refused::default(), Counters::default(), Vec::new());
        for tgid in [7, 8] {
            let comm = if tgid == 7 { CLI } else { PROBE };
            refused.on_failed(failed(REDIS, tgid, comm, Some(111)), &mut counters, &mut out);
        }
        refused.expire(BootNanos(8 + HELD_NS), &mut counters);
        assert!(out.is_empty());
        let served = spoken(Role::Server, &[(key::DB_SYSTEM_NAME, "redis")]);
        refused.learn(Tgid(7), &info(REDIS, CLI), &served, &mut counters, &mut out);
        assert!(out.is_empty(), "what a server speaks says nothing of its own attempts");
        redis(&mut refused, &mut counters, &mut out);
        assert_eq!(out.iter().map(|finished| finished.tgid).collect::<Vec<_>>(), [Tgid(7)]);
        assert_eq!((refused.held.len(), counters.failed_connects_unknown), (1, 0));
        refused.expire(BootNanos(9 + HELD_NS), &mut counters);
        assert_eq!((refused.held.len(), counters.failed_connects_unknown), (0, 1));
    }

    #[test]
    fn everything_is_bounded() {
        let (mut refused, mut counters, mut out) = (Refused::default(), Counters::default(), Vec::new());
        for n in 0..HELD_MAX as u32 + 10 {
            refused.on_failed(failed("10.0.0.1:1", n, PROBE, Some(111)), &mut counters, &mut out);
        }
        assert_eq!((refused.held.len(), counters.failed_connects_unknown), (HELD_MAX, 10));
        let exchange = spoken(Role::Client, &[(key::DB_SYSTEM_NAME, "redis")]);
        for port in 1..20_000 {
            let info = info(&format!("10.0.0.2:{port}"), CLI);
            let tgid = Tgid(if port < 19_000 { port / 2 } else { 7 });
            refused.learn(tgid, &info, &exchange, &mut counters, &mut out);
            assert!(refused.known.len() <= KNOWN_MAX && refused.older.len() <= KNOWN_MAX);
            assert!(refused.places.values().map(Vec::len).sum::<usize>() <= 2 * KNOWN_MAX);
        }
        refused.on_failed(failed("10.0.0.2:19999", 7, CLI, Some(111)), &mut counters, &mut out);
        refused.on_failed(failed("10.0.0.2:1", 7, CLI, Some(111)), &mut counters, &mut out);
        assert_eq!(out.len(), 1, "the newest are known");
    }
}
