//! What a scalar means: the YAML 1.2 core schema, applied after substitution.
//!
//! Only an unquoted scalar is resolved; quotes and block styles make text. `yes`, `on` and `012` are text, text and
//! twelve: YAML 1.1's surprises are not ours.

/// A resolved scalar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    /// Wide enough that every number which could be meant is reported as out of range, not as text.
    Int(i128),
    Float(f64),
    Text(String),
}

/// Resolves an unquoted scalar. Spec: <https://yaml.org/spec/1.2.2/#1032-tag-resolution>
pub(crate) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    integer(text)
        .map(Scalar::Int)
        .or_else(|| float(text).map(Scalar::Float))
        .unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn integer(text: &str) -> Option<i128> {
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(rest) = text.strip_prefix('-') {
        return digits(rest, 10).map(|number| -number);
    }
    digits(text.strip_prefix('+').unwrap_or(text), 10)
}

/// `from_str_radix` alone would accept a second sign.
fn digits(text: &str, radix: u32) -> Option<i128> {
    text.chars().all(|c| c.is_digit(radix)).then(|| i128::from_str_radix(text, radix).ok())?
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, and the infinities.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // What `f64::from_str` accepts beyond the schema: `inf`, `infinity`, `nan`, in any case.
    let has_digit = unsigned.contains(|c: char| c.is_ascii_digit());
    let only_digits =
        unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    (has_digit && only_digits).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_follow_the_core_schema() {
        let text = |t: &str| Scalar::Text(t.to_owned());
        for (input, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("NULL", Scalar::Null),
            ("nULL", text("nULL")),
            ("True", Scalar::Bool(true)),
            ("yes", text("yes")),
            ("off", text("off")),
            ("012", Scalar::Int(12)),
            ("-19", Scalar::Int(-19)),
            ("+7", Scalar::Int(7)),
            ("0o14", Scalar::Int(12)),
            ("0xdeadbeef", Scalar::Int(3_735_928_559)),
            ("--1", text("--1")),
            ("+-1", text("+-1")),
            ("-", text("-")),
            ("+", text("+")),
            ("0x", text("0x")),
            ("1.5", Scalar::Float(1.5)),
            ("12e03", Scalar::Float(12_000.0)),
            ("-.5", Scalar::Float(-0.5)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("inf", text("inf")),
            ("nan", text("nan")),
            ("1.1.1", text("1.1.1")),
            ("1_000", text("1_000")),
            ("30s", text("30s")),
            ("e", text("e")),
            (".", text(".")),
        ] {
            assert_eq!(resolve(input), expected, "{input:?}");
        }
        assert!(matches!(resolve(".NaN"), Scalar::Float(number) if number.is_nan()));
        assert!(matches!(resolve(&"9".repeat(60)), Scalar::Float(_)), "a number that no integer holds");
    }
}
