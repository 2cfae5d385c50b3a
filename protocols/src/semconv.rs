//! Attribute and metric names of the OpenTelemetry semantic conventions 1.44, the only place where they are spelled.
//!
//! Source: <https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs>.

pub mod older;
pub mod own;

/// `schema_url` of everything emitted.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Attribute names.
#[expect(
    missing_docs,
    reason = "each constant is its own documentation: the text is the name in the conventions"
)]
pub mod key {
    pub const CLIENT_ADDRESS: &str = "client.address";
    pub const CLIENT_PORT: &str = "client.port";
    pub const DB_COLLECTION_NAME: &str = "db.collection.name";
    pub const DB_NAMESPACE: &str = "db.namespace";
    pub const DB_OPERATION_BATCH_SIZE: &str = "db.operation.batch.size";
    pub const DB_OPERATION_NAME: &str = "db.operation.name";
    pub const DB_QUERY_SUMMARY: &str = "db.query.summary";
    pub const DB_QUERY_TEXT: &str = "db.query.text";
    pub const DB_RESPONSE_RETURNED_ROWS: &str = "db.response.returned_rows";
    pub const DB_RESPONSE_STATUS_CODE: &str = "db.response.status_code";
    pub const DB_STORED_PROCEDURE_NAME: &str = "db.stored_procedure.name";
    pub const DB_SYSTEM_NAME: &str = "db.system.name";
    pub const ERROR_TYPE: &str = "error.type";
    pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
    pub const HTTP_REQUEST_HEADER_X_REQUEST_ID: &str = "http.request.header.x-request-id";
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
    pub const HTTP_RESPONSE_BODY_SIZE: &str = "http.response.body.size";
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    pub const HTTP_ROUTE: &str = "http.route";
    pub const NETWORK_LOCAL_ADDRESS: &str = "network.local.address";
    pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    pub const NETWORK_PEER_PORT: &str = "network.peer.port";
    pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
    pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    pub const NETWORK_TRANSPORT: &str = "network.transport";
    pub const RPC_METHOD: &str = "rpc.method";
    pub const RPC_REQUEST_METADATA_X_REQUEST_ID: &str = "rpc.request.metadata.x-request-id";
    pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
    pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
    pub const SERVER_ADDRESS: &str = "server.address";
    pub const SERVER_PORT: &str = "server.port";
    pub const URL_FULL: &str = "url.full";
    pub const URL_PATH: &str = "url.path";
    pub const URL_QUERY: &str = "url.query";
    pub const URL_SCHEME: &str = "url.scheme";
    pub const URL_TEMPLATE: &str = "url.template";
    pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";

    // Our own: the conventions have no word for the text beside a gRPC status, nor for a value that is shorter than what
    // was sent.
    pub const SPANTAP_RPC_RESPONSE_MESSAGE: &str = "spantap.rpc.response.message";
    pub const SPANTAP_URL_TRUNCATED: &str = "spantap.url.truncated";
    pub const SPANTAP_QUERY_TRUNCATED: &str = "spantap.db.query.truncated";
    // True if the response's status was not seen: the exchange may have failed.
    pub const SPANTAP_STATUS_UNKNOWN: &str = "spantap.response.status_unknown";
    // A prepared statement whose text was not seen: the name it has, `(unnamed)` if none.
    pub const SPANTAP_UNKNOWN_STATEMENT: &str = "spantap.db.unknown_statement";

    // Resource.
    pub const DEPLOYMENT_ENVIRONMENT_NAME: &str = "deployment.environment.name";
    pub const HOST_ARCH: &str = "host.arch";
    pub const HOST_ID: &str = "host.id";
    pub const HOST_NAME: &str = "host.name";
    pub const OS_TYPE: &str = "os.type";
    pub const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";
    pub const PROCESS_EXECUTABLE_PATH: &str = "process.executable.path";
    pub const CONTAINER_ID: &str = "container.id";
    pub const PROCESS_RUNTIME_NAME: &str = "process.runtime.name";
    pub const PROCESS_PID: &str = "process.pid";
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    pub const SERVICE_NAME: &str = "service.name";
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    pub const SERVICE_VERSION: &str = "service.version";
    pub const TELEMETRY_DISTRO_NAME: &str = "telemetry.distro.name";
    pub const TELEMETRY_DISTRO_VERSION: &str = "telemetry.distro.version";
    pub const TELEMETRY_SDK_LANGUAGE: &str = "telemetry.sdk.language";
    pub const TELEMETRY_SDK_NAME: &str = "telemetry.sdk.name";
    pub const TELEMETRY_SDK_VERSION: &str = "telemetry.sdk.version";
}

/// Values of [`key::SPANTAP_URL_TRUNCATED`]: the first part of the URL that is shorter than what was sent.
pub mod truncated {
    /// The path, or what stands before it.
    pub const PATH: &str = "path";
    /// The query; the path is whole.
    pub const QUERY: &str = "query";
}

/// Values of [`key::RPC_RESPONSE_STATUS_CODE`] of gRPC, by their numbers: <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Values of [`key::DB_SYSTEM_NAME`].
pub mod db_system {
    /// PostgreSQL.
    pub const POSTGRESQL: &str = "postgresql";
    /// Redis, and what speaks its protocol.
    pub const REDIS: &str = "redis";

    /// The port that needs no saying.
    ///
    /// > `server.port` [...] if using a port other than the default port for this DBMS (conventions, "Database spans")
    #[must_use]
    pub fn default_port(system: &str) -> Option<u16> {
        match system {
            POSTGRESQL => Some(5432),
            REDIS => Some(6379),
            _ => None,
        }
    }
}

/// A duration histogram of the conventions.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says, in one line.
    pub description: &'static str,
    /// Its unit (UCUM): seconds, or of older metrics milliseconds.
    pub unit: &'static str,
    /// Upper bounds of the explicit buckets, in `unit`, ascending.
    pub bounds: &'static [f64],
    /// The attributes that become dimensions; those that the exchange lacks are left out.
    pub dimensions: &'static [&'static str],
}

impl Metric {
    /// A duration in this metric's unit.
    #[must_use]
    pub fn duration(&self, ns: u64) -> f64 {
        // 2^53 ns is 104 days.
        ns as f64 / if self.unit == "ms" { 1e6 } else { 1e9 }
    }
}

/// The bounds that the conventions advise for durations of HTTP and RPC, in seconds.
pub const DURATION_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/http/http-metrics.md>
pub static HTTP_SERVER_REQUEST_DURATION: Metric = Metric {
    name: "http.server.request.duration",
    description: "Duration of HTTP server requests.",
    unit: "s",
    bounds: DURATION_BOUNDS,
    dimensions: &[
        key::HTTP_REQUEST_METHOD,
        key::URL_SCHEME,
        key::HTTP_RESPONSE_STATUS_CODE,
        key::ERROR_TYPE,
        key::HTTP_ROUTE,
        key::NETWORK_PROTOCOL_NAME,
        key::NETWORK_PROTOCOL_VERSION,
    ],
};

/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/http/http-metrics.md>
pub static HTTP_CLIENT_REQUEST_DURATION: Metric = Metric {
    name: "http.client.request.duration",
    description: "Duration of HTTP client requests.",
    unit: "s",
    bounds: DURATION_BOUNDS,
    dimensions: &[
        key::HTTP_REQUEST_METHOD,
        key::SERVER_ADDRESS,
        key::SERVER_PORT,
        key::HTTP_RESPONSE_STATUS_CODE,
        key::ERROR_TYPE,
        key::NETWORK_PROTOCOL_NAME,
        key::NETWORK_PROTOCOL_VERSION,
        key::URL_TEMPLATE,
    ],
};

/// Of CLIENT spans only: the conventions have no metric of a database's own side.
///
/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/db/database-metrics.md>
pub static DB_CLIENT_OPERATION_DURATION: Metric = Metric {
    name: "db.client.operation.duration",
    description: "Duration of database client operations.",
    unit: "s",
    bounds: &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0],
    dimensions: &[
        key::DB_SYSTEM_NAME,
        key::DB_COLLECTION_NAME,
        key::DB_NAMESPACE,
        key::DB_OPERATION_NAME,
        key::DB_RESPONSE_STATUS_CODE,
        key::ERROR_TYPE,
        key::SERVER_PORT,
        key::DB_QUERY_SUMMARY,
        key::DB_STORED_PROCEDURE_NAME,
        key::SERVER_ADDRESS,
    ],
};

/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/rpc/rpc-metrics.md>
pub static RPC_SERVER_CALL_DURATION: Metric = Metric {
    name: "rpc.server.call.duration",
    description: "Measures the duration of an incoming Remote Procedure Call (RPC).",
    unit: "s",
    bounds: DURATION_BOUNDS,
    dimensions: &[key::RPC_SYSTEM_NAME, key::RPC_METHOD, key::RPC_RESPONSE_STATUS_CODE, key::ERROR_TYPE],
};

/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/rpc/rpc-metrics.md>
pub static RPC_CLIENT_CALL_DURATION: Metric = Metric {
    name: "rpc.client.call.duration",
    description: "Measures the duration of an outgoing Remote Procedure Call (RPC).",
    unit: "s",
    bounds: DURATION_BOUNDS,
    dimensions: &[
        key::RPC_SYSTEM_NAME,
        key::RPC_METHOD,
        key::RPC_RESPONSE_STATUS_CODE,
        key::ERROR_TYPE,
        key::SERVER_ADDRESS,
        key::SERVER_PORT,
    ],
};
