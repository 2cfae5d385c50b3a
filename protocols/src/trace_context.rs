//! Which trace the caller of a request is in: W3C `traceparent` with `tracestate`, else B3, single or multiple headers.
//!
//! Reading is strict: a header that its specification calls invalid is as good as none, a wrong parent is worse than a
//! missing one. Spec: <https://www.w3.org/TR/trace-context-1/>, <https://github.com/openzipkin/b3-propagation>.

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::{exchange::TraceContext, limits};

/// The headers of one request that speak of a trace, as they came.
#[derive(Clone, Debug, Default)]
pub struct TraceHeaders<'a> {
    traceparent: Option<&'a [u8]>,
    traceparent_repeated: bool,
    tracestate: SmallVec<[&'a [u8]; 2]>,
    b3: Option<&'a [u8]>,
    b3_trace_id: Option<&'a [u8]>,
    b3_span_id: Option<&'a [u8]>,
    b3_sampled: Option<&'a [u8]>,
    b3_flags: Option<&'a [u8]>,
}

impl<'a> TraceHeaders<'a> {
    /// Takes note of a header if it is one of these.
    pub fn take(&mut self, name: &str, value: &'a [u8]) {
        let slot = match name.len() {
            2 if name.eq_ignore_ascii_case("b3") => &mut self.b3,
            10 if name.eq_ignore_ascii_case("tracestate") => {
                if self.tracestate.len() < 8 {
                    self.tracestate.push(value);
                }
                return;
            }
            10 if name.eq_ignore_ascii_case("x-b3-flags") => &mut self.b3_flags,
            11 if name.eq_ignore_ascii_case("traceparent") => {
                self.traceparent_repeated = self.traceparent.is_some();
                &mut self.traceparent
            }
            11 if name.eq_ignore_ascii_case("x-b3-spanid") => &mut self.b3_span_id,
            12 if name.eq_ignore_ascii_case("x-b3-traceid") => &mut self.b3_trace_id,
            12 if name.eq_ignore_ascii_case("x-b3-sampled") => &mut self.b3_sampled,
            _ => return,
        };
        slot.get_or_insert(value);
    }

    /// The caller's trace: W3C if it is there and valid, else B3.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.w3c().or_else(|| self.b3_single()).or_else(|| self.b3_multiple())
    }

    fn w3c(&self) -> Option<TraceContext> {
        if self.traceparent_repeated {
            return None;
        }
        let (trace_id, parent_id, flags) = traceparent(self.traceparent?)?;
        let state = tracestate(&self.tracestate);
        Some(TraceContext { trace_id, parent_id, flags, is_decided: true, state })
    }

    /// `{TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}`, the last two optional; or the sampling state alone.
    fn b3_single(&self) -> Option<TraceContext> {
        if let state @ (b"0" | b"1" | b"d") = self.b3? {
            return Some(decision_only(state != b"0"));
        }
        let mut parts = self.b3?.split(|byte| *byte == b'-');
        b3(parts.next()?, parts.next()?, parts.next().and_then(decision))
    }

    fn b3_multiple(&self) -> Option<TraceContext> {
        let decision = self.b3_sampled.and_then(decision);
        // "Debug implies an accept decision."
        let decision = if self.b3_flags == Some(b"1") { Some(true) } else { decision };
        match (self.b3_trace_id, self.b3_span_id) {
            (None, None) => decision.map(decision_only),
            (trace, span) => b3(trace?, span?, decision),
        }
    }
}

/// Reads `00-<32 hex>-<16 hex>-<2 hex>`, lower case. A version above 00 may be longer, after a dash; ff is invalid.
fn traceparent(value: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (fixed, rest) = value.split_at_checked(55)?;
    let version = hex::<1>(fixed.get(..2)?, false)?;
    let well_ended = match version[0] {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let dashes = [2, 35, 52].iter().all(|at| fixed.get(*at) == Some(&b'-'));
    if !well_ended || !dashes {
        return None;
    }
    let trace_id = hex::<16>(fixed.get(3..35)?, false)?;
    let parent_id = hex::<8>(fixed.get(36..52)?, false)?;
    let flags = hex::<1>(fixed.get(53..55)?, false)?;
    (trace_id != [0; 16] && parent_id != [0; 8]).then_some((trace_id, parent_id, flags[0]))
}

/// Joins the headers to one list; members that would pass the cap, or are not printable ASCII, are left out whole.
fn tracestate(headers: &[&[u8]]) -> CompactString {
    let mut state = CompactString::default();
    for member in headers.iter().flat_map(|header| header.split(|byte| *byte == b',')) {
        let Ok(member) = str::from_utf8(member.trim_ascii()) else { continue };
        let printable = member.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if member.is_empty() || !printable || state.len() + 1 + member.len() > limits::TRACE_STATE_BYTES_MAX {
            continue;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(member);
    }
    state
}

/// A sampling state; what is none is as good as absent.
fn decision(state: &[u8]) -> Option<bool> {
    match state {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// > It is also valid to make a sampling decision prior to a trace ID (openzipkin/b3-propagation, "Why is the trace ID
/// > optional"), in other words: without one.
fn decision_only(sampled: bool) -> TraceContext {
    TraceContext {
        trace_id: [0; 16],
        parent_id: [0; 8],
        flags: u8::from(sampled),
        is_decided: true,
        state: CompactString::default(),
    }
}

/// A B3 trace id has 32 or 16 hex digits; the short one stands for the lower half.
///
/// > Leaving this field absent means the decision is deferred (openzipkin/b3-propagation, "Sampling State")
fn b3(trace: &[u8], span: &[u8], decision: Option<bool>) -> Option<TraceContext> {
    let mut trace_id = [0; 16];
    if trace.len() == 16 {
        trace_id[8..].copy_from_slice(&hex::<8>(trace, true)?);
    } else {
        trace_id = hex::<16>(trace, true)?;
    }
    let parent_id = hex::<8>(span, true)?;
    let valid = trace_id != [0; 16] && parent_id != [0; 8];
    valid.then(|| TraceContext {
        trace_id,
        parent_id,
        flags: u8::from(decision == Some(true)),
        is_decided: decision.is_some(),
        state: CompactString::default(),
    })
}

fn hex<const N: usize>(text: &[u8], upper: bool) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if upper => Some(byte - b'A' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (slot, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *slot = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(headers: &[(&str, &str)]) -> Option<TraceContext> {
        let mut all = TraceHeaders::default();
        for (name, value) in headers {
            all.take(name, value.as_bytes());
        }
        all.context()
    }

    #[test]
    fn w3c_is_read_with_its_state() {
        let found = context(&[("Traceparent", PARENT), ("tracestate", "a=1, b=2"), ("TraceState", "c=3")]);
        let found = found.expect("valid");
        assert_eq!(found.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(found.parent_id[6..], [0x02, 0xb7]);
        assert_eq!((found.flags, found.state.as_str()), (1, "a=1,b=2,c=3"));
    }

    #[test]
    fn invalid_parents_are_none() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(context(&[("traceparent", bad)]), None, "{bad}");
        }
        assert_eq!(context(&[("traceparent", PARENT), ("traceparent", PARENT)]), None, "more than one");
        let future = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what";
        assert!(context(&[("traceparent", future)]).is_some(), "a later version may be longer");
    }

    #[test]
    fn b3_is_read_when_w3c_is_absent() {
        let single =
            context(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90")]);
        assert_eq!(single.as_ref().map(|found| (found.trace_id[0], found.flags)), Some((0x80, 1)));
        assert!(single.is_some_and(|found| found.is_decided));
        let multiple = context(&[("X-B3-TraceId", "64fe8b2a57d3eff7"), ("X-B3-SpanId", "E457B5A2E4D86BD1")]);
        assert_eq!(
            multiple.as_ref().map(|found| (found.trace_id[7..9].to_vec(), found.flags)),
            Some((vec![0, 0x64], 0))
        );
        for (headers, sampled) in [
            (("b3", "0"), Some(false)),
            (("b3", "1"), Some(true)),
            (("b3", "d"), Some(true)),
            (("b3", "x"), None),
            (("X-B3-Sampled", "0"), Some(false)),
            (("X-B3-Sampled", "maybe"), None),
            (("X-B3-Flags", "1"), Some(true)),
            (("X-B3-Flags", "0"), None),
        ] {
            let found = context(&[headers]);
            assert!(found.as_ref().is_none_or(|found| found.trace_id == [0; 16] && found.is_decided));
            assert_eq!(found.map(|found| found.flags == 1), sampled, "{headers:?}");
        }
    }

    #[test]
    fn b3_may_leave_the_decision_open() {
        let ids = [("X-B3-TraceId", "64fe8b2a57d3eff7"), ("X-B3-SpanId", "e457b5a2e4d86bd1")];
        let single = |state: &str| context(&[("b3", &format!("64fe8b2a57d3eff7-e457b5a2e4d86bd1{state}"))]);
        let multiple = |name, value| context(&[ids[0], ids[1], (name, value)]);
        for (found, sampled, is_decided) in [
            (single(""), 0, false),
            (single("-0"), 0, true),
            (single("-1"), 1, true),
            (single("-d"), 1, true),
            (context(&ids), 0, false),
            (multiple("X-B3-Sampled", "0"), 0, true),
            (multiple("X-B3-Sampled", "1"), 1, true),
            (multiple("X-B3-Sampled", "true"), 1, true),
            (multiple("X-B3-Flags", "1"), 1, true),
            (multiple("X-B3-Flags", "0"), 0, false),
            (context(&[("traceparent", PARENT)]), 1, true),
        ] {
            let found = found.expect("valid");
            assert_eq!((found.flags, found.is_decided), (sampled, is_decided), "{found:?}");
        }
    }

    #[test]
    fn a_long_state_loses_whole_members() {
        let long = format!("a={},b=2", "x".repeat(600));
        assert_eq!(context(&[("traceparent", PARENT), ("tracestate", &long)]).expect("valid").state, "b=2");
    }
}
