//! Which trace a request is in, and its id, by every protocol that carries header fields.

use crate::{
    BootNanos, Direction, Exchange, OpenContext, Protocol, Role, Value, http1::Http1, http2::Http2,
    semconv::key, testing::Driver,
};

/// Fields of a request, and the trace that they speak of: the end of its id, its parent's, flags and state.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<(u8, u8, u8, &'a str)>);

const CASES: &[Case<'_>] = &[
    (&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")], W3C_SAMPLED),
    (
        &[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            // Not asked where the other one is.
            ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ],
        Some((0x36, 0xb7, 0, "a=1,b=2")),
    ),
    (&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")], B3_SAMPLED),
    (&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d-05e3ac9a4f6e3b90")], B3_SAMPLED),
    (&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0")], B3_NOT),
    (&[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1")], B3_NOT),
    (&[("b3", "0")], Some((0, 0, 0, ""))),
    (&[("x-b3-traceid", B3_TRACE), ("x-b3-spanid", B3_SPAN), ("x-b3-sampled", "1")], B3_SAMPLED),
    (&[("x-b3-traceid", B3_TRACE), ("x-b3-spanid", B3_SPAN), ("x-b3-sampled", "0")], B3_NOT),
    (&[("x-b3-traceid", B3_TRACE), ("x-b3-spanid", B3_SPAN), ("x-b3-flags", "1")], B3_SAMPLED),
    (&[("x-b3-traceid", B3_TRACE), ("x-b3-sampled", "1")], None),
    (&[("traceparent", "00-bad")], None),
    (&[], None),
];
const W3C_SAMPLED: Option<(u8, u8, u8, &str)> = Some((0x36, 0xb7, 1, ""));
const B3_SAMPLED: Option<(u8, u8, u8, &str)> = Some((0xf7, 0xd1, 1, ""));
const B3_NOT: Option<(u8, u8, u8, &str)> = Some((0xf7, 0xd1, 0, ""));
const B3_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const B3_SPAN: &str = "e457b5a2e4d86bd1";

fn exchange(protocol: &dyn Protocol, request: &[u8], response: &[u8]) -> Exchange {
    let context = OpenContext { role: Role::Server, from_start: true, answered: false, tls: false };
    let mut driver = Driver::new(protocol, context);
    driver.feed(Direction::ToServer, BootNanos(1), BootNanos(1), request);
    driver.feed(Direction::ToClient, BootNanos(2), BootNanos(2), response);
    assert_eq!(driver.exchanges.len(), 1, "{}", protocol.name());
    driver.exchanges.remove(0)
}

fn by_http1(fields: &[(&str, &str)]) -> Exchange {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    exchange(&Http1, request.as_bytes(), b"HTTP/1.1 204 No Content\r\n\r\n")
}

/// As literals without indexing (RFC 7541, section 6.2.2).
fn by_http2(first: &[u8], fields: &[(&str, &str)]) -> Exchange {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
        [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut block = first.to_vec();
    for (name, value) in fields {
        for text in [name, value] {
            if text == name {
                block.push(0);
            }
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let request = [&preface[..], &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat();
    let response = [frame(4, 0, 0, &[]), frame(1, 5, 1, &[0x88])].concat();
    exchange(&Http2, &request, &response)
}

/// `:method`, `:scheme` and `:path` of the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84];
/// POST of `/a/b`.
const CALL: &[u8] = b"\x83\x86\x04\x04/a/b";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// The same fields by each protocol.
fn by_each(fields: &[(&str, &str)]) -> [Exchange; 3] {
    let call = [&[GRPC], fields].concat();
    let found = [by_http1(fields), by_http2(GET, fields), by_http2(CALL, &call)];
    assert_eq!(found[2].operation, "a/b", "a call of gRPC");
    found
}

#[test]
fn the_callers_trace_and_decision_are_read_from_every_protocol() {
    for (fields, expected) in CASES {
        for found in by_each(fields) {
            let told = found
                .trace
                .as_ref()
                .map(|trace| (trace.trace_id[15], trace.parent_id[7], trace.flags, trace.state.as_str()));
            assert_eq!(told, *expected, "{}: {fields:?}", found.operation);
        }
    }
}

#[test]
fn of_header_fields_those_are_told_that_are_listed_and_no_others() {
    let fields = [
        ("x-request-id", "id-1"),
        ("cookie", "session=secret"),
        ("authorization", "Bearer secret"),
        ("proxy-authorization", "Basic secret"),
        ("x-api-key", "secret"),
        ("referer", "http://a/?token=secret"),
        ("x-anything", "secret"),
    ];
    let [http1, http2, call] = by_each(&fields);
    for (found, name) in [
        (&http1, key::HTTP_REQUEST_HEADER_X_REQUEST_ID),
        (&http2, key::HTTP_REQUEST_HEADER_X_REQUEST_ID),
        (&call, key::RPC_REQUEST_METADATA_X_REQUEST_ID),
    ] {
        assert_eq!(found.attributes.get(name), Some(&Value::Texts(vec!["id-1".into()])), "{name}");
        assert!(!format!("{found:?}").contains("secret"), "{found:#?}");
        let told: Vec<&str> = found.attributes.iter().map(|(key, _)| key.as_str()).collect();
        let headers = told.iter().filter(|key| key.contains(".header.") || key.contains(".metadata."));
        assert_eq!(headers.count(), 1, "{told:?}");
    }
}
