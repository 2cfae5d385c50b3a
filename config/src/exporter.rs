//! Exporters, the same for spans and metrics: OTLP over HTTP or gRPC, the terminal, OTLP JSON in a file.
//!
//! Schema: `OtlpHttpExporter`, `OtlpGrpcExporter`, `ConsoleExporter` and `ExperimentalOtlpFileExporter` of the
//! OpenTelemetry declarative configuration 1.1.

use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::ProblemKind;
use crate::field::{Field, Section};
use crate::pairs;
use crate::secret::Secret;

/// Where records go.
#[derive(Clone, Debug, PartialEq)]
pub enum Exporter {
    /// `otlp_http` and `otlp_grpc`: to a backend or a collector.
    Otlp(Box<OtlpExporter>),
    /// `console`: to the terminal, in the format of `distribution.spantap.stdout`.
    Console,
    /// `otlp_file/development`: OTLP JSON, one object a line.
    OtlpFile(OutputStream),
}

/// An OTLP destination.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpExporter {
    /// How requests travel.
    pub transport: Transport,
    /// The full URL: for HTTP with the path of the signal, used as it is.
    pub endpoint: Endpoint,
    /// Added to each request, in this order; names are lower-case and valid, each stands once.
    pub headers: Vec<Header>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// How long one export may take; `None` is no limit. Default 10 s.
    pub timeout: Option<Duration>,
    /// Certificates for `https` endpoints.
    pub tls: Tls,
}

/// How OTLP requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP/HTTP with binary protobuf.
    Http,
    /// OTLP/gRPC.
    Grpc,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
}

/// A request header (gRPC: metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Lower-case; a valid HTTP header name.
    pub name: String,
    /// Printable ASCII; never shown in logs.
    pub value: Secret,
}

/// Certificates, as absolute or relative paths of PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What the server's certificate is checked against; `None` is the system's roots.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate. Set if and only if `key_file` is.
    pub cert_file: Option<PathBuf>,
    /// The client's key.
    pub key_file: Option<PathBuf>,
}

/// Where a file exporter writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// What is exported; decides the default path of OTLP/HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Exporter {
    /// Reads `{<kind>: {...}}`. `more` takes the keys that only this signal's exporters have.
    pub(crate) fn read<'a>(
        field: &Field<'a>,
        signal: Signal,
        more: impl FnOnce(&mut Section<'a>),
    ) -> Option<Self> {
        let mut kinds = field.section()?;
        kinds.unsupported(&["zipkin"]);
        let chosen = kinds.one_of(&["otlp_http", "otlp_grpc", "otlp_file/development", "console"]);
        kinds.finish();
        let (kind, field) = chosen?;
        let mut section = field.section()?;
        more(&mut section);
        let exporter = match kind {
            "otlp_http" => OtlpExporter::read(&mut section, Transport::Http, signal),
            "otlp_grpc" => OtlpExporter::read(&mut section, Transport::Grpc, signal),
            "otlp_file/development" => {
                let mut stream = OutputStream::default();
                section.set("output_stream", &mut stream, OutputStream::read);
                Self::OtlpFile(stream)
            }
            _ => Self::Console,
        };
        section.finish();
        Some(exporter)
    }
}

impl OtlpExporter {
    /// The exporter that `{otlp_http: }` or `{otlp_grpc: }` is.
    pub(crate) fn new(transport: Transport, signal: Signal) -> Self {
        let url = match (transport, signal) {
            (Transport::Grpc, _) => "http://localhost:4317",
            (Transport::Http, Signal::Traces) => "http://localhost:4318/v1/traces",
            (Transport::Http, Signal::Metrics) => "http://localhost:4318/v1/metrics",
        };
        Self {
            transport,
            endpoint: Endpoint::parse(url).expect("the constant is a valid URL"),
            headers: Vec::new(),
            compression: Compression::default(),
            timeout: Some(Duration::from_secs(10)),
            tls: Tls::default(),
        }
    }

    fn read(section: &mut Section<'_>, transport: Transport, signal: Signal) -> Exporter {
        let mut otlp = Self::new(transport, signal);
        let tls_field = section.field("tls");
        let insecure = tls_field.as_ref().and_then(|field| otlp.tls.read(field, transport)).unwrap_or(false);
        section.set("endpoint", &mut otlp.endpoint, |field| read_endpoint(field, transport, insecure));
        let names_files = otlp.tls != Tls::default();
        if let Some(tls) = tls_field.filter(|_| names_files && !otlp.endpoint.is_https()) {
            tls.conflict("certificates have no effect on an http:// endpoint, use https://");
        }
        section.set("compression", &mut otlp.compression, |field| {
            field.choice(&[("gzip", Compression::Gzip), ("none", Compression::None)])
        });
        section.set("timeout", &mut otlp.timeout, Field::timeout_millis);
        if transport == Transport::Http
            && let Some(encoding) = section.field("encoding")
            && encoding.choice(&[("protobuf", false), ("json", true)]) == Some(true)
        {
            encoding.problem(ProblemKind::Unsupported("the encoding json is".to_owned()), None);
        }
        let list = section.field("headers_list");
        let entries = section.field("headers");
        otlp.headers = read_headers(list.as_ref(), entries.as_ref());
        section.unsupported(&["max_request_size", "max_response_size"]);
        Exporter::Otlp(Box::new(otlp))
    }
}

impl Tls {
    /// Reads the files into `self` and returns `insecure`.
    fn read(&mut self, field: &Field<'_>, transport: Transport) -> Option<bool> {
        let mut section = field.section()?;
        let path = |field: &Field<'_>| field.filled_text().map(|path| Some(PathBuf::from(path)));
        section.set("ca_file", &mut self.ca_file, path);
        section.set("cert_file", &mut self.cert_file, path);
        section.set("key_file", &mut self.key_file, path);
        let mut insecure = false;
        if transport == Transport::Grpc {
            section.set("insecure", &mut insecure, Field::boolean);
        }
        section.finish();
        if self.cert_file.is_some() != self.key_file.is_some() {
            field.conflict("cert_file and key_file belong together, only one is set");
        }
        Some(insecure)
    }
}

/// gRPC endpoints may come without a scheme: "only applicable when .endpoint is provided without http or https scheme".
fn read_endpoint(field: &Field<'_>, transport: Transport, insecure: bool) -> Option<Endpoint> {
    let text = field.filled_text()?;
    let scheme = if insecure { "http" } else { "https" };
    let url = match transport {
        Transport::Grpc if !text.contains("://") => format!("{scheme}://{text}"),
        _ => text.to_owned(),
    };
    match Endpoint::parse(&url) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            let example = match transport {
                Transport::Grpc => "for example http://localhost:4317",
                Transport::Http => "for example http://localhost:4318/v1/traces",
            };
            field.invalid(why, Some(example.to_owned()));
            None
        }
    }
}

impl OutputStream {
    fn read(field: &Field<'_>) -> Option<Self> {
        let text = field.filled_text()?;
        if text == "stdout" {
            return Some(Self::Stdout);
        }
        // "scheme+destination. For example: file:///path/to/file.jsonl"
        match text.strip_prefix("file://").filter(|path| path.starts_with('/') && path.len() > 1) {
            Some(path) => Some(Self::File(PathBuf::from(path))),
            None => {
                field.invalid("must be stdout or file:///an/absolute/path", None);
                None
            }
        }
    }
}

/// "Entries have higher priority than entries from .headers_list. If an entry's .value is null, the entry is ignored."
fn read_headers(list: Option<&Field<'_>>, entries: Option<&Field<'_>>) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    if let Some(field) = list
        && let Some(text) = field.text()
    {
        match pairs::parse(text) {
            Ok(pairs) => {
                pairs.into_iter().for_each(|(name, value)| put(&mut headers, field, field, &name, &value));
            }
            Err(why) => field.invalid(why, Some("write it as name=value,name2=value2".to_owned())),
        }
    }
    for field in entries.and_then(Field::list).unwrap_or_default() {
        let Some(mut section) = field.section() else { continue };
        let name = section.required("name").and_then(|name| Some((name.filled_text()?, name)));
        let value = section.field_or_null("value");
        if value.is_none() {
            field.problem(ProblemKind::Missing("value".to_owned()), None);
        }
        if let (Some((name, name_field)), Some(value)) = (name, value.filter(|value| !value.is_null()))
            && let Some(text) = value.text()
        {
            put(&mut headers, &name_field, &value, name, text);
        }
        section.finish();
    }
    headers
}

/// Adds a header or notes what is wrong with it.
fn put(headers: &mut Vec<Header>, name_field: &Field<'_>, value_field: &Field<'_>, name: &str, value: &str) {
    match Header::new(name, value) {
        Ok(header) => header.put_into(headers),
        Err(HeaderError::Name) => name_field.invalid("is not a valid header name", None),
        Err(HeaderError::Value) => {
            value_field.invalid(format!("the value of `{name}` is not printable ASCII"), None);
        }
    }
}

/// Which half of a header is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Name,
    Value,
}

impl Header {
    /// Spec: RFC 9110, section 5.1 (token) and 5.5, without the obsolete bytes above ASCII, which gRPC has not either.
    pub(crate) fn new(name: &str, value: &str) -> Result<Self, HeaderError> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(HeaderError::Name);
        }
        if !value.chars().all(|c| c == '\t' || matches!(c, ' '..='~')) {
            return Err(HeaderError::Value);
        }
        Ok(Self { name: name.to_ascii_lowercase(), value: Secret::new(value) })
    }

    /// Adds it, in the place of one of the same name.
    pub(crate) fn put_into(self, headers: &mut Vec<Self>) {
        headers.retain(|other| other.name != self.name);
        headers.push(self);
    }
}
