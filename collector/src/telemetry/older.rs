//! Which names had attributes and metrics before their conventions were stable? Adds them beside those of today, for
//! those who ask for it (`OTEL_SEMCONV_STABILITY_OPT_IN`); for all others nothing here runs.
//!
//! A name that has changed its meaning keeps the present one: `rpc.method` has the service in it.

use compact_str::{CompactString, format_compact};
use opentelemetry::trace::SpanKind;
use spantap_protocols::{
    Attributes, Value,
    semconv::{GRPC_STATUSES, Metric, db_system, key, older, older::key as old},
};

use super::Record;

/// The conventions whose older names are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OlderNames {
    /// HTTP and networking as of 1.20.
    pub http: bool,
    /// Databases as of 1.24.
    pub database: bool,
    /// RPC as of 1.37.
    pub rpc: bool,
}

/// Now, then.
type Names = &'static [(&'static str, &'static str)];

const HTTP: Names = &[
    (key::HTTP_RESPONSE_STATUS_CODE, old::HTTP_STATUS_CODE),
    (key::NETWORK_PROTOCOL_NAME, old::NET_PROTOCOL_NAME),
    (key::NETWORK_PEER_ADDRESS, old::NET_SOCK_PEER_ADDR),
    (key::NETWORK_PEER_PORT, old::NET_SOCK_PEER_PORT),
];

const HTTP_CLIENT: Names = &[
    (key::URL_FULL, old::HTTP_URL),
    (key::SERVER_ADDRESS, old::NET_PEER_NAME),
    (key::SERVER_PORT, old::NET_PEER_PORT),
];

const HTTP_SERVER: Names = &[
    (key::URL_SCHEME, old::HTTP_SCHEME),
    (key::CLIENT_ADDRESS, old::HTTP_CLIENT_IP),
    (key::SERVER_ADDRESS, old::NET_HOST_NAME),
    (key::SERVER_PORT, old::NET_HOST_PORT),
    (key::NETWORK_LOCAL_ADDRESS, old::NET_SOCK_HOST_ADDR),
];

const DATABASE: Names = &[
    (key::DB_SYSTEM_NAME, old::DB_SYSTEM),
    (key::DB_QUERY_TEXT, old::DB_STATEMENT),
    (key::DB_OPERATION_NAME, old::DB_OPERATION),
    (key::DB_COLLECTION_NAME, old::DB_SQL_TABLE),
];

impl OlderNames {
    /// True if there is anything to do.
    #[must_use]
    pub fn any(self) -> bool {
        self.http || self.database || self.rpc
    }

    /// The metric that a record counts into as well.
    #[must_use]
    pub fn metric(self, metric: &'static Metric) -> Option<&'static Metric> {
        let http = if self.http { older::http_metric(metric) } else { None };
        http.or_else(|| if self.rpc { older::rpc_metric(metric) } else { None })
    }

    /// Adds the older names of what the record's attributes say.
    pub fn add(self, record: &mut Record) {
        let attributes = &mut record.attributes;
        if attributes.get(key::DB_SYSTEM_NAME).is_some() {
            if self.database {
                database(attributes);
            }
        } else if attributes.get(key::RPC_SYSTEM_NAME).is_some() {
            if self.rpc {
                rpc(attributes);
            }
        } else if self.http && attributes.get(key::HTTP_REQUEST_METHOD).is_some() {
            http(attributes, &record.kind);
        }
    }
}

fn copy(attributes: &mut Attributes, names: Names) {
    for (now, then) in names {
        if let Some(value) = attributes.get(now).cloned() {
            attributes.set(*then, value);
        }
    }
}

fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Value::as_str)
}

fn http(attributes: &mut Attributes, kind: &SpanKind) {
    // There was no `_OTHER`: the method was as it was sent.
    let original = attributes.get(key::HTTP_REQUEST_METHOD_ORIGINAL);
    if let Some(method) = original.or_else(|| attributes.get(key::HTTP_REQUEST_METHOD)).cloned() {
        attributes.set(old::HTTP_METHOD, method);
    }
    copy(attributes, HTTP);
    // Versions had two numbers.
    let version = match text(attributes, key::NETWORK_PROTOCOL_VERSION) {
        Some("2") => Some(Value::Static("2.0")),
        Some("3") => Some(Value::Static("3.0")),
        _ => attributes.get(key::NETWORK_PROTOCOL_VERSION).cloned(),
    };
    if let Some(version) = version {
        attributes.set(old::NET_PROTOCOL_VERSION, version);
    }
    if *kind == SpanKind::Client {
        copy(attributes, HTTP_CLIENT);
        return;
    }
    copy(attributes, HTTP_SERVER);
    let target = text(attributes, key::URL_PATH).map(|path| match text(attributes, key::URL_QUERY) {
        Some(query) => format_compact!("{path}?{query}"),
        None => CompactString::from(path),
    });
    if let Some(target) = target {
        attributes.set(old::HTTP_TARGET, Value::Text(target));
    }
}

fn database(attributes: &mut Attributes) {
    copy(attributes, DATABASE);
    let Some(namespace) = text(attributes, key::DB_NAMESPACE).map(CompactString::from) else { return };
    if text(attributes, key::DB_SYSTEM_NAME) == Some(db_system::REDIS) {
        if let Ok(index) = namespace.parse() {
            attributes.set(old::DB_REDIS_DATABASE_INDEX, Value::Int(index));
        }
        return;
    }
    // `database|schema`: the schema had no name of its own.
    let database = namespace.split('|').next().unwrap_or_default();
    attributes.set(old::DB_NAME, Value::Text(database.into()));
}

fn rpc(attributes: &mut Attributes) {
    copy(attributes, &[(key::RPC_SYSTEM_NAME, old::RPC_SYSTEM)]);
    let service = text(attributes, key::RPC_METHOD).and_then(|method| method.rsplit_once('/'));
    if let Some(service) = service.map(|(service, _)| CompactString::from(service)) {
        attributes.set(old::RPC_SERVICE, Value::Text(service));
    }
    let status = text(attributes, key::RPC_RESPONSE_STATUS_CODE);
    if let Some(code) = status.and_then(|status| GRPC_STATUSES.iter().position(|name| *name == status)) {
        attributes.set(old::RPC_GRPC_STATUS_CODE, Value::Int(code as i64));
    }
}

#[cfg(test)]
#[path = "older_tests.rs"]
mod tests;
