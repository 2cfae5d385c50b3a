//! The same values through our aggregation and the SDK's: every number of every point is the same.

use std::{collections::BTreeMap, time::Duration};

use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{
    self as sdk, InMemoryMetricExporter, InMemoryMetricExporterBuilder, PeriodicReader, SdkMeterProvider,
    Stream,
    data::{AggregatedMetrics, MetricData},
};
use proptest::prelude::*;
use spantap_protocols::{Attributes, Role, Value, semconv::HTTP_SERVER_REQUEST_DURATION, semconv::key};

use super::*;
use crate::telemetry::{
    MetricsSnapshot, UnixNanos,
    histogram::{Buckets, MAX_SCALE, MAX_SIZE},
    span::tests::record,
};

/// Routes and statuses of a record, and its duration in nanoseconds.
type Call = (u8, u16, u64);

/// A point as both sides tell of it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    count: u64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    bounds: Vec<f64>,
    counts: Vec<u64>,
    /// Scale, offset and zeros of an exponential one.
    exponential: Option<(i32, i32, u64)>,
}

type Points = BTreeMap<Vec<(String, String)>, Told>;

/// Two collections of the same calls by the SDK.
fn by_sdk(
    batches: &[Vec<Call>],
    aggregation: Aggregation,
    temporality: Temporality,
    limit: u32,
) -> Vec<Points> {
    let temporality = match temporality {
        Temporality::Cumulative => sdk::Temporality::Cumulative,
        Temporality::Delta => sdk::Temporality::Delta,
    };
    let exporter = InMemoryMetricExporterBuilder::new().with_temporality(temporality).build();
    let reader = PeriodicReader::builder(exporter.clone()).with_interval(Duration::from_secs(3600)).build();
    let view = move |_: &sdk::Instrument| {
        let aggregation = match aggregation {
            Aggregation::Explicit => sdk::Aggregation::ExplicitBucketHistogram {
                boundaries: HTTP_SERVER_REQUEST_DURATION.bounds.to_vec(),
                record_min_max: true,
            },
            Aggregation::Exponential => sdk::Aggregation::Base2ExponentialHistogram {
                max_size: MAX_SIZE,
                max_scale: MAX_SCALE as i8,
                record_min_max: true,
            },
        };
        let stream = Stream::builder().with_aggregation(aggregation).with_cardinality_limit(limit as usize);
        Some(stream.build().expect("a valid stream"))
    };
    let provider = SdkMeterProvider::builder().with_reader(reader).with_view(view).build();
    let histogram = provider.meter("spantap").f64_histogram(HTTP_SERVER_REQUEST_DURATION.name).build();
    let mut collections = Vec::new();
    for batch in batches {
        for (route, status, ns) in batch {
            let attributes = [
                KeyValue::new(key::HTTP_ROUTE, format!("/{route}")),
                KeyValue::new(key::HTTP_RESPONSE_STATUS_CODE, i64::from(*status)),
            ];
            histogram.record(HTTP_SERVER_REQUEST_DURATION.duration(*ns), &attributes);
        }
        provider.force_flush().expect("nothing blocks it");
        collections.push(finished(&exporter));
        exporter.reset();
    }
    provider.shutdown().expect("it was running");
    collections
}

fn finished(exporter: &InMemoryMetricExporter) -> Points {
    let mut points = Points::new();
    for resource in exporter.get_finished_metrics().expect("it is there") {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            let AggregatedMetrics::F64(data) = metric.data() else { panic!("{metric:?}") };
            let attributes = |pairs: &mut dyn Iterator<Item = &KeyValue>| {
                let mut pairs: Vec<_> = pairs.map(|kv| (kv.key.to_string(), kv.value.to_string())).collect();
                pairs.sort();
                pairs
            };
            match data {
                MetricData::Histogram(histogram) => points.extend(histogram.data_points().map(|point| {
                    let told = Told {
                        count: point.count(),
                        sum: point.sum(),
                        min: point.min(),
                        max: point.max(),
                        bounds: point.bounds().collect(),
                        counts: point.bucket_counts().collect(),
                        exponential: None,
                    };
                    (attributes(&mut point.attributes()), told)
                })),
                MetricData::ExponentialHistogram(histogram) => {
                    points.extend(histogram.data_points().map(|point| {
                        assert_eq!(point.negative_bucket().counts().count(), 0);
                        let positive = point.positive_bucket();
                        let told = Told {
                            count: point.count() as u64,
                            sum: point.sum(),
                            min: point.min(),
                            max: point.max(),
                            bounds: Vec::new(),
                            counts: positive.counts().collect(),
                            exponential: Some((
                                i32::from(point.scale()),
                                positive.offset(),
                                point.zero_count(),
                            )),
                        };
                        (attributes(&mut point.attributes()), told)
                    }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    points
}

fn by_us(
    batches: &[Vec<Call>],
    aggregation: Aggregation,
    temporality: Temporality,
    limit: u32,
) -> Vec<Points> {
    let settings = MetricSettings {
        temporality,
        aggregation,
        series_max_per_service: limit,
        ..MetricSettings::default()
    };
    let mut metrics = Aggregator::new(settings);
    let mut collections = Vec::new();
    for batch in batches {
        for (route, status, ns) in batch {
            let mut record = record(Role::Server, 200);
            record.attributes = Attributes::new();
            record.attributes.push(key::HTTP_ROUTE, Value::Text(format!("/{route}").into()));
            record.attributes.push(key::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(*status)));
            record.end = UnixNanos(record.start.0 + ns);
            metrics.record(&record);
        }
        collections.push(told(&metrics.collect(UnixNanos(0), UnixNanos(0))));
    }
    collections
}

fn told(snapshot: &MetricsSnapshot) -> Points {
    let metrics = snapshot.services.iter().flat_map(|service| &service.metrics);
    let points = metrics.flat_map(|metric| &metric.points).map(|point| {
        let histogram = &point.histogram;
        let mut attributes: Vec<_> = point
            .dimensions
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Int(int) => int.to_string(),
                    Value::Bool(bool) => bool.to_string(),
                    other => other.as_str().expect("a text").to_owned(),
                };
                (name.to_owned(), value)
            })
            .collect();
        attributes.sort();
        let (counts, exponential, bounds) = match &histogram.buckets {
            Buckets::Explicit(counts) => (counts.to_vec(), None, HTTP_SERVER_REQUEST_DURATION.bounds),
            Buckets::Exponential(e) => {
                (e.counts().collect(), Some((e.scale(), e.offset(), e.zero())), &[][..])
            }
        };
        let told = Told {
            count: histogram.count,
            sum: histogram.sum,
            min: Some(histogram.min),
            max: Some(histogram.max),
            bounds: bounds.to_vec(),
            counts,
            exponential,
        };
        (attributes, told)
    });
    points.collect()
}

/// Values next to the bound of a bucket may fall on either side of it: the SDK takes another logarithm. So each counter
/// is compared with its neighbours: up to every bucket both have counted the same, but for those at its very bound.
fn assert_alike(ours: &Points, theirs: &Points, values: &[u64]) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (attributes, our) in ours {
        let their = &theirs[attributes];
        let ([mut plain, mut other], mut counts) = ([our.clone(), their.clone()], [0_i128; 2]);
        if let (Some(ours), Some(theirs)) = (our.exponential, their.exponential) {
            assert_eq!((ours.0, ours.2), (theirs.0, theirs.2), "scale and zeros of {attributes:?}");
            let base = 2f64.powf(2f64.powi(-ours.0));
            let first = ours.1.min(theirs.1);
            let last = (ours.1 + our.counts.len() as i32).max(theirs.1 + their.counts.len() as i32);
            for index in first..=last {
                let at = |told: &Told, offset: i32| {
                    let at = usize::try_from(index - offset).ok();
                    at.and_then(|at| told.counts.get(at)).copied().unwrap_or(0)
                };
                counts[0] += i128::from(at(our, ours.1));
                counts[1] += i128::from(at(their, theirs.1));
                let bound = base.powi(index + 1);
                let near = |ns: &&u64| ((**ns as f64 / 1e9) / bound - 1.0).abs() < 1e-9;
                let doubtful = values.iter().filter(near).count() as i128;
                assert!((counts[0] - counts[1]).abs() <= doubtful, "up to {index}: {our:?} {their:?}");
            }
            for told in [&mut plain, &mut other] {
                (told.exponential, told.counts) = (None, Vec::new());
            }
        }
        assert_eq!(plain, other, "{attributes:?}");
    }
}

fn compare(batches: &[Vec<Call>], limit: u32) {
    let values: Vec<u64> = batches.iter().flatten().map(|call| call.2).collect();
    for aggregation in [Aggregation::Explicit, Aggregation::Exponential] {
        for temporality in [Temporality::Cumulative, Temporality::Delta] {
            let ours = by_us(batches, aggregation, temporality, limit);
            let theirs = by_sdk(batches, aggregation, temporality, limit);
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_alike(ours, theirs, &values);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_number_is_the_sdks(
        batches in proptest::collection::vec(
            proptest::collection::vec((0..4_u8, prop_oneof![Just(200), Just(500)], prop_oneof![
                0..40_u64, 1_000..90_000_u64, 1_000_000..900_000_000_u64, 1_000_000_000..100_000_000_000_u64
            ]), 0..60),
            1..4,
        ),
        limit in prop_oneof![Just(3_u32), Just(2_000)],
    ) {
        compare(&batches, limit);
    }
}

#[test]
fn bounds_of_buckets_are_the_sdks() {
    // Each explicit bound, one nanosecond to each side, and powers of two of a second.
    let bounds = HTTP_SERVER_REQUEST_DURATION.bounds.iter().map(|bound| (bound * 1e9) as u64);
    let near = bounds.flat_map(|ns| [ns - 1, ns, ns + 1]);
    let powers = (0..7).map(|power| 1_000_000_000 << power).chain([500_000_000, 250_000_000, 125_000_000]);
    let calls: Vec<Call> = near.chain(powers).map(|ns| (0, 200, ns)).collect();
    compare(&[calls.clone(), calls], 2_000);
}
