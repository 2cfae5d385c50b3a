//! "Did you mean": the nearest of a list of names.

/// The name nearest to `given`, if it is near enough to be what was meant.
///
/// Near is: the same but for case and separators, or an edit distance of a third of the longer name, at most 3.
pub(crate) fn nearest<'n>(given: &str, names: &[&'n str]) -> Option<&'n str> {
    if given.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = fold(given);
    names
        .iter()
        .map(|name| (distance(&wanted, &fold(name)), *name))
        .filter(|(distance, name)| *distance <= (given.len().max(name.len()) / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The hint for an unknown name: the nearest one, else all of them.
pub(crate) fn hint(given: &str, names: &[&str]) -> Option<String> {
    if let Some(name) = nearest(given, names) {
        return Some(format!("did you mean `{name}`?"));
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    (!names.is_empty()).then(|| format!("known here: {}", names.join(", ")))
}

/// Case and separators are what people get wrong first: `maxQueueSize`, `max-queue-size`, `otlpHttp`.
fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Longer keys are not typing errors, and comparing them would cost.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names =
            ["endpoint", "headers", "headers_list", "max_queue_size", "tls", "otlp_http", "otlp_grpc"];
        for (given, expected) in [
            ("endpont", Some("endpoint")),
            ("Endpoint", Some("endpoint")),
            ("maxQueueSize", Some("max_queue_size")),
            ("max-queue-size", Some("max_queue_size")),
            ("ednpoint", Some("endpoint")),
            ("header", Some("headers")),
            ("otlp/http", Some("otlp_http")),
            ("tsl", Some("tls")),
            ("url", None),
            ("", None),
            ("certificate", None),
        ] {
            assert_eq!(nearest(given, &names), expected, "{given}");
        }
    }

    #[test]
    fn without_a_near_name_all_are_listed() {
        assert_eq!(hint("xyz", &["b", "a"]).as_deref(), Some("known here: a, b"));
        assert_eq!(hint("xyz", &[]), None);
    }
}
