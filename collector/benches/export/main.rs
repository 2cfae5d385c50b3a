//! What do spans and metrics cost on their way out? `cargo bench -p spantap --bench export`, or `cargo xtask bench export`.

#[path = "../support/keeper.rs"]
mod keeper;
#[path = "../pipeline/recording.rs"]
#[allow(dead_code, reason = "here nothing calls the connection table")]
mod recording;
mod sink;
#[path = "../../../protocols/tests/support/mod.rs"]
#[allow(dead_code, reason = "here nothing reads a conversation without the agent around it")]
mod support;

use std::{
    hint::black_box,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use rustix::time::{ClockId, clock_gettime};
use spantap::{
    app::{Naming, Outputs, Pace, replay},
    export::{
        Exporter,
        otlp::{
            Batcher, DestinationSettings, OtlpExporter, OtlpSettings,
            settings::{Compression, Protocol, Signal},
        },
    },
    telemetry::{Aggregation, Aggregator, MetricSettings, Record, Service, Temporality, UnixNanos},
};
use spantap_config::Config;
use spantap_protocols::{Value, semconv::key};

use keeper::Keeper;
use support::counting::{Counting, taken};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measurements, unless `--runs` says otherwise.
const RUNS: usize = 8;
/// Spans of one measurement.
const SPANS: usize = 100_000;
/// Bytes of one request to a backend, as configured by default.
const BATCH_BYTES: usize = 2 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == sink::ARGUMENT) {
        return sink::serve();
    }
    let at = arguments.iter().position(|argument| argument == "--runs");
    let runs = at.and_then(|at| arguments.get(at + 1));
    let runs = runs.map_or(RUNS, |runs| runs.parse().expect("a number of runs")).max(1);
    let records = records();
    spans(&records, runs);
    values(&records, runs);
    memory(&records);
}

/// Spans of an HTTP server, as the pipeline makes them.
fn records() -> Vec<Record> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut outputs = Outputs::default();
    outputs.add(Box::new(Keeper(Arc::clone(&kept))));
    let file = recording::of(&["HTTP/1"]);
    let (_, result) =
        replay(&Config::default(), Path::new("memory"), &file[..], Naming::Endpoints, outputs, Pace::Fast);
    result.expect("the recording is whole");
    let mut records = std::mem::take(&mut *kept.lock().expect("nobody panicked"));
    // Durations from 1 ms to 1 s, evenly by their logarithm: of a recording all are alike.
    for (at, record) in records.iter_mut().enumerate() {
        let ns = 1e6 * 1000f64.powf((at * 7919 % 1000) as f64 / 1000.0);
        record.end = UnixNanos(record.start.0 + ns as u64);
    }
    records
}

/// CPU time of all threads of this process, in milliseconds.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

/// CPU time of encoding, compressing and sending.
fn spans(records: &[Record], runs: usize) {
    println!("# CPU time of {SPANS} spans of HTTP/1, {runs} runs");
    println!("# way\tbest ms\tmedian ms\tof encoding");
    let feed = || records.iter().cycle().take(SPANS);
    let mut encoding = 0.0;
    let mut show = |way: &str, each: &mut dyn FnMut() -> f64| {
        let ms = sorted((0..runs).map(|_| each()).collect());
        if encoding == 0.0 {
            encoding = ms[0];
        }
        println!("{way}\t{:.0}\t{:.0}\t{:.1}", ms[0], ms[ms.len() / 2], ms[0] / encoding);
    };
    show("encoded", &mut || {
        let (begun, mut batcher) = (cpu_ms(), Batcher::new(Signal::Traces));
        for record in feed() {
            black_box(batcher.push_span(record, BATCH_BYTES));
        }
        black_box(batcher.finish());
        cpu_ms() - begun
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a thread can be started");
    let sink = sink::Sink::start();
    for (protocol, name, port) in
        [(Protocol::HttpProtobuf, "HTTP", sink.http), (Protocol::Grpc, "gRPC", sink.grpc)]
    {
        for compression in [Compression::None, Compression::Gzip] {
            let gzip = if compression == Compression::Gzip { ", gzip" } else { "" };
            show(&format!("encoded and sent by {name}{gzip}"), &mut || {
                let uri = format!("http://127.0.0.1:{port}/v1/traces").parse().expect("a URI");
                let mut settings = DestinationSettings::new(Signal::Traces, protocol, uri);
                settings.compression = compression;
                let settings = OtlpSettings { traces: Some(settings), metrics: None };
                let begun = cpu_ms();
                let mut exporter = OtlpExporter::start(&settings, Temporality::Cumulative, runtime.handle())
                    .expect("the settings are fine");
                let stats = exporter.stats().next().expect("one destination");
                for (at, record) in feed().enumerate() {
                    exporter.on_record(record);
                    // A queue that overflows would measure less than all.
                    while at % 1_000 == 0 && stats.waiting() > 30_000 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                exporter.shutdown(Instant::now() + Duration::from_secs(60));
                assert_eq!(stats.exported(), SPANS as u64, "{stats}");
                cpu_ms() - begun
            });
        }
    }
    println!("#- the receiver is another process, and its CPU time is not in the figures");
}

/// Nanoseconds of one value.
fn values(records: &[Record], runs: usize) {
    println!("# A value into its histogram, {runs} runs");
    println!("# aggregation\tseries\tbest ns\tmedian ns\tallocations\ttarget ns\tthe SDK's best ns");
    for series in [1, 100, 10_000] {
        let mut records = with_routes(records, series);
        // In the pipeline a record was just made; a thousand of them are still near.
        records.truncate(series.max(1_000));
        let passes = 100_000 / records.len();
        let values = (passes * records.len()) as f64;
        for aggregation in [Aggregation::Explicit, Aggregation::Exponential] {
            let settings = MetricSettings { aggregation, ..MetricSettings::default() };
            let mut metrics = Aggregator::new(MetricSettings { series_max_per_service: 20_000, ..settings });
            records.iter().for_each(|record| metrics.record(record));
            assert_eq!((metrics.len(), metrics.overflowed()), (series, 0));
            let mut allocations = 0;
            let ns = sorted(
                (0..runs)
                    .map(|_| {
                        let (before, begun) = (taken().allocations, Instant::now());
                        for _ in 0..passes {
                            records.iter().for_each(|record| metrics.record(black_box(record)));
                        }
                        let ns = begun.elapsed().as_nanos() as f64 / values;
                        allocations = taken().allocations - before;
                        ns
                    })
                    .collect(),
            );
            let sdk = sdk(&records, runs, aggregation);
            println!(
                "{aggregation:?}\t{series}\t{:.0}\t{:.0}\t{:.2}\t100\t{sdk:.0}",
                ns[0],
                ns[ns.len() / 2],
                allocations as f64 / values,
            );
        }
    }
    println!("#- with an exemplar each; the SDK has none, and is given the attributes as it wants them");
}

/// The same values by the SDK's instrument, attributes made beforehand.
fn sdk(records: &[Record], runs: usize, aggregation: Aggregation) -> f64 {
    use opentelemetry_sdk::metrics::{Aggregation as Sdk, Instrument, Stream};
    let metric = records[0].metric.expect("HTTP has one");
    let view = move |_: &Instrument| {
        let aggregation = match aggregation {
            Aggregation::Explicit => {
                Sdk::ExplicitBucketHistogram { boundaries: metric.bounds.to_vec(), record_min_max: true }
            }
            Aggregation::Exponential => {
                Sdk::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true }
            }
        };
        let stream = Stream::builder().with_aggregation(aggregation).with_cardinality_limit(20_000);
        Some(stream.build().expect("a valid stream"))
    };
    let reader = PeriodicReader::builder(InMemoryMetricExporter::default());
    let reader = reader.with_interval(Duration::from_secs(3600)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_view(view).build();
    let histogram = provider.meter("bench").f64_histogram(metric.name).build();
    let calls: Vec<(f64, Vec<KeyValue>)> = records
        .iter()
        .map(|record| {
            let dimensions = metric.dimensions.iter().filter_map(|name| {
                let value = record.attributes.get(name)?;
                Some(match value {
                    Value::Int(int) => KeyValue::new(*name, *int),
                    other => KeyValue::new(*name, other.as_str().unwrap_or_default().to_owned()),
                })
            });
            (metric.duration(record.duration_ns()), dimensions.collect())
        })
        .collect();
    let each = |_| {
        let begun = Instant::now();
        for _ in 0..10 {
            calls.iter().for_each(|(value, attributes)| histogram.record(*value, black_box(attributes)));
        }
        begun.elapsed().as_nanos() as f64 / (10 * calls.len()) as f64
    };
    sorted((0..=runs).map(each).collect())[0]
}

fn with_routes(records: &[Record], routes: usize) -> Vec<Record> {
    let server = |record: &&Record| record.attributes.get(key::URL_SCHEME).is_some();
    let mut records: Vec<Record> = records.iter().filter(server).cloned().collect();
    let service = Arc::clone(&records[0].service);
    for (at, record) in records.iter_mut().enumerate() {
        record.service = Arc::clone(&service);
        record
            .attributes
            .set(key::HTTP_ROUTE, Value::Text(format!("/shop/{}/items/{{id}}", at % routes).into()));
    }
    records
}

/// Bytes of heap: of a series, and of all that services have in the tables.
fn memory(records: &[Record]) {
    println!("# Memory of metrics");
    println!("# services\taggregation\tseries\tbytes each\ttarget\tKiB in all\tms to collect and encode");
    const ROUTES: usize = 20;
    for services in [50, 500] {
        let records = with_routes(records, ROUTES);
        for aggregation in [Aggregation::Explicit, Aggregation::Exponential] {
            let all: Vec<Arc<Service>> = (0..services)
                .map(|id| {
                    let attributes = records[0].service.attributes.clone();
                    Arc::new(Service { id, name: format!("service-{id}").into(), attributes })
                })
                .collect();
            let before = taken().live;
            let settings = MetricSettings { aggregation, ..MetricSettings::default() };
            let mut metrics = Aggregator::new(settings);
            // Each series sees durations over one decade, in four buckets or five.
            for (at, record) in records.iter().take(ROUTES * 50).enumerate() {
                for service in &all {
                    let mut record = record.clone();
                    record.service = Arc::clone(service);
                    record.end.0 = record.start.0 + 3_000_000 * 10_u64.pow(at as u32 / 50 % 2);
                    metrics.record(&record);
                }
            }
            let live = taken().live - before;
            let (begun, mut points) = (Instant::now(), 0);
            let snapshot = metrics.collect(UnixNanos(1), UnixNanos(0));
            Batcher::new(Signal::Metrics).push_snapshot(&snapshot, BATCH_BYTES, |batch| {
                points += black_box(batch).items;
            });
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            assert_eq!(points as usize, metrics.len());
            println!(
                "{services}\t{aggregation:?}\t{}\t{:.0}\t1024\t{:.0}\t{ms:.1}",
                metrics.len(),
                live as f64 / metrics.len() as f64,
                live as f64 / 1024.0,
            );
        }
    }
    println!("#- heap of the table with its dimensions and exemplars, as asked for from the allocator");
}
