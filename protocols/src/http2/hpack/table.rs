//! Which field has an index? The static table, and the dynamic one as far as a bystander can know it.
//!
//! Indices count from the newest entry, so whoever joins late resolves everything that was inserted since, and nothing
//! that was before: an index beyond what is here is unknown, not wrong. For the same reason it does no harm to keep an
//! entry that the two ends have evicted already (the size of an entry whose name is unknown can only be guessed too
//! small): they will not refer to it any more.
//!
//! SETTINGS_HEADER_TABLE_SIZE only bounds what an encoder may choose. What it chose, also because a bound was lowered,
//! stands in its own blocks in the order of its insertions (RFC 7541, section 4.2), so settings are not needed here.
//! Spec: RFC 7541, sections 2.3 and 4.

use std::collections::VecDeque;

/// The name of a field in the words of whoever decodes.
pub(in crate::http2) trait Name: Clone {
    /// What `name` is called.
    fn of(name: &[u8]) -> Self;

    /// True if the values of such fields are wanted: others are not kept and not told.
    fn is_wanted(&self) -> bool;
}

/// The dynamic table of one direction.
#[derive(Debug)]
pub(super) struct Table<N> {
    /// Newest first.
    entries: VecDeque<Entry<N>>,
    /// Sum of their sizes.
    used: usize,
    /// What the two ends have agreed on, as far as we saw.
    max: usize,
}

#[derive(Debug)]
struct Entry<N> {
    /// `None` if it was given by an index that is unknown.
    name: Option<N>,
    /// Empty if it is not wanted.
    value: Box<[u8]>,
    name_length: u32,
    value_length: u32,
}

/// What an index stands for.
pub(super) enum Found<'a, N> {
    /// A field of the static table.
    Static(&'static str, &'static str),
    /// An entry: its name, if it is known, and that name's length; its value.
    Dynamic(Option<&'a N>, usize, &'a [u8]),
    /// It was inserted before we came, or in a gap.
    Unknown,
    /// No encoder writes it.
    Invalid,
}

impl<N: Name> Table<N> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), used: 0, max: DEFAULT_BYTES }
    }

    pub(super) fn get(&self, index: usize) -> Found<'_, N> {
        let Some(index) = index.checked_sub(1) else { return Found::Invalid };
        if let Some((name, value)) = STATIC.get(index) {
            return Found::Static(name, value);
        }
        match self.entries.get(index - STATIC.len()) {
            Some(Entry { name, name_length, value, .. }) => {
                Found::Dynamic(name.as_ref(), *name_length as usize, value)
            }
            // More entries than any table of the largest allowed size can hold.
            None if index > INDEX_MAX => Found::Invalid,
            None => Found::Unknown,
        }
    }

    /// Adds a field. Of an unknown name the length is 0.
    ///
    /// > an attempt to add an entry larger than the maximum size causes the table to be emptied of all existing entries
    /// > (RFC 7541, section 4.4)
    pub(super) fn insert(&mut self, name: Option<N>, name_length: usize, value: &[u8]) {
        let wanted = name.as_ref().is_some_and(Name::is_wanted);
        let entry = Entry {
            name,
            value: if wanted { value.into() } else { Box::default() },
            name_length: u32::try_from(name_length).unwrap_or(u32::MAX),
            value_length: u32::try_from(value.len()).unwrap_or(u32::MAX),
        };
        let size = entry.size();
        self.evict(self.max.saturating_sub(size));
        if size <= self.max {
            self.used += size;
            self.entries.push_front(entry);
        }
    }

    /// The encoder changes the size of its table.
    pub(super) fn resize(&mut self, bytes: usize) {
        self.max = bytes.min(BYTES_MAX);
        self.evict(self.max);
    }

    /// What was inserted cannot be counted from now on: no index into it means anything.
    pub(super) fn forget(&mut self) {
        self.entries = VecDeque::new();
        self.used = 0;
    }

    fn evict(&mut self, room: usize) {
        while self.used > room {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.used -= oldest.size();
        }
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> (usize, usize) {
        (self.entries.len(), self.used)
    }
}

impl<N> Entry<N> {
    fn size(&self) -> usize {
        self.name_length as usize + self.value_length as usize + ENTRY_BYTES
    }
}

/// SETTINGS_HEADER_TABLE_SIZE until it is changed (RFC 9113, section 6.5.2).
const DEFAULT_BYTES: usize = 4096;
/// What is kept of a larger table; the entries beyond it are unknown to us. Rationale: the largest that browsers ask for.
const BYTES_MAX: usize = 64 * 1024;
/// What an entry counts besides its name and value (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;
/// Rationale: the entries of a table of 16 MiB.
const INDEX_MAX: usize = 16 * 1024 * 1024 / ENTRY_BYTES;

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
