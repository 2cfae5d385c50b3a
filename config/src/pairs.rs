//! Lists of pairs in one text, `key=value,key2=value2`, as `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_EXPORTER_OTLP_HEADERS`
//! have them: comma separated, values percent-encoded (W3C Baggage without properties).

/// Reads the pairs in order; blanks around keys and values are dropped, empty elements skipped.
///
/// # Errors
/// The element that has no `=`, no key, or a value that is not percent-encoded UTF-8; without its value, which may be
/// secret.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (index, element) in text.split(',').enumerate() {
        if element.trim().is_empty() {
            continue;
        }
        let (key, value) =
            element.split_once('=').ok_or_else(|| format!("element {} has no `=`", index + 1))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(format!("element {} has nothing before its `=`", index + 1));
        }
        let value = percent_decode(value.trim())
            .ok_or_else(|| format!("the value of `{key}` is not percent-encoded UTF-8"))?;
        pairs.push((key.to_owned(), value));
    }
    Ok(pairs)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_or_refused() {
        let pairs = |list: &[(&str, &str)]| {
            Ok(list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(parse(""), pairs(&[]));
        assert_eq!(parse("a=1, b = two%20words ,"), pairs(&[("a", "1"), ("b", "two words")]));
        assert_eq!(parse("a=b=c"), pairs(&[("a", "b=c")]));
        assert_eq!(parse("a="), pairs(&[("a", "")]));
        assert_eq!(parse("ok=1,secret"), Err("element 2 has no `=`".to_owned()));
        assert_eq!(parse("=x"), Err("element 1 has nothing before its `=`".to_owned()));
        for value in ["%", "%4", "%zz", "%ff"] {
            assert!(parse(&format!("key={value}")).is_err_and(|text| text.contains("`key`")), "{value}");
        }
    }
}
