//! What is a metric, a unit, an attribute called in Prometheus?
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus>

use std::{borrow::Cow, fmt::Write};

use spantap_protocols::Value;

/// A metric's name without a suffix of its type, and the unit that it ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FamilyName {
    pub name: String,
    /// Empty if it has none.
    pub unit: String,
}

impl FamilyName {
    /// `unit` in UCUM, as OpenTelemetry has it; `ratios` of a gauge have a word of their own.
    pub(super) fn of(metric: &str, unit: &str, is_gauge: bool) -> Self {
        let (mut name, unit) = (sanitized(metric, "_"), unit_name(unit, is_gauge));
        // The type's suffix is added to every sample; a name that has one already would have it twice.
        if let Some(rest) = name.strip_suffix("_total").map(str::len) {
            name.truncate(rest);
        }
        if !unit.is_empty() && name != unit && !name.ends_with(&format!("_{unit}")) {
            name.push('_');
            name.push_str(&unit);
        }
        Self { name, unit }
    }
}

/// `a.b-c` as `a_b_c`: letters, digits and single underscores, with `prefix` before a digit.
pub(super) fn sanitized(name: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push_str(prefix);
    }
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

/// `By/s` as `bytes_per_second`. Annotations (`{request}`) say what is counted and are no units.
fn unit_name(unit: &str, is_gauge: bool) -> String {
    if unit == "1" {
        return if is_gauge { "ratio".to_owned() } else { String::new() };
    }
    let unit = without_annotation(unit);
    let (base, per) = unit.split_once('/').unwrap_or((&unit, ""));
    let (base, per) = (sanitized(word(base, BASES), "_"), sanitized(word(per, PERS), "_"));
    match (base.trim_matches('_'), per.trim_matches('_')) {
        ("", "") => String::new(),
        (base, "") => base.to_owned(),
        ("", per) => format!("per_{per}"),
        (base, per) => format!("{base}_per_{per}"),
    }
}

fn without_annotation(unit: &str) -> Cow<'_, str> {
    match (unit.find('{'), unit.rfind('}')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &unit[..from], &unit[to + 1..]).into(),
        _ => unit.into(),
    }
}

fn word<'a>(unit: &'a str, words: &[(&str, &'static str)]) -> &'a str {
    words.iter().find(|(short, _)| *short == unit).map_or(unit, |(_, word)| word)
}

const BASES: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("kBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("%", "percent"),
    ("Hz", "hertz"),
    ("Cel", "celsius"),
];

const PERS: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("min", "minute"), ("h", "hour"), ("d", "day"), ("By", "byte")];

/// Attributes as labels without braces: `a="1",b="2"`, in the order of their names.
///
/// Names that become the same share a label, whose value is theirs with `;` between them.
pub(super) fn labels<'n, 'a>(
    attributes: impl Iterator<Item = (&'n str, &'a Value)>,
    reserved: &[&str],
) -> String {
    let mut all: Vec<(String, &'n str, &'a Value)> =
        attributes.map(|(name, value)| (sanitized(name, "key_"), name, value)).collect();
    all.retain(|(label, ..)| !reserved.contains(&label.as_str()));
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut out = String::new();
    for (at, (label, _, value)) in all.iter().enumerate() {
        let again =
            at.checked_sub(1).and_then(|before| all.get(before)).is_some_and(|(before, ..)| before == label);
        if again {
            // In place of the closing quote.
            out.pop();
            out.push(';');
        } else {
            if at > 0 {
                out.push(',');
            }
            out.push_str(label);
            out.push_str("=\"");
        }
        put_escaped(&mut out, &text_of(value), true);
        out.push('"');
    }
    out
}

/// A value as text: <https://opentelemetry.io/docs/specs/otel/common/#anyvalue-representation-for-non-otlp-protocols>
fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Static(text) => (*text).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Int(int) => int.to_string().into(),
        Value::Double(double) => double.to_string().into(),
        Value::Bool(bool) => bool.to_string().into(),
        Value::Texts(texts) => {
            let mut out = String::from("[");
            for (at, text) in texts.iter().enumerate() {
                // Writing to a String cannot fail.
                let _ = write!(out, "{}{text:?}", if at > 0 { "," } else { "" });
            }
            out.push(']');
            out.into()
        }
    }
}

/// Escapes backslashes and line feeds, and quotes where the text stands between some.
pub(super) fn put_escaped(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_with_their_unit_once() {
        for (metric, unit, is_gauge, name, suffix) in [
            ("http.server.request.duration", "s", false, "http_server_request_duration_seconds", "seconds"),
            ("http.server.duration", "ms", false, "http_server_duration_milliseconds", "milliseconds"),
            ("otel.sdk.exporter.span.exported", "{span}", false, "otel_sdk_exporter_span_exported", ""),
            ("memory_bytes", "By", true, "memory_bytes", "bytes"),
            ("bytes", "By", true, "bytes", "bytes"),
            ("kilobytes", "By", true, "kilobytes_bytes", "bytes"),
            ("a.total", "1", false, "a", ""),
            ("cpu.use", "1", true, "cpu_use_ratio", "ratio"),
            ("disk", "By/s", true, "disk_bytes_per_second", "bytes_per_second"),
            ("rate", "{request}/s", true, "rate_per_second", "per_second"),
            ("2.x--y..z", "", true, "_2_x_y_z", ""),
            ("odd", "m{a/b}", true, "odd_m", "m"),
        ] {
            let found = FamilyName::of(metric, unit, is_gauge);
            assert_eq!((found.name.as_str(), found.unit.as_str()), (name, suffix), "{metric} {unit}");
        }
    }

    #[test]
    fn labels_are_sorted_escaped_and_merged() {
        let values = [
            ("z", Value::Text("a\"b\\c\nd".into())),
            ("http.route", Value::Static("/")),
            ("http-route", Value::Static("second")),
            ("9lives", Value::Int(-9)),
            ("list", Value::Texts(vec!["x".into(), "y\"".into()])),
            ("job", Value::Bool(true)),
        ];
        let found = labels(values.iter().map(|(name, value)| (*name, value)), &["job"]);
        let expected = r#"http_route="second;/",key_9lives="-9",list="[\"x\",\"y\\\"\"]",z="a\"b\\c\nd""#;
        assert_eq!(found, expected);
    }
}
