//! What an OpenTelemetry SDK says of its process to readers outside of it: the process context of OTEP 4719.
//!
//! It is a mapping that `/proc/PID/maps` calls `OTEL_CTX`, with a header, which points to a Protobuf message:
//!
//! ```text
//! 0         8         12        16             24          32
//! +---------+---------+---------+--------------+-----------+
//! |OTEL_CTX |version  |size     |published_at  |payload    |   in the byte order of the machine
//! +---------+---------+---------+--------------+-----------+
//! ```
//!
//! All of it is memory of a stranger: it may change while it is read, and need not be what it claims.
//! <https://github.com/open-telemetry/opentelemetry-specification/blob/main/oteps/profiles/4719-process-ctx.md>

use std::{fs::File, os::unix::fs::FileExt};

use compact_str::CompactString;
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::{Attributes, Value, semconv::key};

use super::procfs::{self, Area};

/// What a process has published about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessContext {
    /// What of its resource names the service; empty if that could not be read.
    pub attributes: Attributes,
}

/// The context of a process. That it is there says that the process makes telemetry of its own, even if what it says
/// cannot be understood.
#[must_use]
pub fn read(tgid: Tgid) -> Option<ProcessContext> {
    let areas = procfs::areas(tgid);
    let mut candidates = areas.iter().filter(|area| is_context(&area.name)).take(CANDIDATES_MAX).peekable();
    candidates.peek()?;
    let memory = File::open(format!("/proc/{}/mem", tgid.0)).ok()?;
    candidates.find_map(|area| context_at(&memory, area.start, &areas))
}

/// `[anon:OTEL_CTX]` and `[anon_shmem:OTEL_CTX]` if the kernel names anonymous memory (5.17, `CONFIG_ANON_VMA_NAME`), else
/// that of the memfd.
fn is_context(name: &str) -> bool {
    ["[anon:OTEL_CTX]", "[anon_shmem:OTEL_CTX]", "/memfd:OTEL_CTX"]
        .iter()
        .any(|known| name.starts_with(known))
}

fn context_at(memory: &File, address: u64, areas: &[Area]) -> Option<ProcessContext> {
    let header = || {
        let mut bytes = [0; HEADER_BYTES];
        memory.read_exact_at(&mut bytes, address).ok()?;
        Header::parse(&bytes)
    };
    for _ in 0..ATTEMPTS_MAX {
        let before = header()?;
        let payload = payload(memory, before, areas);
        // While it is changed the time is 0, and afterwards another.
        if before.published_at_ns != 0 && header()? == before {
            let attributes = payload.map(|bytes| attributes(&bytes)).unwrap_or_default();
            return Some(ProcessContext { attributes });
        }
    }
    Some(ProcessContext::default())
}

/// The message, where it lies in memory that no file and no device stands behind: reading it can wait for nobody and
/// has no effects.
fn payload(memory: &File, header: Header, areas: &[Area]) -> Option<Vec<u8>> {
    let size = usize::try_from(header.size).ok().filter(|size| *size <= PAYLOAD_BYTES_MAX)?;
    let end = header.payload.checked_add(u64::from(header.size))?;
    let area = areas.iter().find(|area| area.start <= header.payload && end <= area.end)?;
    if !area.is_memory() && !is_context(&area.name) {
        return None;
    }
    let mut bytes = vec![0; size];
    memory.read_exact_at(&mut bytes, header.payload).ok()?;
    Some(bytes)
}

/// The beginning of the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Bytes of the message.
    size: u32,
    /// 0 while it is changed.
    published_at_ns: u64,
    /// Where the message is.
    payload: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if !bytes.starts_with(SIGNATURE) || word(8)? != VERSION {
            return None;
        }
        Some(Self { size: word(12)?, published_at_ns: long(16)?, payload: long(24)? })
    }
}

/// What of a `ProcessContext` names the service. What cannot be understood is left out.
///
/// Shape: `ProcessContext{1: Resource{1: KeyValue{1: key, 2: AnyValue{1: text}} ...}}`
/// (`opentelemetry/proto/processcontext/v1development/process_context.proto`). `service.instance.id` is not taken: it would
/// make our series and those of the process's own SDK the same ones.
#[must_use]
pub fn attributes(payload: &[u8]) -> Attributes {
    const TAKEN: [&str; 4] =
        [key::SERVICE_NAME, key::SERVICE_NAMESPACE, key::SERVICE_VERSION, key::DEPLOYMENT_ENVIRONMENT_NAME];
    let mut attributes = Attributes::new();
    let pairs = fields(payload, 1).flat_map(|resource| fields(resource, 1)).take(ATTRIBUTES_MAX);
    for pair in pairs {
        let text = |bytes: Option<&[u8]>| Some(str::from_utf8(bytes?).ok()?.to_owned());
        let name = text(fields(pair, 1).last()).unwrap_or_default();
        let value = text(fields(pair, 2).last().and_then(|value| fields(value, 1).last()));
        let value = value.filter(|value| !value.is_empty() && value.len() <= VALUE_BYTES_MAX);
        if let (Some(name), Some(value)) = (TAKEN.into_iter().find(|taken| *taken == name), value) {
            attributes.set(name, Value::Text(CompactString::from(value)));
        }
    }
    attributes
}

/// The values of the length-delimited field `number` of a Protobuf message, as far as it makes sense.
fn fields(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut rest)?;
            let value = match tag & 7 {
                0 => {
                    varint(&mut rest)?;
                    continue;
                }
                1 => take(&mut rest, 8)?,
                2 => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    take(&mut rest, length)?
                }
                5 => take(&mut rest, 4)?,
                _ => return None,
            };
            if tag == number << 3 | 2 {
                return Some(value);
            }
        }
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

const SIGNATURE: &[u8; 8] = b"OTEL_CTX";
/// The one that is specified; 1 was for development.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 32;
/// Mappings of that name that are looked at: a process should have one.
const CANDIDATES_MAX: usize = 4;
/// A process that changes its context each time is not waited for.
const ATTEMPTS_MAX: usize = 3;
/// Resources are of a few KiB at most.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Attributes that are looked at.
const ATTRIBUTES_MAX: usize = 1024;
/// Longer names are no names.
const VALUE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = value.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(value);
        bytes
    }

    fn context(pairs: &[(&str, &str)]) -> Vec<u8> {
        let pair = |(name, value): &(&str, &str)| {
            let value = field(2, &field(1, value.as_bytes()));
            field(1, &[field(1, name.as_bytes()), value].concat())
        };
        let resource: Vec<u8> = pairs.iter().flat_map(pair).collect();
        // A count of dropped attributes, and an attribute of the context itself.
        field(1, &[&resource[..], &[0x10, 0x83, 0x01]].concat())
    }

    fn texts(attributes: &Attributes) -> Vec<(&str, &str)> {
        attributes.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    #[test]
    fn names_are_taken_and_the_rest_is_left() {
        let long = "x".repeat(300);
        let payload = context(&[
            ("telemetry.sdk.language", "go"),
            ("service.name", "shop"),
            ("service.instance.id", "4711"),
            ("service.namespace", ""),
            ("service.version", &long),
            ("deployment.environment.name", "test"),
        ]);
        let expected = [("service.name", "shop"), ("deployment.environment.name", "test")];
        assert_eq!(texts(&attributes(&payload)), expected);
    }

    #[test]
    fn a_damaged_message_gives_less_and_never_more() {
        let payload = context(&[("service.name", "shop"), ("service.version", "1")]);
        for end in 0..payload.len() {
            assert_eq!(attributes(&payload[..end]), Attributes::new(), "the whole is missing at {end}");
        }
        let inner = &payload[2..];
        for bytes in
            [inner, &[0xff; 20], &[0x0b], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], b"\x09\0\0\0\0\0\0\0\0"]
        {
            assert_eq!(attributes(bytes), Attributes::new(), "{bytes:?}");
        }
    }

    #[test]
    fn a_header_must_be_one() {
        let header = |signature: &[u8; 8], version: u32| {
            let mut bytes = [0; HEADER_BYTES];
            bytes[..8].copy_from_slice(signature);
            bytes[8..12].copy_from_slice(&version.to_ne_bytes());
            bytes[12..16].copy_from_slice(&7_u32.to_ne_bytes());
            bytes[16..24].copy_from_slice(&8_u64.to_ne_bytes());
            bytes[24..].copy_from_slice(&9_u64.to_ne_bytes());
            bytes
        };
        let expected = Header { size: 7, published_at_ns: 8, payload: 9 };
        assert_eq!(Header::parse(&header(SIGNATURE, 2)), Some(expected));
        assert_eq!(Header::parse(&header(SIGNATURE, 1)), None);
        assert_eq!(Header::parse(&header(b"OTEL_CTY", 2)), None);
    }

    /// A header in our own memory, which is read as a stranger's would be.
    fn own(payload: &[u8], claimed_bytes: usize, published_at_ns: u64) -> Option<ProcessContext> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(SIGNATURE);
        header.extend_from_slice(&VERSION.to_ne_bytes());
        header.extend_from_slice(&u32::try_from(claimed_bytes).unwrap().to_ne_bytes());
        header.extend_from_slice(&published_at_ns.to_ne_bytes());
        header.extend_from_slice(&(payload.as_ptr() as u64).to_ne_bytes());
        let memory = File::open("/proc/self/mem").unwrap();
        context_at(&memory, header.as_ptr() as u64, &procfs::areas(Tgid(std::process::id())))
    }

    #[test]
    fn memory_is_followed_where_it_can_be() {
        let payload = context(&[("service.name", "shop")]);
        let found = own(&payload, payload.len(), 1).unwrap();
        assert_eq!(texts(&found.attributes), [("service.name", "shop")]);
        // Being changed, too large, beyond all memory: it is a context, of which nothing is known.
        for nothing in [
            own(&payload, payload.len(), 0),
            own(&payload, PAYLOAD_BYTES_MAX + 1, 1),
            own(&payload, u32::MAX as usize, 1),
        ] {
            assert_eq!(nothing, Some(ProcessContext::default()));
        }
        // Constants of the executable are in its file.
        assert_eq!(own(b"\x0a\x00", 2, 1), Some(ProcessContext::default()));
    }

    #[test]
    fn a_process_without_context_has_none() {
        assert_eq!(read(Tgid(std::process::id())), None);
        assert_eq!(read(Tgid(u32::MAX)), None);
    }

    #[test]
    fn mappings_by_their_names() {
        for yes in ["[anon:OTEL_CTX]", "[anon_shmem:OTEL_CTX]", "/memfd:OTEL_CTX (deleted)"] {
            assert!(is_context(yes), "{yes}");
        }
        for no in ["", "[heap]", "[anon:other]", "/tmp/memfd:OTEL_CTX", "OTEL_CTX"] {
            assert!(!is_context(no), "{no}");
        }
    }
}
