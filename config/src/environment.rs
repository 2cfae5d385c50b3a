//! The standard `OTEL_*` variables, for running without a file.
//!
//! Specification: a variable that is empty is not set, the variable of a signal goes before the one of all signals,
//! and a value that cannot be understood is warned of and ignored. One thing is stricter here: an endpoint that cannot
//! be understood is an error, because the default in its place would send to a host that nobody named. With a file
//! these variables mean nothing, except where the file names them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::exporter::{Compression, Exporter, Header, OtlpExporter, Signal, Tls, Transport};
use crate::meter_provider::{HistogramAggregation, MetricReader, Temporality};
use crate::pairs;
use crate::pull_reader::PullReader;
use crate::resource::{Attribute, AttributeValue};
use crate::root::{Config, LogLevel};
use crate::sampler::Sampler;
use crate::stability::{self, StabilityOptIn};
use crate::tracer_provider::BatchProcessor;

/// What the environment asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct FromEnvironment {
    /// The defaults, changed by the variables.
    pub config: Config,
    /// One sentence per variable that was ignored, without its value.
    pub warnings: Vec<String>,
}

/// Variables that must not be ignored and cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError(Vec<String>);

impl fmt::Display for EnvironmentError {
    /// One line for each, without its value: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for EnvironmentError {}

/// The file that `OTEL_CONFIG_FILE` names.
#[must_use]
pub fn config_file(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("OTEL_CONFIG_FILE").filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Config {
    /// Reads the `OTEL_*` variables. An endpoint is enough to send there; without one, everything goes to the terminal.
    ///
    /// # Errors
    /// An endpoint that is used and cannot be understood.
    pub fn from_environment(
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<FromEnvironment, EnvironmentError> {
        let mut reader = Variables { env, warnings: Vec::new(), errors: Vec::new() };
        reader.warn_of_unsupported();
        let mut config = Self::default();
        let resource = reader.get("OTEL_RESOURCE_ATTRIBUTES", pairs::parse).unwrap_or_default();
        let service =
            reader.get("OTEL_SERVICE_NAME", |name| Ok(("service.name".to_owned(), name.to_owned())));
        for (name, value) in resource.into_iter().chain(service) {
            config.resource.put(Attribute { name, value: AttributeValue::String(value) });
        }
        reader.set("OTEL_LOG_LEVEL", &mut config.log_level, log_level);
        config.spantap.semconv_stability_opt_in = reader.stability();
        let exporters = reader.exporters(Signal::Traces);
        config.tracer_provider.processors = exporters.into_iter().map(|to| reader.batch(to)).collect();
        config.tracer_provider.sampler = reader.sampler();
        let exporters = reader.exporters(Signal::Metrics);
        config.meter_provider.readers = exporters.into_iter().map(|to| reader.periodic(to)).collect();
        config.meter_provider.pull = reader.pull();
        reader.set("OTEL_METRICS_EXEMPLAR_FILTER", &mut config.meter_provider.exemplars, |text| match text {
            "trace_based" => Ok(true),
            "always_off" => Ok(false),
            _ => Err("expected trace_based or always_off".to_owned()),
        });
        if reader.errors.is_empty() {
            Ok(FromEnvironment { config, warnings: reader.warnings })
        } else {
            Err(EnvironmentError(reader.errors))
        }
    }
}

/// Reads variables and collects warnings.
struct Variables<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl Variables<'_> {
    /// The value of `name` as `read` understands it, whose error says what is wrong or what is expected.
    fn get<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = (self.env)(name)?;
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        match read(value) {
            Ok(value) => Some(value),
            Err(why) => {
                let warning = format!("{name} is ignored: {why}");
                // The variables of all signals are asked for by each.
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
                None
            }
        }
    }

    fn stability(&mut self) -> StabilityOptIn {
        const NAME: &str = "OTEL_SEMCONV_STABILITY_OPT_IN";
        let text = (self.env)(NAME).unwrap_or_default();
        let (opted, unknown) = StabilityOptIn::parse(&text);
        // One that is for other programs must not switch off what is for us.
        for value in unknown {
            self.warnings.push(format!("{NAME}: `{value:.40}` is ignored; known are {}", stability::KNOWN));
        }
        opted
    }

    /// `OTEL_TRACES_SAMPLER` with its argument, which only some have.
    fn sampler(&mut self) -> Sampler {
        let name = (self.env)("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let ratio = if name.trim().ends_with("traceidratio") {
            // "If unset, it defaults to 1.0", and so it is if it cannot be understood.
            self.get("OTEL_TRACES_SAMPLER_ARG", |text| {
                let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.ok_or_else(|| "expected a number from 0 to 1".to_owned())
            })
        } else {
            None
        };
        let sampler = self.get("OTEL_TRACES_SAMPLER", |name| {
            Sampler::named(name, ratio.unwrap_or(1.0)).ok_or_else(|| {
                "expected always_on, always_off, traceidratio or one of them after parentbased_".to_owned()
            })
        });
        sampler.unwrap_or_default()
    }

    fn set<T>(&mut self, name: &str, target: &mut T, read: impl FnOnce(&str) -> Result<T, String>) {
        if let Some(value) = self.get(name, read) {
            *target = value;
        }
    }

    /// Says of standard variables that ask for what there is not: silence would look like consent.
    fn warn_of_unsupported(&mut self) {
        self.get("OTEL_SDK_DISABLED", |text| {
            // Any other value means false.
            if text.eq_ignore_ascii_case("true") {
                Err("spantap watches and exports as long as it runs".to_owned())
            } else {
                Ok(())
            }
        });
    }

    /// The endpoint in `name`; one that cannot be understood is an error.
    fn endpoint(&mut self, name: &str, transport: Transport, insecure: bool, path: &str) -> Option<Endpoint> {
        let value = (self.env)(name)?;
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        match endpoint(value, transport, insecure, path) {
            Ok(endpoint) => Some(endpoint),
            Err(why) => {
                let hint = if value.contains("://") { "" } else { "; write http://HOST:PORT" };
                let error = format!("{name}: {why}{hint}");
                // The variable of all signals is asked for by each.
                if !self.errors.contains(&error) {
                    self.errors.push(error);
                }
                None
            }
        }
    }

    /// The variable of the signal, else the one of all signals.
    fn of_signal<T>(
        &mut self,
        signal: Signal,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{name}", upper(signal));
        self.get(&own, &read).or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}"), &read))
    }

    /// `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER`. Not set, it is otlp if there is an endpoint, else console.
    fn exporters(&mut self, signal: Signal) -> Vec<Exporter> {
        let has_endpoint = self.of_signal(signal, "ENDPOINT", |_| Ok(())).is_some();
        let default = if has_endpoint { "otlp" } else { "console" };
        let names = self.get(&format!("OTEL_{}_EXPORTER", upper(signal)), |text| {
            let names: Vec<&str> = text.split(',').map(str::trim).collect();
            // `prometheus` is not pushed to, see `pull`.
            let (known, expected): (&[&str], _) = match signal {
                Signal::Traces => (&["otlp", "console", "none"], "expected otlp, console or none"),
                Signal::Metrics => {
                    (&["otlp", "console", "none", "prometheus"], "expected otlp, console, prometheus or none")
                }
            };
            let are_known = names.iter().all(|name| known.contains(name));
            let names = names.into_iter().map(str::to_owned).collect();
            if are_known { Ok(names) } else { Err(expected.to_owned()) }
        });
        let names = names.unwrap_or_else(|| vec![default.to_owned()]);
        let exporter = |name: &String| match name.as_str() {
            "otlp" => Some(Exporter::Otlp(Box::new(self.otlp(signal)))),
            "console" => Some(Exporter::Console),
            _ => None,
        };
        names.iter().filter_map(exporter).collect()
    }

    fn otlp(&mut self, signal: Signal) -> OtlpExporter {
        let transport = self.of_signal(signal, "PROTOCOL", |text| match text {
            "grpc" => Ok(Transport::Grpc),
            "http/protobuf" => Ok(Transport::Http),
            _ => Err("expected grpc or http/protobuf".to_owned()),
        });
        // The specification's default is HTTP; who names gRPC's own port and no protocol means gRPC.
        let transport = transport.unwrap_or_else(|| {
            let grpc_port =
                self.of_signal(signal, "ENDPOINT", |text| Ok(text.trim_end_matches('/').ends_with(":4317")));
            if grpc_port == Some(true) { Transport::Grpc } else { Transport::Http }
        });
        let mut otlp = OtlpExporter::new(transport, signal);
        let insecure = self.of_signal(signal, "INSECURE", boolean).unwrap_or(false);
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", upper(signal));
        let endpoint = self.endpoint(&own, transport, insecure, "").or_else(|| {
            let path = if signal == Signal::Traces { "/v1/traces" } else { "/v1/metrics" };
            self.endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", transport, insecure, path)
        });
        otlp.endpoint = endpoint.unwrap_or(otlp.endpoint);
        otlp.headers = self.of_signal(signal, "HEADERS", headers).unwrap_or_default();
        let compression = self.of_signal(signal, "COMPRESSION", |text| match text {
            "gzip" => Ok(Compression::Gzip),
            "none" => Ok(Compression::None),
            _ => Err("expected gzip or none".to_owned()),
        });
        otlp.compression = compression.unwrap_or_default();
        otlp.timeout = self.of_signal(signal, "TIMEOUT", timeout).unwrap_or(otlp.timeout);
        let path = |text: &str| Ok(PathBuf::from(text));
        otlp.tls = Tls {
            ca_file: self.of_signal(signal, "CERTIFICATE", path),
            cert_file: self.of_signal(signal, "CLIENT_CERTIFICATE", path),
            key_file: self.of_signal(signal, "CLIENT_KEY", path),
        };
        if otlp.tls.cert_file.is_some() != otlp.tls.key_file.is_some() {
            self.warnings.push("the OTLP client certificate and key are ignored: only one is set".to_owned());
            (otlp.tls.cert_file, otlp.tls.key_file) = (None, None);
        }
        otlp
    }

    fn batch(&mut self, exporter: Exporter) -> BatchProcessor {
        let mut batch = BatchProcessor::new(exporter);
        self.set("OTEL_BSP_SCHEDULE_DELAY", &mut batch.schedule_delay, millis);
        self.set("OTEL_BSP_EXPORT_TIMEOUT", &mut batch.export_timeout, timeout);
        self.set("OTEL_BSP_MAX_QUEUE_SIZE", &mut batch.max_queue_size, positive);
        self.set("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &mut batch.max_export_batch_size, positive);
        // "It must be less than or equal to OTEL_BSP_MAX_QUEUE_SIZE."
        batch.max_export_batch_size = batch.max_export_batch_size.min(batch.max_queue_size);
        batch
    }

    fn periodic(&mut self, exporter: Exporter) -> MetricReader {
        let mut reader = MetricReader::new(exporter);
        self.set("OTEL_METRIC_EXPORT_INTERVAL", &mut reader.interval, millis);
        self.set("OTEL_METRIC_EXPORT_TIMEOUT", &mut reader.timeout, timeout);
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        self.set(name, &mut reader.temporality, |text| match text.to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Temporality::Cumulative),
            "delta" => Ok(Temporality::Delta),
            _ => Err("expected cumulative or delta".to_owned()),
        });
        let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        self.set(name, &mut reader.histogram, |text| match text.to_ascii_lowercase().as_str() {
            "explicit_bucket_histogram" => Ok(HistogramAggregation::ExplicitBuckets),
            "base2_exponential_bucket_histogram" => Ok(HistogramAggregation::Base2Exponential),
            _ => Err("expected explicit_bucket_histogram or base2_exponential_bucket_histogram".to_owned()),
        });
        reader
    }
}

impl Variables<'_> {
    /// `prometheus` among `OTEL_METRICS_EXPORTER`, with its host and port.
    fn pull(&mut self) -> Vec<PullReader> {
        let names = (self.env)("OTEL_METRICS_EXPORTER").unwrap_or_default();
        if !names.split(',').any(|name| name.trim() == "prometheus") {
            return Vec::new();
        }
        let mut reader = PullReader::default();
        self.set("OTEL_EXPORTER_PROMETHEUS_HOST", &mut reader.host, |host| Ok(host.to_owned()));
        self.set("OTEL_EXPORTER_PROMETHEUS_PORT", &mut reader.port, |port| match port.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err("expected a port".to_owned()),
        });
        vec![reader]
    }
}

fn upper(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "TRACES",
        Signal::Metrics => "METRICS",
    }
}

/// `path` is what OTLP/HTTP appends to the endpoint of all signals.
fn endpoint(text: &str, transport: Transport, insecure: bool, path: &str) -> Result<Endpoint, String> {
    let url = match transport {
        Transport::Grpc if text.contains("://") => text.to_owned(),
        Transport::Grpc if insecure => format!("http://{text}"),
        Transport::Grpc => format!("https://{text}"),
        Transport::Http if path.is_empty() => text.to_owned(),
        Transport::Http => format!("{}{path}", text.trim_end_matches('/')),
    };
    Endpoint::parse(&url).map_err(|why| format!("the URL {why}"))
}

fn headers(text: &str) -> Result<Vec<Header>, String> {
    let mut headers = Vec::new();
    for (name, value) in pairs::parse(text)? {
        let header = Header::new(&name, &value).map_err(|_| "a header is not valid".to_owned())?;
        header.put_into(&mut headers);
    }
    Ok(headers)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    let millis = text.parse::<u32>().map_err(|_| "expected a number of milliseconds".to_owned())?;
    Ok(Duration::from_millis(millis.into()))
}

fn timeout(text: &str) -> Result<Option<Duration>, String> {
    millis(text).map(|duration| (!duration.is_zero()).then_some(duration))
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse::<u32>()
        .ok()
        .filter(|number| (1..=1 << 20).contains(number))
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| "expected a number from 1 to 1048576".to_owned())
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" => Ok(LogLevel::Warn),
        "error" | "fatal" => Ok(LogLevel::Error),
        _ => Err("expected trace, debug, info, warn or error".to_owned()),
    }
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
