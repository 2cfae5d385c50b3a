//! Which reader gets which metrics, and when?
//!
//! Readers that want the same share one table, which must then be cumulative: a delta table is emptied by its reader.

use std::time::{Duration, Instant};

use crate::{
    export::{Exporter, prometheus::Scrapes},
    telemetry::{Aggregator, MetricSettings, Record, Temporality, UnixNanos},
};

/// All readers of metrics and the tables that they read.
#[derive(Default)]
pub(super) struct Readers {
    tables: Vec<Table>,
    periodic: Vec<Periodic>,
    pull: Vec<Pull>,
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
        self.periodic.push(Periodic { table, exporter, interval, due, previous: UnixNanos(0) });
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
                reader.read(&mut self.tables, unix);
            }
            reader.exporter.tick(now);
        }
        for reader in &mut self.pull {
            let Some(table) = self.tables.get_mut(reader.table) else { continue };
            reader.scrapes.answer(now, || table.aggregator.collect(unix, UnixNanos(0)));
        }
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
            reader.read(&mut self.tables, unix);
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
    fn read(&mut self, tables: &mut [Table], unix: UnixNanos) {
        let Some(table) = tables.get_mut(self.table) else { return };
        let snapshot = table.aggregator.collect(unix, self.previous);
        self.previous = unix;
        self.exporter.on_metrics(&snapshot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use spantap_protocols::Role;

    use super::*;
    use crate::telemetry::{Aggregation, MetricsSnapshot, span::tests::record};

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
