//! Attributes of requests: who was asked, by whom, and what of a URL is shown.

use super::*;

fn attributes(role: Role, tls: bool, fields: &[(&str, &str)]) -> String {
    let mut request = HttpRequest {
        method: b"GET",
        path: Some(b"/p"),
        query: Some(b"a=1&sig=s"),
        version: Some("1.1"),
        ..HttpRequest::default()
    };
    for (name, value) in fields {
        request.fields.take(name, value.as_bytes());
    }
    let context = OpenContext { role, from_start: true, answered: false, tls };
    let exchange = begin("http1", context, &request, BootNanos(1));
    let text = |value: &Value| match value {
        Value::Int(number) => number.to_string(),
        Value::Texts(texts) => texts.join(","),
        value => value.as_str().unwrap_or("?").to_owned(),
    };
    let all = exchange.attributes.iter().map(|(key, value)| format!("{}={}", key.as_str(), text(value)));
    all.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_nearest_proxy_tells_who_was_asked_and_by_whom() {
    assert_eq!(
        attributes(
            Role::Server,
            false,
            &[
                ("Host", "inner:8080"),
                ("X-Forwarded-Host", "shop.example, other"),
                ("X-Forwarded-For", "203.0.113.9:4711, 10.0.0.1"),
                ("X-Forwarded-Proto", "HTTPS"),
            ]
        ),
        "http.request.method=GET url.path=/p url.scheme=https url.query=a=1&sig=REDACTED \
         server.address=shop.example server.port=443 client.address=203.0.113.9 network.protocol.version=1.1"
    );
    assert_eq!(
        attributes(
            Role::Server,
            true,
            &[("Forwarded", r#"For="[2001:db8::1]:80";host=a.example:81 ;proto=http, for=unknown"#)]
        ),
        "http.request.method=GET url.path=/p url.scheme=http url.query=a=1&sig=REDACTED \
         server.address=a.example server.port=81 client.address=2001:db8::1 network.protocol.version=1.1"
    );
}

#[test]
fn a_client_has_the_full_url_without_secrets() {
    assert_eq!(
        attributes(Role::Client, true, &[("Host", "u:p@[::1]:8443"), ("X-Forwarded-Proto", "http")]),
        "http.request.method=GET server.address=::1 server.port=8443 \
         url.full=https://REDACTED:REDACTED@[::1]:8443/p?a=1&sig=REDACTED network.protocol.version=1.1"
    );
    assert_eq!(
        attributes(Role::Client, false, &[]),
        "http.request.method=GET url.path=/p url.query=a=1&sig=REDACTED network.protocol.version=1.1"
    );
}

#[test]
fn the_list_of_fields_is_what_is_taken_note_of() {
    let none = format!("{:?}", RequestFields::default());
    for name in REQUEST_FIELDS {
        let mut fields = RequestFields::default();
        fields.take(&name.to_ascii_uppercase(), b"x");
        assert_ne!(format!("{fields:?}"), none, "{name}");
    }
    assert_eq!(
        attributes(Role::Client, false, &[("X-Request-Id", "7f-1")]),
        "http.request.method=GET url.path=/p url.query=a=1&sig=REDACTED network.protocol.version=1.1 \
         http.request.header.x-request-id=7f-1"
    );
}

#[test]
fn what_is_no_host_is_left_out() {
    assert_eq!(host_and_port(b"a b"), None);
    assert_eq!(host_and_port(b""), None);
    assert_eq!(host_and_port(b"[::1"), None);
    assert_eq!(host_and_port(b"h:99999"), Some(("h", None)));
    assert_eq!(host_and_port(b"fe80::1"), Some(("fe80::1", None)));
}

#[test]
fn the_threshold_of_an_error_depends_on_the_end_watched() {
    for (role, status, error) in [
        (Role::Server, 404, None),
        (Role::Server, 500, Some("500")),
        (Role::Client, 399, None),
        (Role::Client, 404, Some("404")),
    ] {
        let context = OpenContext { role, from_start: true, answered: false, tls: false };
        let mut exchange = begin("http1", context, &HttpRequest::default(), BootNanos(1));
        set_status(&mut exchange, status);
        set_error(&mut exchange, RESPONSE_TRUNCATED);
        let expected = error.unwrap_or(RESPONSE_TRUNCATED);
        assert_eq!(exchange.outcome, Outcome::Error(expected.into()), "{role:?} {status}");
    }
}
