//! The files of `examples/` are read, and mean what they say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use spantap_config::{
    Compression, Config, Exporter, HistogramAggregation, LoadContext, OtlpExporter, Temporality, Transport,
    load,
};

const CONTEXT: LoadContext<'_> =
    LoadContext { env: &|_| None, protocol_names: &["http1", "http2", "postgresql", "redis"] };

fn example(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    load(&path, &CONTEXT).unwrap_or_else(|problems| panic!("{problems}"))
}

fn otlp(exporter: &Exporter) -> &OtlpExporter {
    let Exporter::Otlp(otlp) = exporter else { panic!("no OTLP exporter: {exporter:?}") };
    otlp
}

#[test]
fn every_example_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        load(&file, &CONTEXT).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn the_full_example_equals_the_defaults() {
    assert_eq!(example("full.yaml"), Config::default());
}

/// Each key that any section knows is in `full.yaml`, also the commented ones.
#[test]
fn the_full_example_names_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let full = std::fs::read_to_string(root.join("examples/full.yaml")).unwrap();
    let mut keys = 0;
    for entry in std::fs::read_dir(root.join("src")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["section.set(\"", "section.field(\"", "section.required(\""] {
            for rest in source.split(call).skip(1) {
                let key = rest.split('"').next().unwrap_or_default();
                let named = full.contains(&format!("{key}:"));
                // `encoding` has one value, `disabled` too: nobody needs to write them.
                assert!(named || ["encoding", "disabled"].contains(&key), "{key} of {path:?}");
                keys += 1;
            }
        }
    }
    assert!(keys > 35, "the scan has found only {keys}");
}

#[test]
fn the_minimal_example_follows_the_environment() {
    let config = example("minimal.yaml");
    let traces = otlp(&config.tracer_provider.processors[0].exporter);
    assert_eq!(traces.endpoint.as_str(), "http://localhost:4317");
    assert_eq!((traces.transport, traces.compression), (Transport::Grpc, Compression::None));
    assert_eq!(config.meter_provider.readers.len(), 1);
}

#[test]
fn the_grpc_example_has_two_destinations() {
    let config = example("otlp-grpc.yaml");
    let [near, far] = config.tracer_provider.processors.as_slice() else { panic!() };
    assert_eq!(otlp(&near.exporter).timeout, Some(Duration::from_secs(10)));
    assert_eq!((far.max_queue_size, far.max_export_batch_size), (16_384, 2048));
    assert_eq!(far.schedule_delay, Duration::from_secs(5));
    let far = otlp(&far.exporter);
    assert_eq!(far.headers[0].name, "authorization");
    assert_eq!(far.headers[0].value.expose(), "Bearer none");
    assert!(!format!("{far:?}").contains("Bearer"), "secrets stay out of Debug");
    assert_eq!(far.tls.cert_file.as_deref(), Some(Path::new("/etc/spantap/client.pem")));
    let reader = &config.meter_provider.readers[0];
    assert_eq!(otlp(&reader.exporter).endpoint.as_str(), "http://localhost:4317");
    assert_eq!(reader.temporality, Temporality::Delta);
    assert_eq!(reader.histogram, HistogramAggregation::Base2Exponential);
    assert_eq!(config.resource.attributes[0].name, "service.version");
    assert_eq!(config.spantap.resource.attributes[0].name, "deployment.environment.name");
}

#[test]
fn the_http_example_has_headers_and_routes() {
    let config = example("otlp-http.yaml");
    let traces = otlp(&config.tracer_provider.processors[0].exporter);
    assert_eq!(traces.transport, Transport::Http);
    assert_eq!(traces.headers.len(), 2);
    assert!(config.spantap.routes.patterns[0].matches("/api/users/7"));
    let [sshd, systemd] = &config.spantap.discovery.exclude[..] else { panic!("two rules") };
    assert!(sshd.executable.as_ref().is_some_and(|glob| glob.matches_path("/usr/sbin/sshd")));
    assert!(
        systemd.executable.as_ref().is_some_and(|glob| glob.matches_path("/usr/lib/systemd/systemd-logind"))
    );
}
