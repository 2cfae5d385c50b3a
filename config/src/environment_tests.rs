//! The variables of OpenTelemetry, and how they stand to the file.

use super::*;
use crate::sampler::ParentBased;

fn read(variables: &[(&str, &str)]) -> FromEnvironment {
    try_read(variables).unwrap_or_else(|error| panic!("{error}"))
}

fn try_read(variables: &[(&str, &str)]) -> Result<FromEnvironment, EnvironmentError> {
    let env =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::from_environment(&env)
}

fn traces(from: &FromEnvironment) -> &OtlpExporter {
    match &from.config.tracer_provider.processors[0].exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("no OTLP exporter: {other:?}"),
    }
}

#[test]
fn without_variables_it_is_the_default() {
    let expected = FromEnvironment { config: Config::default(), warnings: Vec::new() };
    assert_eq!(read(&[]), expected);
    assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), expected, "empty is not set");
}

#[test]
fn an_endpoint_is_enough() {
    for (variable, value, transport, url) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", Transport::Http, "http://c:4318/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/x/", Transport::Http, "http://c:4318/x/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317", Transport::Grpc, "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/t", Transport::Http, "http://c/t"),
    ] {
        let from = read(&[(variable, value)]);
        assert_eq!(from.warnings, Vec::<String>::new());
        assert_eq!((traces(&from).transport, traces(&from).endpoint.as_str()), (transport, url));
    }
    let from = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/t")]);
    assert_eq!(from.config.meter_provider.readers[0].exporter, Exporter::Console, "of spans only");
}

#[test]
fn the_variable_of_the_signal_goes_first() {
    let from = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=a%20b"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
        ("OTEL_SERVICE_NAME", "spantap-a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b,host.name=n"),
    ]);
    assert_eq!(from.warnings, Vec::<String>::new());
    let otlp = traces(&from);
    assert_eq!((otlp.endpoint.as_str(), otlp.timeout), ("http://collector:4317", None));
    assert_eq!(otlp.compression, Compression::Gzip);
    assert_eq!((otlp.headers[0].name.as_str(), otlp.headers[0].value.expose()), ("x-key", "a b"));
    let batch = &from.config.tracer_provider.processors[0];
    assert_eq!((batch.max_queue_size, batch.max_export_batch_size), (100, 100));
    let reader = &from.config.meter_provider.readers[0];
    assert_eq!((reader.interval.as_secs(), reader.temporality), (15, Temporality::Delta));
    let names: Vec<_> = from.config.resource.attributes.iter().map(|a| (&*a.name, &a.value)).collect();
    let text = |text: &str| AttributeValue::String(text.to_owned());
    assert_eq!(names, [("host.name", &text("n")), ("service.name", &text("spantap-a"))]);
}

#[test]
fn what_cannot_be_understood_is_ignored_with_a_warning() {
    let from = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_METRICS_EXPORTER", "zipkin"),
        ("OTEL_LOG_LEVEL", "loud"),
    ]);
    assert_eq!(from.warnings.len(), 4, "each is said once: {:?}", from.warnings);
    let warnings = from.warnings.join("\n");
    for name in ["HEADERS", "PROTOCOL", "OTEL_METRICS_EXPORTER", "OTEL_LOG_LEVEL"] {
        assert!(warnings.contains(name), "{name} in {warnings}");
    }
    assert!(!warnings.contains("secret"));
}

#[test]
fn an_endpoint_that_cannot_be_understood_is_an_error_and_never_the_default() {
    let expected = "OTEL_EXPORTER_OTLP_ENDPOINT: the URL must begin with http:// or https://; \
                    write http://HOST:PORT";
    for value in ["localhost:4318", "collector:4318", "collector"] {
        let error = try_read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap_err();
        assert_eq!(error.to_string(), expected, "said once for {value}");
    }
    let own = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:notaport"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
    ];
    let error = try_read(&own).unwrap_err().to_string();
    assert_eq!(error, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: the URL has no valid port");
    let unused = [("OTEL_EXPORTER_OTLP_ENDPOINT", "c"), ("OTEL_TRACES_EXPORTER", "console")];
    assert!(try_read(&unused).is_err(), "metrics use it");
}

#[test]
fn what_is_not_supported_is_said() {
    for (name, value, warnings) in [
        ("OTEL_SDK_DISABLED", "true", 1),
        ("OTEL_SDK_DISABLED", "false", 0),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", 1),
        ("OTEL_TRACES_SAMPLER", "Always_On", 1),
    ] {
        let from = read(&[(name, value)]);
        assert_eq!(from.warnings.len(), warnings, "{name}={value}");
        assert!(from.warnings.iter().all(|warning| warning.starts_with(name)));
    }
}

#[test]
fn the_sampler_has_a_name_and_perhaps_an_argument() {
    let of_root = |root| Sampler::ParentBased(Box::new(ParentBased { root, ..ParentBased::default() }));
    for (name, argument, sampler, warnings) in [
        ("always_on", "", Sampler::AlwaysOn, 0),
        ("always_off", "0.5", Sampler::AlwaysOff, 0),
        ("traceidratio", "0.25", Sampler::Probability(0.25), 0),
        ("traceidratio", "", Sampler::Probability(1.0), 0),
        ("traceidratio", "25 %", Sampler::Probability(1.0), 1),
        ("traceidratio", "1.5", Sampler::Probability(1.0), 1),
        ("traceidratio", "NaN", Sampler::Probability(1.0), 1),
        ("parentbased_always_on", "", Sampler::default(), 0),
        ("parentbased_always_off", "", of_root(Sampler::AlwaysOff), 0),
        (" parentbased_traceidratio ", "1e-3", of_root(Sampler::Probability(0.001)), 0),
        ("xray", "endpoint=x", Sampler::default(), 1),
        ("", "0.5", Sampler::default(), 0),
    ] {
        let from = read(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        assert_eq!(from.config.tracer_provider.sampler, sampler, "{name} {argument}");
        assert_eq!(from.warnings.len(), warnings, "{name} {argument}: {:?}", from.warnings);
    }
}

#[test]
fn older_names_are_opted_for() {
    let name = "OTEL_SEMCONV_STABILITY_OPT_IN";
    let from = read(&[(name, "database/dup,http,gibberish")]);
    let expected = StabilityOptIn { database: true, ..StabilityOptIn::default() };
    assert_eq!(from.config.spantap.semconv_stability_opt_in, expected);
    assert_eq!(from.warnings.len(), 1);
    assert!(from.warnings[0].starts_with(name) && from.warnings[0].contains("`gibberish`"));
}

#[test]
fn prometheus_is_an_exporter_of_metrics() {
    let name = "OTEL_METRICS_EXPORTER";
    let from = read(&[(name, "prometheus")]);
    assert_eq!(from.config.meter_provider.pull, [PullReader::default()]);
    assert!(from.config.meter_provider.readers.is_empty() && from.warnings.is_empty());
    let from = read(&[
        (name, "console, prometheus"),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
    ]);
    assert!(!from.config.meter_provider.exemplars);
    let [pull] = &from.config.meter_provider.pull[..] else { panic!("one") };
    assert_eq!((pull.host.as_str(), pull.port, from.warnings.len()), ("0.0.0.0", 9464, 1));
    assert_eq!(from.config.meter_provider.readers.len(), 1);
    assert_eq!(read(&[("OTEL_TRACES_EXPORTER", "prometheus")]).warnings.len(), 1);
}

#[test]
fn several_exporters_and_none() {
    let from = read(&[("OTEL_TRACES_EXPORTER", "otlp,console"), ("OTEL_METRICS_EXPORTER", "none")]);
    assert_eq!(from.config.tracer_provider.processors.len(), 2);
    assert!(from.config.meter_provider.readers.is_empty());
}
