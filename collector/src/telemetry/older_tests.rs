//! Every older name, and that a metric is counted twice where that is asked for, and only there.

use spantap_protocols::{Role, semconv};

use super::*;
use crate::telemetry::{Aggregator, MetricSettings, UnixNanos, span::tests::record};

const ALL: OlderNames = OlderNames { http: true, database: true, rpc: true };
const NONE: OlderNames = OlderNames { http: false, database: false, rpc: false };

/// What is added to a record with these attributes: `name=value`, sorted.
fn added(names: OlderNames, role: Role, attributes: &[(&'static str, Value)]) -> Vec<String> {
    let mut record = record(role, 200);
    record.attributes = Attributes::new();
    for (name, value) in attributes {
        record.attributes.push(*name, value.clone());
    }
    names.add(&mut record);
    for (at, (name, value)) in attributes.iter().enumerate() {
        let (key, found) = record.attributes.iter().nth(at).unwrap();
        assert_eq!((key.as_str(), found), (*name, value), "what is of today stays as it is");
    }
    let mut new: Vec<String> = record.attributes.iter().skip(attributes.len()).map(show).collect();
    new.sort();
    new
}

fn show((key, value): (&spantap_protocols::Key, &Value)) -> String {
    match value {
        Value::Int(number) => format!("{}={number}", key.as_str()),
        value => format!("{}={}", key.as_str(), value.as_str().unwrap()),
    }
}

fn http_attributes() -> Vec<(&'static str, Value)> {
    vec![
        (key::HTTP_REQUEST_METHOD, Value::Static("GET")),
        (key::HTTP_RESPONSE_STATUS_CODE, Value::Int(404)),
        (key::URL_PATH, Value::Static("/a")),
        (key::URL_QUERY, Value::Static("b=1")),
        (key::URL_FULL, Value::Static("http://shop:8080/a?b=1")),
        (key::URL_SCHEME, Value::Static("http")),
        (key::SERVER_ADDRESS, Value::Static("shop")),
        (key::SERVER_PORT, Value::Int(8080)),
        (key::CLIENT_ADDRESS, Value::Static("10.0.0.9")),
        (key::NETWORK_PEER_ADDRESS, Value::Static("10.0.0.2")),
        (key::NETWORK_PEER_PORT, Value::Int(51234)),
        (key::NETWORK_PROTOCOL_VERSION, Value::Static("2")),
    ]
}

#[test]
fn of_a_server_span_of_http() {
    let expected = [
        "http.client_ip=10.0.0.9",
        "http.method=GET",
        "http.scheme=http",
        "http.status_code=404",
        "http.target=/a?b=1",
        "net.host.name=shop",
        "net.host.port=8080",
        "net.protocol.version=2.0",
        "net.sock.peer.addr=10.0.0.2",
        "net.sock.peer.port=51234",
    ];
    assert_eq!(added(ALL, Role::Server, &http_attributes()), expected);
}

#[test]
fn of_a_client_span_of_http() {
    let expected = [
        "http.method=GET",
        "http.status_code=404",
        "http.url=http://shop:8080/a?b=1",
        "net.peer.name=shop",
        "net.peer.port=8080",
        "net.protocol.version=2.0",
        "net.sock.peer.addr=10.0.0.2",
        "net.sock.peer.port=51234",
    ];
    assert_eq!(added(ALL, Role::Client, &http_attributes()), expected);
}

#[test]
fn a_method_was_as_it_was_sent() {
    let attributes = [
        (key::HTTP_REQUEST_METHOD, Value::Static("_OTHER")),
        (key::HTTP_REQUEST_METHOD_ORIGINAL, Value::Static("BREW")),
    ];
    assert_eq!(added(ALL, Role::Server, &attributes), ["http.method=BREW"]);
}

#[test]
fn of_databases() {
    let common = |system| {
        vec![
            (key::DB_SYSTEM_NAME, Value::Static(system)),
            (key::DB_QUERY_TEXT, Value::Static("GET ?")),
            (key::DB_OPERATION_NAME, Value::Static("GET")),
            (key::DB_COLLECTION_NAME, Value::Static("users")),
        ]
    };
    let mut redis = common("redis");
    redis.push((key::DB_NAMESPACE, Value::Static("3")));
    let mut expected =
        vec!["db.operation=GET", "db.redis.database_index=3", "db.sql.table=users", "db.statement=GET ?"];
    expected.push("db.system=redis");
    assert_eq!(added(ALL, Role::Client, &redis), expected);
    let mut postgresql = common("postgresql");
    postgresql.push((key::DB_NAMESPACE, Value::Static("shop|public")));
    let expected = ["db.name=shop", "db.operation=GET", "db.sql.table=users", "db.statement=GET ?"];
    assert_eq!(added(ALL, Role::Client, &postgresql)[..4], expected);
}

#[test]
fn of_grpc() {
    let attributes = [
        (key::RPC_SYSTEM_NAME, Value::Static("grpc")),
        (key::RPC_METHOD, Value::Static("shop.v1.Catalog/GetItem")),
        (key::RPC_RESPONSE_STATUS_CODE, Value::Static("DEADLINE_EXCEEDED")),
    ];
    let expected = ["rpc.grpc.status_code=4", "rpc.service=shop.v1.Catalog", "rpc.system=grpc"];
    assert_eq!(added(ALL, Role::Server, &attributes), expected);
    let unknown = [(key::RPC_SYSTEM_NAME, Value::Static("grpc")), (key::RPC_METHOD, Value::Static("_OTHER"))];
    assert_eq!(added(ALL, Role::Server, &unknown), ["rpc.system=grpc"]);
}

#[test]
fn each_convention_is_asked_for_by_itself() {
    let grpc = [(key::RPC_SYSTEM_NAME, Value::Static("grpc"))];
    let redis = [(key::DB_SYSTEM_NAME, Value::Static("redis"))];
    for (names, http, database, rpc) in [
        (NONE, 0, 0, 0),
        (OlderNames { http: true, ..NONE }, 10, 0, 0),
        (OlderNames { database: true, ..NONE }, 0, 1, 0),
        (OlderNames { rpc: true, ..NONE }, 0, 0, 1),
    ] {
        assert_eq!(added(names, Role::Server, &http_attributes()).len(), http, "{names:?}");
        assert_eq!(added(names, Role::Client, &redis).len(), database, "{names:?}");
        assert_eq!(added(names, Role::Server, &grpc).len(), rpc, "{names:?}");
        assert_eq!(names.any(), http + database + rpc > 0);
    }
}

#[test]
fn durations_are_counted_under_both_names() {
    for (older, names) in [
        (NONE, vec!["http.server.request.duration"]),
        (ALL, vec!["http.server.duration", "http.server.request.duration"]),
    ] {
        let mut metrics = Aggregator::new(MetricSettings { older, ..MetricSettings::default() });
        let mut record = record(Role::Server, 200);
        older.add(&mut record);
        metrics.record(&record);
        metrics.record(&record);
        let snapshot = metrics.collect(UnixNanos(u64::MAX / 2), UnixNanos(0));
        let found = &snapshot.services[0].metrics;
        assert_eq!(found.iter().map(|metric| metric.metric.name).collect::<Vec<_>>(), names);
        let now = found.last().unwrap();
        assert!((now.points[0].histogram.sum - 0.012).abs() < 1e-12, "seconds");
        if older.http {
            let then = &found[0].points[0];
            assert!((then.histogram.sum - 12.0).abs() < 1e-9, "milliseconds");
            assert_eq!(then.histogram.explicit()[2], 2, "6 ms lie between 5 and 10");
            let dimensions: Vec<_> = then.dimensions.iter().map(|(name, _)| name).collect();
            assert_eq!(dimensions, ["http.method", "http.scheme", "http.status_code"]);
        }
    }
    assert_eq!(ALL.metric(&semconv::RPC_CLIENT_CALL_DURATION).unwrap().name, "rpc.client.duration");
    assert_eq!(ALL.metric(&semconv::RPC_SERVER_CALL_DURATION).unwrap().name, "rpc.server.duration");
    assert_eq!(ALL.metric(&semconv::HTTP_CLIENT_REQUEST_DURATION).unwrap().name, "http.client.duration");
    assert_eq!(ALL.metric(&semconv::DB_CLIENT_OPERATION_DURATION), None, "there was none");
}
