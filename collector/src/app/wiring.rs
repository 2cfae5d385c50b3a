//! From the configuration to running parts: exporters, readers of metrics, the settings of each stage.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Uri};
use spantap_config as config;
use tokio::runtime::Handle;

use crate::{
    connection,
    export::{
        Exporter, Exporters,
        otlp::{
            DestinationStats, OtlpExporter,
            settings::{Compression, DestinationSettings, OtlpSettings, Protocol, Signal, TlsSettings},
        },
        stdout::{OtlpJson, Output, Pretty},
    },
    kernel,
    processors::{RouteSettings, Unmatched},
    telemetry::{Record, Temporality, UnixNanos, metrics},
};

/// What a span takes on the wire, about: the standard settings count spans, the exporter counts bytes. With it the
/// defaults are requests of 2 MiB and a queue of 32 MiB.
const SPAN_BYTES: usize = 512;

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

/// Collects metrics at an interval and hands them to one exporter.
struct Reader {
    aggregator: metrics::Aggregator,
    exporter: Box<dyn Exporter>,
    interval: Duration,
    due: Instant,
}

/// All ways out.
#[derive(Default)]
pub struct Outputs {
    spans: Exporters,
    readers: Vec<Reader>,
    stats: Vec<std::sync::Arc<DestinationStats>>,
}

impl Outputs {
    /// Starts what the configuration asks for. OTLP tasks run on `runtime`.
    ///
    /// # Errors
    /// See [`WiringError`].
    pub fn start(config: &config::Config, runtime: &Handle) -> Result<Self, WiringError> {
        let mut outputs = Self::default();
        for processor in &config.tracer_provider.processors {
            match &processor.exporter {
                config::Exporter::Console => {
                    if let Some(exporter) = console(config.spantap.stdout.format) {
                        outputs.spans.push(exporter);
                    }
                }
                config::Exporter::OtlpFile(stream) => {
                    outputs.spans.push(Box::new(OtlpJson::new(output(stream)?)))
                }
                config::Exporter::Otlp(otlp) => {
                    let mut destination = destination(otlp, Signal::Traces)?;
                    destination.batch.delay = processor.schedule_delay;
                    destination.batch.bytes_max = processor.max_export_batch_size.saturating_mul(SPAN_BYTES);
                    destination.queue.bytes_max = processor.max_queue_size.saturating_mul(SPAN_BYTES);
                    let settings = OtlpSettings { traces: Some(destination), metrics: None };
                    let exporter = outputs.otlp(otlp, &settings, Temporality::Cumulative, runtime)?;
                    outputs.spans.push(Box::new(exporter));
                }
            }
        }
        for reader in &config.meter_provider.readers {
            if reader.histogram != config::HistogramAggregation::ExplicitBuckets {
                tracing::warn!("exponential histograms are not supported yet; explicit buckets are exported");
            }
            let temporality = match reader.temporality {
                config::Temporality::Cumulative => Temporality::Cumulative,
                config::Temporality::Delta => Temporality::Delta,
            };
            let exporter: Box<dyn Exporter> = match &reader.exporter {
                config::Exporter::Console => match config.spantap.stdout.format {
                    // People get the table at the end instead.
                    config::StdoutFormat::Pretty | config::StdoutFormat::None => continue,
                    config::StdoutFormat::OtlpJson => Box::new(OtlpJson::new(Output::stdout())),
                },
                config::Exporter::OtlpFile(stream) => Box::new(OtlpJson::new(output(stream)?)),
                config::Exporter::Otlp(otlp) => {
                    let destination = destination(otlp, Signal::Metrics)?;
                    let settings = OtlpSettings { traces: None, metrics: Some(destination) };
                    Box::new(outputs.otlp(otlp, &settings, temporality, runtime)?)
                }
            };
            outputs.readers.push(Reader {
                aggregator: metrics::Aggregator::new(metrics::MetricSettings {
                    temporality,
                    ..Default::default()
                }),
                exporter,
                interval: reader.interval,
                due: Instant::now() + reader.interval,
            });
        }
        Ok(outputs)
    }

    /// Lines for people on standard output, and a table at the end.
    #[must_use]
    pub fn pretty() -> Self {
        let mut outputs = Self::default();
        outputs.spans.push(Box::new(Pretty::new(Output::stdout(), true)));
        outputs
    }

    fn otlp(
        &mut self,
        from: &config::OtlpExporter,
        settings: &OtlpSettings,
        temporality: Temporality,
        runtime: &Handle,
    ) -> Result<OtlpExporter, WiringError> {
        let exporter = OtlpExporter::start(settings, temporality, runtime)
            .map_err(|error| refused(from, &error.to_string()))?;
        self.stats.extend(exporter.stats());
        Ok(exporter)
    }

    pub(super) fn on_record(&mut self, record: &Record) {
        self.spans.on_record(record);
        for reader in &mut self.readers {
            reader.aggregator.record(record);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, unix: UnixNanos) {
        self.spans.tick(now);
        for reader in &mut self.readers {
            if now >= reader.due {
                reader.due = now + reader.interval;
                reader.exporter.on_metrics(&reader.aggregator.collect(unix));
            }
            reader.exporter.tick(now);
        }
    }

    pub(super) fn shutdown(&mut self, deadline: Instant, unix: UnixNanos) {
        self.spans.shutdown(deadline);
        for reader in &mut self.readers {
            reader.exporter.on_metrics(&reader.aggregator.collect(unix));
            reader.exporter.shutdown(deadline);
        }
    }

    /// The first exporter whose output is gone for good.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        self.spans.broken()
    }

    /// The counters of every OTLP destination.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationStats> {
        self.stats.iter().map(AsRef::as_ref)
    }
}

fn console(format: config::StdoutFormat) -> Option<Box<dyn Exporter>> {
    match format {
        config::StdoutFormat::Pretty => Some(Box::new(Pretty::new(Output::stdout(), true))),
        config::StdoutFormat::OtlpJson => Some(Box::new(OtlpJson::new(Output::stdout()))),
        config::StdoutFormat::None => None,
    }
}

fn output(stream: &config::OutputStream) -> Result<Output, WiringError> {
    match stream {
        config::OutputStream::Stdout => Ok(Output::stdout()),
        config::OutputStream::File(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                WiringError::Exporter { endpoint: path.display().to_string(), reason: error.to_string() }
            })?;
            Ok(Output::new(Box::new(std::io::BufWriter::new(file))))
        }
    }
}

fn refused(from: &config::OtlpExporter, reason: &str) -> WiringError {
    WiringError::Exporter { endpoint: from.endpoint.as_str().to_owned(), reason: reason.to_owned() }
}

fn destination(from: &config::OtlpExporter, signal: Signal) -> Result<DestinationSettings, WiringError> {
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
    }
}

/// What the connection table may hold.
pub(super) fn table_settings(limits: &config::Limits) -> connection::Settings {
    connection::Settings {
        streams_max: limits.streams as usize,
        retained_bytes_max: usize::try_from(limits.retained_bytes.bytes()).unwrap_or(usize::MAX),
        ..Default::default()
    }
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
