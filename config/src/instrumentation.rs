//! `instrumentation/development`: of what the OpenTelemetry schema has for instrumentations, the header fields to tell, and
//! what is hidden of URLs.

use crate::field::Field;

/// What is asked of all instrumentations alike (`general`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instrumentation {
    /// `http.client`.
    pub http_client: CapturedHeaders,
    /// `http.server`.
    pub http_server: CapturedHeaders,
    /// `sanitization.url.sensitive_query_parameters`: the keys whose values are redacted, instead of those of the semantic
    /// conventions. Default: those.
    pub sensitive_query_parameters: Option<Vec<String>>,
}

/// Names of header fields, in lower case, whose values become attributes. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedHeaders {
    /// `request_captured_headers`: `http.request.header.<name>`.
    pub request: Vec<String>,
    /// `response_captured_headers`: `http.response.header.<name>`.
    pub response: Vec<String>,
}

/// Rationale: beyond it spans are larger than what they tell of.
const NAMES_MAX: usize = 32;

impl Instrumentation {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut read = Self::default();
        let mut section = field.section()?;
        if let Some(mut general) = section.field("general").and_then(|general| general.section()) {
            if let Some(mut http) = general.field("http").and_then(|http| http.section()) {
                http.set("client", &mut read.http_client, CapturedHeaders::read);
                http.set("server", &mut read.http_server, CapturedHeaders::read);
                http.unsupported(&["semconv"]);
                http.finish();
            }
            if let Some(mut sanitization) = general.field("sanitization").and_then(|field| field.section()) {
                if let Some(mut url) = sanitization.field("url").and_then(|url| url.section()) {
                    let keys = url.field("sensitive_query_parameters");
                    read.sensitive_query_parameters = keys.and_then(|field| keys_of(&field));
                    url.finish();
                }
                sanitization.finish();
            }
            let others = &["code", "db", "gen_ai", "messaging", "peer", "rpc", "stability_opt_in_list"];
            general.unsupported(others);
            general.finish();
        }
        section.unsupported(&[
            "cpp", "dotnet", "erlang", "go", "java", "js", "php", "python", "ruby", "rust", "swift",
        ]);
        section.finish();
        Some(read)
    }
}

impl CapturedHeaders {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut read = Self::default();
        let mut section = field.section()?;
        section.set("request_captured_headers", &mut read.request, names);
        section.set("response_captured_headers", &mut read.response, names);
        section.unsupported(&["known_methods"]);
        section.finish();
        Some(read)
    }
}

fn keys_of(field: &Field<'_>) -> Option<Vec<String>> {
    let keys: Vec<_> = field.list()?.iter().map(|key| key.filled_text().map(str::to_owned)).collect();
    keys.into_iter().collect()
}

fn names(field: &Field<'_>) -> Option<Vec<String>> {
    let items = field.list()?;
    if items.len() > NAMES_MAX {
        field.invalid(format!("has more than {NAMES_MAX} names"), None);
        return None;
    }
    // Each is read, so that each has its problem.
    let names: Vec<_> = items.iter().map(name).collect();
    names.into_iter().collect()
}

fn name(field: &Field<'_>) -> Option<String> {
    let text = field.filled_text()?;
    // > field-name = token (RFC 9110, section 5.1)
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.bytes().all(is_token) {
        return Some(text.to_ascii_lowercase());
    }
    field.invalid(
        "is no name of a header field",
        Some("one name each, as in [x-tenant, content-type]".to_owned()),
    );
    None
}
