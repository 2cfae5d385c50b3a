//! An exporter that keeps what comes, so that later stages can be measured by themselves.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use spantap::{
    export::Exporter,
    telemetry::{MetricsSnapshot, Record},
};

/// Keeps what comes.
pub struct Keeper(pub Arc<Mutex<Vec<Record>>>);

impl Exporter for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn on_record(&mut self, record: &Record) {
        self.0.lock().expect("nobody panicked").push(record.clone());
    }

    fn on_metrics(&mut self, _snapshot: &MetricsSnapshot) {}

    fn tick(&mut self, _now: Instant) {}

    fn begin_shutdown(&mut self, _deadline: Instant) {}

    fn shutdown(&mut self, _deadline: Instant) {}
}
