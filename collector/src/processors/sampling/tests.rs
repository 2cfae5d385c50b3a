//! What is kept of which spans, and what is said of it: decisions, rules, errors, the slowest, and the ceiling.

use std::collections::{BTreeMap, HashSet};

use config::{
    AttributePatterns, AttributeValues, Composable, ParentBased, RuleSpanKind, Sampler, SamplerRule,
};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};
use spantap_protocols::{Role, Value, semconv::key};

use super::*;
use crate::telemetry::{
    Aggregator, IdGenerator, MetricSettings, UnixNanos,
    id::Random,
    span::tests::{record, service},
};

/// What a caller says, if there is one.
#[derive(Clone, Copy, Debug)]
enum Caller {
    None,
    Open,
    Yes,
    No,
}

const LOW: u128 = 0x20_0000_0000_0000;
const HIGH: u128 = 0xe0_0000_0000_0000;

/// A span in the trace with this id: its last 56 bits are what is sampled by.
fn span(role: Role, status: i64, trace: u128, caller: Caller, state: &str) -> Record {
    let mut record = record(role, status);
    record.trace.trace_id = TraceId::from_bytes((1 << 120 | trace).to_be_bytes());
    record.trace.state = state.into();
    record.trace.caller_samples = match caller {
        Caller::None | Caller::Open => None,
        Caller::Yes => Some(true),
        Caller::No => Some(false),
    };
    if !matches!(caller, Caller::None) {
        record.trace.parent = Some(SpanId::from_bytes([5; 8]));
        record.trace.flags = TraceFlags::new(u8::from(matches!(caller, Caller::Yes)));
    }
    record
}

fn sampling(sampler: Sampler) -> Sampling {
    Sampling::new(&sampler, &config::Sampling::default())
}

fn parent_based(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(ParentBased { root, ..ParentBased::default() }))
}

/// The `tracestate` of the span if it is kept; why not, if not.
fn fate(sampling: &mut Sampling, mut record: Record) -> Result<String, LeftOut> {
    let before = sampling.counts();
    assert_eq!(sampling.decide(&mut record), Fate::Decided);
    let after = sampling.counts();
    assert_eq!(record.trace.flags.is_sampled(), record.is_span);
    let reasons = LeftOut::ALL.map(|reason| after.left_out(reason) - before.left_out(reason));
    assert_eq!(reasons.iter().sum::<u64>(), u64::from(!record.is_span));
    match reasons.iter().position(|n| *n == 1) {
        Some(at) => Err(LeftOut::ALL[at]),
        None => Ok(record.trace.state.to_string()),
    }
}

fn kept(state: &str) -> Result<String, LeftOut> {
    Ok(state.to_owned())
}

#[test]
fn samplers_decide_as_the_specification_says() {
    let half = || Sampler::Probability(0.5);
    let threshold = |root| Sampler::Composite(Composable::ParentThreshold(Box::new(root)));
    let sampled = |sampler| {
        Sampler::ParentBased(Box::new(ParentBased { remote_parent_sampled: sampler, ..Default::default() }))
    };
    let not_sampled = |sampler| {
        Sampler::ParentBased(Box::new(ParentBased {
            remote_parent_not_sampled: sampler,
            ..Default::default()
        }))
    };
    let by_hand = "ot=rv:f0000000000000";
    for (sampler, trace, caller, state, expected) in [
        // By default, as the caller says.
        (Sampler::default(), LOW, Caller::None, "", kept("")),
        (Sampler::default(), LOW, Caller::Open, "", kept("")),
        (Sampler::default(), LOW, Caller::Yes, "a=1", kept("a=1")),
        (Sampler::default(), LOW, Caller::No, "a=1", Err(LeftOut::Caller)),
        // The caller's threshold goes on unless it contradicts the decision.
        (Sampler::default(), HIGH, Caller::Yes, "a=1,ot=th:8", kept("a=1,ot=th:8")),
        (Sampler::default(), LOW, Caller::Yes, "a=1,ot=th:8", kept("a=1")),
        (
            Sampler::default(),
            LOW,
            Caller::Yes,
            "ot=th:8;rv:80000000000000",
            kept("ot=th:8;rv:80000000000000"),
        ),
        (Sampler::AlwaysOn, LOW, Caller::No, "", kept("")),
        (Sampler::AlwaysOn, HIGH, Caller::Yes, "ot=th:8", kept("ot=th:0")),
        (Sampler::AlwaysOff, HIGH, Caller::Yes, "", Err(LeftOut::Off)),
        // A ratio asks nobody, and everybody who asks the same way decides the same.
        (half(), HIGH, Caller::None, "", kept("ot=th:8")),
        (half(), LOW, Caller::None, "", Err(LeftOut::Ratio)),
        (half(), HIGH, Caller::No, "a=1", kept("ot=th:8,a=1")),
        (half(), HIGH, Caller::Yes, "ot=th:4", kept("ot=th:8")),
        (half(), LOW, Caller::Yes, "", Err(LeftOut::Ratio)),
        (half(), LOW, Caller::None, by_hand, kept("ot=th:8;rv:f0000000000000")),
        (Sampler::Probability(1.0), LOW, Caller::None, "", kept("")),
        (Sampler::Probability(0.0), HIGH, Caller::None, "", Err(LeftOut::Ratio)),
        // Only traces that begin here, or whose caller has left it open.
        (parent_based(half()), HIGH, Caller::None, "", kept("ot=th:8")),
        (parent_based(half()), LOW, Caller::None, "", Err(LeftOut::Ratio)),
        (parent_based(half()), LOW, Caller::Open, "", Err(LeftOut::Ratio)),
        (parent_based(half()), HIGH, Caller::Open, "", kept("ot=th:8")),
        (parent_based(half()), LOW, Caller::Yes, "", kept("")),
        (parent_based(half()), HIGH, Caller::No, "", Err(LeftOut::Caller)),
        (parent_based(Sampler::AlwaysOff), HIGH, Caller::None, "", Err(LeftOut::Off)),
        (parent_based(Sampler::AlwaysOff), LOW, Caller::Yes, "", kept("")),
        // Half of what others have chosen with a probability that they say, or do not say.
        (sampled(half()), HIGH, Caller::Yes, "ot=th:c", kept("ot=th:c")),
        (sampled(half()), HIGH, Caller::Yes, "ot=th:4", kept("ot=th:8")),
        (sampled(half()), HIGH, Caller::Yes, "", kept("")),
        (sampled(half()), LOW, Caller::Yes, "", Err(LeftOut::Ratio)),
        (not_sampled(half()), HIGH, Caller::No, "ot=th:f", kept("")),
        (not_sampled(half()), LOW, Caller::No, "", Err(LeftOut::Ratio)),
        (not_sampled(Sampler::Probability(1.0)), LOW, Caller::No, "", kept("")),
        (threshold(Composable::Probability(0.5)), HIGH, Caller::None, "", kept("ot=th:8")),
        (threshold(Composable::Probability(0.5)), LOW, Caller::None, "", Err(LeftOut::Ratio)),
        (threshold(Composable::Probability(0.5)), LOW, Caller::Yes, "ot=th:1", kept("ot=th:1")),
        (threshold(Composable::AlwaysOn), HIGH, Caller::No, "", Err(LeftOut::Caller)),
        (threshold(Composable::AlwaysOff), HIGH, Caller::None, "", Err(LeftOut::Off)),
    ] {
        let record = span(Role::Server, 200, trace, caller, state);
        let what = format!("{sampler:?} of {trace:x}, {caller:?} `{state}`");
        assert_eq!(fate(&mut sampling(sampler), record), expected, "{what}");
    }
}

#[test]
fn two_ratios_choose_the_same_traces() {
    let mut ids = IdGenerator::seeded(3);
    let (mut tenth, mut half) = (sampling(Sampler::Probability(0.1)), sampling(Sampler::Probability(0.5)));
    let mut counts = [0; 2];
    for _ in 0..20_000 {
        let mut record = span(Role::Server, 200, 0, Caller::None, "");
        record.trace.trace_id = ids.trace_id();
        let in_tenth = fate(&mut tenth, record.clone()).is_ok();
        let in_half = fate(&mut half, record).is_ok();
        assert!(in_half || !in_tenth);
        counts[0] += i32::from(in_tenth);
        counts[1] += i32::from(in_half);
    }
    assert!((1_850..2_150).contains(&counts[0]) && (9_700..10_300).contains(&counts[1]), "{counts:?}");
}

#[test]
fn rules_of_the_standard_sampler_look_at_the_span() {
    let rule = |sampler| SamplerRule {
        attribute_values: None,
        attribute_patterns: None,
        span_kinds: vec![],
        parent: vec![],
        sampler,
    };
    let values = |key: &str, value: &str| {
        Some(AttributeValues { key: key.to_owned(), values: vec!["x".to_owned(), value.to_owned()] })
    };
    let is_status = SamplerRule {
        attribute_values: values(key::HTTP_RESPONSE_STATUS_CODE, "404"),
        ..rule(Composable::AlwaysOn)
    };
    let of_client = SamplerRule {
        span_kinds: vec![RuleSpanKind::Client, RuleSpanKind::Producer],
        parent: vec![config::SpanParent::Remote],
        ..rule(Composable::Probability(0.5))
    };
    let is_list = SamplerRule { attribute_values: values("list", "b"), ..rule(Composable::AlwaysOn) };
    let rules = Sampler::Composite(Composable::RuleBased(vec![is_status, of_client, is_list]));
    for (role, status, trace, caller, expected) in [
        (Role::Server, 404, LOW, Caller::None, kept("ot=th:0")),
        (Role::Server, 200, HIGH, Caller::None, Err(LeftOut::Off)),
        (Role::Client, 200, HIGH, Caller::None, Err(LeftOut::Off)),
        (Role::Client, 200, HIGH, Caller::Yes, kept("ot=th:8")),
        (Role::Client, 200, LOW, Caller::Yes, Err(LeftOut::Ratio)),
    ] {
        let found = fate(&mut sampling(rules.clone()), span(role, status, trace, caller, ""));
        assert_eq!(found, expected, "{role:?} {status} {trace:x} {caller:?}");
    }
    let mut record = span(Role::Server, 200, LOW, Caller::None, "");
    record.attributes.push("list", Value::Texts(vec!["a".into(), "b".into()]));
    assert_eq!(fate(&mut sampling(rules), record), kept("ot=th:0"));
}

#[test]
fn patterns_of_the_standard_sampler_include_and_exclude() {
    let config = "file_format: \"1.1\"\ntracer_provider: {processors: [{batch: {exporter: {console: }}}], sampler: \
                  {composite/development: {rule_based: {rules: [{attribute_patterns: {key: url.path, included: \
                  [\"/a*\", \"/b?\"], excluded: [\"*/x\"]}, sampler: {always_on: }}]}}}}";
    let context = config::LoadContext { env: &|_| None, protocol_names: &[] };
    let config = config::parse(config.as_bytes(), std::path::Path::new("f"), &context).unwrap();
    let Sampler::Composite(Composable::RuleBased(rules)) = &config.tracer_provider.sampler else { panic!() };
    let Some(AttributePatterns { included, .. }) = &rules[0].attribute_patterns else { panic!() };
    assert_eq!(included.len(), 2);
    for (path, expected) in [("/a/b", true), ("/a/x", false), ("/bc", true), ("/bcd", false), ("/c", false)] {
        let mut record = span(Role::Server, 200, LOW, Caller::None, "");
        record.attributes.set(key::URL_PATH, Value::Text(path.into()));
        let found = fate(&mut sampling(config.tracer_provider.sampler.clone()), record);
        assert_eq!(found.is_ok(), expected, "{path}: {found:?}");
    }
}

/// The settings of `distribution.spantap.sampling`, as written.
fn ours(yaml: &str) -> config::Sampling {
    let text = format!("file_format: \"1.1\"\ndistribution: {{spantap: {{sampling: {yaml}}}}}");
    let context = config::LoadContext { env: &|_| None, protocol_names: &[] };
    config::parse(text.as_bytes(), std::path::Path::new("f"), &context).unwrap().spantap.sampling
}

#[test]
fn the_first_rule_that_fits_the_service_and_the_name_decides() {
    let settings = ours(
        "{keep_errors: like_others, rules: [{service: shop, span_name: \"GET /health*\", sampler: {always_off: }}, \
         {service: \"sh?p*\", sampler: {trace_id_ratio_based: {ratio: 0.5}}}, \
         {span_name: \"PING\", sampler: {always_off: }}]}",
    );
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &settings);
    for (id, name, target, trace, expected) in [
        (1, "shop", "/health/ready", HIGH, Err(LeftOut::Off)),
        (1, "shop", "/cart", HIGH, kept("ot=th:8")),
        (1, "shop", "/cart", LOW, Err(LeftOut::Ratio)),
        (2, "shop-2", "/health/ready", HIGH, kept("ot=th:8")),
        (3, "cart", "/health", LOW, kept("ot=th:0")),
        (1, "shop", "/cart", LOW, Err(LeftOut::Ratio)),
    ] {
        let mut record = span(Role::Server, 200, trace, Caller::None, "");
        record.service = service(id, name);
        record.target = Some(target.into());
        assert_eq!(fate(&mut sampling, record), expected, "{name} {target}");
    }
    let mut ping = span(Role::Client, 200, HIGH, Caller::None, "");
    ping.service = service(3, "cart");
    ping.operation = "PING".into();
    assert_eq!(fate(&mut sampling, ping), Err(LeftOut::Off));
}

#[test]
fn errors_are_kept_as_far_as_it_is_said() {
    let none = || Sampler::Probability(0.0);
    for (keep, sampler, caller, state, expected) in [
        ("over_ratio", none(), Caller::None, "", kept("ot=th:0")),
        ("over_ratio", parent_based(none()), Caller::None, "", kept("ot=th:0")),
        ("over_ratio", parent_based(none()), Caller::No, "", Err(LeftOut::Caller)),
        ("over_ratio", parent_based(none()), Caller::Yes, "a=1,ot=th:1", kept("a=1,ot=th:1")),
        ("over_ratio", Sampler::AlwaysOff, Caller::None, "", Err(LeftOut::Off)),
        ("like_others", none(), Caller::None, "", Err(LeftOut::Ratio)),
        ("always", none(), Caller::None, "", kept("ot=th:0")),
        ("always", Sampler::default(), Caller::No, "ot=th:f", kept("ot=th:0")),
        ("always", Sampler::AlwaysOff, Caller::None, "", kept("")),
    ] {
        let settings = ours(&format!("{{keep_errors: {keep}}}"));
        let mut sampling = Sampling::new(&sampler, &settings);
        let what = format!("{keep}, {sampler:?}, {caller:?}");
        assert_eq!(fate(&mut sampling, span(Role::Server, 500, LOW, caller, state)), expected, "{what}");
        let is_spared = expected.is_ok() && !matches!(caller, Caller::Yes);
        assert_eq!(sampling.counts().errors, u64::from(is_spared), "{what}");
        // That it might have been kept anyway makes no difference to what is said: the probability is the same.
        assert_eq!(fate(&mut sampling, span(Role::Server, 500, HIGH, caller, state)), expected, "{what}");
    }
}

#[test]
fn the_slowest_are_kept_and_counted() {
    for (keep, expected) in [("over_ratio", 2), ("like_others", 0)] {
        let settings = ours(&format!("{{keep_slowest: {keep}, slowest: 0.01}}"));
        let mut sampling = Sampling::new(&Sampler::Probability(0.0), &settings);
        let mut kept_durations = Vec::new();
        for n in 0..1000_u64 {
            let mut record = span(Role::Server, 200, LOW, Caller::None, "");
            // Two of a thousand.
            let duration = if n % 400 == 399 { 900_000_000 } else { 10_000_000 + n * 100 };
            record.end = UnixNanos(record.start.0 + duration);
            if fate(&mut sampling, record).is_ok() {
                kept_durations.push(duration);
            }
        }
        assert_eq!(kept_durations, vec![900_000_000; expected]);
        assert_eq!(sampling.counts().slowest, expected as u64);
        assert_eq!(sampling.counts().left_out(LeftOut::Ratio), 1000 - expected as u64);
    }
    assert!(sampling(Sampler::default()).slowest.is_none(), "where nothing is by chance, nobody looks");
}

/// A second of spans: each as (service, is an error, trace), with what became of it.
struct Second {
    offered: Vec<Record>,
    kept: Vec<Record>,
    left_out: Vec<Record>,
}

/// Offers `records` in second `second`, and returns what is known when it is over.
fn second(sampling: &mut Sampling, second: u64, records: Vec<Record>) -> Second {
    assert_eq!(sampling.turn(BootNanos(second * 1_000_000_000)).len(), 0, "begins empty");
    let mut left_out = Vec::new();
    for mut record in records.clone() {
        match sampling.decide(&mut record) {
            Fate::Decided => left_out.push(record),
            Fate::Waits(waiting) => left_out.extend(sampling.hold(waiting, record)),
        }
    }
    assert_eq!(sampling.turn(BootNanos(second * 1_000_000_000 + 999_999_999)).len(), 0, "not over yet");
    let kept = sampling.turn(BootNanos((second + 1) * 1_000_000_000));
    assert!(kept.iter().all(|record| record.is_span && record.trace.flags.is_sampled()));
    assert!(left_out.iter().all(|record| !record.is_span && !record.trace.flags.is_sampled()));
    Second { offered: records, kept, left_out }
}

fn random_spans(count: usize, seed: u64) -> Vec<Record> {
    let mut ids = IdGenerator::seeded(seed);
    let mut spans = Vec::new();
    for n in 0..count {
        let mut record = span(Role::Server, 200, 0, Caller::None, "");
        (record.trace.trace_id, record.trace.span_id) = (ids.trace_id(), ids.span_id());
        record.service = service(n as u32 % 4, ["a", "b", "c", "d"][n % 4]);
        spans.push(record);
    }
    spans
}

fn randomness(record: &Record) -> Randomness {
    Randomness::of(record.trace.trace_id)
}

#[test]
fn below_the_ceiling_everything_is_kept() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 100}"));
    for at in 0..3 {
        let Second { kept, left_out, .. } = second(&mut sampling, at, random_spans(100, at));
        assert_eq!((kept.len(), left_out.len()), (100, 0));
        assert!(kept.iter().all(|record| record.trace.state == "ot=th:0"));
    }
    assert_eq!(sampling.counts().left_out(LeftOut::Ceiling), 0);
}

/// Ten times too many: exactly the ceiling is kept, of the traces with the most randomness, of each service and of every
/// part of the second the same share; and what is kept says how much it stands for.
#[test]
fn above_the_ceiling_spans_go_evenly_and_say_so() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 1000}"));
    for at in 0..5 {
        let Second { offered, kept, left_out } = second(&mut sampling, at, random_spans(10_000, 100 + at));
        assert_eq!((kept.len(), left_out.len()), (1000, 9000));
        let mut sorted: Vec<_> = offered.iter().map(randomness).collect();
        sorted.sort_unstable();
        let threshold = Threshold::above(sorted[8999]);
        let chosen: HashSet<_> = kept.iter().map(|record| record.trace.trace_id).collect();
        assert_eq!(chosen.len(), 1000);
        assert!(kept.iter().all(|record| threshold.keeps(randomness(record))));
        let state = format!("ot=th:{}", threshold.text());
        assert!(kept.iter().all(|record| record.trace.state == state), "all the same: {state}");
        // 100 of each tenth of the second, 250 of each service, give or take four standard deviations.
        for tenth in 0..10 {
            let part = &offered[tenth * 1000..(tenth + 1) * 1000];
            let kept = part.iter().filter(|record| chosen.contains(&record.trace.trace_id)).count();
            assert!((62..=138).contains(&kept), "{kept} of tenth {tenth}");
        }
        let mut services = BTreeMap::new();
        for record in &kept {
            *services.entry(record.service.name.clone()).or_insert(0) += 1;
        }
        assert!(services.len() == 4 && services.values().all(|n| (195..=305).contains(n)), "{services:?}");
        // What a backend counts by the threshold is what there was.
        let adjusted: f64 = kept.iter().map(|record| adjusted_count(&record.trace.state)).sum();
        assert!((9_000.0..11_000.0).contains(&adjusted), "{adjusted}");
    }
    assert_eq!(sampling.counts().left_out(LeftOut::Ceiling), 45_000);
}

/// How many spans one with this state stands for, by the specification's formula.
fn adjusted_count(state: &str) -> f64 {
    let digits = state.strip_prefix("ot=th:").expect("a threshold");
    let all = 2_f64.powi(56);
    let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).expect("digits") as f64;
    all / (all - threshold)
}

#[test]
fn a_trace_keeps_all_its_spans_or_none() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 100}"));
    let mut spans = random_spans(1000, 7);
    for at in 0..1000 {
        spans[at].trace.trace_id = spans[at / 5 * 5].trace.trace_id;
    }
    let Second { kept, .. } = second(&mut sampling, 0, spans);
    let mut traces: BTreeMap<_, usize> = BTreeMap::new();
    kept.iter().for_each(|record| *traces.entry(record.trace.trace_id.to_bytes()).or_default() += 1);
    assert_eq!((kept.len(), traces.len()), (100, 20));
    assert!(traces.values().all(|spans| *spans == 5), "{traces:?}");
    // One that is cut says nothing of a probability; all others do.
    let mut spans = random_spans(1000, 8);
    for at in 0..1000 {
        spans[at].trace.trace_id = spans[at / 8 * 8].trace.trace_id;
    }
    let Second { kept, .. } = second(&mut sampling, 10, spans);
    let cut: Vec<_> = kept.iter().filter(|record| record.trace.state.is_empty()).collect();
    assert_eq!((kept.len(), cut.len()), (100, 4), "12 whole traces of 8, and half of the next");
    assert!(cut.iter().all(|record| record.trace.trace_id == cut[0].trace.trace_id));
}

#[test]
fn one_trace_for_everything_does_not_break_the_ceiling() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 10}"));
    let mut spans = random_spans(1000, 9);
    spans.iter_mut().for_each(|record| record.trace.trace_id = TraceId::from_bytes([9; 16]));
    let Second { kept, left_out, .. } = second(&mut sampling, 0, spans);
    assert_eq!((kept.len(), left_out.len()), (10, 990));
    assert!(kept.iter().all(|record| record.trace.state.is_empty()));
}

#[test]
fn errors_go_last_and_evenly_too() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 100}"));
    let with_errors = |every: usize, seed| {
        let mut spans = random_spans(1000, seed);
        for record in spans.iter_mut().step_by(every) {
            record.outcome = Outcome::Error("500".into());
        }
        spans
    };
    let is_error = |record: &&Record| matches!(record.outcome, Outcome::Error(_));
    let Second { kept, .. } = second(&mut sampling, 0, with_errors(20, 1));
    assert_eq!((kept.len(), kept.iter().filter(is_error).count()), (100, 50), "all 50 of them");
    for record in &kept {
        assert_eq!(record.trace.state == "ot=th:0", is_error(&record), "{}", record.trace.state);
    }
    let Second { kept, offered, .. } = second(&mut sampling, 10, with_errors(2, 2));
    assert_eq!((kept.len(), kept.iter().filter(is_error).count()), (100, 100), "500 of them");
    let mut sorted: Vec<_> = offered.iter().filter(is_error).map(randomness).collect();
    sorted.sort_unstable();
    let state = format!("ot=th:{}", Threshold::above(sorted[399]).text());
    assert!(kept.iter().all(|record| record.trace.state == state), "{state}");
    let mut like_others =
        Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 100, keep_errors: like_others}"));
    let Second { kept, .. } = second(&mut like_others, 0, with_errors(20, 1));
    assert!(kept.iter().filter(is_error).count() < 20);
}

#[test]
fn a_ratio_below_the_ceiling_keeps_its_threshold() {
    let mut sampling = Sampling::new(
        &parent_based(Sampler::Probability(0.5)),
        &ours("{spans_per_second: 1000, keep_slowest: like_others}"),
    );
    let mut spans = random_spans(1000, 4);
    for record in spans.iter_mut().step_by(2) {
        record.trace.caller_samples = Some(true);
    }
    let Second { kept, left_out, .. } = second(&mut sampling, 0, spans);
    assert_eq!(kept.len() + left_out.len(), 1000);
    for record in kept {
        let expected = if record.trace.caller_samples.is_some() { "" } else { "ot=th:8" };
        assert_eq!(record.trace.state, expected, "what the caller did is not known, and stays so");
    }
    // Above it both are thinned out by the same threshold: 500 sampled by the caller, 250 by the ratio.
    let mut spans = random_spans(10_000, 5);
    for record in spans.iter_mut().step_by(2) {
        record.trace.caller_samples = Some(true);
    }
    let Second { kept, .. } = second(&mut sampling, 10, spans);
    let own: Vec<_> = kept.iter().filter(|record| record.trace.caller_samples.is_none()).collect();
    assert!(kept.len() == 1000 && (400..600).contains(&own.len()), "{}", own.len());
    assert!(own.iter().all(|record| record.trace.state == own[0].trace.state));
    assert!(adjusted_count(&own[0].trace.state) > 9.0);
}

#[test]
fn who_stops_gets_what_waits() {
    let mut sampling = Sampling::new(&Sampler::AlwaysOn, &ours("{spans_per_second: 10}"));
    let mut left_out = 0;
    for mut record in random_spans(100, 1) {
        let Fate::Waits(waiting) = sampling.decide(&mut record) else { panic!("no ceiling") };
        left_out += usize::from(sampling.hold(waiting, record).is_some());
    }
    assert_eq!((left_out, sampling.release().len(), sampling.release().len()), (90, 10, 0));
}

/// Whatever sampling does: spans that are kept and spans that are left out are together what metrics have counted, and
/// exemplars name only spans that are exported.
#[test]
fn metrics_are_exact_and_exemplars_exist() {
    let half = || Sampler::Probability(0.5);
    for (sampler, settings) in [
        (Sampler::default(), "{}"),
        (Sampler::AlwaysOff, "{}"),
        (half(), "{}"),
        (parent_based(Sampler::Probability(0.01)), "{keep_errors: always}"),
        (half(), "{spans_per_second: 50}"),
        (Sampler::default(), "{spans_per_second: 7, rules: [{service: a, sampler: {always_off: }}]}"),
    ] {
        let mut sampling = Sampling::new(&sampler, &ours(settings));
        let mut metrics = Aggregator::new(MetricSettings::default());
        let mut random = Random::seeded(11);
        let (mut exported, mut spans) = (HashSet::new(), 0_u64);
        let mut give = |record: &Record| {
            if record.is_span {
                exported.insert(record.trace.span_id.to_bytes());
                spans += 1;
            }
            metrics.record(record);
        };
        for (n, mut record) in random_spans(5000, 6).into_iter().enumerate() {
            if n % 500 == 499 {
                sampling.turn(BootNanos(n as u64 / 500 * 1_000_000_000)).iter().for_each(&mut give);
            }
            record.end = UnixNanos(record.start.0 + random.up_to(10_000_000_000));
            record.kind = if random.up_to(1) == 0 { SpanKind::Server } else { SpanKind::Client };
            record.trace.caller_samples = [None, Some(true), Some(false)][random.up_to(2) as usize];
            if random.up_to(9) == 0 {
                record.outcome = Outcome::Error("500".into());
            }
            match sampling.decide(&mut record) {
                Fate::Decided => give(&record),
                Fate::Waits(waiting) => sampling.hold(waiting, record).iter().for_each(&mut give),
            }
        }
        sampling.release().iter().for_each(&mut give);
        let left_out: u64 = LeftOut::ALL.iter().map(|reason| sampling.counts().left_out(*reason)).sum();
        let snapshot = metrics.collect(UnixNanos(2_000_000_000_000_000_000), UnixNanos(0));
        let points = snapshot.services.iter().flat_map(|s| &s.metrics).flat_map(|m| &m.points);
        let histograms: Vec<_> = points.map(|point| &point.histogram).collect();
        let counted: u64 = histograms.iter().map(|histogram| histogram.count).sum();
        assert_eq!((counted, spans + left_out), (5000, 5000), "{sampler:?} {settings}");
        let exemplars: Vec<_> = histograms.iter().flat_map(|h| h.exemplars.iter()).collect();
        assert!(exemplars.iter().all(|one| exported.contains(&one.span_id.to_bytes())), "{settings}");
        assert_eq!(exemplars.is_empty(), sampler == Sampler::AlwaysOff, "{settings}");
    }
}
