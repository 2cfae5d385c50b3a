//! What a reader gets, and which series are forgotten when.

use std::sync::Arc;

use spantap_protocols::semconv::Metric;

use super::{
    super::{
        MetricsSnapshot, Service, Temporality, UnixNanos,
        snapshot::{HistogramPoint, MetricPoints, ServiceMetrics},
    },
    caps::Caps,
    key::MetricKey,
    table::{Aggregator, Series},
};

impl Aggregator {
    /// A snapshot of every series. With [`Temporality::Delta`] of those that counted since the last one, and all are
    /// empty then, so such a table has one reader; with [`Temporality::Cumulative`] any number may read it.
    ///
    /// `previous` is when this reader got the last one.
    pub fn collect(&mut self, now: UnixNanos, previous: UnixNanos) -> MetricsSnapshot {
        let mut found: Vec<Found> = match self.settings.temporality {
            Temporality::Cumulative => self.series.iter().map(|series| Found::copied(series)).collect(),
            Temporality::Delta => self.take(now),
        };
        found.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut services: Vec<ServiceMetrics> = Vec::new();
        for Found { service, metric, point } in found {
            if services.last().is_none_or(|last| last.service.id != service.id) {
                services.push(ServiceMetrics { service, metrics: Vec::new(), numbers: Vec::new() });
            }
            let Some(service) = services.last_mut() else { continue };
            match service.metrics.last_mut().filter(|last| std::ptr::eq(last.metric, metric)) {
                Some(known) => known.points.push(point),
                None => service.metrics.push(MetricPoints { metric, points: vec![point] }),
            }
        }
        MetricsSnapshot { time: now, previous, temporality: self.settings.temporality, services }
    }

    /// Empties every series, and forgets those that were empty already.
    fn take(&mut self, now: UnixNanos) -> Vec<Found> {
        let begun = std::mem::replace(&mut self.collected, now);
        let (caps, mut found) = (&mut self.caps, Vec::new());
        self.series.retain(|series| {
            let keep = series.histogram.count > 0;
            if keep {
                let mut one = Found::copied(series);
                one.point.start = series.start.max(begun);
                found.push(one);
                series.histogram.clear();
            } else {
                series.give_back(caps);
            }
            keep
        });
        found
    }

    /// The last process of a service has ended: its series need not wait as long as others.
    pub fn service_ended(&mut self, service: u32, now: UnixNanos) {
        self.ended.insert(service, now);
    }

    /// Forgets series that have had no value for too long; every few seconds. A delta table does so when it is read.
    pub fn expire(&mut self, now: UnixNanos) {
        if self.settings.temporality == Temporality::Delta {
            self.ended.clear();
            return;
        }
        let (settings, caps) = (&self.settings, &mut self.caps);
        let ended = std::mem::take(&mut self.ended);
        let mut still = ended.clone();
        still.clear();
        self.series.retain(|series| {
            let service = series.service.id;
            // A value that is younger than the end is of a new process.
            let end = ended.get(&service).filter(|end| series.last <= **end);
            let allowed_ns = if end.is_some() { settings.ended_ns } else { settings.idle_ns };
            let keep = now.0.saturating_sub(series.last.0) <= allowed_ns;
            if let Some(end) = end.filter(|_| keep) {
                still.insert(service, *end);
            }
            if !keep {
                series.give_back(caps);
            }
            keep
        });
        self.ended = still;
        // A burst of series must not hold its table for ever.
        if self.series.capacity() > 4 * self.series.len() + 64 {
            self.series.shrink_to_fit(|series| series.hash);
        }
    }
}

impl Series {
    /// It is gone: makes room under the caps, if it took any.
    fn give_back(&self, caps: &mut Caps) {
        if !self.dimensions.is_overflow() {
            caps.give_back(self.service.id, MetricKey::of(self.metric));
        }
    }
}

/// A series at the time of a collection.
struct Found {
    service: Arc<Service>,
    metric: &'static Metric,
    point: HistogramPoint,
}

impl Found {
    fn copied(series: &Series) -> Self {
        let point = HistogramPoint {
            dimensions: series.dimensions.clone(),
            start: series.start,
            histogram: series.histogram.clone(),
        };
        Self { service: Arc::clone(&series.service), metric: series.metric, point }
    }

    fn order(&self) -> (u32, &'static str, UnixNanos) {
        (self.service.id, self.metric.name, self.point.start)
    }
}
