//! Where telemetry goes and how: plain typed settings that the environment or the configuration file fills.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Uri};

/// The OTLP exporter: a signal without a destination is not exported.
#[derive(Clone, Debug, Default)]
pub struct OtlpSettings {
    /// Spans.
    pub traces: Option<DestinationSettings>,
    /// Histograms.
    pub metrics: Option<DestinationSettings>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric points.
    Metrics,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC, usually port 4317.
    Grpc,
    /// OTLP/HTTP with protobuf bodies, usually port 4318.
    #[default]
    HttpProtobuf,
}

/// Of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// One place that takes one signal.
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// `http` or `https`. For [`Protocol::HttpProtobuf`] the whole URL, path included; for [`Protocol::Grpc`] the path
    /// is ignored.
    pub endpoint: Uri,
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// Sent with every request. Values are marked sensitive: they never reach a log.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// None or gzip.
    pub compression: Compression,
    /// Of one attempt, the connection included.
    pub timeout: Duration,
    /// Certificates, for `https`.
    pub tls: TlsSettings,
    /// When a request is cut.
    pub batch: BatchSettings,
    /// What waits for the backend.
    pub queue: QueueSettings,
    /// How long to insist.
    pub retry: RetrySettings,
}

/// Files of certificates, PEM. The system's roots are trusted if no `ca_file` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Trusted instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Our private key.
    pub key_file: Option<PathBuf>,
}

/// When a request is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Encoded bytes, before compression. Many servers refuse more than 4 MiB.
    pub bytes_max: usize,
    /// The age of its oldest item.
    pub delay: Duration,
}

/// What waits for the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Encoded bytes of all waiting requests.
    pub bytes_max: usize,
    /// What gives way when there are more.
    pub when_full: WhenFull,
}

/// What gives way in a full queue; counted either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The request that comes.
    #[default]
    DropNewest,
    /// Those that have waited longest.
    DropOldest,
}

/// How long to insist, see `retry.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// Upper bound of every later wait.
    pub max: Duration,
    /// From the first attempt; then the request is dropped.
    pub give_up_after: Duration,
}

impl DestinationSettings {
    /// A destination with the defaults of `signal`.
    #[must_use]
    pub fn new(signal: Signal, protocol: Protocol, endpoint: Uri) -> Self {
        Self {
            endpoint,
            protocol,
            headers: Vec::new(),
            compression: Compression::None,
            timeout: Duration::from_secs(10),
            tls: TlsSettings::default(),
            batch: BatchSettings { bytes_max: 2 << 20, delay: Duration::from_secs(1) },
            queue: QueueSettings {
                bytes_max: match signal {
                    Signal::Traces => 32 << 20,
                    Signal::Metrics => 8 << 20,
                },
                when_full: WhenFull::DropNewest,
            },
            retry: RetrySettings {
                initial: Duration::from_secs(1),
                max: Duration::from_secs(30),
                give_up_after: Duration::from_secs(300),
            },
        }
    }
}

impl DestinationSettings {
    /// The endpoint as it may stand in a log: without user, password and query.
    pub(super) fn endpoint_for_people(&self) -> String {
        let port = self.endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = self.endpoint.host().unwrap_or_default();
        format!("{}://{host}{port}{}", self.endpoint.scheme_str().unwrap_or("http"), self.endpoint.path())
    }
}

impl Signal {
    /// For messages and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What is counted, for messages.
    pub(super) fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metric points",
        }
    }

    /// The gRPC method.
    pub(super) fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// `User-Agent` of every request.
pub(super) const USER_AGENT: &str =
    concat!("spantap/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
