//! What a parser produces: one [`Exchange`] per request with its response, already in the words of the semantic
//! conventions, owned, bounded and redacted.

use compact_str::CompactString;

use crate::{protocol::BootNanos, protocol::Role, semconv::Metric};

/// The name of an attribute: nearly always a constant of [`crate::semconv`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A constant.
    Static(&'static str),
    /// A name made at run time, such as `http.request.header.<name>`.
    Owned(CompactString),
}

impl Key {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Owned(name) => name,
        }
    }
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Self {
        Self::Static(name)
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A constant text.
    Static(&'static str),
    /// Text; up to 24 bytes stand inline.
    Text(CompactString),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// A list of texts (header values).
    Texts(Vec<CompactString>),
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Static(text) => Some(text),
            Self::Text(text) => Some(text),
            Self::Int(_) | Self::Double(_) | Self::Bool(_) | Self::Texts(_) => None,
        }
    }
}

/// Attributes in the order in which they were added. Small enough that a search is a scan; on the heap, since an
/// exchange is moved a dozen times on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(Key, Value)>);

impl Attributes {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; the caller knows that `key` is not there yet.
    pub fn push(&mut self, key: impl Into<Key>, value: Value) {
        if self.0.capacity() == 0 {
            self.0.reserve_exact(USUAL);
        }
        self.0.push((key.into(), value));
    }

    /// Adds one, or replaces its value.
    pub fn set(&mut self, key: impl Into<Key>, value: Value) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => *slot = value,
            None => self.push(key, value),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(k, _)| k.as_str() == key)?;
        Some(self.0.remove(at).1)
    }

    /// Looks one up.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k.as_str() == key).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Attributes that an exchange rarely exceeds: one allocation holds them.
const USUAL: usize = 14;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No error: the span's status stays unset.
    Unset,
    /// An error, with its `error.type` (low cardinality: a status code, or a word such as `connection_closed`).
    Error(CompactString),
}

/// The caller's trace, as read from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes; all zero, as is `parent_id`, if the caller has only decided whether the trace is kept (`b3: 0`).
    pub trace_id: [u8; 16],
    /// The caller's span, 8 bytes.
    pub parent_id: [u8; 8],
    /// W3C trace flags; bit 0 is "sampled".
    pub flags: u8,
    /// False if the caller leaves it to whom it calls whether the trace is kept (B3 without a sampling state); "sampled"
    /// is not set then.
    pub is_decided: bool,
    /// The `tracestate` header as sent, bounded.
    pub state: CompactString,
}

/// One request with its response.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// [`crate::Protocol::name`] of the parser that found it.
    pub protocol: &'static str,
    /// Which end was watched: decides the span kind.
    pub role: Role,
    /// When the first byte of the request was sent or received.
    pub start: BootNanos,
    /// When the last byte of the request was.
    pub request_end: BootNanos,
    /// When the first byte of the response was; `None` if there was no response.
    pub response_start: Option<BootNanos>,
    /// When the last byte of the response was, or when the exchange failed.
    pub end: BootNanos,
    /// Bytes of the request on the wire, head and body, counted from call lengths.
    pub request_bytes: u64,
    /// Bytes of the response on the wire.
    pub response_bytes: u64,
    /// First part of the span's name, of low cardinality: the HTTP method, the Redis command.
    pub operation: CompactString,
    /// Second part of the span's name, if it is already known here (a table, never a raw path). Processors may set it.
    pub target: Option<CompactString>,
    /// Span attributes by the semantic conventions. Addresses of the socket are added by the agent.
    pub attributes: Attributes,
    /// Error or not.
    pub outcome: Outcome,
    /// The caller's trace, if the request named it.
    pub trace: Option<TraceContext>,
    /// The duration histogram that this exchange counts into; its dimensions are picked from the attributes.
    pub metric: Option<&'static Metric>,
}
