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
mod tests {
    use super::*;
    use crate::sampler::ParentBased;

    fn read(variables: &[(&str, &str)]) -> FromEnvironment {
        try_read(variables).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_read(variables: &[(&str, &str)]) -> Result<FromEnvironment, EnvironmentError> {
        let env =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::from_environment(&env)
    }

    fn traces(from: &FromEnvironment) -> &OtlpExporter {
        match &from.config.tracer_provider.processors[0].exporter {
            Exporter::Otlp(otlp) => otlp,
            other => panic!("no OTLP exporter: {other:?}"),
        }
    }

    #[test]
    fn without_variables_it_is_the_default() {
        let expected = FromEnvironment { config: Config::default(), warnings: Vec::new() };
        assert_eq!(read(&[]), expected);
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), expected, "empty is not set");
    }

    #[test]
    fn an_endpoint_is_enough() {
        for (variable, value, transport, url) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", Transport::Http, "http://c:4318/v1/traces"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/x/", Transport::Http, "http://c:4318/x/v1/traces"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317", Transport::Grpc, "http://c:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/t", Transport::Http, "http://c/t"),
        ] {
            let from = read(&[(variable, value)]);
            assert_eq!(from.warnings, Vec::<String>::new());
            assert_eq!((traces(&from).transport, traces(&from).endpoint.as_str()), (transport, url));
        }
        let from = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/t")]);
        assert_eq!(from.config.meter_provider.readers[0].exporter, Exporter::Console, "of spans only");
    }

    #[test]
    fn the_variable_of_the_signal_goes_first() {
        let from = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=a%20b"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
            ("OTEL_SERVICE_NAME", "spantap-a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b,host.name=n"),
        ]);
        assert_eq!(from.warnings, Vec::<String>::new());
        let otlp = traces(&from);
        assert_eq!((otlp.endpoint.as_str(), otlp.timeout), ("http://collector:4317", None));
        assert_eq!(otlp.compression, Compression::Gzip);
        assert_eq!((otlp.headers[0].name.as_str(), otlp.headers[0].value.expose()), ("x-key", "a b"));
        let batch = &from.config.tracer_provider.processors[0];
        assert_eq!((batch.max_queue_size, batch.max_export_batch_size), (100, 100));
        let reader = &from.config.meter_provider.readers[0];
        assert_eq!((reader.interval.as_secs(), reader.temporality), (15, Temporality::Delta));
        let names: Vec<_> = from.config.resource.attributes.iter().map(|a| (&*a.name, &a.value)).collect();
        let text = |text: &str| AttributeValue::String(text.to_owned());
        assert_eq!(names, [("host.name", &text("n")), ("service.name", &text("spantap-a"))]);
    }

    #[test]
    fn what_cannot_be_understood_is_ignored_with_a_warning() {
        let from = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_METRICS_EXPORTER", "zipkin"),
            ("OTEL_LOG_LEVEL", "loud"),
        ]);
        assert_eq!(from.warnings.len(), 4, "each is said once: {:?}", from.warnings);
        let warnings = from.warnings.join("\n");
        for name in ["HEADERS", "PROTOCOL", "OTEL_METRICS_EXPORTER", "OTEL_LOG_LEVEL"] {
            assert!(warnings.contains(name), "{name} in {warnings}");
        }
        assert!(!warnings.contains("secret"));
    }

    #[test]
    fn an_endpoint_that_cannot_be_understood_is_an_error_and_never_the_default() {
        let expected = "OTEL_EXPORTER_OTLP_ENDPOINT: the URL must begin with http:// or https://; \
                        write http://HOST:PORT";
        for value in ["localhost:4318", "collector:4318", "collector"] {
            let error = try_read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap_err();
            assert_eq!(error.to_string(), expected, "said once for {value}");
        }
        let own = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:notaport"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
        ];
        let error = try_read(&own).unwrap_err().to_string();
        assert_eq!(error, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: the URL has no valid port");
        let unused = [("OTEL_EXPORTER_OTLP_ENDPOINT", "c"), ("OTEL_TRACES_EXPORTER", "console")];
        assert!(try_read(&unused).is_err(), "metrics use it");
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (name, value, warnings) in [
            ("OTEL_SDK_DISABLED", "true", 1),
            ("OTEL_SDK_DISABLED", "false", 0),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", 1),
            ("OTEL_TRACES_SAMPLER", "Always_On", 1),
        ] {
            let from = read(&[(name, value)]);
            assert_eq!(from.warnings.len(), warnings, "{name}={value}");
            assert!(from.warnings.iter().all(|warning| warning.starts_with(name)));
        }
    }

    #[test]
    fn the_sampler_has_a_name_and_perhaps_an_argument() {
        let of_root = |root| Sampler::ParentBased(Box::new(ParentBased { root, ..ParentBased::default() }));
        for (name, argument, sampler, warnings) in [
            ("always_on", "", Sampler::AlwaysOn, 0),
            ("always_off", "0.5", Sampler::AlwaysOff, 0),
            ("traceidratio", "0.25", Sampler::Probability(0.25), 0),
            ("traceidratio", "", Sampler::Probability(1.0), 0),
            ("traceidratio", "25 %", Sampler::Probability(1.0), 1),
            ("traceidratio", "1.5", Sampler::Probability(1.0), 1),
            ("traceidratio", "NaN", Sampler::Probability(1.0), 1),
            ("parentbased_always_on", "", Sampler::default(), 0),
            ("parentbased_always_off", "", of_root(Sampler::AlwaysOff), 0),
            (" parentbased_traceidratio ", "1e-3", of_root(Sampler::Probability(0.001)), 0),
            ("xray", "endpoint=x", Sampler::default(), 1),
            ("", "0.5", Sampler::default(), 0),
        ] {
            let from = read(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
            assert_eq!(from.config.tracer_provider.sampler, sampler, "{name} {argument}");
            assert_eq!(from.warnings.len(), warnings, "{name} {argument}: {:?}", from.warnings);
        }
    }

    #[test]
    fn older_names_are_opted_for() {
        let name = "OTEL_SEMCONV_STABILITY_OPT_IN";
        let from = read(&[(name, "database/dup,http,gibberish")]);
        let expected = StabilityOptIn { database: true, ..StabilityOptIn::default() };
        assert_eq!(from.config.spantap.semconv_stability_opt_in, expected);
        assert_eq!(from.warnings.len(), 1);
        assert!(from.warnings[0].starts_with(name) && from.warnings[0].contains("`gibberish`"));
    }

    #[test]
    fn prometheus_is_an_exporter_of_metrics() {
        let name = "OTEL_METRICS_EXPORTER";
        let from = read(&[(name, "prometheus")]);
        assert_eq!(from.config.meter_provider.pull, [PullReader::default()]);
        assert!(from.config.meter_provider.readers.is_empty() && from.warnings.is_empty());
        let from = read(&[
            (name, "console, prometheus"),
            ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0"),
            ("OTEL_EXPORTER_PROMETHEUS_PORT", "0"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        ]);
        assert!(!from.config.meter_provider.exemplars);
        let [pull] = &from.config.meter_provider.pull[..] else { panic!("one") };
        assert_eq!((pull.host.as_str(), pull.port, from.warnings.len()), ("0.0.0.0", 9464, 1));
        assert_eq!(from.config.meter_provider.readers.len(), 1);
        assert_eq!(read(&[("OTEL_TRACES_EXPORTER", "prometheus")]).warnings.len(), 1);
    }

    #[test]
    fn several_exporters_and_none() {
        let from = read(&[("OTEL_TRACES_EXPORTER", "otlp,console"), ("OTEL_METRICS_EXPORTER", "none")]);
        assert_eq!(from.config.tracer_provider.processors.len(), 2);
        assert!(from.config.meter_provider.readers.is_empty());
    }
}
