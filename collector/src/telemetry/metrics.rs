//! Counts records into the histograms that they name, per service and per combination of dimensions.
//!
//! The SDK's instruments need one meter provider per service, cost 450 ns and more per value and carry no exemplars; this
//! is one table for all services. On the steady path a record costs one pass over its attributes, one hash and one
//! look-up, and allocates nothing. Memory is bounded: above the caps values count into the service's overflow series.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use spantap_protocols::{Value, semconv::Metric};

use super::{
    OlderNames, Record, Service, UnixNanos,
    histogram::{Exemplar, Histogram},
    snapshot::{Dimensions, HistogramPoint, MetricPoints, MetricsSnapshot, ServiceMetrics, Temporality},
};

/// The attribute of the series that takes what the caps refuse.
/// <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute>
pub const OVERFLOW: &str = "otel.metric.overflow";

/// How metrics are aggregated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSettings {
    /// Cumulative or delta.
    pub temporality: Temporality,
    /// Series of one metric of one service.
    pub series_max_per_service: u32,
    /// Series of one metric, all services together.
    pub series_max: u32,
    /// A series without a value for so long is forgotten, in nanoseconds.
    pub idle_ns: u64,
    /// Records count into the older metrics of these conventions too.
    pub older: OlderNames,
    /// Buckets name a span. Only if spans are exported anywhere.
    pub exemplars: bool,
}

impl Default for MetricSettings {
    fn default() -> Self {
        Self {
            temporality: Temporality::Cumulative,
            series_max_per_service: 2_000,
            series_max: 20_000,
            idle_ns: 3_600_000_000_000,
            older: OlderNames::default(),
            exemplars: true,
        }
    }
}

/// The table of all series. Owned by one thread.
#[derive(Debug)]
pub struct Aggregator {
    settings: MetricSettings,
    hasher: RandomState,
    series: HashTable<Series>,
    /// Live series by service (`None`: all together) and metric; the overflow series do not count.
    sizes: HashMap<(Option<u32>, MetricKey), u32, RandomState>,
    overflowed: u64,
}

#[derive(Debug)]
struct Series {
    hash: u64,
    service: Arc<Service>,
    metric: &'static Metric,
    /// Bit `i` is set if the record had dimension `i`; all bits mean the overflow series.
    present: u32,
    dimensions: Dimensions,
    start: UnixNanos,
    last: UnixNanos,
    histogram: Histogram,
}

/// Metrics are statics: their address is their identity (kept as a number, so that the table may move to a thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MetricKey(usize);

impl MetricKey {
    fn of(metric: &'static Metric) -> Self {
        Self(std::ptr::from_ref(metric).addr())
    }
}

impl Aggregator {
    /// An empty table.
    #[must_use]
    pub fn new(settings: MetricSettings) -> Self {
        Self {
            settings,
            hasher: RandomState::default(),
            series: HashTable::new(),
            sizes: HashMap::default(),
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
        let exemplars = self.settings.exemplars;
        let picked = Picked::of(record, metric);
        let hash = picked.hash(&self.hasher, record.service.id, metric);
        let found = self.series.find_mut(hash, |series| {
            series.service.id == record.service.id
                && std::ptr::eq(series.metric, metric)
                && picked.matches(series)
        });
        match found {
            Some(series) => series.record(record, exemplars),
            None => self.insert(record, metric, hash, &picked).record(record, exemplars),
        }
    }

    /// A snapshot of every series. With [`Temporality::Delta`] only of those that counted since the last one.
    ///
    /// Series that have been idle for too long are in it one last time and then forgotten.
    pub fn collect(&mut self, now: UnixNanos) -> MetricsSnapshot {
        let delta = self.settings.temporality == Temporality::Delta;
        let mut found: Vec<&mut Series> =
            self.series.iter_mut().filter(|series| series.histogram.count > 0).collect();
        found.sort_by(|a, b| {
            (a.service.id, a.metric.name, a.start).cmp(&(b.service.id, b.metric.name, b.start))
        });
        let mut services: Vec<ServiceMetrics> = Vec::new();
        for series in found {
            let point = series.point();
            if delta {
                series.histogram.clear();
                series.start = now;
            }
            if services.last().is_none_or(|last| last.service.id != series.service.id) {
                services.push(ServiceMetrics { service: Arc::clone(&series.service), metrics: Vec::new() });
            }
            let Some(service) = services.last_mut() else { continue };
            match service.metrics.last_mut().filter(|last| std::ptr::eq(last.metric, series.metric)) {
                Some(metric) => metric.points.push(point),
                None => {
                    service.metrics.push(MetricPoints { metric: series.metric, points: vec![point] });
                }
            }
        }
        let idle_ns = self.settings.idle_ns;
        self.forget(|series| now.0.saturating_sub(series.last.0) > idle_ns);
        MetricsSnapshot { time: now, temporality: self.settings.temporality, services }
    }

    /// Forgets a service whose last process has ended. Collect first, or its last values are lost.
    pub fn forget_service(&mut self, service: u32) {
        self.forget(|series| series.service.id == service);
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
        let key = MetricKey::of(metric);
        let (all, own) = ((None, key), (Some(record.service.id), key));
        let size = |of| self.sizes.get(&of).copied().unwrap_or(0);
        let full = size(all) >= self.settings.series_max || size(own) >= self.settings.series_max_per_service;
        let (hash, present, dimensions): (u64, u32, Dimensions) = if full {
            self.overflowed += 1;
            let hash = self.hasher.hash_one((record.service.id, key, ALL_BITS));
            (hash, ALL_BITS, Arc::new([(OVERFLOW, Value::Bool(true))]))
        } else {
            *self.sizes.entry(all).or_default() += 1;
            *self.sizes.entry(own).or_default() += 1;
            (hash, picked.present(), picked.dimensions(metric))
        };
        let entry = self.series.entry(
            hash,
            |series| {
                full && series.present == ALL_BITS
                    && series.service.id == record.service.id
                    && std::ptr::eq(series.metric, metric)
            },
            |series| series.hash,
        );
        entry
            .or_insert_with(|| Series {
                hash,
                service: Arc::clone(&record.service),
                metric,
                present,
                dimensions,
                start: record.start,
                last: record.end,
                histogram: Histogram::new(metric.bounds),
            })
            .into_mut()
    }

    fn forget(&mut self, gone: impl Fn(&Series) -> bool) {
        let sizes = &mut self.sizes;
        self.series.retain(|series| {
            let keep = !gone(series);
            if !keep && series.present != ALL_BITS {
                let key = MetricKey::of(series.metric);
                for of in [(None, key), (Some(series.service.id), key)] {
                    if let Some(size) = sizes.get_mut(&of) {
                        *size = size.saturating_sub(1);
                    }
                }
            }
            keep
        });
        sizes.retain(|_, size| *size > 0);
    }
}

impl Series {
    fn record(&mut self, record: &Record, exemplars: bool) {
        // Every metric so far is a duration.
        let value = self.metric.duration(record.duration_ns());
        // An exemplar is a span that somebody can look up.
        let exemplar = (exemplars && record.is_span && record.trace.flags.is_sampled()).then_some(Exemplar {
            value,
            time: record.end,
            trace_id: record.trace.trace_id,
            span_id: record.trace.span_id,
        });
        self.last = self.last.max(record.end);
        self.histogram.record(self.metric.bounds, value, exemplar);
    }

    fn point(&self) -> HistogramPoint {
        HistogramPoint {
            dimensions: Arc::clone(&self.dimensions),
            start: self.start,
            histogram: self.histogram.clone(),
        }
    }
}

/// A record's values of a metric's dimensions, borrowed.
struct Picked<'a>([Option<&'a Value>; DIMENSIONS_MAX]);

/// More dimensions than any convention lists; further ones would be ignored.
const DIMENSIONS_MAX: usize = 16;
const ALL_BITS: u32 = u32::MAX;

impl<'a> Picked<'a> {
    fn of(record: &'a Record, metric: &Metric) -> Self {
        let mut picked = [None; DIMENSIONS_MAX];
        for (key, value) in record.attributes.iter() {
            let key = key.as_str();
            // Names differ mostly by length, and equal ones are mostly the same constant.
            let same =
                |name: &&str| name.len() == key.len() && (name.as_ptr() == key.as_ptr() || *name == key);
            let found = metric.dimensions.iter().position(same);
            if let Some(slot) = found.and_then(|at| picked.get_mut(at)) {
                *slot = Some(value);
            }
        }
        Self(picked)
    }

    fn present(&self) -> u32 {
        self.0.iter().enumerate().fold(0, |bits, (at, value)| bits | u32::from(value.is_some()) << at)
    }

    fn hash(&self, hasher: &RandomState, service: u32, metric: &'static Metric) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_usize(MetricKey::of(metric).0);
        state.write_u64(u64::from(service) << 32 | u64::from(self.present()));
        for value in self.0.iter().flatten() {
            hash_value(value, &mut state);
        }
        state.finish()
    }

    fn matches(&self, series: &Series) -> bool {
        series.present == self.present()
            && self.0.iter().flatten().zip(series.dimensions.iter()).all(|(a, (_, b))| same(a, b))
    }

    fn dimensions(&self, metric: &'static Metric) -> Dimensions {
        let pairs = metric.dimensions.iter().zip(self.0);
        pairs.filter_map(|(name, value)| Some((*name, value?.clone()))).collect()
    }
}

/// Like [`same`]: a constant text and an owned one of the same bytes are one value.
fn hash_value(value: &Value, state: &mut impl Hasher) {
    match value {
        Value::Static(text) => text.hash(state),
        Value::Text(text) => text.as_str().hash(state),
        Value::Int(int) => state.write_i64(*int),
        Value::Double(double) => state.write_u64(double.to_bits()),
        Value::Bool(bool) => state.write_u8(u8::from(*bool)),
        Value::Texts(texts) => texts.iter().for_each(|text| text.as_str().hash(state)),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use compact_str::format_compact;
    use spantap_protocols::{Role, semconv::key};

    use super::*;
    use crate::telemetry::span::tests::{record, service};

    fn aggregator(per_service: u32, all: u32) -> Aggregator {
        Aggregator::new(MetricSettings {
            series_max_per_service: per_service,
            series_max: all,
            ..MetricSettings::default()
        })
    }

    fn now() -> UnixNanos {
        UnixNanos(1_700_000_001_000_000_000)
    }

    #[test]
    fn series_are_told_apart_by_service_and_dimensions() {
        let mut metrics = Aggregator::new(MetricSettings::default());
        let mut other = record(Role::Server, 200);
        other.service = service(2, "cart");
        let mut constant = record(Role::Server, 200);
        constant.attributes.set(key::URL_SCHEME, Value::Text("http".into()));
        for record in
            [record(Role::Server, 200), constant, record(Role::Server, 500), record(Role::Client, 200), other]
        {
            metrics.record(&record);
        }
        assert_eq!(metrics.len(), 4);
        let snapshot = metrics.collect(now());
        let names: Vec<_> = snapshot
            .services
            .iter()
            .map(|s| {
                let metrics: Vec<_> = s.metrics.iter().map(|m| (m.metric.name, m.points.len())).collect();
                (s.service.name.as_str(), metrics)
            })
            .collect();
        let expected = [
            ("shop", vec![("http.client.request.duration", 1), ("http.server.request.duration", 2)]),
            ("cart", vec![("http.server.request.duration", 1)]),
        ];
        assert_eq!(names, expected);
        let twice = snapshot.services[0].metrics[1].points.iter().find(|p| p.histogram.count == 2).unwrap();
        assert_eq!(twice.histogram.buckets[1], 2, "6 ms lie between 5 and 10 ms");
        assert!((twice.histogram.sum - 0.012).abs() < 1e-12);
        let names: Vec<_> = twice.dimensions.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [key::HTTP_REQUEST_METHOD, key::URL_SCHEME, key::HTTP_RESPONSE_STATUS_CODE]);
        assert_eq!(twice.histogram.exemplars[1].unwrap().trace_id, record(Role::Server, 200).trace.trace_id);
    }

    #[test]
    fn what_is_only_counted_is_no_example() {
        for (is_span, exemplars) in [(false, true), (true, false)] {
            let mut metrics = Aggregator::new(MetricSettings { exemplars, ..MetricSettings::default() });
            let mut record = record(Role::Server, 200);
            record.is_span = is_span;
            metrics.record(&record);
            let snapshot = metrics.collect(now());
            let histogram = &snapshot.services[0].metrics[0].points[0].histogram;
            assert_eq!(histogram.count, 1);
            assert!(histogram.exemplars.iter().all(Option::is_none));
        }
    }

    #[test]
    fn above_the_caps_values_count_into_one_overflow_series_per_service() {
        let mut metrics = aggregator(3, 5);
        for id in 1..=2 {
            for route in 0..10 {
                let mut record = record(Role::Server, 200);
                record.service = service(id, "shop");
                record.attributes.set(key::HTTP_ROUTE, Value::Text(format_compact!("/{route}")));
                metrics.record(&record);
            }
        }
        assert_eq!(metrics.overflowed(), 7 + 8);
        let snapshot = metrics.collect(now());
        let overflow = |at: usize| {
            let points = &snapshot.services[at].metrics[0].points;
            points.iter().find(|p| p.dimensions[0].0 == OVERFLOW).unwrap().histogram.count
        };
        assert_eq!((overflow(0), overflow(1)), (7, 8));
        let total: u64 =
            snapshot.services.iter().flat_map(|s| &s.metrics[0].points).map(|p| p.histogram.count).sum();
        assert_eq!(total, 20);

        metrics.forget_service(1);
        let mut record = record(Role::Server, 200);
        record.service = service(2, "shop");
        record.attributes.set(key::HTTP_ROUTE, Value::Text("/new".into()));
        metrics.record(&record);
        assert_eq!(metrics.overflowed(), 15, "room again");
    }

    #[test]
    fn cumulative_points_keep_their_start_and_delta_points_move_it() {
        let (first, second) = (now(), UnixNanos(now().0 + 1_000_000_000));
        for temporality in [Temporality::Cumulative, Temporality::Delta] {
            let mut metrics = Aggregator::new(MetricSettings { temporality, ..MetricSettings::default() });
            let record = record(Role::Server, 200);
            metrics.record(&record);
            metrics.collect(first);
            metrics.record(&record);
            let snapshot = metrics.collect(second);
            let point = &snapshot.services[0].metrics[0].points[0];
            let expected = match temporality {
                Temporality::Cumulative => (2, record.start),
                Temporality::Delta => (1, first),
            };
            assert_eq!((point.histogram.count, point.start), expected);
            let quiet = metrics.collect(UnixNanos(second.0 + 1));
            assert_eq!(quiet.services.is_empty(), temporality == Temporality::Delta);
        }
    }

    #[test]
    fn idle_series_go() {
        let mut metrics = Aggregator::new(MetricSettings { idle_ns: 10, ..MetricSettings::default() });
        metrics.record(&record(Role::Server, 200));
        assert_eq!(metrics.collect(now()).services.len(), 1);
        assert!(metrics.is_empty());
    }
}
