//! What a process publishes about itself: memory of a stranger.

use spantap::discovery::process_context;

pub(crate) fn run(input: &[u8]) -> u64 {
    let attributes = process_context::attributes(input);
    assert!(attributes.iter().count() <= ATTRIBUTES_MAX);
    for (name, value) in attributes.iter() {
        let value = value.as_str().expect("only texts are taken");
        assert!(
            !value.is_empty() && value.len() <= VALUE_BYTES_MAX,
            "{}: {} bytes",
            name.as_str(),
            value.len()
        );
    }
    input.len() as u64
}

/// `ProcessContext{resource: {attributes: [{key, value}]}}`, as OTEP 4719 has it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let context = |pairs: &[(&str, &str)]| {
        let pair = |(name, value): &(&str, &str)| {
            let value = field(2, &field(1, value.as_bytes()));
            field(1, &[field(1, name.as_bytes()), value].concat())
        };
        field(1, &pairs.iter().flat_map(pair).collect::<Vec<u8>>())
    };
    vec![
        context(&[("service.name", "shop")]),
        context(&[("service.name", "shop"), ("service.version", "1.2"), ("telemetry.sdk.language", "go")]),
        context(&[("deployment.environment.name", "test"), ("service.namespace", "eu")]),
    ]
}

/// A field of less than 128 bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8][..], value].concat()
}

/// Those that name a service.
const ATTRIBUTES_MAX: usize = 4;
const VALUE_BYTES_MAX: usize = 255;
