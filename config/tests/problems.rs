//! What is said about files that are wrong: everything at once, each with its place, key and advice.

use std::path::Path;

use proptest::prelude::*;
use spantap_config::{
    AttributeValue, Composable, Config, Exporter, Keep, LoadContext, LogLevel, Problems, Sampler, SpanParent,
    StdoutFormat, load, parse,
};

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".to_owned()),
        "PORT" => Some("4318".to_owned()),
        _ => None,
    }
}

const CONTEXT: LoadContext<'_> = LoadContext { env: &env, protocol_names: &["http1", "http2", "redis"] };

fn check(yaml: &str) -> Result<Config, Problems> {
    parse(yaml.as_bytes(), Path::new("spantap.yaml"), &CONTEXT)
}

/// What is said about `yaml` below the mandatory first line.
fn said(yaml: &str) -> String {
    check(&format!("file_format: \"1.1\"\n{yaml}")).expect_err("the file is wrong").to_string()
}

fn ours(yaml: &str) -> String {
    let indented: String = yaml.lines().map(|line| format!("    {line}\n")).collect();
    format!("distribution:\n  spantap:\n{indented}")
}

#[test]
fn everything_is_said_at_once_in_the_order_of_the_file() {
    let yaml = "\
tracer_provider:
  processors:
    - batch:
        schedule_delay: 5s
        max_queue_size: 0
        exporter:
          otlp_grpc:
            endpont: http://localhost:4317
  sampler:
    always:
distribution:
  spantap:
    capture:
      backend: syscall
      bytes_per_call: 64KB
      ring_buffer: 3MiB
    protocols:
      http: {enabled: true}
    shutdown_timeout: 5
";
    let expected = "\
spantap.yaml:5:25: tracer_provider.processors[0].batch.schedule_delay: expected a whole number of milliseconds, found the text `5s`
  hint: this section counts in milliseconds: write 5000
spantap.yaml:6:25: tracer_provider.processors[0].batch.max_queue_size: the number `0` is out of range, expected a whole number from 1 to 1048576
spantap.yaml:9:13: tracer_provider.processors[0].batch.exporter.otlp_grpc.endpont: unknown key
  hint: did you mean `endpoint`?
spantap.yaml:11:5: tracer_provider.sampler.always: unknown key
  hint: did you mean `always_on`?
spantap.yaml:15:16: distribution.spantap.capture.backend: expected auto, sockets, fentry, kprobes or syscalls, found the text `syscall`
  hint: did you mean `syscalls`?
spantap.yaml:16:23: distribution.spantap.capture.bytes_per_call: expected a size in bytes, found the text `64KB`
  hint: did you mean `64KiB`?
spantap.yaml:17:20: distribution.spantap.capture.ring_buffer: 3MiB is not a power of two
  hint: try 4MiB
spantap.yaml:19:7: distribution.spantap.protocols.http: unknown key
  hint: did you mean `http1`?
spantap.yaml:20:23: distribution.spantap.shutdown_timeout: expected a duration like 500ms, 30s or 1m30s, found the number `5`
  hint: add the unit";
    assert_eq!(said(yaml), expected);
}

#[test]
fn each_mistake_has_its_message() {
    let batch =
        |exporter: &str| format!("tracer_provider: {{processors: [{{batch: {{exporter: {exporter}}}}}]}}");
    let sampler = |sampler: &str| {
        format!(
            "tracer_provider: {{processors: [{{batch: {{exporter: {{console: }}}}}}], sampler: {sampler}}}"
        )
    };
    let rule = |rule: &str| {
        sampler(&format!(
            "{{composite/development: {{rule_based: {{rules: [{{sampler: {{always_on: }}, {rule}}}]}}}}}}"
        ))
    };
    let deep = |levels| {
        let (begin, end) = ("{parent_based: {root: ".repeat(levels), "}}".repeat(levels));
        format!("{begin}{{always_on: }}{end}")
    };
    for (yaml, expected) in [
        ("tracer_provider: {}".to_owned(), "the key `processors` is missing"),
        ("tracer_provider: {processors: []}".to_owned(), "the key `batch` is missing"),
        ("tracer_provider: {processors: [{batch: {}}]}".to_owned(), "the key `exporter` is missing"),
        ("tracer_provider: {processors: [{simple: {}}]}".to_owned(), "simple: is not supported"),
        ("tracer_provider: {processors: batch}".to_owned(), "expected a list, found the text `batch`"),
        ("tracer_provider: [1]".to_owned(), "expected a mapping of keys, found a list of 1"),
        (batch("{}"), "the key `otlp_http` or `otlp_grpc`"),
        (batch("{console: , otlp_grpc: }"), "one key is allowed here, `otlp_grpc` and `console` are set"),
        (batch("{zipkin: }"), "zipkin: is not supported by spantap yet"),
        (batch("{otlp: }"), "unknown key"),
        (batch("{otlp_http: {endpoint: \"localhost:4318\"}}"), "must begin with http:// or https://"),
        (batch("{otlp_http: {encoding: json}}"), "the encoding json is not supported by spantap yet"),
        (batch("{otlp_http: {compression: zstd}}"), "expected gzip or none, found the text `zstd`"),
        (batch("{otlp_http: {tls: {insecure: true}}}"), "tls.insecure: unknown key"),
        (batch("{otlp_http: {tls: {ca_file: x}}}"), "no effect on an http:// endpoint"),
        (batch("{otlp_grpc: {endpoint: \"x:1\", tls: {cert_file: x}}}"), "only one is set"),
        (batch("{otlp_grpc: {headers: [{name: \"a b\", value: c}]}}"), "is not a valid header name"),
        (batch("{otlp_grpc: {headers: [{name: a, value: \"b\\nc\"}]}}"), "is not printable ASCII"),
        (batch("{otlp_grpc: {headers: [{name: a, value: 1}]}}"), "hint: put it in quotes"),
        (batch("{otlp_grpc: {headers: [{nmae: a}]}}"), "the key `name` is missing"),
        (batch("{otlp_grpc: {headers_list: secret}}"), "element 1 has no `=`"),
        (batch("{otlp_file/development: {output_stream: x.jsonl}}"), "must be stdout or file:///"),
        (batch("{console: {temporality_preference: delta}}"), "unknown key"),
        ("meter_provider: {readers: [{pull: {}}]}".to_owned(), "pull: the key `exporter` is missing"),
        ("meter_provider: {views: [], readers: [{periodic: {exporter: {console: }}}]}".to_owned(), "views: is not"),
        (
            "meter_provider: {readers: [{periodic: {exporter: {console: {temporality_preference: low_memory}}}}]}"
                .to_owned(),
            "low_memory is not supported by spantap yet",
        ),
        ("resource: {attributes: [{name: a, value: 1}]}".to_owned(), "expected text, found the number `1`"),
        ("resource: {attributes: [{name: a, value: x, type: int}]}".to_owned(), "a whole number of 64 bits"),
        ("resource: {attributes: [{name: a, value: [1, x], type: int_array}]}".to_owned(), "value[1]: expected"),
        ("resource: {attributes_list: a}".to_owned(), "element 1 has no `=`"),
        ("propagator: {composite: []}".to_owned(), "propagator: is not supported by spantap yet"),
        ("disabled: true".to_owned(), "switching the agent off here is not supported"),
        ("log_level: verbose".to_owned(), "expected trace, debug, info, warn, error or fatal"),
        ("tracerprovider: {}".to_owned(), "did you mean `tracer_provider`?"),
        ("distribution: {spantab: {}}".to_owned(), "did you mean `spantap`?"),
        (ours("capture: {bytes_per_call: 1MiB}"), "out of range, expected 64B to 16KiB"),
        (ours("capture: {connections: -1}"), "the number `-1` is out of range"),
        (ours("capture: {connections: 1.5}"), "expected a whole number"),
        (ours("capture: {tls: {openssl: yes}}"), "expected true or false, found the text `yes`"),
        (ours("protocols: {http1: {enable: false}}"), "did you mean `enabled`?"),
        (ours("protocols: {mysql: {}}"), "known here: http1, http2, redis"),
        (ours("routes: {patterns: [users]}"), "must begin with /"),
        (ours("semconv_stability_opt_in: http/old"), "names conventions that are not known"),
        (ours("routes: {unmatched: false}"), "expected heuristic, wildcard or off, found the boolean `false`"),
        (ours("stdout: {format: json}"), "expected pretty, otlp-json or none"),
        (ours("exchange_timeout: 1h"), "out of range, expected 1s to 10m"),
        (ours("shutdown_timeout: 1d"), "out of range, expected 0s to 10m"),
        (ours("discovery: {exclude: [{executable: \"\"}]}"), "exclude[0].executable: is empty"),
        (ours("discovery: {exclude: [{}]}"), "give at least one of executable"),
        (ours("discovery: {exclude: [{name: x}]}"), "exclude[0].name"),
        (ours("discovery: {exclude: {executable: x}}"), "expected a list"),
        (ours("discovery: {include: [{port: 90-80}]}"), "a range of ports like 8000-8099"),
        (ours("discovery: {include: [{port: 0}]}"), "a range of ports like 8000-8099"),
        (ours("discovery: {include: [{pid: 0}]}"), "out of range"),
        (ours("discovery: {include: [{service_name: x}]}"), "include[0]: names no criterion"),
        (ours("discovery: {include: [{pid: 1, service_name: \"\"}]}"), "service_name: is empty"),
        (ours("discovery: {exclude: [{pid: 1, service_name: x}]}"), "exclude[0].service_name: unknown key"),
        (ours("discovery: {telemetry_backends: metrics_only}"), "expected skip or all"),
        (ours("discovery: {instrumented: metrics}"), "expected metrics_only, all or skip, found the text `metrics`"),
        (sampler("{}"), "the key `always_on` or `always_off`"),
        (sampler("{always_on: , always_off: }"), "one key is allowed here, `always_on` and `always_off` are set"),
        (sampler("{always_on: {ratio: 1}}"), "sampler.always_on.ratio: unknown key"),
        (sampler("{jaeger_remote/development: {endpoint: x}}"), "jaeger_remote/development: is not supported"),
        (sampler("{trace_id_ratio_based: {ratio: 10}}"), "expected a number from 0 to 1, found the number `10`"),
        (sampler("{probability/development: {ratio: -0.1}}"), "expected a number from 0 to 1"),
        (sampler("{traceidratio: {ratio: 1}}"), "sampler.traceidratio: unknown key"),
        (sampler("{parent_based: {roof: {always_on: }}}"), "did you mean `root`?"),
        (sampler("{parent_based: {root: {ratio: 1}}}"), "sampler.parent_based.root.ratio: unknown key"),
        (sampler("{composite/development: {parent_threshold: }}"), "the key `root` is missing"),
        (sampler("{composite/development: {rule_based: {rules: [{}]}}}"), "rules[0]: the key `sampler` is missing"),
        (rule("span_kinds: [servre]"), "did you mean `server`?"),
        (rule("span_kinds: []"), "rules[0].span_kinds: is empty"),
        (rule("parent: [root]"), "expected none, remote or local"),
        (rule("attribute_values: {values: [a]}"), "attribute_values: the key `key` is missing"),
        (rule("attribute_values: {key: a, values: [404]}"), "expected text, found the number `404`"),
        (rule("attribute_patterns: {key: a, include: [b]}"), "did you mean `included`?"),
        (sampler(&deep(11)), "is more than 10 samplers deep"),
        (ours("sampling: {keep_errors: true}"), "expected like_others, over_ratio or always, found the boolean `true`"),
        (ours("sampling: {slowest: 0.9}"), "expected a number from 0.0001 to 0.5, found the number `0.9`"),
        (ours("sampling: {spans_per_second: 0}"), "out of range, expected a whole number from 1 to 100000"),
        (ours("sampling: {rules: [{sampler: {always_on: }}]}"), "rules[0]: names no criterion"),
        (ours("sampling: {rules: [{service: a}]}"), "rules[0]: the key `sampler` is missing"),
        (ours("sampling: {rules: [{services: a, sampler: {always_on: }}]}"), "did you mean `service`?"),
        (ours("limits: {retained_bytes: 1KiB}"), "expected 1MiB to 64GiB"),
    ] {
        let said = said(&yaml);
        assert!(said.contains(expected), "{yaml}\n  should say: {expected}\n  says: {said}");
        let found = check(&format!("file_format: \"1.1\"\n{yaml}")).unwrap_err();
        assert!(found.list().iter().all(|problem| problem.location.is_some() && !problem.key.is_empty()));
    }
}

#[test]
fn the_version_of_the_format_is_checked() {
    for (yaml, expected) in [
        ("log_level: info\n", "spantap.yaml:1:1: the key `file_format` is missing"),
        ("file_format: 1.1\n", "spantap.yaml:1:14: file_format: expected text, found the number `1.1`"),
        ("file_format: \"2.0\"\n", "expected \"1.1\", found `2.0`"),
        ("just text", "expected a mapping of keys"),
        ("- a\n", "expected a mapping of keys"),
    ] {
        let said = check(yaml).unwrap_err().to_string();
        assert!(said.contains(expected), "{yaml:?}: {said}");
    }
}

#[test]
fn a_value_from_the_environment_is_not_repeated() {
    let said =
        said("log_level: ${SECRET}\ndisabled: ${SECRET}\nresource: ${UNSET}\nmeter_provider: ${PORT}\n");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("found a text from the environment"), "{said}");
    assert!(said.contains("found a number from the environment"), "{said}");
}

#[test]
fn an_empty_file_is_the_default() {
    for empty in
        ["", "# nothing\n", "---\n", "file_format: \"1.1\"\n", "file_format: \"1.0\"\ndistribution:\n"]
    {
        assert_eq!(check(empty), Ok(Config::default()), "{empty:?}");
    }
}

#[test]
fn naming_one_destination_means_only_that_one() {
    let config =
        check("file_format: \"1.1\"\ntracer_provider: {processors: [{batch: {exporter: {otlp_http: }}}]}")
            .unwrap();
    let Exporter::Otlp(otlp) = &config.tracer_provider.processors[0].exporter else { panic!() };
    assert_eq!(otlp.endpoint.as_str(), "http://localhost:4318/v1/traces");
    assert!(config.meter_provider.readers.is_empty());
}

#[test]
fn samplers_arrive() {
    let yaml = "\
file_format: \"1.1\"
tracer_provider:
  processors: [{batch: {exporter: {console: }}}]
  sampler:
    parent_based:
      root:
        trace_id_ratio_based: {ratio: 0.25}
      remote_parent_sampled:
        composite/development:
          rule_based:
            rules:
              - attribute_patterns: {key: url.path, included: [\"/a*\"], excluded: [/ab]}
                parent: [remote]
                sampler: {parent_threshold: {root: {probability: }}}
distribution:
  spantap:
    sampling:
      keep_errors: always
      slowest: 0.05
      spans_per_second: 100
      rules:
        - {service: pay*, span_name: GET, sampler: {always_off: }}
";
    let config = check(yaml).unwrap_or_else(|problems| panic!("{problems}"));
    let Sampler::ParentBased(parent) = &config.tracer_provider.sampler else { panic!() };
    assert_eq!(parent.root, Sampler::Probability(0.25));
    assert_eq!(parent.remote_parent_not_sampled, Sampler::AlwaysOff);
    let Sampler::Composite(Composable::RuleBased(rules)) = &parent.remote_parent_sampled else { panic!() };
    let patterns = rules[0].attribute_patterns.as_ref().unwrap();
    assert!(patterns.included[0].matches("/ab") && patterns.excluded[0].matches("/ab"));
    assert_eq!((&rules[0].parent[..], &rules[0].span_kinds[..]), (&[SpanParent::Remote][..], &[][..]));
    let whole = Composable::ParentThreshold(Box::new(Composable::Probability(1.0)));
    assert_eq!(rules[0].sampler, whole);
    let sampling = &config.spantap.sampling;
    assert_eq!((sampling.keep_errors, sampling.keep_slowest), (Keep::Always, Keep::OverRatio));
    assert_eq!((sampling.slowest, sampling.spans_per_second), (0.05, Some(100)));
    let [rule] = &sampling.rules[..] else { panic!() };
    assert!(rule.service.as_ref().is_some_and(|glob| glob.matches("payment")));
    assert_eq!(rule.sampler, Sampler::AlwaysOff);
}

#[test]
fn values_arrive() {
    let yaml = "\
file_format: \"1.1\"
log_level: debug3
resource:
  attributes_list: a=1,b=two%20words
  attributes:
    - {name: a, value: 7, type: int}
    - {name: gone, value: null}
distribution:
  other-vendor: [1]
  spantap:
    stdout: {format: otlp-json}
    protocols: {redis: {enabled: false}}
    capture: {bytes_per_call: 512}
    shutdown_timeout: ${UNSET:-1m30s}
";
    let config = check(yaml).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.log_level, LogLevel::Debug);
    let attributes: Vec<_> = config.resource.attributes.into_iter().map(|a| (a.name, a.value)).collect();
    let expected = [
        ("b".to_owned(), AttributeValue::String("two words".to_owned())),
        ("a".to_owned(), AttributeValue::Int(7)),
    ];
    assert_eq!(attributes, expected);
    assert_eq!(config.spantap.stdout.format, StdoutFormat::OtlpJson);
    assert!(!config.spantap.protocols.is_enabled("redis"));
    assert!(config.spantap.protocols.is_enabled("http1"));
    assert_eq!(config.spantap.capture.bytes_per_call.bytes(), 512);
    assert_eq!(config.spantap.shutdown_timeout.as_secs(), 90);
}

#[test]
fn files_that_are_no_text_are_refused() {
    let said = |bytes: &[u8]| parse(bytes, Path::new("f"), &CONTEXT).unwrap_err().to_string();
    assert!(said(b"a: 1\nb: \xff\n").starts_with("f:2:4: the file is not UTF-8: unexpected byte 0xff"));
    assert!(
        said(&vec![b'#'; (1 << 20) + 1]).starts_with("f: the file has 1048577 bytes, more than the 1048576")
    );
    let missing = load(Path::new("/no/such/file.yaml"), &CONTEXT).unwrap_err().to_string();
    assert!(missing.starts_with("/no/such/file.yaml: cannot read the file: No such file"), "{missing}");
    let endless = load(Path::new("/dev/zero"), &CONTEXT).unwrap_err().to_string();
    assert!(endless.contains("more than the 1048576 that are read"), "{endless}");
}

/// Pieces from which texts that come close to a configuration are made.
const PIECES: &[&str] = &[
    "file_format: \"1.1\"\n",
    "distribution:\n",
    "  spantap:\n",
    "    capture:\n",
    "      ring_buffer: ",
    "16MiB",
    "\n",
    "tracer_provider:\n",
    "  processors:\n",
    "    - batch:\n",
    "        exporter:\n",
    "          otlp_grpc:\n",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "${SECRET}",
    "${",
    "$$",
    "\"",
    "'",
    "|",
    ">",
    "#",
    "?",
    "\t",
    "  ",
    "null",
    "-1",
    "1e9",
    "é",
    "\u{0}",
    "\r\n",
    "---\n",
    "%YAML 1.2\n",
    ",",
];

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, Path::new("f"), &CONTEXT).map_err(|problems| problems.to_string());
    }

    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = check(&text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn anything_like_a_configuration_is_answered(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
    ) {
        let _ = check(&pieces.concat()).map_err(|problems| problems.to_string());
    }

    /// A file cut anywhere, or with one byte changed, is read or refused.
    #[test]
    fn damaged_examples_are_answered(cut: usize, at: usize, byte: u8) {
        let mut full = include_bytes!("../examples/full.yaml").to_vec();
        let length = full.len();
        full[at % length] = byte;
        full.truncate(cut % (2 * length));
        let _ = parse(&full, Path::new("f"), &CONTEXT).map_err(|problems| problems.to_string());
    }
}

#[test]
fn braces_between_brackets_need_quotes() {
    let routes = |patterns: &str| ours(&format!("routes:\n  patterns: {patterns}"));
    let said = said(&routes("[/users/{id}, /static/**]"));
    assert!(said.contains("hint: put values with { } in quotes"), "{said}");
    let quoted = routes(r#"["/users/{id}", "/static/**"]"#);
    let config = check(&format!("file_format: \"1.1\"\n{quoted}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.spantap.routes.patterns.len(), 2);
}

#[test]
fn pull_readers_are_read_and_their_mistakes_told() {
    let with = |exporter: &str| {
        format!("meter_provider:\n  readers:\n    - pull:\n        exporter:\n          {exporter}\n")
    };
    let whole = "prometheus/development: {host: 0.0.0.0, port: 9000, scope_info_enabled: false, \
                 target_info_enabled/development: false, translation_strategy: underscore_escaping_with_suffixes}";
    let config = check(&format!("file_format: \"1.1\"\n{}", with(whole))).unwrap();
    let [pull] = &config.meter_provider.pull[..] else { panic!("one") };
    assert_eq!((pull.host.as_str(), pull.port), ("0.0.0.0", 9000));
    assert!(!pull.scope_info && !pull.target_info && config.meter_provider.readers.is_empty());
    assert_eq!(
        check(&format!("file_format: \"1.1\"\n{}", with("prometheus/development:")))
            .unwrap()
            .meter_provider
            .pull
            .len(),
        1
    );
    for (exporter, what) in [
        ("prometheus: {}", "known here: prometheus/development"),
        ("prometheus/development: {prot: 1}", "did you mean `port`?"),
        ("prometheus/development: {port: 0}", "a whole number from 1 to 65535"),
        ("prometheus/development: {resource_constant_labels: {}}", "not supported"),
        (
            "prometheus/development: {translation_strategy: no_translation}",
            "expected underscore_escaping_with_suffixes",
        ),
    ] {
        let said = said(&with(exporter));
        assert!(said.contains(what), "{exporter}: {said}");
    }
}

#[test]
fn exemplars_can_be_left_out_and_are_never_of_spans_that_nobody_has() {
    let with = |filter: &str| {
        format!(
            "meter_provider: {{exemplar_filter: {filter}, readers: [{{periodic: {{exporter: {{console: }}}}}}]}}\n"
        )
    };
    for (filter, expected) in [("trace_based", true), ("always_off", false)] {
        let config = check(&format!("file_format: \"1.1\"\n{}", with(filter))).unwrap();
        assert_eq!(config.meter_provider.exemplars, expected);
    }
    assert!(said(&with("always_on")).contains("expected trace_based or always_off"));
}

#[test]
fn cardinality_limits_are_of_histograms_or_of_everything() {
    let with = |limits: &str| {
        format!(
            "meter_provider:\n  readers:\n    - periodic: {{cardinality_limits: {limits}, exporter: {{console: }}}}\n"
        )
    };
    for (limits, expected) in [
        ("{default: 7}", 7),
        ("{default: 7, histogram: 9}", 9),
        ("{histogram: 5, default: 7}", 5),
        ("{}", 2000),
    ] {
        let config = check(&format!("file_format: \"1.1\"\n{}", with(limits))).unwrap();
        assert_eq!(config.meter_provider.readers[0].cardinality_limit, expected, "{limits}");
    }
    assert!(said(&with("{counter: 5}")).contains("not supported"));
    assert!(said(&with("{default: 0}")).contains("a whole number from 1 to 1000000"));
}
