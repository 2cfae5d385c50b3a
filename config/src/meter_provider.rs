//! `meter_provider`: where metrics go. Each periodic reader is a destination, each pull reader a place to fetch them.

use std::time::Duration;

use crate::error::ProblemKind;
use crate::exporter::{Exporter, Signal};
use crate::field::{Field, Section, TIMEOUT_MILLIS_MAX};
use crate::pull_reader::PullReader;

/// Destinations of metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterProvider {
    /// Those that are given metrics at an interval, in the order of the file.
    pub readers: Vec<MetricReader>,
    /// Those that fetch them. Without any reader no metrics are made.
    pub pull: Vec<PullReader>,
    /// Whether values are given exemplars, which are exported spans. Default true.
    pub exemplars: bool,
}

impl Default for MeterProvider {
    fn default() -> Self {
        Self { readers: Vec::new(), pull: Vec::new(), exemplars: true }
    }
}

/// One destination of metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricReader {
    /// Between two exports. Default 60 s.
    pub interval: Duration,
    /// How long one export may take, retries included; `None` is no limit. Default 30 s.
    pub timeout: Option<Duration>,
    /// Whether values count from the start or from the last export. Default cumulative.
    pub temporality: Temporality,
    /// How durations are put into histograms. Default explicit buckets.
    pub histogram: HistogramAggregation,
    /// Series of one metric of one service; what comes on top counts into one series of the service. Default 2000.
    pub cardinality_limit: u32,
    /// The destination.
    pub exporter: Exporter,
}

/// `temporality_preference`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Since the series began.
    #[default]
    Cumulative,
    /// Since the last export.
    Delta,
}

/// `default_histogram_aggregation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistogramAggregation {
    /// The buckets that the semantic conventions advise.
    #[default]
    ExplicitBuckets,
    /// Base-2 exponential buckets.
    Base2Exponential,
}

impl MetricReader {
    /// A reader with the defaults.
    #[must_use]
    pub fn new(exporter: Exporter) -> Self {
        Self {
            interval: Duration::from_secs(60),
            timeout: Some(Duration::from_secs(30)),
            temporality: Temporality::default(),
            histogram: HistogramAggregation::default(),
            cardinality_limit: 2000,
            exporter,
        }
    }

    /// Reads the value of `periodic`.
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        section.unsupported(&["producers", "max_export_batch_size"]);
        let mut reader = Self::new(Exporter::Console);
        section.set("interval", &mut reader.interval, |field| field.millis(100..=TIMEOUT_MILLIS_MAX));
        section.set("timeout", &mut reader.timeout, Field::timeout_millis);
        section.set("cardinality_limits", &mut reader.cardinality_limit, cardinality_limit);
        let exporter = section.required("exporter");
        section.finish();
        let exporter = Exporter::read(&exporter?, Signal::Metrics, |section| reader.preferences(section));
        reader.exporter = exporter?;
        Some(reader)
    }

    /// The keys that only metric exporters have.
    fn preferences<'a>(&mut self, section: &mut Section<'a>) {
        section.set("temporality_preference", &mut self.temporality, |field| {
            let names = [
                ("cumulative", Some(Temporality::Cumulative)),
                ("delta", Some(Temporality::Delta)),
                ("low_memory", None),
            ];
            let chosen = field.choice(&names)?;
            if chosen.is_none() {
                field.problem(ProblemKind::Unsupported("low_memory is".to_owned()), None);
            }
            chosen
        });
        section.set("default_histogram_aggregation", &mut self.histogram, |field| {
            field.choice(&[
                ("explicit_bucket_histogram", HistogramAggregation::ExplicitBuckets),
                ("base2_exponential_bucket_histogram", HistogramAggregation::Base2Exponential),
            ])
        });
    }
}

/// All metrics of services are histograms: the limit of those, or else the one of everything.
pub(crate) fn cardinality_limit(field: &Field<'_>) -> Option<u32> {
    let mut section = field.section()?;
    section.unsupported(&[
        "counter",
        "gauge",
        "observable_counter",
        "observable_gauge",
        "observable_up_down_counter",
        "up_down_counter",
    ]);
    let mut limit = None;
    for key in ["default", "histogram"] {
        if let Some(field) = section.field(key) {
            limit = field.integer(1..=CARDINALITY_MAX).or(limit);
        }
    }
    section.finish();
    limit
}

/// About a gigabyte.
const CARDINALITY_MAX: u64 = 1_000_000;

impl MeterProvider {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        section.unsupported(&["views", "meter_configurator/development"]);
        let mut provider = Self::default();
        section.set("exemplar_filter", &mut provider.exemplars, |field| {
            // `always_on` would point at spans that nobody can look up.
            field.choice(&[("trace_based", true), ("always_off", false)])
        });
        let readers = section.required("readers").and_then(|field| Some((field.list()?, field)));
        section.finish();
        let (list, field) = readers?;
        if list.is_empty() {
            field.problem(ProblemKind::Missing("periodic` or `pull".to_owned()), None);
        }
        for field in &list {
            let Some(mut kinds) = field.section() else { continue };
            let chosen = kinds.one_of(&["periodic", "pull"]);
            kinds.finish();
            match chosen {
                Some(("pull", field)) => provider.pull.extend(PullReader::read(&field)),
                Some((_, field)) => provider.readers.extend(MetricReader::read(&field)),
                None => {}
            }
        }
        Some(provider)
    }
}
