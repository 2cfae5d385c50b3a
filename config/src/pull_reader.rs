//! `pull` readers of `meter_provider`: where Prometheus may fetch metrics.
//!
//! Schema: `PullMetricReader` and `ExperimentalPrometheusMetricExporter` of the OpenTelemetry declarative configuration.

use crate::field::Field;
use crate::meter_provider::cardinality_limit;

/// An endpoint that serves metrics as text, and says whether the agent is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullReader {
    /// An address or a name of this machine. Default localhost: nobody else can reach it.
    pub host: String,
    /// TCP port. Default 9464.
    pub port: u16,
    /// Whether samples carry the labels `otel_scope_name` and `otel_scope_version`. Default true.
    pub scope_info: bool,
    /// Whether there is a series `target_info` with the attributes of each service. Default true.
    pub target_info: bool,
    /// As of [`crate::MetricReader`]. Default 2000.
    pub cardinality_limit: u32,
}

impl Default for PullReader {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 9464,
            scope_info: true,
            target_info: true,
            cardinality_limit: 2000,
        }
    }
}

impl PullReader {
    /// Reads the value of `pull`.
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        section.unsupported(&["producers"]);
        let mut reader = Self::default();
        section.set("cardinality_limits", &mut reader.cardinality_limit, cardinality_limit);
        let exporter = section.required("exporter");
        section.finish();
        let mut kinds = exporter?.section()?;
        let chosen = kinds.one_of(&["prometheus/development"]);
        kinds.finish();
        let mut section = chosen?.1.section()?;
        section.unsupported(&["resource_constant_labels"]);
        section.set("host", &mut reader.host, |field| field.text().map(str::to_owned));
        section.set("port", &mut reader.port, |field| field.integer(1..=65_535));
        section.set("scope_info_enabled", &mut reader.scope_info, Field::boolean);
        section.set("target_info_enabled/development", &mut reader.target_info, Field::boolean);
        // Scrapers of any age read these names.
        section.set("translation_strategy", &mut (), |field| {
            field.choice(&[("underscore_escaping_with_suffixes", ())])
        });
        section.finish();
        Some(reader)
    }
}
