//! A capture file instead of a kernel: the same pipeline, unprivileged.

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use spantap_config::Config;
use spantap_ebpf_common::Event;
use spantap_protocols::Attributes;

use super::{
    agent::enabled_protocols,
    outputs::Outputs,
    pipeline::{Naming, Pipeline},
    summary::Summary,
    wiring,
};
use crate::{
    connection::Table,
    discovery::Services,
    processors::{Processors, Sampling},
    replay::{Replay, ReplayError},
    telemetry::Clock,
};

/// How fast a recording passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can be read.
    Fast,
    /// As it happened.
    Recorded,
}

/// Runs the capture that `reader` yields through the pipeline; `name` stands in errors.
///
/// # Errors
/// A file that is no capture, or damaged: what came before the damage was exported.
pub fn replay(
    config: &Config,
    name: &Path,
    reader: impl Read,
    naming: Naming,
    outputs: Outputs,
    pace: Pace,
) -> (Summary, Result<(), ReplayError>) {
    let mut common = Attributes::new();
    super::agent::add_configured(&mut common, &config.spantap.resource);
    wiring::install(&config.instrumentation);
    let protocols = enabled_protocols(config);
    let mut pipeline = Pipeline::new(
        Table::new(wiring::table_settings(&config.spantap), protocols),
        Services::new(common),
        naming,
        Processors::standard(
            wiring::route_settings(&config.spantap.routes),
            wiring::older_names(config.spantap.semconv_stability_opt_in),
        ),
        Sampling::new(&config.tracer_provider.sampler, &config.spantap.sampling),
        outputs,
        Clock::fixed(0),
    );
    let mut replay = Replay::new(protocols);
    let mut pacer = Pacer { pace, began: Instant::now(), first_ns: None };
    let mut last_second = 0;
    let result = replay.read(name, reader, &mut |event| {
        let now_ns = time_of(event);
        pacer.wait(now_ns, &mut pipeline);
        pipeline.on_event(event);
        if now_ns / 1_000_000_000 > last_second {
            last_second = now_ns / 1_000_000_000;
            pipeline.on_second(now_ns);
            pipeline.tick(Instant::now());
        }
    });
    pipeline.shutdown(Instant::now() + config.spantap.shutdown_timeout);
    (Summary::of_replay(&pipeline, replay.counters()), result)
}

fn time_of(event: &Event<'_>) -> u64 {
    match event {
        Event::Open(open) => open.boot_ns,
        Event::Data(data) => data.last_ns,
        Event::Close(close) => close.boot_ns,
        Event::ConnectFailed(failed) => failed.boot_ns,
        Event::Process(process) => process.boot_ns,
    }
}

struct Pacer {
    pace: Pace,
    began: Instant,
    first_ns: Option<u64>,
}

impl Pacer {
    fn wait(&mut self, now_ns: u64, pipeline: &mut Pipeline) {
        if self.pace == Pace::Fast {
            return;
        }
        let first_ns = *self.first_ns.get_or_insert(now_ns);
        let due = Duration::from_nanos(now_ns.saturating_sub(first_ns));
        if let Some(left) = due.checked_sub(self.began.elapsed()) {
            pipeline.tick(Instant::now());
            std::thread::sleep(left);
        }
    }
}
