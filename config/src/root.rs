//! The whole configuration, and the top of the file.

use crate::distribution::Spantap;
use crate::error::ProblemKind;
use crate::exporter::Exporter;
use crate::field::Field;
use crate::instrumentation::Instrumentation;
use crate::meter_provider::{MeterProvider, MetricReader};
use crate::resource::Resource;
use crate::tracer_provider::{BatchProcessor, TracerProvider};

/// A configuration that cannot be wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How much the agent says about itself. Default info.
    pub log_level: LogLevel,
    /// Attributes of the agent itself; those of all services are in [`Spantap::resource`].
    pub resource: Resource,
    /// Where spans go. Default: the terminal.
    pub tracer_provider: TracerProvider,
    /// Where metrics go. Default: the terminal.
    pub meter_provider: MeterProvider,
    /// Which header fields become attributes.
    pub instrumentation: Instrumentation,
    /// What only this agent has.
    pub spantap: Spantap,
}

/// How much the agent says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What someone must act on.
    Error,
    /// What is degraded.
    Warn,
    /// The life cycle.
    #[default]
    Info,
    /// Per connection.
    Debug,
    /// Per record.
    Trace,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_level: LogLevel::default(),
            resource: Resource::default(),
            tracer_provider: TracerProvider {
                processors: vec![BatchProcessor::new(Exporter::Console)],
                ..TracerProvider::default()
            },
            meter_provider: MeterProvider {
                readers: vec![MetricReader::new(Exporter::Console)],
                ..MeterProvider::default()
            },
            instrumentation: Instrumentation::default(),
            spantap: Spantap::default(),
        }
    }
}

impl Config {
    /// Reads the top of the file. What has problems keeps its default.
    pub(crate) fn read(field: &Field<'_>, protocol_names: &[&str]) -> Self {
        let mut config = Self::default();
        if field.is_null() {
            return config;
        }
        let Some(mut section) = field.section() else { return config };
        if let Some(format) = section.required("file_format") {
            check_format(&format);
        }
        if let Some(disabled) = section.field("disabled")
            && disabled.boolean() == Some(true)
        {
            disabled.problem(ProblemKind::Unsupported("switching the agent off here is".to_owned()), None);
        }
        section.set("log_level", &mut config.log_level, LogLevel::read);
        section.set("resource", &mut config.resource, Resource::read);
        let traces = section.field("tracer_provider");
        let metrics = section.field("meter_provider");
        if traces.is_some() || metrics.is_some() {
            // "If omitted, a noop tracer provider is used": who names one destination means that one only.
            let read = |field: Field<'_>| TracerProvider::read(&field);
            config.tracer_provider = traces.and_then(read).unwrap_or_default();
            let read = |field: Field<'_>| MeterProvider::read(&field);
            config.meter_provider = metrics.and_then(read).unwrap_or_default();
        }
        section.set("instrumentation/development", &mut config.instrumentation, Instrumentation::read);
        section.set("distribution", &mut config.spantap, |field| {
            Spantap::read_distribution(field, protocol_names)
        });
        section.unsupported(&["attribute_limits", "logger_provider", "propagator"]);
        section.finish();
        config
    }
}

fn check_format(field: &Field<'_>) {
    let Some(format) = field.text() else { return };
    if !["1.0", "1.1"].contains(&format) {
        let kind = ProblemKind::Type { expected: "\"1.1\"".to_owned(), found: format!("`{format:.20}`") };
        let hint = "spantap reads versions 1.0 and 1.1 of the OpenTelemetry configuration schema";
        field.problem(kind, Some(hint.to_owned()));
    }
}

impl LogLevel {
    /// The schema has four steps of each level, as OpenTelemetry's severities do.
    fn read(field: &Field<'_>) -> Option<Self> {
        let levels = [
            ("trace", Self::Trace),
            ("debug", Self::Debug),
            ("info", Self::Info),
            ("warn", Self::Warn),
            ("error", Self::Error),
            ("fatal", Self::Error),
        ];
        if let Some((name, step)) = field.text()?.split_at_checked(field.text()?.len().saturating_sub(1))
            && ["2", "3", "4"].contains(&step)
            && let Some((_, level)) = levels.iter().find(|(level, _)| *level == name)
        {
            return Some(*level);
        }
        field.choice(&levels)
    }
}
