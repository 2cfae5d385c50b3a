//! Trees, places and limits; and the specification's own table of substitutions.

use super::*;
use crate::scalar::Scalar;

/// The environment that the specification's table assumes.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "STRING_VALUE" => "value",
        "BOOL_VALUE" => "true",
        "INT_VALUE" => "1",
        "FLOAT_VALUE" => "1.1",
        "HEX_VALUE" => "0xdeadbeef",
        "INVALID_MAP_VALUE" => "value\nkey:value",
        "DO_NOT_REPLACE_ME" => "Never use this value",
        "REPLACE_ME" => "${DO_NOT_REPLACE_ME}",
        "VALUE_WITH_ESCAPE" => "value$$",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(text: &str) -> Result<Node, String> {
    let sink = Sink::default();
    let node = parse(text, &env, &sink);
    let problems = sink.into_problems();
    match node {
        Some(node) if problems.is_empty() => Ok(node),
        _ => Err(problems
            .iter()
            .map(|p| {
                let place = p.location.map(|l| format!("{}:{} ", l.line, l.column)).unwrap_or_default();
                format!("{place}{} {}", p.key, p.kind)
            })
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

/// The value of `key`.
fn value(text: &str) -> Result<Scalar, String> {
    let Value::Map(entries) = read(text)?.value else { return Err("no mapping".to_owned()) };
    let entry = entries.into_iter().find(|entry| entry.key == "key").ok_or("no key")?;
    let Value::Scalar(scalar) = entry.node.value else { return Err("no scalar".to_owned()) };
    Ok(scalar)
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

/// Spec: <https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution>
#[test]
fn the_table_of_the_specification() {
    for (yaml, expected) in [
        ("key: ${STRING_VALUE}", text("value")),
        ("key: ${BOOL_VALUE}", Scalar::Bool(true)),
        ("key: ${INT_VALUE}", Scalar::Int(1)),
        ("key: ${FLOAT_VALUE}", Scalar::Float(1.1)),
        ("key: ${HEX_VALUE}", Scalar::Int(3_735_928_559)),
        ("key: \"${STRING_VALUE}\"", text("value")),
        ("key: \"${BOOL_VALUE}\"", text("true")),
        ("key: \"${INT_VALUE}\"", text("1")),
        ("key: \"${FLOAT_VALUE}\"", text("1.1")),
        ("key: \"${HEX_VALUE}\"", text("0xdeadbeef")),
        ("key: ${env:STRING_VALUE}", text("value")),
        ("key: ${INVALID_MAP_VALUE}", text("value\nkey:value")),
        ("key: foo ${STRING_VALUE} ${FLOAT_VALUE}", text("foo value 1.1")),
        ("key: ${UNDEFINED_KEY}", Scalar::Null),
        ("key: ${UNDEFINED_KEY:-fallback}", text("fallback")),
        ("key: ${REPLACE_ME}", text("${DO_NOT_REPLACE_ME}")),
        ("key: ${UNDEFINED_KEY:-${STRING_VALUE}}", text("${STRING_VALUE}")),
        ("key: $${STRING_VALUE}", text("${STRING_VALUE}")),
        ("key: $$${STRING_VALUE}", text("$value")),
        ("key: $$$${STRING_VALUE}", text("$${STRING_VALUE}")),
        ("key: $${STRING_VALUE:-fallback}", text("${STRING_VALUE:-fallback}")),
        ("key: $${STRING_VALUE:-${STRING_VALUE}}", text("${STRING_VALUE:-value}")),
        ("key: ${UNDEFINED_KEY:-$${UNDEFINED_KEY}}", text("${UNDEFINED_KEY:-${UNDEFINED_KEY}}")),
        ("key: ${VALUE_WITH_ESCAPE}", text("value$$")),
        ("key: a $$ b", text("a $ b")),
        ("key: a $ b", text("a $ b")),
    ] {
        assert_eq!(value(yaml), Ok(expected), "{yaml}");
    }
    let invalid = value("key: ${STRING_VALUE:?error}").unwrap_err();
    assert!(invalid.contains("1:6 key `${STRING_VALUE:?error}`"), "{invalid}");
    let Ok(Value::Map(entries)) = read("${STRING_VALUE}: value").map(|node| node.value) else { panic!() };
    assert_eq!(entries[0].key, "${STRING_VALUE}", "keys are not substituted");
}

#[test]
fn places_are_those_of_an_editor() {
    let node = read("a:\n  - é: 1\n    b: \"x\"\n").unwrap();
    let Value::Map(entries) = &node.value else { panic!() };
    let Value::List(items) = &entries[0].node.value else { panic!() };
    let Value::Map(inner) = &items[0].value else { panic!() };
    let place = |at: Location| (at.line, at.column);
    assert_eq!(place(entries[0].at), (1, 1));
    assert_eq!(place(inner[0].at), (2, 5));
    assert_eq!(place(inner[0].node.at), (2, 8));
    assert_eq!(place(inner[1].node.at), (3, 8));
}

#[test]
fn nothing_is_null() {
    for nothing in ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "\u{feff}", "~", "null"] {
        assert!(read(nothing).unwrap().is_null(), "{nothing:?}");
    }
}

#[test]
fn structure_problems_are_told_with_their_place() {
    for (yaml, expected) in [
        ("a: 1\nb: 2\na: 3\n", "3:1 a this key is already set in line 1"),
        ("x:\n  a: 1\n  a: 2\n  a: 3\n", "3:3 x.a this key is already set in line 2; 4:3 x.a"),
        ("a: 1\n---\nb: 2\n", "a second document starts here"),
        ("a:\n\tb: 1\n", "2:"),
        ("a: [1, 2\n", "unclosed bracket"),
        ("a: b: c\n", "mapping values are not allowed"),
        ("[a]: 1\n", "a key must be text"),
        ("? {a: 1}\n: 2\nb: 1\n", "a key must be text"),
        ("a: *b\n", "unknown anchor"),
        ("a: &b [*b]\n", "an alias that contains itself"),
        ("a: !secret x\n", "a the tag !secret is not understood"),
        ("a: !x [1]\n", "the tag !x is not understood"),
        ("a: \"\\q\"\n", "1:"),
    ] {
        let got = read(yaml).unwrap_err();
        assert!(got.contains(expected), "{yaml:?}: {got}");
    }
}

#[test]
fn tags_of_the_core_schema_are_understood() {
    assert_eq!(value("key: !!str 1"), Ok(text("1")));
    assert_eq!(value("key: !!int \"1\""), Ok(Scalar::Int(1)));
    assert_eq!(value("key: |\n  1\n"), Ok(text("1\n")));
}

#[test]
fn aliases_repeat_a_value() {
    assert_eq!(value("a: &x 1\nkey: *x\n"), Ok(Scalar::Int(1)));
}

#[test]
fn bombs_are_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(read(&bomb).unwrap_err().contains("more than 20000 values"));
    assert!(read(&"[".repeat(1000)).unwrap_err().contains("nested deeper than 32 levels"));
    assert!(read(&"- ".repeat(1000)).unwrap_err().contains("nested deeper than 32 levels"));
    assert!(read(&"{a: ".repeat(1000)).unwrap_err().contains("nested deeper than 32 levels"));
    assert!(read(&"- 1\n".repeat(30_000)).unwrap_err().contains("more than 20000 values"));
    assert!(read(&"a: 1\n".repeat(5000)).is_err_and(|text| text.matches("already set").count() == 200));
}
