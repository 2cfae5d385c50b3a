//! All ways out: which exporters run, what they are given, and how they end.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use spantap_config as config;
use tokio::runtime::Handle;

use super::{
    readers::Readers,
    wiring::{self, WiringError},
};
use crate::{
    export::{
        Exporter, Exporters, Pressure,
        otlp::{
            DestinationStats, OtlpExporter,
            settings::{OtlpSettings, Signal},
        },
        prometheus::{self, Additions, Probes, ScrapeStats},
        stdout::{OtlpJson, Output, OutputStats, Pretty},
    },
    telemetry::{Record, Temporality, UnixNanos, snapshot::ServiceMetrics},
};

/// All ways out.
#[derive(Default)]
pub struct Outputs {
    spans: Exporters,
    readers: Readers,
    stats: Vec<Arc<DestinationStats>>,
    /// Of standard output and files.
    printed: Vec<Arc<OutputStats>>,
    /// These, in words.
    local: [Vec<String>; 2],
    /// What is open already.
    opened: Opened,
    /// What endpoints say of the agent.
    probes: Arc<Probes>,
    scraped: Vec<Arc<ScrapeStats>>,
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
        Self::start_with(config, Opened::of(config)?, runtime, pressure)
    }

    /// The same with what [`Opened::of`] has opened.
    ///
    /// # Errors
    /// As [`Outputs::start`].
    pub(super) fn start_with(
        config: &config::Config,
        opened: Opened,
        runtime: &Handle,
        pressure: Pressure,
    ) -> Result<Self, WiringError> {
        let mut outputs = Self { opened, ..Self::default() };
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
                    let mut destination = wiring::destination(otlp, Signal::Traces)?;
                    destination.batch.delay = processor.schedule_delay;
                    destination.batch.bytes_max =
                        processor.max_export_batch_size.saturating_mul(wiring::SPAN_BYTES);
                    destination.queue.bytes_max = processor.max_queue_size.saturating_mul(wiring::SPAN_BYTES);
                    let settings = OtlpSettings { traces: Some(destination), metrics: None };
                    let exporter = outputs.otlp(otlp, &settings, Temporality::Cumulative, runtime)?;
                    outputs.spans.push(Box::new(exporter));
                }
            }
        }
        for reader in &config.meter_provider.readers {
            let settings = wiring::metric_settings(config, reader, !outputs.spans.is_empty());
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
                    let destination = wiring::destination(otlp, Signal::Metrics)?;
                    let otlp_settings = OtlpSettings { traces: None, metrics: Some(destination) };
                    Box::new(outputs.otlp(otlp, &otlp_settings, settings.temporality, runtime)?)
                }
            };
            outputs.readers.add_periodic(settings, reader.interval, exporter);
        }
        for reader in &config.meter_provider.pull {
            let listener = match outputs.opened.listeners.pop_front() {
                Some(listener) => listener,
                None => listen(reader)?,
            };
            let settings = wiring::pull_settings(config, reader, !outputs.spans.is_empty());
            let additions = Additions { scope_info: reader.scope_info, target_info: reader.target_info };
            let address = listener.local_addr();
            let probes = Arc::clone(&outputs.probes);
            let served = address.and_then(|address| {
                let (scrapes, stats) = prometheus::serve(listener, additions, probes, runtime)?;
                Ok((address, scrapes, stats))
            });
            let (address, scrapes, stats) =
                served.map_err(|error| unusable(&endpoint_name(reader), &error))?;
            outputs.local[METRICS].push(format!("http://{address}/metrics"));
            outputs.readers.add_pull(settings, scrapes);
            outputs.scraped.push(stats);
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
        let file = self.opened.files.get(path).map_or_else(|| open(path), File::try_clone);
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
        self.readers.record(record);
    }

    pub(super) fn tick(&mut self, now: Instant, unix: UnixNanos) {
        self.spans.tick(now);
        self.probes.beat(now);
        self.readers.tick(now, unix);
    }

    /// Whether somebody reads metrics at the next tick.
    pub(super) fn metrics_are_due(&self, now: Instant) -> bool {
        self.readers.are_due(now)
    }

    /// What the agent tells of itself from now on.
    pub(super) fn set_own(&mut self, own: ServiceMetrics) {
        self.readers.set_own(own);
    }

    /// Series in all tables.
    #[must_use]
    pub fn series(&self) -> usize {
        self.readers.series()
    }

    /// Forgets series that nobody counts into any more, those of ended services first; every few seconds.
    pub(super) fn expire(&mut self, ended: impl Iterator<Item = u32>, unix: UnixNanos) {
        ended.for_each(|service| self.readers.service_ended(service, unix));
        self.readers.expire(unix);
    }

    /// Values that counted into an overflow series of their metric.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.readers.overflowed()
    }

    pub(super) fn shutdown(&mut self, deadline: Instant, unix: UnixNanos) {
        // All begin before one is waited for: a backend that is away uses up the whole time until the deadline.
        self.spans.begin_shutdown(deadline);
        self.readers.begin_shutdown(deadline, unix);
        self.spans.shutdown(deadline);
        self.readers.shutdown(deadline);
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

    /// The counters of endpoints where metrics are fetched.
    pub fn scraped(&self) -> impl Iterator<Item = &ScrapeStats> {
        self.scraped.iter().map(AsRef::as_ref)
    }

    /// Everything is attached: the endpoints may say so.
    pub(super) fn say_attached(&self) {
        self.probes.attached(self.stats.clone());
    }

    /// The counters of every OTLP destination.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationStats> {
        self.stats.iter().map(AsRef::as_ref)
    }
}

/// What may need rights that are given up before the outputs start.
#[derive(Default)]
pub(super) struct Opened {
    /// Output files, opened for appending.
    files: HashMap<PathBuf, File>,
    /// One for each endpoint where metrics are fetched, in their order.
    listeners: VecDeque<TcpListener>,
}

impl Opened {
    /// Opens all that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be opened.
    pub(super) fn of(config: &config::Config) -> Result<Self, WiringError> {
        let spans = config.tracer_provider.processors.iter().map(|processor| &processor.exporter);
        let metrics = config.meter_provider.readers.iter().map(|reader| &reader.exporter);
        let mut opened = Self::default();
        for exporter in spans.chain(metrics) {
            let config::Exporter::OtlpFile(config::OutputStream::File(path)) = exporter else { continue };
            let file = open(path).map_err(|error| unusable(&path.display().to_string(), &error))?;
            opened.files.insert(path.clone(), file);
        }
        for reader in &config.meter_provider.pull {
            opened.listeners.push_back(listen(reader)?);
        }
        Ok(opened)
    }
}

fn listen(reader: &config::PullReader) -> Result<TcpListener, WiringError> {
    TcpListener::bind((reader.host.as_str(), reader.port))
        .map_err(|error| unusable(&endpoint_name(reader), &error))
}

fn endpoint_name(reader: &config::PullReader) -> String {
    format!("http://{}:{}/metrics", reader.host, reader.port)
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

pub(super) fn refused(from: &config::OtlpExporter, reason: &str) -> WiringError {
    WiringError::Exporter { endpoint: from.endpoint.as_str().to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
