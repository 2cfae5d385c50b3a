//! Header fields that are listed are told, with all their values, at the end and in the head that they are listed for;
//! query keys that are listed are redacted. (A test program of its own: the lists are the process's.)

use spantap_protocols::{
    BootNanos, Direction, Exchange, OpenContext, Protocol, Role, Segment, Value,
    http::{CapturedHeaders, Head},
    http1::Http1,
    http2::Http2,
    redact,
};

use Direction::{ToClient, ToServer};

/// What one exchange tells of header fields, `name=values`, as `role` saw it.
fn told(protocol: &dyn Protocol, role: Role, calls: &[(Direction, Vec<u8>)]) -> Vec<String> {
    let mut parser = protocol.open(OpenContext { role, from_start: true, answered: false, tls: false });
    let mut exchanges: Vec<Exchange> = Vec::new();
    for (at, (direction, bytes)) in (1..).zip(calls) {
        let (direction, first_at, last_at) = (*direction, BootNanos(at), BootNanos(at));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let segment = Segment { direction, first_at, last_at, bytes: rest, cut: false };
            let taken = parser.on_segment(segment, &mut exchanges);
            assert!(taken > 0, "it stands still");
            rest = &rest[taken..];
        }
    }
    assert_eq!(exchanges.len(), 1);
    let fields = exchanges[0].attributes.iter().filter(|(key, _)| key.as_str().contains(".header."));
    fields
        .map(|(key, value)| match value {
            Value::Texts(values) => format!("{}={}", key.as_str(), values.join("|")),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn by_http1() -> Vec<(Direction, Vec<u8>)> {
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Tenant: one\r\nAuthorization: secret\r\nx-tenant: two\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Tenant: three\r\nSet-Cookie: secret\r\nContent-Length: 0\r\n\r\n";
    vec![(ToServer, request.into()), (ToClient, response.into())]
}

fn by_http2() -> Vec<(Direction, Vec<u8>)> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let block = |first: &[u8], fields: &[(&str, &str)]| {
        let mut block = first.to_vec();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend(text.as_bytes());
            }
        }
        block
    };
    let request = [("x-tenant", "one"), ("authorization", "secret"), ("x-tenant", "two")];
    let response = [("content-type", "text/plain"), ("x-tenant", "three"), ("set-cookie", "secret")];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let get = frame(1, 5, 1, &block(&[0x82, 0x86, 0x84], &request));
    let ok = frame(1, 5, 1, &block(&[0x88], &response));
    vec![
        (ToServer, [&preface[..], &frame(4, 0, 0, &[]), &get].concat()),
        (ToClient, [frame(4, 0, 0, &[]), ok].concat()),
    ]
}

#[test]
fn what_is_listed_is_told_and_nothing_else() {
    let mut listed = CapturedHeaders::default();
    listed.add(Role::Server, Head::Request, "X-Tenant");
    listed.add(Role::Server, Head::Response, "content-type");
    listed.add(Role::Client, Head::Response, "x-tenant");
    listed.install();
    redact::install_sensitive_query_keys(["token".to_owned()]);
    for (protocol, calls) in [(&Http1 as &dyn Protocol, by_http1()), (&Http2, by_http2())] {
        assert_eq!(
            told(protocol, Role::Server, &calls),
            ["http.request.header.x-tenant=one|two", "http.response.header.content-type=text/plain"]
        );
        assert_eq!(told(protocol, Role::Client, &calls), ["http.response.header.x-tenant=three"]);
    }
    for (query, shown) in
        [("a=1&token=x", "a=1&token=REDACTED"), ("%74oken=x", "%74oken=REDACTED"), ("sig=x", "sig=x")]
    {
        assert_eq!(redact::query(query.as_bytes(), 100), shown);
    }
}
