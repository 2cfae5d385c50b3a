//! Header fields to tell: the lists of the OpenTelemetry schema, and what is wrong with others.

use spantap_config::{Config, LoadContext, Problems, parse};

fn read(http: &str) -> Result<Config, Problems> {
    let yaml = format!("file_format: \"1.1\"\ninstrumentation/development: {{general: {{http: {http}}}}}\n");
    parse(yaml.as_bytes(), "test.yaml".as_ref(), &LoadContext { env: &|_| None, protocol_names: &[] })
}

#[test]
fn names_are_listed_by_role_and_head() {
    let lists =
        "{client: {request_captured_headers: [X-Tenant]}, server: {response_captured_headers: [x-a, x-b]}}";
    let read = read(lists).expect("it is right").instrumentation;
    assert_eq!(read.http_client.request, ["x-tenant"]);
    assert_eq!(read.http_server.response, ["x-a", "x-b"]);
    assert!(read.http_client.response.is_empty() && read.http_server.request.is_empty());
}

#[test]
fn what_is_hidden_of_urls_can_be_listed() {
    let url = |url: &str| {
        let yaml = format!(
            "file_format: \"1.1\"\ninstrumentation/development: {{general: {{sanitization: {{url: {url}}}}}}}\n"
        );
        parse(yaml.as_bytes(), "test.yaml".as_ref(), &LoadContext { env: &|_| None, protocol_names: &[] })
            .map(|config| config.instrumentation.sensitive_query_parameters)
    };
    assert_eq!(url("{}").expect("it is right"), None);
    let listed = url("{sensitive_query_parameters: [token, sig]}").expect("it is right");
    assert_eq!(listed, Some(vec!["token".to_owned(), "sig".to_owned()]));
    assert_eq!(url("{sensitive_query_parameters: []}").expect("it is right"), Some(Vec::new()));
    assert!(url("{sensitive_query_parameters: token}").is_err());
}

#[test]
fn mistakes_are_told() {
    for (lists, what) in [
        ("{server: {request_captured_headers: [\"x-a, x-b\"]}}", "is no name of a header field"),
        ("{server: {request_captured_headers: x-a}}", "a list"),
        ("{server: {request_captured_header: [x-a]}}", "did you mean `request_captured_headers`?"),
        ("{server: {known_methods: [PURGE]}}", "not supported"),
        ("{serve: {}}", "did you mean `server`?"),
    ] {
        let said = read(lists).expect_err(lists).to_string();
        assert!(said.contains(what), "{lists}: {said}");
    }
}
