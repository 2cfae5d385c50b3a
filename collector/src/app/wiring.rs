//! From the configuration to the settings of each stage.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use spantap_config as config;
use spantap_protocols::{
    Role,
    http::{CapturedHeaders, Head},
    redact,
};

use super::outputs::refused;
use crate::{
    connection,
    export::otlp::settings::{Compression, DestinationSettings, Protocol, Signal, TlsSettings},
    kernel,
    processors::{RouteSettings, Unmatched},
    telemetry::{Aggregation, MetricSettings, OlderNames, Temporality},
};

/// What a span takes on the wire, about: the standard settings count spans, the exporter counts bytes. With it the
/// defaults are requests of 2 MiB and a queue of 32 MiB.
pub(super) const SPAN_BYTES: usize = 512;

/// A part of the configuration that cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// An exporter could not be set up.
    #[error("failed to set up the exporter to {endpoint}: {reason}")]
    Exporter {
        /// Its endpoint, or file.
        endpoint: String,
        /// Why.
        reason: String,
    },
}

pub(super) fn destination(
    from: &config::OtlpExporter,
    signal: Signal,
) -> Result<DestinationSettings, WiringError> {
    let endpoint: Uri = from
        .endpoint
        .as_str()
        .parse()
        .map_err(|error: http::uri::InvalidUri| refused(from, &error.to_string()))?;
    let protocol = match from.transport {
        config::Transport::Http => Protocol::HttpProtobuf,
        config::Transport::Grpc => Protocol::Grpc,
    };
    let mut settings = DestinationSettings::new(signal, protocol, endpoint);
    for header in &from.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_str(header.value.expose());
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(refused(from, &format!("the header {} cannot be sent", header.name)));
        };
        value.set_sensitive(true);
        settings.headers.push((name, value));
    }
    settings.compression = match from.compression {
        config::Compression::None => Compression::None,
        config::Compression::Gzip => Compression::Gzip,
    };
    // No limit would let a backend that never answers hold the queue for ever: an hour is as good as none.
    settings.timeout = from.timeout.unwrap_or(Duration::from_secs(3600));
    settings.tls = TlsSettings {
        ca_file: from.tls.ca_file.clone(),
        cert_file: from.tls.cert_file.clone(),
        key_file: from.tls.key_file.clone(),
    };
    Ok(settings)
}

/// What the kernel side is told.
pub(super) fn kernel_settings(capture: &config::Capture) -> kernel::Settings {
    let bytes = |size: config::Size| u32::try_from(size.bytes()).unwrap_or(u32::MAX);
    kernel::Settings {
        backend: match capture.backend {
            config::Backend::Auto => kernel::Backend::Auto,
            config::Backend::Sockets => kernel::Backend::Sockets,
            config::Backend::Fentry => kernel::Backend::Fentry,
            config::Backend::Kprobes => kernel::Backend::Kprobes,
            config::Backend::Syscalls => kernel::Backend::Syscalls,
        },
        copy_bytes: bytes(capture.bytes_per_call),
        ring_bytes: bytes(capture.ring_buffer),
        connections: capture.connections,
        unix_sockets: capture.unix_sockets,
    }
}

/// What the connection table may hold.
pub(super) fn table_settings(spantap: &config::Spantap) -> connection::Settings {
    let limits = &spantap.limits;
    connection::Settings {
        exchange_timeout: spantap.exchange_timeout,
        streams_max: limits.streams as usize,
        retained_bytes_max: usize::try_from(limits.retained_bytes.bytes()).unwrap_or(usize::MAX),
        ..Default::default()
    }
}

/// Makes known to the parsers of this process which header fields they tell, and what they hide of URLs.
pub(super) fn install(from: &config::Instrumentation) {
    if let Some(keys) = &from.sensitive_query_parameters {
        redact::install_sensitive_query_keys(keys.iter().cloned());
    }
    let mut headers = CapturedHeaders::default();
    for (role, lists) in [(Role::Client, &from.http_client), (Role::Server, &from.http_server)] {
        for (head, names) in [(Head::Request, &lists.request), (Head::Response, &lists.response)] {
            names.iter().for_each(|name| headers.add(role, head, name));
        }
    }
    headers.install();
}

/// Which older names are added.
pub(super) fn older_names(opted: config::StabilityOptIn) -> OlderNames {
    OlderNames { http: opted.http, database: opted.database, rpc: opted.rpc }
}

/// How routes are named.
pub(super) fn route_settings(routes: &config::Routes) -> RouteSettings {
    RouteSettings {
        patterns: routes.patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        unmatched: match routes.unmatched {
            config::Unmatched::Heuristic => Unmatched::Heuristic,
            config::Unmatched::Wildcard => Unmatched::Wildcard,
            config::Unmatched::Off => Unmatched::Off,
        },
        routes_max: routes.max_per_service as usize,
    }
}

/// How one reader's metrics are counted; `has_spans` says whether there are spans to be pointed at.
pub(super) fn metric_settings(
    config: &config::Config,
    reader: &config::MetricReader,
    has_spans: bool,
) -> MetricSettings {
    MetricSettings {
        temporality: match reader.temporality {
            config::Temporality::Cumulative => Temporality::Cumulative,
            config::Temporality::Delta => Temporality::Delta,
        },
        aggregation: match reader.histogram {
            config::HistogramAggregation::ExplicitBuckets => Aggregation::Explicit,
            config::HistogramAggregation::Base2Exponential => Aggregation::Exponential,
        },
        ..common_metric_settings(config, reader.cardinality_limit, has_spans)
    }
}

/// The same for one that fetches them as text, which knows only cumulative explicit buckets.
pub(super) fn pull_settings(
    config: &config::Config,
    reader: &config::PullReader,
    has_spans: bool,
) -> MetricSettings {
    common_metric_settings(config, reader.cardinality_limit, has_spans)
}

fn common_metric_settings(
    config: &config::Config,
    cardinality_limit: u32,
    has_spans: bool,
) -> MetricSettings {
    let standard = MetricSettings::default();
    // The last values of a service that has ended must reach the slowest reader.
    let slowest =
        config.meter_provider.readers.iter().map(|reader| reader.interval).max().unwrap_or_default();
    let slowest_ns = u64::try_from(slowest.as_nanos()).unwrap_or(u64::MAX);
    let ended_ns = standard.ended_ns.max(slowest_ns.saturating_mul(2));
    MetricSettings {
        series_max_per_service: cardinality_limit,
        series_max: config.spantap.limits.metric_series,
        idle_ns: standard.idle_ns.max(ended_ns),
        ended_ns,
        exemplars: has_spans && config.meter_provider.exemplars,
        older: older_names(config.spantap.semconv_stability_opt_in),
        ..standard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::Processors;

    #[test]
    fn older_names_are_added_only_where_they_are_asked_for() {
        let names = |opted| {
            let processors = Processors::standard(RouteSettings::default(), older_names(opted));
            processors.dropped().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert!(!names(config::StabilityOptIn::default()).contains(&"older_names"));
        let database = config::StabilityOptIn { database: true, ..Default::default() };
        assert_eq!(names(database).last(), Some(&"older_names"), "after whatever changes attributes");
        assert_eq!(older_names(database), OlderNames { http: false, database: true, rpc: false });
    }

    #[test]
    fn every_reader_gets_the_last_values_of_a_service_that_has_ended() {
        let mut config = config::Config::default();
        let settings =
            |config: &config::Config| metric_settings(config, &config.meter_provider.readers[0], true);
        assert_eq!(settings(&config), MetricSettings::default());
        config.meter_provider.readers[0].interval = Duration::from_secs(7_200);
        let slow = settings(&config);
        assert_eq!((slow.ended_ns, slow.idle_ns), (14_400_000_000_000, 14_400_000_000_000));
    }
}
