//! The names that attributes and metrics had before their conventions were stable, for dashboards that ask for them.
//!
//! HTTP as of 1.20, databases as of 1.24, RPC as of 1.37; what became what:
//! <https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs/non-normative>.

use super::{
    HTTP_CLIENT_REQUEST_DURATION, HTTP_SERVER_REQUEST_DURATION, Metric, RPC_CLIENT_CALL_DURATION,
    RPC_SERVER_CALL_DURATION,
};

/// Attribute names.
#[expect(
    missing_docs,
    reason = "each constant is its own documentation: the text is the name in the conventions"
)]
pub mod key {
    pub const DB_NAME: &str = "db.name";
    pub const DB_OPERATION: &str = "db.operation";
    pub const DB_REDIS_DATABASE_INDEX: &str = "db.redis.database_index";
    pub const DB_SQL_TABLE: &str = "db.sql.table";
    pub const DB_STATEMENT: &str = "db.statement";
    pub const DB_SYSTEM: &str = "db.system";
    pub const HTTP_CLIENT_IP: &str = "http.client_ip";
    pub const HTTP_METHOD: &str = "http.method";
    pub const HTTP_SCHEME: &str = "http.scheme";
    pub const HTTP_STATUS_CODE: &str = "http.status_code";
    pub const HTTP_TARGET: &str = "http.target";
    pub const HTTP_URL: &str = "http.url";
    pub const NET_HOST_NAME: &str = "net.host.name";
    pub const NET_HOST_PORT: &str = "net.host.port";
    pub const NET_PEER_NAME: &str = "net.peer.name";
    pub const NET_PEER_PORT: &str = "net.peer.port";
    pub const NET_PROTOCOL_NAME: &str = "net.protocol.name";
    pub const NET_PROTOCOL_VERSION: &str = "net.protocol.version";
    pub const NET_SOCK_HOST_ADDR: &str = "net.sock.host.addr";
    pub const NET_SOCK_PEER_ADDR: &str = "net.sock.peer.addr";
    pub const NET_SOCK_PEER_PORT: &str = "net.sock.peer.port";
    pub const RPC_GRPC_STATUS_CODE: &str = "rpc.grpc.status_code";
    pub const RPC_SERVICE: &str = "rpc.service";
    pub const RPC_SYSTEM: &str = "rpc.system";
}

/// The bounds that the SDKs gave to every histogram then, here of milliseconds.
const MILLISECOND_BOUNDS: &[f64] =
    &[0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

/// Without `net.host.*`, which every client could fill with what it liked.
pub static HTTP_SERVER_DURATION: Metric = Metric {
    name: "http.server.duration",
    description: "Measures the duration of inbound HTTP requests.",
    unit: "ms",
    bounds: MILLISECOND_BOUNDS,
    dimensions: &[
        key::HTTP_METHOD,
        key::HTTP_SCHEME,
        key::HTTP_STATUS_CODE,
        super::key::HTTP_ROUTE,
        key::NET_PROTOCOL_NAME,
        key::NET_PROTOCOL_VERSION,
    ],
};

/// See the module.
pub static HTTP_CLIENT_DURATION: Metric = Metric {
    name: "http.client.duration",
    description: "Measures the duration of outbound HTTP requests.",
    unit: "ms",
    bounds: MILLISECOND_BOUNDS,
    dimensions: &[
        key::HTTP_METHOD,
        key::HTTP_STATUS_CODE,
        key::NET_PEER_NAME,
        key::NET_PEER_PORT,
        key::NET_PROTOCOL_NAME,
        key::NET_PROTOCOL_VERSION,
    ],
};

/// `rpc.method` is the name of today, with the service in it.
pub static RPC_SERVER_DURATION: Metric = Metric {
    name: "rpc.server.duration",
    description: "Measures the duration of inbound RPC.",
    unit: "ms",
    bounds: MILLISECOND_BOUNDS,
    dimensions: RPC_DIMENSIONS,
};

/// Likewise.
pub static RPC_CLIENT_DURATION: Metric = Metric {
    name: "rpc.client.duration",
    description: "Measures the duration of outbound RPC.",
    unit: "ms",
    bounds: MILLISECOND_BOUNDS,
    dimensions: RPC_CLIENT_DIMENSIONS,
};

const RPC_DIMENSIONS: &[&str] =
    &[key::RPC_SYSTEM, key::RPC_SERVICE, super::key::RPC_METHOD, key::RPC_GRPC_STATUS_CODE];

const RPC_CLIENT_DIMENSIONS: &[&str] = &[
    key::RPC_SYSTEM,
    key::RPC_SERVICE,
    super::key::RPC_METHOD,
    key::RPC_GRPC_STATUS_CODE,
    super::key::SERVER_ADDRESS,
    super::key::SERVER_PORT,
];

/// What a duration of HTTP was before. Databases had no such metric.
#[must_use]
pub fn http_metric(metric: &'static Metric) -> Option<&'static Metric> {
    let is = |other| std::ptr::eq(metric, other);
    match () {
        () if is(&HTTP_SERVER_REQUEST_DURATION) => Some(&HTTP_SERVER_DURATION),
        () if is(&HTTP_CLIENT_REQUEST_DURATION) => Some(&HTTP_CLIENT_DURATION),
        () => None,
    }
}

/// What a duration of RPC was before.
#[must_use]
pub fn rpc_metric(metric: &'static Metric) -> Option<&'static Metric> {
    let is = |other| std::ptr::eq(metric, other);
    match () {
        () if is(&RPC_SERVER_CALL_DURATION) => Some(&RPC_SERVER_DURATION),
        () if is(&RPC_CLIENT_CALL_DURATION) => Some(&RPC_CLIENT_DURATION),
        () => None,
    }
}
