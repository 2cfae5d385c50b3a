//! The standard environment variables of OTLP exporters, read into [`OtlpSettings`].
//!
//! A signal-specific variable beats the generic one, an empty one counts as unset, and a value that cannot be used is
//! reported and ignored. Names and rules: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::settings::{Compression, DestinationSettings, OtlpSettings, Protocol, Signal, TlsSettings};
use crate::telemetry::Temporality;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct FromEnv {
    /// Destinations of the signals that the environment asks for.
    pub otlp: OtlpSettings,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: Temporality,
    /// `OTEL_METRIC_EXPORT_INTERVAL`, if set.
    pub metric_interval: Option<Duration>,
    /// One sentence for each variable that was ignored.
    pub warnings: Vec<String>,
}

/// Reads the variables through `get` (`|name| std::env::var(name).ok()`).
///
/// A signal is exported if an endpoint is set for it, or if `OTEL_TRACES_EXPORTER` (`OTEL_METRICS_EXPORTER`) is `otlp`;
/// `none` there switches it off.
pub fn from_env(get: impl Fn(&str) -> Option<String>) -> FromEnv {
    let mut reader = Reader { get: &get, warnings: Vec::new() };
    let otlp = OtlpSettings {
        traces: reader.destination(Signal::Traces),
        metrics: reader.destination(Signal::Metrics),
    };
    let temporality = reader.temporality();
    let metric_interval = reader.millis("OTEL_METRIC_EXPORT_INTERVAL");
    FromEnv { otlp, temporality, metric_interval, warnings: reader.warnings }
}

struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn destination(&mut self, signal: Signal) -> Option<DestinationSettings> {
        let wanted = self.wanted(signal);
        let named = self.option(signal, "ENDPOINT");
        if wanted == Some(false) || (named.is_none() && wanted.is_none()) {
            return None;
        }
        let protocol = self.protocol(signal);
        let endpoint = self.endpoint(signal, protocol, named)?;
        let mut settings = DestinationSettings::new(signal, protocol, endpoint);
        settings.headers = self.headers(signal);
        settings.compression = self.compression(signal);
        if let Some((name, _)) = self.option(signal, "TIMEOUT")
            && let Some(timeout) = self.millis(&name)
        {
            settings.timeout = timeout;
        }
        let path = |what| self.option(signal, what).map(|(_, path)| path.into());
        settings.tls = TlsSettings {
            ca_file: path("CERTIFICATE"),
            cert_file: path("CLIENT_CERTIFICATE"),
            key_file: path("CLIENT_KEY"),
        };
        Some(settings)
    }

    fn wanted(&mut self, signal: Signal) -> Option<bool> {
        let name = match signal {
            Signal::Traces => "OTEL_TRACES_EXPORTER",
            Signal::Metrics => "OTEL_METRICS_EXPORTER",
        };
        let text = self.value(name)?;
        match text.as_str() {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => {
                self.ignore(name, &text, "otlp or none");
                None
            }
        }
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let Some((name, text)) = self.option(signal, "PROTOCOL") else { return Protocol::default() };
        match text.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            _ => {
                self.ignore(&name, &text, "grpc or http/protobuf");
                Protocol::default()
            }
        }
    }

    fn endpoint(
        &mut self,
        signal: Signal,
        protocol: Protocol,
        named: Option<(String, String)>,
    ) -> Option<Uri> {
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        let (name, mut text) = named.unwrap_or_else(|| (generic("ENDPOINT"), default.to_owned()));
        if !text.contains("://") {
            if protocol == Protocol::HttpProtobuf {
                self.ignore(&name, &text, "a URL with http:// or https://");
                return None;
            }
            let scheme = if self.insecure(signal) { "http" } else { "https" };
            text = format!("{scheme}://{text}");
        }
        if protocol == Protocol::HttpProtobuf && name == generic("ENDPOINT") {
            text = format!("{}{}", text.trim_end_matches('/'), signal.http_path());
        }
        let uri = text
            .parse::<Uri>()
            .ok()
            .filter(|uri| uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
        match &uri {
            None => self.ignore(&name, &text, "a URL with http:// or https://"),
            Some(uri) if protocol == Protocol::HttpProtobuf && uri.port_u16() == Some(4317) => {
                self.warnings.push(format!(
                    "{name} names port 4317, which usually speaks gRPC: set {}=grpc if it does",
                    generic("PROTOCOL")
                ));
            }
            Some(_) => {}
        }
        uri
    }

    /// Only asked for endpoints without a scheme.
    fn insecure(&mut self, signal: Signal) -> bool {
        let Some((name, text)) = self.option(signal, "INSECURE") else { return false };
        if text.eq_ignore_ascii_case("true") {
            return true;
        }
        if !text.eq_ignore_ascii_case("false") {
            self.ignore(&name, &text, "true or false");
        }
        false
    }

    fn headers(&mut self, signal: Signal) -> Vec<(HeaderName, HeaderValue)> {
        let Some((name, text)) = self.option(signal, "HEADERS") else { return Vec::new() };
        let mut headers = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            match header(pair) {
                Some(header) => headers.push(header),
                // The pair may hold a secret: it is not repeated.
                None => self.warnings.push(format!("{name} holds a pair that is not name=value, ignored it")),
            }
        }
        headers
    }

    fn compression(&mut self, signal: Signal) -> Compression {
        let Some((name, text)) = self.option(signal, "COMPRESSION") else { return Compression::default() };
        match text.as_str() {
            "gzip" => Compression::Gzip,
            "none" => Compression::None,
            _ => {
                self.ignore(&name, &text, "gzip or none");
                Compression::default()
            }
        }
    }

    fn temporality(&mut self) -> Temporality {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let Some(text) = self.value(name) else { return Temporality::default() };
        match text.to_ascii_lowercase().as_str() {
            "cumulative" => Temporality::Cumulative,
            // Both mean delta for histograms.
            "delta" | "lowmemory" => Temporality::Delta,
            _ => {
                self.ignore(name, &text, "cumulative, delta or lowmemory");
                Temporality::default()
            }
        }
    }

    /// A number of milliseconds above 0.
    fn millis(&mut self, name: &str) -> Option<Duration> {
        let text = self.value(name)?;
        match text.parse() {
            Ok(millis) if millis > 0 => Some(Duration::from_millis(millis)),
            _ => {
                self.ignore(name, &text, "milliseconds, a whole number above 0");
                None
            }
        }
    }

    /// The signal's own variable or the generic one, with the name of the one that was set.
    fn option(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name().to_ascii_uppercase());
        [own, generic(what)].into_iter().find_map(|name| self.value(&name).map(|value| (name, value)))
    }

    fn value(&self, name: &str) -> Option<String> {
        let value = (self.get)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    fn ignore(&mut self, name: &str, value: &str, expected: &str) {
        self.warnings.push(format!("{name}={value} ignored: expected {expected}"));
    }
}

fn generic(what: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{what}")
}

/// `name=value`, both percent-decoded.
fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name = HeaderName::from_bytes(&percent_decoded(name.trim())?).ok()?;
    let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim())?).ok()?;
    value.set_sensitive(true);
    // gRPC takes names with this ending for base64.
    (!name.as_str().ends_with("-bin")).then_some((name, value))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            byte
        };
        out.push(decoded);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> FromEnv {
        from_env(|name| {
            let name = name.strip_prefix("OTEL_EXPORTER_OTLP_").unwrap_or(name);
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoints(variables: &[(&str, &str)]) -> [String; 2] {
        let found = read(variables);
        assert_eq!(found.warnings, [""; 0], "{variables:?}");
        [found.otlp.traces, found.otlp.metrics]
            .map(|d| d.map_or_else(String::new, |d| format!("{:?} {}", d.protocol, d.endpoint)))
    }

    #[test]
    fn nothing_set_means_no_export() {
        assert_eq!(endpoints(&[]), ["", ""]);
        assert_eq!(endpoints(&[("ENDPOINT", "  ")]), ["", ""]);
    }

    #[test]
    fn paths_are_appended_to_the_generic_endpoint_only() {
        for generic in ["http://c:4318", "http://c:4318/"] {
            assert_eq!(
                endpoints(&[("ENDPOINT", generic)]),
                ["HttpProtobuf http://c:4318/v1/traces", "HttpProtobuf http://c:4318/v1/metrics"]
            );
        }
        assert_eq!(
            endpoints(&[("ENDPOINT", "https://c/otlp"), ("METRICS_ENDPOINT", "http://p:9090/api/v1/otlp/x")]),
            ["HttpProtobuf https://c/otlp/v1/traces", "HttpProtobuf http://p:9090/api/v1/otlp/x"]
        );
        assert_eq!(endpoints(&[("TRACES_ENDPOINT", "http://c:4318")]), ["HttpProtobuf http://c:4318/", ""]);
    }

    #[test]
    fn grpc_endpoints_may_lack_a_scheme() {
        let with = |more: &[(&str, &str)]| {
            let mut all = vec![("PROTOCOL", "grpc"), ("ENDPOINT", "c:4317"), ("METRICS_PROTOCOL", "grpc")];
            all.extend(more);
            endpoints(&all)[0].clone()
        };
        assert_eq!(with(&[]), "Grpc https://c:4317/");
        assert_eq!(with(&[("INSECURE", "true")]), "Grpc http://c:4317/");
        assert_eq!(with(&[("TRACES_ENDPOINT", "http://d:1")]), "Grpc http://d:1/");
    }

    #[test]
    fn exporters_switch_signals() {
        assert_eq!(
            endpoints(&[("OTEL_TRACES_EXPORTER", "otlp"), ("PROTOCOL", "grpc")]),
            ["Grpc http://localhost:4317/", ""]
        );
        let endpoint = ("ENDPOINT", "http://c:4318");
        assert_eq!(
            endpoints(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]),
            ["HttpProtobuf http://c:4318/v1/traces", ""]
        );
    }

    #[test]
    fn headers_are_decoded_and_secret() {
        let found = read(&[
            ("ENDPOINT", "http://c"),
            ("HEADERS", "api-key=a%20b%3D, x = y ,broken,%zz=1,big-bin=1"),
            ("METRICS_HEADERS", "only=this"),
        ]);
        let traces = found.otlp.traces.unwrap();
        let pairs: Vec<_> = traces.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(pairs, [("api-key", "a b="), ("x", "y")]);
        assert!(!format!("{traces:?}").contains("a b="));
        assert_eq!(found.otlp.metrics.unwrap().headers.len(), 1);
        assert_eq!(found.warnings.len(), 3);
        assert!(found.warnings.iter().all(|w| !w.contains("broken")));
    }

    #[test]
    fn the_rest_is_read_and_bad_values_are_ignored() {
        let found = read(&[
            ("ENDPOINT", "https://c"),
            ("COMPRESSION", "gzip"),
            ("METRICS_COMPRESSION", "zstd"),
            ("TIMEOUT", "2500"),
            ("METRICS_TIMEOUT", "-1"),
            ("CERTIFICATE", "/ca.pem"),
            ("METRICS_TEMPORALITY_PREFERENCE", "Delta"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
            ("PROTOCOL", "http/json"),
        ]);
        let (traces, metrics) = (found.otlp.traces.unwrap(), found.otlp.metrics.unwrap());
        assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::None));
        assert_eq!(traces.timeout, Duration::from_millis(2500));
        assert_eq!(metrics.timeout, Duration::from_secs(10));
        assert_eq!(traces.tls.ca_file.as_deref(), Some("/ca.pem".as_ref()));
        assert_eq!(found.temporality, Temporality::Delta);
        assert_eq!(found.metric_interval, Some(Duration::from_secs(5)));
        assert_eq!(found.warnings.len(), 4, "{:?}", found.warnings);
        assert_eq!(read(&[("ENDPOINT", "c:4318")]).warnings.len(), 2);
        assert_eq!(read(&[("TRACES_ENDPOINT", "http://c:4317")]).warnings.len(), 1);
    }
}
