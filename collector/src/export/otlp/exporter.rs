//! [`OtlpExporter`]: the synchronous face of the OTLP engine. Encodes where it is called, never waits for the network.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch};

use super::{
    batch::{Batch, Batcher},
    client::Client,
    delivery::Delivery,
    health::Health,
    queue::Queue,
    settings::{BatchSettings, DestinationSettings, OtlpSettings, Signal},
    stats::DestinationStats,
    tls::SetupError,
};
use crate::{
    export::Exporter,
    telemetry::{MetricsSnapshot, Record, Temporality, id::Random},
};

/// Sends spans and metrics to up to one backend each.
#[derive(Debug)]
pub struct OtlpExporter {
    traces: Option<Destination>,
    metrics: Option<Destination>,
}

/// The near end of one destination.
#[derive(Debug)]
struct Destination {
    batcher: Batcher,
    batch: BatchSettings,
    /// When the open batch got its first item.
    opened: Option<Instant>,
    queue: Arc<Queue>,
    stats: Arc<DestinationStats>,
    deadline: watch::Sender<Option<Instant>>,
    done: mpsc::Receiver<()>,
}

impl OtlpExporter {
    /// Starts one task per destination on `runtime`. Nothing is connected yet: a backend that is away is no error.
    ///
    /// `temporality` is that of the snapshots to come: a cumulative one makes older ones that still wait superfluous.
    ///
    /// # Errors
    /// An endpoint that names no host or no known scheme, or certificate files that cannot be used.
    pub fn start(
        settings: &OtlpSettings,
        temporality: Temporality,
        runtime: &Handle,
    ) -> Result<Self, SetupError> {
        let latest_only = temporality == Temporality::Cumulative;
        let start = |signal, settings: &Option<DestinationSettings>, latest_only| {
            settings.as_ref().map(|s| Destination::start(signal, s, latest_only, runtime)).transpose()
        };
        Ok(Self {
            traces: start(Signal::Traces, &settings.traces, false)?,
            metrics: start(Signal::Metrics, &settings.metrics, latest_only)?,
        })
    }

    /// The counters of each destination; they outlive the exporter.
    pub fn stats(&self) -> impl Iterator<Item = Arc<DestinationStats>> {
        [&self.traces, &self.metrics].into_iter().flatten().map(|destination| Arc::clone(&destination.stats))
    }
}

impl Exporter for OtlpExporter {
    fn name(&self) -> &'static str {
        "otlp"
    }

    /// Encodes a span, and cuts the request if it is large enough.
    fn on_record(&mut self, record: &Record) {
        if let Some(traces) = &mut self.traces {
            traces.push_span(record);
        }
    }

    fn on_metrics(&mut self, snapshot: &MetricsSnapshot) {
        if let Some(metrics) = &mut self.metrics {
            metrics.push_snapshot(snapshot);
        }
    }

    fn tick(&mut self, now: Instant) {
        if let Some(traces) = &mut self.traces {
            traces.tick(now);
        }
    }

    /// Hands what is left to the tasks of all destinations.
    fn begin_shutdown(&mut self, deadline: Instant) {
        for destination in [&mut self.traces, &mut self.metrics].into_iter().flatten() {
            destination.begin_shutdown(deadline);
        }
    }

    /// Waits until all is sent or `deadline` has come; what is left then is dropped and counted.
    ///
    /// Call it from a plain thread while the runtime runs.
    fn shutdown(&mut self, deadline: Instant) {
        self.begin_shutdown(deadline);
        for destination in [&mut self.traces, &mut self.metrics].into_iter().flatten() {
            destination.wait(deadline);
        }
    }
}

impl Destination {
    fn start(
        signal: Signal,
        settings: &DestinationSettings,
        latest_only: bool,
        runtime: &Handle,
    ) -> Result<Self, SetupError> {
        let _context = runtime.enter();
        let client = Client::new(signal, settings)?;
        let stats =
            Arc::new(DestinationStats::new(signal, settings.protocol, settings.endpoint_for_people()));
        let queue = Arc::new(Queue::new(settings.queue, latest_only, Arc::clone(&stats)));
        let delivery = Delivery {
            queue: Arc::clone(&queue),
            client,
            retry: settings.retry,
            stats: Arc::clone(&stats),
            health: Health::new(signal, settings.endpoint_for_people()),
            random: Random::new(),
        };
        let (deadline, deadline_of_task) = watch::channel(None);
        let (done_of_task, done) = mpsc::sync_channel(1);
        runtime.spawn(delivery.run(deadline_of_task, done_of_task));
        Ok(Self {
            batcher: Batcher::new(signal),
            batch: settings.batch,
            opened: None,
            queue,
            stats,
            deadline,
            done,
        })
    }

    fn push_span(&mut self, record: &Record) {
        self.stats.count_received(1);
        if let Some(full) = self.batcher.push_span(record, self.batch.bytes_max) {
            self.opened = None;
            self.queue.push(full);
        }
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
    }

    fn push_snapshot(&mut self, snapshot: &MetricsSnapshot) {
        let (stats, queue) = (&self.stats, &self.queue);
        self.batcher.push_snapshot(snapshot, self.batch.bytes_max, |batch: Batch| {
            stats.count_received(batch.items);
            queue.push(batch);
        });
    }

    fn tick(&mut self, now: Instant) {
        if self.opened.is_some_and(|at| now.saturating_duration_since(at) >= self.batch.delay) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.opened = None;
        if let Some(batch) = self.batcher.finish() {
            self.queue.push(batch);
        }
        self.stats.set_dropped_attributes(self.batcher.dropped_attributes());
    }

    fn begin_shutdown(&mut self, deadline: Instant) {
        self.flush();
        self.queue.close();
        self.deadline.send_replace(Some(deadline));
    }

    fn wait(&mut self, deadline: Instant) {
        // A little longer than the task has: it counts what it drops.
        let patience = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(250);
        if self.done.recv_timeout(patience).is_err() {
            tracing::debug!("the {} exporter did not end in time", self.stats.signal().name());
        }
        // A deadline that had passed already: the task may have ended before the last batch came.
        self.queue.abandon();
    }
}

impl Drop for Destination {
    /// Without a shutdown what waits is dropped, but the task ends.
    fn drop(&mut self) {
        self.queue.close();
    }
}
