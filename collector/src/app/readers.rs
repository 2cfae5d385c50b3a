//! Which reader gets which metrics, and when?
//!
//! Readers that want the same share one table, which must then be cumulative: a delta table is emptied by its reader.

use std::time::{Duration, Instant};

use crate::{
    export::{Exporter, prometheus::Scrapes},
    telemetry::{
        Aggregator, MetricSettings, Record, Temporality, UnixNanos,
        snapshot::{NumberKind, ServiceMetrics},
    },
};

/// All readers of metrics and the tables that they read.
#[derive(Default)]
pub(super) struct Readers {
    tables: Vec<Table>,
    periodic: Vec<Periodic>,
    pull: Vec<Pull>,
    /// What the agent tells of itself.
    own: Option<ServiceMetrics>,
}

struct Table {
    settings: MetricSettings,
    aggregator: Aggregator,
}

/// Collects at an interval and hands what it has to one exporter.
struct Periodic {
    table: usize,
    exporter: Box<dyn Exporter>,
    interval: Duration,
    due: Instant,
    previous: UnixNanos,
    /// What the agent told of itself then: for those who want differences.
    told: Option<ServiceMetrics>,
}

/// Those who fetch metrics, and when they last did does not matter.
struct Pull {
    table: usize,
    scrapes: Scrapes,
}

impl Readers {
    /// One more that is given metrics at an interval.
    pub(super) fn add_periodic(
        &mut self,
        settings: MetricSettings,
        interval: Duration,
        exporter: Box<dyn Exporter>,
    ) {
        let table = self.table(settings);
        let due = Instant::now() + interval;
        self.periodic.push(Periodic { table, exporter, interval, due, previous: UnixNanos(0), told: None });
    }

    /// One more place where metrics are fetched.
    pub(super) fn add_pull(&mut self, settings: MetricSettings, scrapes: Scrapes) {
        let table = self.table(settings);
        self.pull.push(Pull { table, scrapes });
    }

    /// The table of these settings.
    fn table(&mut self, settings: MetricSettings) -> usize {
        let shared = settings.temporality == Temporality::Cumulative;
        let known = self.tables.iter().position(|table| shared && table.settings == settings);
        known.unwrap_or_else(|| {
            self.tables.push(Table { aggregator: Aggregator::new(settings.clone()), settings });
            self.tables.len() - 1
        })
    }

    pub(super) fn record(&mut self, record: &Record) {
        self.tables.iter_mut().for_each(|table| table.aggregator.record(record));
    }

    pub(super) fn tick(&mut self, now: Instant, unix: UnixNanos) {
        for reader in &mut self.periodic {
            if now >= reader.due {
                reader.due = now + reader.interval;
                reader.read(&mut self.tables, self.own.as_ref(), unix);
            }
            reader.exporter.tick(now);
        }
        for reader in &mut self.pull {
            let Some(table) = self.tables.get_mut(reader.table) else { continue };
            reader.scrapes.answer(now, || {
                let mut snapshot = table.aggregator.collect(unix, UnixNanos(0));
                snapshot.services.extend(self.own.clone());
                snapshot
            });
        }
    }

    /// Whether somebody reads at the next tick.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.periodic.iter().any(|reader| now >= reader.due)
            || self.pull.iter().any(|reader| reader.scrapes.is_asked())
    }

    /// What the agent tells of itself from now on.
    pub(super) fn set_own(&mut self, own: ServiceMetrics) {
        self.own = Some(own);
    }

    /// Series in all tables.
    pub(super) fn series(&self) -> usize {
        self.tables.iter().map(|table| table.aggregator.len()).sum()
    }

    /// The last process of a service has ended.
    pub(super) fn service_ended(&mut self, service: u32, unix: UnixNanos) {
        self.tables.iter_mut().for_each(|table| table.aggregator.service_ended(service, unix));
    }

    /// Forgets series that nobody counts into any more; every few seconds.
    pub(super) fn expire(&mut self, unix: UnixNanos) {
        self.tables.iter_mut().for_each(|table| table.aggregator.expire(unix));
    }

    /// Hands out the last values.
    pub(super) fn begin_shutdown(&mut self, deadline: Instant, unix: UnixNanos) {
        for reader in &mut self.periodic {
            reader.read(&mut self.tables, self.own.as_ref(), unix);
            reader.exporter.begin_shutdown(deadline);
        }
    }

    /// Waits for each exporter.
    pub(super) fn shutdown(&mut self, deadline: Instant) {
        self.periodic.iter_mut().for_each(|reader| reader.exporter.shutdown(deadline));
    }

    /// Values that counted into an overflow series: of the table in which they were most.
    pub(super) fn overflowed(&self) -> u64 {
        self.tables.iter().map(|table| table.aggregator.overflowed()).max().unwrap_or(0)
    }
}

impl Periodic {
    fn read(&mut self, tables: &mut [Table], own: Option<&ServiceMetrics>, unix: UnixNanos) {
        let Some(table) = tables.get_mut(self.table) else { return };
        let mut snapshot = table.aggregator.collect(unix, self.previous);
        if let Some(mut own) = own.cloned() {
            if table.settings.temporality == Temporality::Delta {
                self.subtract_told(&mut own);
            }
            snapshot.services.push(own);
        }
        self.previous = unix;
        self.exporter.on_metrics(&snapshot);
    }
}

impl Periodic {
    /// Makes what grows in `own` the difference from what was told before, and remembers what is told now.
    ///
    /// The same metrics and points come every time, in the same order; were it not so, all is told.
    fn subtract_told(&mut self, own: &mut ServiceMetrics) {
        let Some(before) = self.told.replace(own.clone()) else { return };
        for (metric, before) in own.numbers.iter_mut().zip(&before.numbers) {
            if metric.kind == NumberKind::Counter && metric.points.len() == before.points.len() {
                for (point, before) in metric.points.iter_mut().zip(&before.points) {
                    point.value = (point.value - before.value).max(0.0);
                    point.start = self.previous;
                }
            }
        }
        for (metric, before) in own.metrics.iter_mut().zip(&before.metrics) {
            if metric.points.len() == before.points.len() {
                for (point, before) in metric.points.iter_mut().zip(&before.points) {
                    point.histogram = point.histogram.since(&before.histogram);
                    point.start = self.previous;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use spantap_protocols::{
        Role,
        semconv::{DURATION_BOUNDS, own::EXPORTER_OPERATION_DURATION},
    };

    use super::*;
    use crate::telemetry::{
        Aggregation, MetricsSnapshot,
        histogram::Distribution,
        snapshot::{Dimensions, HistogramPoint, MetricPoints, NumberMetric, NumberPoint},
        span::tests::{record, service},
    };

    /// What each collection counted, and since when exemplars are new.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(u64, UnixNanos)>>>);

    impl Exporter for Kept {
        fn name(&self) -> &'static str {
            "kept"
        }

        fn on_record(&mut self, _record: &Record) {}

        fn on_metrics(&mut self, snapshot: &MetricsSnapshot) {
            let points = snapshot.services.iter().flat_map(|s| &s.metrics).flat_map(|m| &m.points);
            let count = points.map(|point| point.histogram.count).sum();
            self.0.lock().unwrap().push((count, snapshot.previous));
        }

        fn tick(&mut self, _now: Instant) {}

        fn begin_shutdown(&mut self, _deadline: Instant) {}

        fn shutdown(&mut self, _deadline: Instant) {}
    }

    #[test]
    fn what_the_agent_tells_of_itself_is_a_difference_where_that_is_wanted() {
        let own = |counted: f64, held: f64| {
            let number = |kind, value| NumberMetric {
                name: "a",
                description: "",
                unit: "",
                kind,
                points: vec![NumberPoint { attributes: Vec::new(), start: UnixNanos(1), value }],
            };
            let numbers = vec![number(NumberKind::Counter, counted), number(NumberKind::UpDown, held)];
            let mut histogram = Distribution::new(Aggregation::Explicit, DURATION_BOUNDS);
            (0..counted as u64).for_each(|_| histogram.record(DURATION_BOUNDS, 0.5, None));
            let dimensions = Dimensions::of(EXPORTER_OPERATION_DURATION.dimensions, &[]);
            let points = vec![HistogramPoint { dimensions, start: UnixNanos(1), histogram }];
            let metrics = vec![MetricPoints { metric: &EXPORTER_OPERATION_DURATION, points }];
            ServiceMetrics { service: service(0, "spantap"), metrics, numbers }
        };
        for (temporality, counts, starts) in [
            (Temporality::Cumulative, [5.0, 7.0, 9.0], [1, 1, 1]),
            (Temporality::Delta, [5.0, 2.0, 2.0], [1, 10, 20]),
        ] {
            let mut readers = Readers::default();
            let kept = Own::default();
            let settings = MetricSettings { temporality, ..MetricSettings::default() };
            readers.add_periodic(settings, Duration::from_secs(1), Box::new(kept.clone()));
            let start = Instant::now();
            for (round, counted) in [(1, 5.0), (2, 7.0)] {
                let now = start + Duration::from_millis(1_100 * round);
                assert!(readers.are_due(now));
                readers.set_own(own(counted, 3.0));
                readers.tick(now, UnixNanos(10 * round));
                assert!(!readers.are_due(now));
            }
            readers.set_own(own(9.0, 4.0));
            readers.begin_shutdown(start, UnixNanos(30));
            let told = kept.0.lock().unwrap();
            assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), counts);
            assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), starts);
            assert_eq!(told.iter().map(|told| told.2).collect::<Vec<_>>(), [3.0, 3.0, 4.0]);
        }
    }

    /// Of each collection a counter, its start, and what is held.
    #[derive(Clone, Default)]
    struct Own(Arc<Mutex<Vec<(f64, u64, f64)>>>);

    impl Exporter for Own {
        fn name(&self) -> &'static str {
            "own"
        }

        fn on_record(&mut self, _record: &Record) {}

        fn on_metrics(&mut self, snapshot: &MetricsSnapshot) {
            let [counter, held] = &snapshot.services[0].numbers[..] else { panic!("two") };
            let [counter, held] = [counter, held].map(|metric| &metric.points[0]);
            let durations = &snapshot.services[0].metrics[0].points[0];
            assert_eq!((durations.histogram.count as f64, durations.start), (counter.value, counter.start));
            assert_eq!(durations.histogram.explicit().iter().sum::<u64>() as f64, counter.value);
            assert!((durations.histogram.sum - counter.value / 2.0).abs() < 1e-9);
            self.0.lock().unwrap().push((counter.value, counter.start.0, held.value));
        }

        fn tick(&mut self, _now: Instant) {}

        fn begin_shutdown(&mut self, _deadline: Instant) {}

        fn shutdown(&mut self, _deadline: Instant) {}
    }

    #[test]
    fn cumulative_readers_share_a_table_and_delta_readers_do_not() {
        let mut readers = Readers::default();
        let cumulative = MetricSettings::default();
        let delta = MetricSettings { temporality: Temporality::Delta, ..MetricSettings::default() };
        let fine = MetricSettings { aggregation: Aggregation::Exponential, ..MetricSettings::default() };
        let kept: Vec<Kept> = [&cumulative, &cumulative, &delta, &delta, &fine]
            .map(|settings| {
                let kept = Kept::default();
                readers.add_periodic(settings.clone(), Duration::from_secs(1), Box::new(kept.clone()));
                kept
            })
            .into();
        assert_eq!(readers.tables.len(), 4);
        let (start, record) = (Instant::now(), record(Role::Server, 200));
        for second in 1..=2 {
            readers.record(&record);
            // A little later than due, so that it is due.
            readers.tick(start + Duration::from_millis(1_100 * second), UnixNanos(second));
        }
        readers.begin_shutdown(start, UnixNanos(3));
        let told: Vec<Vec<u64>> = kept
            .iter()
            .map(|kept| kept.0.lock().unwrap().iter().map(|(count, _)| *count).collect())
            .collect();
        assert_eq!(told, [[1, 2, 2], [1, 2, 2], [1, 1, 0], [1, 1, 0], [1, 2, 2]]);
        let previous: Vec<u64> = kept[0].0.lock().unwrap().iter().map(|(_, at)| at.0).collect();
        assert_eq!(previous, [0, 1, 2]);
    }
}
