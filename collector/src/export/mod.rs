//! Where records and metrics leave the agent: the trait of exporters, and the list of them that runs.

pub mod otlp;
pub mod prometheus;
pub mod stdout;

use std::time::Instant;

use crate::telemetry::{MetricsSnapshot, Record};

/// What happens when records come faster than an output takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// They are dropped and counted: a host does not wait.
    Drop,
    /// Their source waits: a capture file can.
    Wait,
}

/// One way out. Called from the pipeline's thread; nothing here may block it for long.
pub trait Exporter: Send {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Takes a finished exchange that makes a span.
    fn on_record(&mut self, record: &Record);

    /// Takes one that does not: it is only to be counted.
    fn on_counted(&mut self, _record: &Record) {}

    /// Takes a collection of all metrics.
    fn on_metrics(&mut self, snapshot: &MetricsSnapshot);

    /// Called several times a second: flush what has waited long enough.
    fn tick(&mut self, now: Instant);

    /// Flushes without waiting: nothing more comes. Called on every exporter before any of them is waited for, so that
    /// one whose backend is away takes no time from the others. Calling it twice does no harm.
    fn begin_shutdown(&mut self, deadline: Instant);

    /// Waits until everything is out, at the latest until `deadline`; begins the shutdown if that was not done. Nothing
    /// is called afterwards.
    fn shutdown(&mut self, deadline: Instant);

    /// True once its output is gone for good (the reader of a pipe has left): the agent may as well end.
    fn is_broken(&self) -> bool {
        false
    }
}

/// All exporters of this run, in the order of the configuration.
#[derive(Default)]
pub struct Exporters(Vec<Box<dyn Exporter>>);

impl Exporters {
    /// Adds one.
    pub fn push(&mut self, exporter: Box<dyn Exporter>) {
        self.0.push(exporter);
    }

    /// True if nothing is exported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To each exporter, as what it is.
    pub fn on_record(&mut self, record: &Record) {
        for exporter in &mut self.0 {
            if record.is_span { exporter.on_record(record) } else { exporter.on_counted(record) }
        }
    }

    /// To each exporter.
    pub fn on_metrics(&mut self, snapshot: &MetricsSnapshot) {
        self.0.iter_mut().for_each(|exporter| exporter.on_metrics(snapshot));
    }

    /// To each exporter.
    pub fn tick(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|exporter| exporter.tick(now));
    }

    /// To each exporter.
    pub fn begin_shutdown(&mut self, deadline: Instant) {
        self.0.iter_mut().for_each(|exporter| exporter.begin_shutdown(deadline));
    }

    /// Waits for each exporter within the same deadline, after all of them have begun.
    pub fn shutdown(&mut self, deadline: Instant) {
        self.begin_shutdown(deadline);
        self.0.iter_mut().for_each(|exporter| exporter.shutdown(deadline));
    }

    /// The first exporter whose output is gone.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        self.0.iter().find(|exporter| exporter.is_broken()).map(|exporter| exporter.name())
    }
}
