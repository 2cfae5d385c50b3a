//! From the configuration to running parts: exporters, readers of metrics, the settings of each stage.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Uri};
use spantap_config as config;
use tokio::runtime::Handle;

use crate::{
    connection,
    export::{
        Exporter, Exporters, Pressure,
        otlp::{
            DestinationStats, OtlpExporter,
            settings::{Compression, DestinationSettings, OtlpSettings, Protocol, Signal, TlsSettings},
        },
        stdout::{OtlpJson, Output, OutputStats, Pretty},
    },
    kernel,
    processors::{RouteSettings, Unmatched},
    telemetry::{OlderNames, Record, Temporality, UnixNanos, metrics},
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
    /// Of standard output and files.
    printed: Vec<std::sync::Arc<OutputStats>>,
    /// These, in words.
    local: [Vec<String>; 2],
    /// Those that are open already.
    files: OpenFiles,
}

/// In [`Outputs::local`].
const SPANS: usize = 0;
const METRICS: usize = 1;

impl Outputs {
    /// Starts what the configuration asks for. OTLP tasks run on `runtime`; `pressure` is for standard output and files.
    ///
    /// # Errors
    /// See [`WiringError`].
    pub fn start(config: &config::Config, runtime: &Handle, pressure: Pressure) -> Result<Self, WiringError> {
        Self::start_with(config, open_files(config)?, runtime, pressure)
    }

    /// The same with the files of [`open_files`].
    ///
    /// # Errors
    /// As [`Outputs::start`].
    pub(super) fn start_with(
        config: &config::Config,
        files: OpenFiles,
        runtime: &Handle,
        pressure: Pressure,
    ) -> Result<Self, WiringError> {
        let mut outputs = Self { files, ..Self::default() };
        for processor in &config.tracer_provider.processors {
            match &processor.exporter {
                config::Exporter::Console => {
                    let format = config.spantap.stdout.format;
                    let exporter: Box<dyn Exporter> = match format {
                        config::StdoutFormat::Pretty => {
                            Box::new(Pretty::new(outputs.stdout(pressure)?, true))
                        }
                        config::StdoutFormat::OtlpJson => Box::new(OtlpJson::new(outputs.stdout(pressure)?)),
                        config::StdoutFormat::None => continue,
                    };
                    outputs.spans.push(exporter);
                    outputs.local[SPANS].push(format!("standard output ({})", format_name(format)));
                }
                config::Exporter::OtlpFile(stream) => {
                    let output = outputs.stream(stream, pressure)?;
                    outputs.spans.push(Box::new(OtlpJson::new(output)));
                    outputs.local[SPANS].push(stream_name(stream));
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
                    config::StdoutFormat::OtlpJson => {
                        outputs.local[METRICS].push("standard output (otlp-json)".into());
                        Box::new(OtlpJson::new(outputs.stdout(pressure)?))
                    }
                },
                config::Exporter::OtlpFile(stream) => {
                    outputs.local[METRICS].push(stream_name(stream));
                    Box::new(OtlpJson::new(outputs.stream(stream, pressure)?))
                }
                config::Exporter::Otlp(otlp) => {
                    let destination = destination(otlp, Signal::Metrics)?;
                    let settings = OtlpSettings { traces: None, metrics: Some(destination) };
                    Box::new(outputs.otlp(otlp, &settings, temporality, runtime)?)
                }
            };
            outputs.readers.push(Reader {
                aggregator: metrics::Aggregator::new(metrics::MetricSettings {
                    temporality,
                    older: older_names(config.spantap.semconv_stability_opt_in),
                    exemplars: !outputs.spans.is_empty(),
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
    ///
    /// # Errors
    /// As [`Outputs::start`].
    pub fn pretty(pressure: Pressure) -> Result<Self, WiringError> {
        let mut outputs = Self::default();
        let output = outputs.stdout(pressure)?;
        outputs.spans.push(Box::new(Pretty::new(output, true)));
        Ok(outputs)
    }

    /// One more way out for spans.
    pub fn add(&mut self, exporter: Box<dyn Exporter>) {
        self.spans.push(exporter);
    }

    fn stdout(&mut self, pressure: Pressure) -> Result<Output, WiringError> {
        let output = Output::stdout(pressure).map_err(|error| unusable("standard output", &error))?;
        self.printed.push(output.stats());
        Ok(output)
    }

    fn stream(&mut self, stream: &config::OutputStream, pressure: Pressure) -> Result<Output, WiringError> {
        let config::OutputStream::File(path) = stream else { return self.stdout(pressure) };
        let name = path.display().to_string();
        let file = self.files.get(path).map_or_else(|| open(path), File::try_clone);
        let output = file.and_then(|file| Output::new(&name, Box::new(file), pressure));
        let output = output.map_err(|error| unusable(&name, &error))?;
        self.printed.push(output.stats());
        Ok(output)
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
        // All begin before one is waited for: a backend that is away uses up the whole time until the deadline.
        self.spans.begin_shutdown(deadline);
        for reader in &mut self.readers {
            reader.exporter.on_metrics(&reader.aggregator.collect(unix));
            reader.exporter.begin_shutdown(deadline);
        }
        self.spans.shutdown(deadline);
        for reader in &mut self.readers {
            reader.exporter.shutdown(deadline);
        }
        let printed = self.printed.iter().filter_map(|output| output.undelivered());
        for line in self.stats.iter().filter_map(|destination| destination.undelivered()).chain(printed) {
            tracing::warn!("{line}");
        }
    }

    /// The first exporter whose output is gone for good.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        self.spans.broken()
    }

    /// Where spans and metrics go, in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        let signals = [("spans", SPANS, Signal::Traces), ("metrics", METRICS, Signal::Metrics)];
        let parts = signals.iter().filter_map(|&(name, local, signal)| {
            let remote = self.stats.iter().filter(|destination| destination.signal() == signal);
            let mut all = self.local[local].clone();
            all.extend(remote.map(|destination| destination.endpoint().to_owned()));
            (!all.is_empty()).then(|| format!("{name} go to {}", all.join(" and ")))
        });
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() {
            "nothing is exported: no exporter is configured".into()
        } else {
            parts.join("; ")
        }
    }

    /// The counters of standard output and of files.
    pub fn printed(&self) -> impl Iterator<Item = &OutputStats> {
        self.printed.iter().map(AsRef::as_ref)
    }

    /// The counters of every OTLP destination.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationStats> {
        self.stats.iter().map(AsRef::as_ref)
    }
}

/// The output files of a configuration, opened for appending.
pub(super) type OpenFiles = HashMap<PathBuf, File>;

/// Opens all of them: that may need rights that are given up before the outputs start.
///
/// # Errors
/// The first that cannot be opened.
pub(super) fn open_files(config: &config::Config) -> Result<OpenFiles, WiringError> {
    let spans = config.tracer_provider.processors.iter().map(|processor| &processor.exporter);
    let metrics = config.meter_provider.readers.iter().map(|reader| &reader.exporter);
    let mut files = OpenFiles::new();
    for exporter in spans.chain(metrics) {
        let config::Exporter::OtlpFile(config::OutputStream::File(path)) = exporter else { continue };
        let file = open(path).map_err(|error| unusable(&path.display().to_string(), &error))?;
        files.insert(path.clone(), file);
    }
    Ok(files)
}

fn open(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)
}

fn format_name(format: config::StdoutFormat) -> &'static str {
    match format {
        config::StdoutFormat::Pretty => "pretty",
        config::StdoutFormat::OtlpJson => "otlp-json",
        config::StdoutFormat::None => "nothing",
    }
}

fn stream_name(stream: &config::OutputStream) -> String {
    match stream {
        config::OutputStream::Stdout => "standard output (otlp-json)".into(),
        config::OutputStream::File(path) => path.display().to_string(),
    }
}

fn unusable(name: &str, error: &std::io::Error) -> WiringError {
    WiringError::Exporter { endpoint: name.to_owned(), reason: error.to_string() }
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

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
