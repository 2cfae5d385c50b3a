//! OpenTelemetry's member of `tracestate`: `ot=th:c;rv:6e6d1a75832a2f`, read and written again.
//!
//! Members of others stay as they are, and so do sub-keys of `ot` that are not about sampling.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>

use compact_str::CompactString;

use super::threshold::{Randomness, Threshold};

/// What the caller says of sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `th`: the threshold of the decision that was made.
    pub threshold: Option<Threshold>,
    /// `rv`: the trace's randomness, where its id is not random.
    pub randomness: Option<Randomness>,
}

/// Reads the member. Values that are not valid are as good as none.
pub(super) fn read(state: &str) -> Said {
    let mut said = Said::default();
    // Nearly always.
    if state.is_empty() {
        return said;
    }
    let Some(own) = members(state).find_map(value) else { return said };
    for (key, value) in own.split(';').filter_map(|pair| pair.split_once(':')) {
        match key {
            "th" => said.threshold = said.threshold.or_else(|| Threshold::parse(value)),
            "rv" => said.randomness = said.randomness.or_else(|| Randomness::parse(value)),
            _ => {}
        }
    }
    said
}

/// `state` with this threshold, or with none if the probability is not known.
///
/// The member is put in front, as W3C wants what was changed. One that would be too long loses its threshold.
pub(super) fn with_threshold(state: &str, threshold: Option<Threshold>) -> CompactString {
    let mut own = CompactString::default();
    if let Some(threshold) = threshold {
        own.push_str("th:");
        own.push_str(&threshold.text());
    }
    let others = members(state).find_map(value).unwrap_or_default();
    let others =
        others.split(';').filter(|pair| !pair.is_empty() && *pair != "th" && !pair.starts_with("th:"));
    let mut length = own.len();
    for pair in others.clone() {
        length += usize::from(length > 0) + pair.len();
    }
    if length > OWN_BYTES_MAX {
        own.clear();
    }
    for pair in others {
        if !own.is_empty() {
            own.push(';');
        }
        own.push_str(pair);
    }
    let mut result = CompactString::default();
    let mut count = 0;
    if !own.is_empty() {
        result.push_str(OWN_KEY);
        result.push_str(&own);
        count = 1;
    }
    for member in members(state).filter(|member| value(member).is_none()) {
        if count == MEMBERS_MAX {
            break;
        }
        if count > 0 {
            result.push(',');
        }
        result.push_str(member);
        count += 1;
    }
    result
}

fn members(state: &str) -> impl Iterator<Item = &str> {
    state.split(',').map(str::trim).filter(|member| !member.is_empty())
}

fn value(member: &str) -> Option<&str> {
    member.strip_prefix(OWN_KEY)
}

const OWN_KEY: &str = "ot=";
/// "The complete list length MUST NOT exceed 256 characters."
const OWN_BYTES_MAX: usize = 256;
/// "There can be a maximum of 32 list-members in a list" (W3C Trace Context); the last ones go.
const MEMBERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceId;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_are_found_wherever_they_stand() {
        let quarter = Threshold::parse("c");
        let one = Randomness::parse("00000000000001");
        for (state, threshold, randomness) in [
            ("", None, None),
            ("a=1,b=th:c", None, None),
            ("ot=", None, None),
            ("ot=th", None, None),
            ("ot=th:c", quarter, None),
            ("a=1, ot=p:8;rv:00000000000001;th:c ,b=2", quarter, one),
            ("ot=th:xyz;rv:1", None, None),
            ("tenant@ot=th:c", None, None),
            ("ot=th:c,ot=th:8", quarter, None),
        ] {
            assert_eq!(read(state), Said { threshold, randomness }, "{state}");
        }
    }

    #[test]
    fn only_the_threshold_is_changed() {
        let half = Threshold::parse("8");
        for (state, threshold, expected) in [
            ("", half, "ot=th:8"),
            ("", None, ""),
            ("a=1", half, "ot=th:8,a=1"),
            ("a=1", None, "a=1"),
            ("a=1,ot=th:c;rv:00000000000001,b=2", half, "ot=th:8;rv:00000000000001,a=1,b=2"),
            ("a=1,ot=p:8;th:c,b=2", None, "ot=p:8,a=1,b=2"),
            ("ot=th:c", None, ""),
            ("ot=th:c,a=1", None, "a=1"),
            ("ot=th:c,ot=th:d", half, "ot=th:8"),
        ] {
            assert_eq!(with_threshold(state, threshold), expected, "{state}");
        }
        let long = format!("ot=x:{}", "y".repeat(252));
        assert_eq!(with_threshold(&long, half), long, "no room for a threshold");
        let many: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        let changed = with_threshold(&many.join(","), half);
        assert!(changed.starts_with("ot=th:8,k0=v,") && changed.ends_with(",k30=v"), "{changed}");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(state in "[a-z=:;, ]{0,80}", bits: u64) {
            let randomness = Randomness::of(TraceId::from_bytes(u128::from(bits).to_be_bytes()));
            let threshold = Threshold::above(randomness);
            let written = with_threshold(&state, Some(threshold));
            prop_assert_eq!(read(&written).threshold.map(Threshold::text), Some(threshold.text()));
            prop_assert_eq!(read(&with_threshold(&written, None)).threshold, None);
        }
    }
}
