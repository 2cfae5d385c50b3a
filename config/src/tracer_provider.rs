//! `tracer_provider`: which spans are kept, and where they go. Each batch processor is a destination with a queue of its
//! own.

use std::time::Duration;

use crate::error::ProblemKind;
use crate::exporter::{Exporter, Signal};
use crate::field::{Field, TIMEOUT_MILLIS_MAX};
use crate::sampler::Sampler;

/// Destinations of spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracerProvider {
    /// In the order of the file; none means that spans are dropped after the metrics were made of them.
    pub processors: Vec<BatchProcessor>,
    /// Which spans are kept. Default: what the caller has decided, and all that have no caller.
    pub sampler: Sampler,
}

/// One destination and the queue before it.
///
/// Rationale for defaults above those of an SDK (5 s, 2048, 512): one agent speaks for every service of the node, and
/// someone waits for the span at the other end.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchProcessor {
    /// How long the first span of a batch waits for others. Default 1 s.
    pub schedule_delay: Duration,
    /// How long exporting one batch may take, retries included; `None` is no limit. Default 30 s.
    pub export_timeout: Option<Duration>,
    /// Spans that wait at most; what comes on top is dropped and counted. Default 65536.
    pub max_queue_size: usize,
    /// Spans in one request at most; not above `max_queue_size`. Default 4096, about 2 MiB.
    pub max_export_batch_size: usize,
    /// The destination.
    pub exporter: Exporter,
}

impl BatchProcessor {
    /// A processor with the default queue.
    #[must_use]
    pub fn new(exporter: Exporter) -> Self {
        Self {
            schedule_delay: Duration::from_secs(1),
            export_timeout: Some(Duration::from_secs(30)),
            max_queue_size: 65_536,
            max_export_batch_size: 4096,
            exporter,
        }
    }

    fn read(field: &Field<'_>) -> Option<Self> {
        let mut kinds = field.section()?;
        kinds.unsupported(&["simple"]);
        let chosen = kinds.one_of(&["batch"]);
        kinds.finish();
        let (_, field) = chosen?;
        let mut section = field.section()?;
        let exporter = section.required("exporter");
        let exporter = exporter.and_then(|field| Exporter::read(&field, Signal::Traces, |_| ()));
        // Read on without a valid exporter, to find the other problems.
        let known = exporter.is_some();
        let mut batch = Self::new(exporter.unwrap_or(Exporter::Console));
        section.set("schedule_delay", &mut batch.schedule_delay, |f| f.millis(0..=TIMEOUT_MILLIS_MAX));
        section.set("export_timeout", &mut batch.export_timeout, Field::timeout_millis);
        section.set("max_queue_size", &mut batch.max_queue_size, |f| f.integer(1..=QUEUE_SPANS_MAX));
        let size = section.field("max_export_batch_size");
        if let Some(size) = size.as_ref().and_then(|field| field.integer(1..=QUEUE_SPANS_MAX)) {
            batch.max_export_batch_size = size;
        }
        section.finish();
        if batch.max_export_batch_size > batch.max_queue_size {
            match size {
                Some(size) => size.conflict("is larger than max_queue_size: no batch would ever fill"),
                None => batch.max_export_batch_size = batch.max_queue_size,
            }
        }
        known.then_some(batch)
    }
}

impl TracerProvider {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        section.unsupported(&["limits", "tracer_configurator/development"]);
        let mut sampler = Sampler::default();
        section.set("sampler", &mut sampler, Sampler::read);
        let processors = section.required("processors").and_then(|field| Some((field.list()?, field)));
        section.finish();
        let (list, field) = processors?;
        if list.is_empty() {
            field.problem(ProblemKind::Missing("batch".to_owned()), None);
        }
        Some(Self { processors: list.iter().filter_map(BatchProcessor::read).collect(), sampler })
    }
}

/// About 500 MiB of spans.
const QUEUE_SPANS_MAX: u64 = 1 << 20;
