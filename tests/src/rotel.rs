//! rotel, an OpenTelemetry collector from the Python index, as the receiver of what the agent exports.
//!
//! It is a program that nobody here wrote, in a process of its own, and prints what it receives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    machine::Skip,
    otlp::{Attributes, Kind, Point, Span},
    program::{Program, free_port, listens},
    python,
};

/// The version that the tests know.
const PACKAGE: &str = "rotel==0.0.1a15";

/// A running rotel that logs every span and metric in full.
pub struct Rotel {
    program: Program,
}

/// The ports of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For gRPC.
    pub grpc: u16,
    /// For HTTP.
    pub http: u16,
}

impl Ports {
    /// Two that are free now.
    #[must_use]
    pub fn free() -> Self {
        Self { grpc: free_port(), http: free_port() }
    }
}

impl Rotel {
    /// Starts `binary`, which [`install`] has found.
    #[must_use]
    pub fn start(binary: &Path, ports: Ports) -> Self {
        let mut command = Command::new(binary);
        command.arg("start").args(["--exporter", "blackhole"]);
        command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", ports.grpc)]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", ports.http)]);
        command.args([
            "--debug-log",
            "traces",
            "--debug-log",
            "metrics",
            "--debug-log-verbosity",
            "detailed",
        ]);
        let mut program = Program::start("rotel", &mut command);
        program.wait_ready("listened", |_| listens(ports.grpc) && listens(ports.http));
        Self { program }
    }

    /// What it has received so far.
    #[must_use]
    pub fn received(&self) -> Received {
        Received::parse(&self.program.stdout())
    }
}

/// What rotel says it has received.
#[derive(Debug, Default)]
pub struct Received {
    /// Every span.
    pub spans: Vec<Span>,
    /// Every point of a histogram, in the order of coming.
    pub points: Vec<Point>,
}

impl Received {
    /// Reads the detailed form of the debug log: `Name : GET` and the like, attributes as `-> name: Type(value)`.
    fn parse(log: &str) -> Self {
        let (mut received, mut resource) = (Self::default(), Attributes::new());
        let (mut part, mut metric, mut unit) = (Part::Other, String::new(), String::new());
        for line in log.lines() {
            let line = line.trim();
            if let Some(pair) = line.strip_prefix("-> ") {
                let Some((name, value)) = pair.split_once(": ") else { continue };
                let text =
                    value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(value);
                let (name, text) = (name.to_owned(), text.to_owned());
                match part {
                    Part::Resource => drop(resource.insert(name, text)),
                    Part::Span => {
                        drop(received.spans.last_mut().map(|span| span.attributes.insert(name, text)))
                    }
                    Part::Point => {
                        drop(received.points.last_mut().map(|point| point.attributes.insert(name, text)));
                    }
                    Part::Metric if name == "Name" => metric = text,
                    Part::Metric if name == "Unit" => unit = text,
                    Part::Metric | Part::Other => {}
                }
                continue;
            }
            let service = || resource.get("service.name").cloned().unwrap_or_default();
            if line == "Resource attributes:" {
                (part, resource) = (Part::Resource, Attributes::new());
            } else if line.starts_with("Span #") {
                part = Part::Span;
                let (service, resource) = (service(), resource.clone());
                received.spans.push(Span { service, resource, ..Span::default() });
            } else if line.starts_with("Metric #") {
                part = Part::Metric;
            } else if line.starts_with("HistogramDataPoints #") {
                part = Part::Point;
                let (metric, unit) = (metric.clone(), unit.clone());
                let (service, resource) = (service(), resource.clone());
                received.points.push(Point { service, resource, metric, unit, ..Point::default() });
            } else if line.starts_with("ScopeSpans #") || line.starts_with("ScopeMetrics #") {
                part = Part::Other;
            } else if let Some((name, value)) = line.split_once(':') {
                received.set(&part, name.trim(), value.trim());
            }
        }
        received
    }

    fn set(&mut self, part: &Part, name: &str, value: &str) {
        if let (Part::Span, Some(span)) = (part, self.spans.last_mut()) {
            match name {
                "Name" => span.name = value.to_owned(),
                "Trace ID" => span.trace_id = value.to_owned(),
                "Parent ID" => span.parent = value.to_owned(),
                "Kind" if value == "SPAN_KIND_SERVER" => span.kind = Kind::Server,
                "Kind" if value == "SPAN_KIND_CLIENT" => span.kind = Kind::Client,
                "Status code" => span.is_error = value == "STATUS_CODE_ERROR",
                "Start time" => span.start_unix_ns = value.parse().expect("nanoseconds"),
                "End time" => span.end_unix_ns = value.parse().expect("nanoseconds"),
                _ => {}
            }
        }
        if let (Part::Point, Some(point)) = (part, self.points.last_mut()) {
            match name {
                "Count" => point.count = value.parse().expect("a count"),
                "Sum" => point.sum = value.parse().expect("a sum"),
                _ => {}
            }
        }
    }
}

/// What the attributes of the lines that follow belong to.
enum Part {
    Resource,
    Span,
    Metric,
    Point,
    Other,
}

/// Installs rotel into a virtual environment below `target`, once, and returns its binary.
///
/// # Errors
/// The reason for which it cannot be installed here.
pub fn install(target: &Path) -> Result<PathBuf, Skip> {
    let folder = python::install(target, PACKAGE)?;
    find(&folder).ok_or_else(|| Skip::NoPackage(format!("{PACKAGE}: the wheel has no binary")))
}

/// `lib/python3.11/site-packages/rotel/rotel-agent` or the like.
fn find(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut folders = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_file() && path.file_name().is_some_and(|name| name == "rotel-agent") {
            return Some(path);
        }
        if path.is_dir() && !path.is_symlink() {
            folders.push(path);
        }
    }
    folders.iter().find_map(|folder| find(folder))
}
