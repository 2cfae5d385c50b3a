//! References to environment variables in a scalar: `${VAR}`, `${env:VAR}`, `${VAR:-default}`, and `$$` for one `$`.
//!
//! Left to right, never recursive: what a variable or a default brings in is not looked at again.
//! Spec: <https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution>

use std::borrow::Cow;

/// A `${...}` that fits no valid reference, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidReference(pub(crate) String);

/// Replaces the references in `text`; borrowed if there was nothing to replace.
///
/// `env` gives a variable's value. A variable that is not set and has no default is replaced by nothing, so that an
/// unquoted scalar that was only this reference becomes null.
pub(crate) fn substitute<'t>(
    text: &'t str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'t, str>, InvalidReference> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    // "parsers consume the input from left to right, iteratively identifying the next escape sequence, and matching
    // the content since the prior escape sequence against SUBSTITUTION-REF": a reference never spans an escape.
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$$") {
        replace_references(before, env, &mut out)?;
        out.push('$');
        rest = after;
    }
    replace_references(rest, env, &mut out)?;
    Ok(Cow::Owned(out))
}

/// Handles a piece of text without escapes.
fn replace_references(
    piece: &str,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
) -> Result<(), InvalidReference> {
    let mut rest = piece;
    while let Some(start) = rest.find("${") {
        let inside = &rest[start + 2..];
        // Neither grammar lets a reference go over a control character or lack its brace: that is plain text.
        let Some(length) = inside.find(|c: char| c == '}' || (c.is_control() && c != '\t')) else { break };
        if !inside[length..].starts_with('}') {
            out.push_str(&rest[..start + 2]);
            rest = inside;
            continue;
        }
        out.push_str(&rest[..start]);
        let reference = &inside[..length];
        let (name, default) =
            parse(reference).ok_or_else(|| InvalidReference(format!("${{{reference}}}")))?;
        // "an optional fallback value which is substituted if ENV-NAME is null, empty, or undefined"
        match env(name).filter(|value| !value.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(default.unwrap_or_default()),
        }
        rest = &inside[length + 1..];
    }
    out.push_str(rest);
    Ok(())
}

/// `["env:"] ENV-NAME [":-" DEFAULT-VALUE]`
fn parse(reference: &str) -> Option<(&str, Option<&str>)> {
    let reference = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let mut chars = name.chars();
    let starts_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    (starts_well && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, default))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "STRING_VALUE" => "value",
            "EMPTY" => "",
            "REPLACE_ME" => "${DO_NOT_REPLACE_ME}",
            "DO_NOT_REPLACE_ME" => "Never use this value",
            _ => return None,
        };
        Some(value.to_owned())
    }

    // The specification's own table is in `yaml/tests.rs`, where types are resolved too. Here: what it leaves out.
    #[test]
    fn edges_of_the_grammar() {
        for (input, expected) in [
            ("", Ok("")),
            ("$", Ok("$")),
            ("$$", Ok("$")),
            ("$$$", Ok("$$")),
            ("${", Ok("${")),
            ("a${STRING_VALUE", Ok("a${STRING_VALUE")),
            ("${STRING_VALUE}${STRING_VALUE}", Ok("valuevalue")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-x y}", Ok("x y")),
            ("${UNSET:-}", Ok("")),
            ("${UNSET:-a:-b}", Ok("a:-b")),
            ("${env:UNSET:-d}", Ok("d")),
            ("${REPLACE_ME}", Ok("${DO_NOT_REPLACE_ME}")),
            ("${STRING_\nVALUE} ${STRING_VALUE}", Ok("${STRING_\nVALUE} value")),
            ("é ${UNSET:-é}", Ok("é é")),
            ("${}", Err("${}")),
            ("${1API_KEY}", Err("${1API_KEY}")),
            ("${API_$KEY}", Err("${API_$KEY}")),
            ("${ STRING_VALUE }", Err("${ STRING_VALUE }")),
            ("${file:STRING_VALUE}", Err("${file:STRING_VALUE}")),
            ("${STRING_VALUE:?error}", Err("${STRING_VALUE:?error}")),
            ("${STRING_VALUE} ${-}", Err("${-}")),
        ] {
            let got = substitute(input, &env);
            let expected =
                expected.map(Cow::Borrowed).map_err(|text: &str| InvalidReference(text.to_owned()));
            assert_eq!(got, expected, "{input:?}");
        }
    }
}
