//! What does a span cost from the segments that it was in to the bytes of OTLP, without I/O? `cargo bench -p spantap`, or
//! `cargo xtask bench protocols`, which shows the same tables.

#[path = "../support/keeper.rs"]
mod keeper;
mod recording;
#[path = "../../../protocols/tests/support/mod.rs"]
#[allow(dead_code, reason = "here nothing reads a conversation without the agent around it")]
mod support;

use std::{
    fs::File,
    hint::black_box,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use spantap::{
    app::{Naming, Outputs, Pace, replay},
    connection::{Settings, Table},
    export::{
        Exporter, Pressure,
        otlp::{Batcher, settings::Signal},
        stdout::{OtlpJson, Output, Pretty},
    },
    processors::Sampling,
    replay::Replay,
    telemetry::{Aggregator, MetricSettings, MetricsSnapshot, Record, UnixNanos},
};
use spantap_config::{Config, Sampler};
use spantap_protocols::ALL;

use keeper::Keeper;
use support::counting::{Counting, taken};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measurements, unless `--runs` says otherwise.
const RUNS: usize = 12;
/// Bytes of one request to a backend, as configured by default.
const BATCH_BYTES: usize = 2 << 20;
/// Spans a second on one core, from segments to OTLP.
const TARGET: f64 = 150e3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == "--runs");
    let runs = at.and_then(|at| arguments.get(at + 1));
    let runs = runs.map_or(RUNS, |runs| runs.parse().expect("a number of runs")).max(1);
    whole(runs);
    stages(runs);
}

/// Capture file in memory -> events -> exchanges -> records -> OTLP.
fn whole(runs: usize) {
    println!("# From segments to encoded OTLP, one core, {runs} runs");
    println!("# recording\tspans\tOTLP bytes each\tbest ns\tmedian ns\tbest/s\ttarget/s\tallocations");
    for (name, protocols) in [
        ("HTTP/1, HTTP/2, gRPC, Redis, PostgreSQL", &["HTTP/1", "HTTP/2", "gRPC", "Redis", "PostgreSQL"][..]),
        ("HTTP/1", &["HTTP/1"]),
        ("Redis", &["Redis"]),
        ("PostgreSQL", &["PostgreSQL"]),
    ] {
        let file = recording::of(protocols);
        for metrics in [false, true] {
            let mut ns = Vec::new();
            let (mut sums, mut allocations) = (Sums::default(), 0);
            for _ in 0..runs {
                let (before, begun) = (taken().allocations, Instant::now());
                sums = encode(&file, metrics);
                ns.push(begun.elapsed().as_nanos() as f64 / sums.spans as f64);
                allocations = taken().allocations - before;
            }
            ns.sort_by(f64::total_cmp);
            println!(
                "{name}{}\t{}\t{}\t{:.0}\t{:.0}\t{:.0}\t{TARGET:.0}\t{:.2}",
                if metrics { ", and metrics" } else { "" },
                sums.spans,
                sums.bytes / sums.spans,
                ns[0],
                ns[ns.len() / 2],
                1e9 / ns[0],
                allocations as f64 / sums.spans as f64,
            );
        }
    }
    println!("#- a segment is a TCP segment of a capture file in memory; reading the file is in the figures");
    println!("#- allocations are of one span, connections and batches included");
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    spans: u64,
    bytes: u64,
}

fn encode(file: &[u8], metrics: bool) -> Sums {
    let sums = Arc::new(Mutex::new(Sums::default()));
    let metrics = metrics.then(|| Aggregator::new(MetricSettings::default()));
    let encoder = Encoder { batcher: Batcher::new(Signal::Traces), metrics, sums: Arc::clone(&sums) };
    run(file, Box::new(encoder));
    let sums = *sums.lock().expect("nobody panicked");
    assert_eq!(sums.spans, recording::EXCHANGES, "every exchange becomes a span");
    sums
}

fn run(file: &[u8], exporter: Box<dyn Exporter>) {
    let mut outputs = Outputs::default();
    outputs.add(exporter);
    let (_, result) =
        replay(&Config::default(), Path::new("memory"), file, Naming::Endpoints, outputs, Pace::Fast);
    result.expect("the recording is whole");
}

/// Encodes spans, and sends them nowhere.
struct Encoder {
    batcher: Batcher,
    metrics: Option<Aggregator>,
    sums: Arc<Mutex<Sums>>,
}

impl Encoder {
    fn sent(&self, batch: Option<spantap::export::otlp::Batch>) {
        let Some(batch) = batch else { return };
        let mut sums = self.sums.lock().expect("nobody panicked");
        sums.spans += batch.items;
        sums.bytes += black_box(batch.body).len() as u64;
    }
}

impl Exporter for Encoder {
    fn name(&self) -> &'static str {
        "encoder"
    }

    fn on_record(&mut self, record: &Record) {
        if let Some(metrics) = &mut self.metrics {
            metrics.record(record);
        }
        let full = self.batcher.push_span(record, BATCH_BYTES);
        self.sent(full);
    }

    fn on_metrics(&mut self, _snapshot: &MetricsSnapshot) {}

    fn tick(&mut self, _now: Instant) {}

    fn begin_shutdown(&mut self, _deadline: Instant) {
        let rest = self.batcher.finish();
        self.sent(rest);
        if let Some(metrics) = &mut self.metrics {
            black_box(metrics.collect(UnixNanos(0), UnixNanos(0)));
        }
    }

    fn shutdown(&mut self, _deadline: Instant) {}
}

/// The same way in its parts, each by itself.
fn stages(runs: usize) {
    let file = recording::of(&["HTTP/1", "HTTP/2", "gRPC", "Redis", "PostgreSQL"]);
    let kept = Arc::new(Mutex::new(Vec::new()));
    run(&file, Box::new(Keeper(Arc::clone(&kept))));
    let records = std::mem::take(&mut *kept.lock().expect("nobody panicked"));

    println!("# The stages by themselves, {runs} runs");
    println!("# stage\tunit\tbest ns\tmedian ns\tallocations");
    let show = |stage: &str, unit: &str, each: &mut dyn FnMut() -> u64| {
        let (mut ns, mut allocations) = (Vec::new(), 0.0);
        for _ in 0..runs {
            let (before, begun) = (taken().allocations, Instant::now());
            let units = each() as f64;
            ns.push(begun.elapsed().as_nanos() as f64 / units);
            allocations = (taken().allocations - before) as f64 / units;
        }
        ns.sort_by(f64::total_cmp);
        println!("{stage}\t{unit}\t{:.0}\t{:.0}\t{allocations:.2}", ns[0], ns[ns.len() / 2]);
    };
    show("capture file to events", "segment", &mut || {
        let mut events = 0;
        let mut replay = Replay::new(ALL);
        replay.read(Path::new("memory"), &file[..], &mut |_| events += 1).expect("it is whole");
        events
    });
    for streams in [1, 1_000, 50_000] {
        let mut calls = recording::Calls::new(streams);
        let mut table = Table::new(Settings::default(), ALL);
        let name = format!("events to exchanges, HTTP/1, {streams} streams");
        show(&name, "event", &mut || calls.give(&mut table, 100_000));
    }
    for (name, sampler) in [("the default", Sampler::default()), ("by ratio", Sampler::Probability(0.1))] {
        let mut sampling = Sampling::new(&sampler, &spantap_config::Sampling::default());
        let mut records = records.clone();
        show(&format!("sampling, {name}"), "span", &mut || {
            for record in &mut records {
                black_box(sampling.decide(record));
            }
            records.len() as u64
        });
    }
    let mut metrics = Aggregator::new(MetricSettings::default());
    show("record to histograms", "span", &mut || {
        records.iter().for_each(|record| metrics.record(record));
        records.len() as u64
    });
    let mut batcher = Batcher::new(Signal::Traces);
    show("record to OTLP", "span", &mut || {
        for record in &records {
            black_box(batcher.push_span(record, BATCH_BYTES));
        }
        black_box(batcher.finish());
        records.len() as u64
    });
    let output = || {
        let file = File::options().write(true).open("/dev/null").expect("it is there");
        Output::new("memory", Box::new(anstream::StripStream::new(file)), Pressure::Drop).expect("a thread")
    };
    let mut pretty = Pretty::new(output(), true);
    let mut json = OtlpJson::new(output());
    for (name, exporter) in [
        ("record to a line for people", &mut pretty as &mut dyn Exporter),
        ("record to OTLP JSON", &mut json),
    ] {
        show(name, "span", &mut || {
            for (at, record) in records.iter().enumerate() {
                exporter.on_record(record);
                if at % 1_000 == 0 {
                    exporter.tick(Instant::now());
                }
            }
            records.len() as u64
        });
    }
}
