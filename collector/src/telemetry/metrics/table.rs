//! [`Aggregator`]: from a record to its series.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use spantap_protocols::semconv::Metric;

use super::{
    super::{
        Record, Service, UnixNanos,
        histogram::{Distribution, Exemplar},
        snapshot::{Dimensions, OVERFLOWED},
    },
    MetricSettings,
    caps::Caps,
    key::{MetricKey, Picked},
};

/// The table of all series. Owned by one thread.
#[derive(Debug)]
pub struct Aggregator {
    pub(super) settings: MetricSettings,
    hasher: RandomState,
    /// On the heap each: the table is twice as large as what is in it.
    pub(super) series: HashTable<Box<Series>>,
    pub(super) caps: Caps,
    /// Services whose last process has ended, and when that was noticed, until their series are gone.
    pub(super) ended: HashMap<u32, UnixNanos, RandomState>,
    /// The last collection; for delta points.
    pub(super) collected: UnixNanos,
    overflowed: u64,
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) hash: u64,
    pub(super) service: Arc<Service>,
    pub(super) metric: &'static Metric,
    pub(super) dimensions: Dimensions,
    pub(super) start: UnixNanos,
    pub(super) last: UnixNanos,
    pub(super) histogram: Distribution,
}

impl Aggregator {
    /// An empty table.
    #[must_use]
    pub fn new(settings: MetricSettings) -> Self {
        Self {
            caps: Caps::new(settings.series_max_per_service, settings.series_max),
            settings,
            hasher: RandomState::default(),
            series: HashTable::new(),
            ended: HashMap::default(),
            collected: UnixNanos(0),
            overflowed: 0,
        }
    }

    /// Counts a record's duration, if it names a metric.
    pub fn record(&mut self, record: &Record) {
        let Some(metric) = record.metric else { return };
        self.count(record, metric);
        if self.settings.older.any()
            && let Some(older) = self.settings.older.metric(metric)
        {
            self.count(record, older);
        }
    }

    fn count(&mut self, record: &Record, metric: &'static Metric) {
        // An exemplar is a span that somebody can look up.
        let exemplars = self.settings.exemplars && record.is_span;
        let picked = Picked::of(record, metric);
        let hash = picked.hash(&self.hasher, record.service.id, metric);
        let found = self.series.find_mut(hash, |series| {
            series.service.id == record.service.id
                && std::ptr::eq(series.metric, metric)
                && picked.matches(&series.dimensions)
        });
        match found {
            Some(series) => series.record(record, exemplars),
            None => self.insert(record, metric, hash, &picked).record(record, exemplars),
        }
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// True if nothing has been counted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many records counted into an overflow series because of the caps.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The series for a record that has none yet: a new one, or, at the caps, the service's overflow series.
    fn insert(
        &mut self,
        record: &Record,
        metric: &'static Metric,
        hash: u64,
        picked: &Picked<'_>,
    ) -> &mut Series {
        let (service, key) = (record.service.id, MetricKey::of(metric));
        let full = !self.caps.take(service, key);
        let (hash, dimensions) = if full {
            self.overflowed += 1;
            (self.hasher.hash_one((service, key, OVERFLOWED)), Dimensions::overflow())
        } else {
            (hash, picked.dimensions(metric))
        };
        let is_same = |series: &Series| {
            full && series.dimensions.is_overflow()
                && series.service.id == service
                && std::ptr::eq(series.metric, metric)
        };
        let new = || {
            Box::new(Series {
                hash,
                service: Arc::clone(&record.service),
                metric,
                dimensions,
                start: record.start,
                last: record.end,
                histogram: Distribution::new(self.settings.aggregation, metric.bounds),
            })
        };
        self.series.entry(hash, |series| is_same(series), |series| series.hash).or_insert_with(new).into_mut()
    }
}

impl Series {
    fn record(&mut self, record: &Record, exemplar: bool) {
        // Every metric so far is a duration.
        let value = self.metric.duration(record.duration_ns());
        let exemplar = exemplar.then_some(Exemplar {
            value,
            time: record.end,
            trace_id: record.trace.trace_id,
            span_id: record.trace.span_id,
        });
        self.last = self.last.max(record.end);
        self.histogram.record(self.metric.bounds, value, exemplar);
    }
}
