//! Makes a [`Record`] of an [`Exchange`]: kind, wall times, the caller's trace, and what only the socket knows.

use std::{net::SocketAddr, sync::Arc};

use compact_str::{CompactString, format_compact};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};
use spantap_protocols::{
    Attributes, Exchange, Outcome, Role, Value,
    exchange::TraceContext,
    semconv::{db_system, key},
};

use super::{Clock, Endpoint, Endpoints, IdGenerator, Record, Service, TraceIds};

impl Record {
    /// Turns an exchange into a record of `service`, with new ids, wall times and the socket's addresses.
    ///
    /// An end before the start is clamped to the start and counted in [`Clock::backward_times`].
    #[must_use]
    pub fn from_exchange(
        exchange: Exchange,
        service: &Arc<Service>,
        endpoints: &Endpoints,
        clock: &Clock,
        ids: &mut IdGenerator,
    ) -> Self {
        if exchange.end < exchange.start {
            clock.count_backward();
        }
        let start = clock.unix(exchange.start);
        let end = clock.unix(exchange.end.max(exchange.start));
        let response_start = exchange.response_start.map(|at| clock.unix(at).clamp(start, end));
        let mut attributes = exchange.attributes;
        let kind = match exchange.role {
            Role::Server => {
                complete_server(&mut attributes, endpoints);
                SpanKind::Server
            }
            Role::Client => {
                complete_client(&mut attributes, endpoints);
                SpanKind::Client
            }
        };
        // The span's status and the metric's `error.type` must agree.
        if let Outcome::Error(error) = &exchange.outcome
            && attributes.get(key::ERROR_TYPE).is_none()
        {
            attributes.push(key::ERROR_TYPE, Value::Text(error.clone()));
        }
        Self {
            service: Arc::clone(service),
            kind,
            protocol: exchange.protocol,
            operation: exchange.operation,
            target: exchange.target,
            start,
            response_start,
            end,
            attributes,
            outcome: exchange.outcome,
            trace: trace_ids(exchange.trace, ids),
            metric: exchange.metric,
            is_span: true,
        }
    }
}

/// Joins the caller's trace, or begins a sampled one.
fn trace_ids(context: Option<TraceContext>, ids: &mut IdGenerator) -> TraceIds {
    let span_id = ids.span_id();
    let caller_samples =
        context.as_ref().filter(|caller| caller.is_decided).map(|caller| caller.flags & 1 == 1);
    match context {
        Some(caller) if caller.trace_id != [0; 16] => TraceIds {
            trace_id: TraceId::from_bytes(caller.trace_id),
            span_id,
            parent: Some(SpanId::from_bytes(caller.parent_id)),
            flags: TraceFlags::new(caller.flags),
            caller_samples,
            state: caller.state,
        },
        _ => TraceIds {
            trace_id: ids.trace_id(),
            span_id,
            parent: None,
            flags: TraceFlags::SAMPLED,
            caller_samples,
            state: CompactString::const_new(""),
        },
    }
}

fn complete_server(attributes: &mut Attributes, endpoints: &Endpoints) {
    if let Some((address, port)) = endpoints.peer.as_ref().and_then(Endpoint::place) {
        if attributes.get(key::CLIENT_ADDRESS).is_none() {
            attributes.push(key::CLIENT_ADDRESS, address.clone());
        }
        push_peer(attributes, address, port);
    }
    if let Some(Endpoint::Unix(name)) = &endpoints.local {
        attributes.set(key::NETWORK_TRANSPORT, Value::Static("unix"));
        if !name.is_empty() {
            attributes.set(key::NETWORK_LOCAL_ADDRESS, Value::Text((&**name).into()));
        }
    }
    // A port of the socket beside a name of the `Host` header could contradict each other: both or neither.
    if let Some((address, port)) = endpoints.local.as_ref().and_then(Endpoint::place)
        && attributes.get(key::SERVER_ADDRESS).is_none()
    {
        attributes.push(key::SERVER_ADDRESS, address);
        if let Some(port) = port.filter(|port| !is_usual_port(attributes, port)) {
            attributes.set(key::SERVER_PORT, port);
        }
    }
    if endpoints.tls && attributes.get(key::URL_PATH).is_some() {
        attributes.set(key::URL_SCHEME, Value::Static("https"));
    }
}

fn complete_client(attributes: &mut Attributes, endpoints: &Endpoints) {
    if let Some(Endpoint::Unix(_)) = &endpoints.peer {
        attributes.set(key::NETWORK_TRANSPORT, Value::Static("unix"));
    }
    if let Some((address, port)) = endpoints.peer.as_ref().and_then(Endpoint::place) {
        if attributes.get(key::SERVER_ADDRESS).is_none() {
            attributes.push(key::SERVER_ADDRESS, address.clone());
        }
        // Required on client spans: a `Host` without a port means the port that was connected to.
        if attributes.get(key::SERVER_PORT).is_none()
            && let Some(port) = port.clone().filter(|port| !is_usual_port(attributes, port))
        {
            attributes.push(key::SERVER_PORT, port);
        }
        push_peer(attributes, address, port);
    }
    if let Some(Endpoint::Inet(peer)) = endpoints.peer {
        push_url(attributes, peer, endpoints.tls);
    }
    if endpoints.tls && attributes.get(key::URL_SCHEME).is_some() {
        attributes.set(key::URL_SCHEME, Value::Static("https"));
    }
}

/// The port that goes without saying.
///
/// > `server.port` [...] if using a port other than the default port for this DBMS and if `server.address` is set
/// > (conventions, "Database client spans")
fn is_usual_port(attributes: &Attributes, port: &Value) -> bool {
    let system = attributes.get(key::DB_SYSTEM_NAME).and_then(Value::as_str);
    let usual = system.and_then(db_system::default_port);
    usual.is_some_and(|usual| *port == Value::Int(usual.into()))
}

/// `url.full` is required on client spans. A request that named no authority went to the address of the socket.
fn push_url(attributes: &mut Attributes, peer: SocketAddr, tls: bool) {
    if attributes.get(key::URL_FULL).is_some() {
        return;
    }
    let Some(path) = attributes.get(key::URL_PATH).and_then(Value::as_str) else { return };
    // `OPTIONS *` asks for no path.
    if !path.starts_with('/') {
        return;
    }
    let scheme = if tls { "https" } else { "http" };
    // It writes IPv6 in brackets, and without the scope, which means nothing elsewhere.
    let authority = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut url = format_compact!("{scheme}://{authority}{path}");
    if let Some(query) = attributes.get(key::URL_QUERY).and_then(Value::as_str) {
        url.push('?');
        url.push_str(query);
    }
    attributes.push(key::URL_FULL, Value::Text(url));
}

fn push_peer(attributes: &mut Attributes, address: Value, port: Option<Value>) {
    attributes.set(key::NETWORK_PEER_ADDRESS, address);
    if let Some(port) = port {
        attributes.set(key::NETWORK_PEER_PORT, port);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use compact_str::ToCompactString;
    use spantap_protocols::{BootNanos, semconv};

    use super::*;
    use crate::telemetry::UnixNanos;

    pub(crate) fn service(id: u32, name: &str) -> Arc<Service> {
        let mut attributes = Attributes::new();
        attributes.push(key::SERVICE_NAME, Value::Text(name.into()));
        Arc::new(Service { id, name: name.into(), attributes })
    }

    pub(crate) fn exchange(role: Role, status: i64) -> Exchange {
        let mut attributes = Attributes::new();
        attributes.push(key::HTTP_REQUEST_METHOD, Value::Static("GET"));
        attributes.push(key::URL_PATH, Value::Text("/users/42".into()));
        attributes.push(key::URL_SCHEME, Value::Static("http"));
        attributes.push(key::HTTP_RESPONSE_STATUS_CODE, Value::Int(status));
        let server = role == Role::Server;
        Exchange {
            protocol: "http1",
            role,
            start: BootNanos(1_000_000),
            request_end: BootNanos(1_100_000),
            response_start: Some(BootNanos(5_000_000)),
            end: BootNanos(7_000_000),
            request_bytes: 100,
            response_bytes: 200,
            operation: "GET".into(),
            target: None,
            attributes,
            outcome: if status < 500 { Outcome::Unset } else { Outcome::Error(status.to_compact_string()) },
            trace: None,
            metric: Some(if server {
                &semconv::HTTP_SERVER_REQUEST_DURATION
            } else {
                &semconv::HTTP_CLIENT_REQUEST_DURATION
            }),
        }
    }

    pub(crate) fn record(role: Role, status: i64) -> Record {
        let endpoints = Endpoints {
            local: inet("[::ffff:10.0.0.1]:8080"),
            peer: inet("[::ffff:10.0.0.2]:51234"),
            tls: false,
        };
        Record::from_exchange(
            exchange(role, status),
            &service(1, "shop"),
            &endpoints,
            &Clock::fixed(1_700_000_000_000_000_000),
            &mut IdGenerator::seeded(1),
        )
    }

    fn inet(text: &str) -> Option<Endpoint> {
        Some(Endpoint::Inet(text.parse().unwrap()))
    }

    fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
        record.attributes.get(name).and_then(Value::as_str)
    }

    #[test]
    fn server_span_takes_both_ends_of_the_socket() {
        let record = record(Role::Server, 200);
        assert_eq!(record.kind, SpanKind::Server);
        assert_eq!(text(&record, key::CLIENT_ADDRESS), Some("10.0.0.2"));
        assert_eq!(text(&record, key::NETWORK_PEER_ADDRESS), Some("10.0.0.2"));
        assert_eq!(text(&record, key::SERVER_ADDRESS), Some("10.0.0.1"));
        assert_eq!(record.attributes.get(key::SERVER_PORT), Some(&Value::Int(8080)));
        assert_eq!(record.duration_ns(), 6_000_000);
        assert_eq!(record.trace.flags, TraceFlags::SAMPLED);
        assert_eq!(record.trace.parent, None);
    }

    #[test]
    fn a_client_request_without_an_authority_gets_its_url_from_the_socket() {
        for (peer, tls, query, url) in [
            (Some("[::ffff:10.0.0.2]:8080"), false, None, Some("http://10.0.0.2:8080/users/42")),
            (Some("[2001:db8::1]:443"), true, Some("a=1"), Some("https://[2001:db8::1]:443/users/42?a=1")),
            (None, false, None, None),
        ] {
            for role in [Role::Client, Role::Server] {
                let mut exchange = exchange(role, 200);
                if let Some(query) = query {
                    exchange.attributes.push(key::URL_QUERY, Value::Static(query));
                }
                let endpoints = Endpoints { peer: peer.and_then(inet), local: None, tls };
                let record = Record::from_exchange(
                    exchange,
                    &service(1, "shop"),
                    &endpoints,
                    &Clock::fixed(0),
                    &mut IdGenerator::seeded(1),
                );
                assert_eq!(text(&record, key::URL_FULL), url.filter(|_| role == Role::Client));
            }
        }
        let mut named = exchange(Role::Client, 200);
        named.attributes.push(key::URL_FULL, Value::Static("http://shop/users/42"));
        let endpoints = Endpoints { peer: inet("10.0.0.2:80"), ..Endpoints::default() };
        let record = Record::from_exchange(
            named,
            &service(1, "shop"),
            &endpoints,
            &Clock::fixed(0),
            &mut IdGenerator::seeded(1),
        );
        assert_eq!(text(&record, key::URL_FULL), Some("http://shop/users/42"));
    }

    #[test]
    fn the_usual_port_of_a_database_goes_without_saying() {
        for (system, port, said) in [
            ("redis", 6379, false),
            ("redis", 6380, true),
            ("postgresql", 5432, false),
            ("other", 6379, true),
        ] {
            for role in [Role::Client, Role::Server] {
                let mut exchange = exchange(role, 200);
                exchange.attributes = Attributes::new();
                exchange.attributes.push(key::DB_SYSTEM_NAME, Value::Static(system));
                let at = Some(Endpoint::Inet(([10, 0, 0, 2], port).into()));
                let endpoints = Endpoints { local: at.clone(), peer: at, tls: false };
                let clock = Clock::fixed(0);
                let mut ids = IdGenerator::seeded(1);
                let record =
                    Record::from_exchange(exchange, &service(1, "shop"), &endpoints, &clock, &mut ids);
                assert_eq!(text(&record, key::SERVER_ADDRESS), Some("10.0.0.2"));
                assert_eq!(
                    record.attributes.get(key::SERVER_PORT).is_some(),
                    said,
                    "{system} {port} {role:?}"
                );
            }
        }
    }

    #[test]
    fn what_the_request_said_wins_over_the_socket() {
        let clock = Clock::fixed(0);
        let endpoints = Endpoints { local: inet("10.0.0.1:8080"), peer: inet("10.0.0.2:443"), tls: true };
        for role in [Role::Server, Role::Client] {
            let mut exchange = exchange(role, 200);
            exchange.attributes.push(key::SERVER_ADDRESS, Value::Static("shop.example"));
            exchange.attributes.push(key::CLIENT_ADDRESS, Value::Static("1.2.3.4"));
            exchange.trace = Some(TraceContext {
                trace_id: [1; 16],
                parent_id: [2; 8],
                flags: 0,
                is_decided: true,
                state: "a=b".into(),
            });
            let record = Record::from_exchange(
                exchange,
                &service(1, "shop"),
                &endpoints,
                &clock,
                &mut IdGenerator::seeded(1),
            );
            assert_eq!(text(&record, key::SERVER_ADDRESS), Some("shop.example"));
            assert_eq!(text(&record, key::CLIENT_ADDRESS), Some("1.2.3.4"));
            assert_eq!(text(&record, key::URL_SCHEME), Some("https"));
            let port = record.attributes.get(key::SERVER_PORT);
            assert_eq!(port, (role == Role::Client).then_some(&Value::Int(443)));
            assert_eq!(record.trace.trace_id, TraceId::from_bytes([1; 16]));
            assert_eq!(record.trace.parent, Some(SpanId::from_bytes([2; 8])));
            assert_eq!(record.trace.flags, TraceFlags::NOT_SAMPLED);
            assert_eq!(record.trace.state, "a=b");
        }
    }

    #[test]
    fn the_name_of_a_unix_socket_is_the_address_and_has_no_port() {
        for (role, server, client, host) in [
            (Role::Server, "/run/shop.sock", "", None),
            (Role::Client, "/run/shop.sock", "", Some("shop")),
            (Role::Client, "@shop", "@client", None),
            (Role::Server, "/run/shop.sock", "/run/client.sock", Some("shop")),
            (Role::Server, "", "", None),
        ] {
            let mut exchange = exchange(role, 200);
            if let Some(host) = host {
                exchange.attributes.push(key::SERVER_ADDRESS, Value::Static(host));
            }
            let (local, peer) = if role == Role::Server { (server, client) } else { (client, server) };
            let end = |name: &str| Some(Endpoint::Unix(name.into()));
            let endpoints = Endpoints { local: end(local), peer: end(peer), tls: false };
            let (service, clock) = (service(1, "shop"), Clock::fixed(0));
            let record =
                Record::from_exchange(exchange, &service, &endpoints, &clock, &mut IdGenerator::seeded(1));
            let some = |name: &'static str| Some(name).filter(|name| !name.is_empty());
            assert_eq!(text(&record, key::NETWORK_TRANSPORT), Some("unix"));
            assert_eq!(
                text(&record, key::NETWORK_PEER_ADDRESS),
                some(if role == Role::Server { client } else { server })
            );
            assert_eq!(text(&record, key::SERVER_ADDRESS), host.or(some(server)));
            let own = if role == Role::Server { some(server) } else { None };
            assert_eq!(text(&record, key::NETWORK_LOCAL_ADDRESS), own);
            assert_eq!(
                text(&record, key::CLIENT_ADDRESS),
                if role == Role::Server { some(client) } else { None }
            );
            for absent in [key::SERVER_PORT, key::NETWORK_PEER_PORT, key::URL_FULL] {
                assert_eq!(record.attributes.get(absent), None, "{absent}");
            }
        }
    }

    #[test]
    fn an_end_before_the_start_is_clamped_and_counted() {
        let clock = Clock::fixed(0);
        let mut exchange = exchange(Role::Server, 200);
        exchange.end = BootNanos(10);
        let record = Record::from_exchange(
            exchange,
            &service(1, "shop"),
            &Endpoints::default(),
            &clock,
            &mut IdGenerator::new(),
        );
        assert_eq!((record.start, record.end), (UnixNanos(1_000_000), UnixNanos(1_000_000)));
        assert_eq!(record.response_start, Some(UnixNanos(1_000_000)));
        assert_eq!(clock.backward_times(), 1);
        assert!(record.attributes.get(key::NETWORK_PEER_ADDRESS).is_none());
    }
}
