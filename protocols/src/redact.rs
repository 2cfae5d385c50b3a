//! What must not leave the node: secrets in URLs, by the defaults of the semantic conventions. Also turns wire bytes
//! into bounded text, because that is the moment at which a value is cut and a secret could be cut in half.
//!
//! Spec: <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/registry/attributes/url.md>

use std::sync::OnceLock;

use compact_str::CompactString;

/// What stands in the place of a secret.
pub const REDACTED: &str = "REDACTED";

/// Query keys whose values are replaced, unless others were [installed](install_sensitive_query_keys). Case-sensitive; the
/// key itself is kept.
pub const SENSITIVE_QUERY_KEYS: &[&[u8]] = &[
    b"AWSAccessKeyId",
    b"Signature",
    b"X-Amz-Credential",
    b"X-Amz-Security-Token",
    b"X-Amz-Signature",
    b"X-Goog-Signature",
    b"sig",
];

/// Text that never grows above `max` bytes and is cut between characters, never inside an escape.
#[derive(Debug)]
pub struct BoundedText {
    text: CompactString,
    max: usize,
    full: bool,
}

impl BoundedText {
    /// Empty, for at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { text: CompactString::default(), max, full: false }
    }

    /// Adds text as it is.
    pub fn push_str(&mut self, text: &str) {
        if self.full {
            return;
        }
        let room = self.max - self.text.len();
        if text.len() <= room {
            self.text.push_str(text);
        } else {
            self.full = true;
            self.text.push_str(text.get(..floor_char_boundary(text, room)).unwrap_or_default());
        }
    }

    /// Adds bytes of a URL: spaces, control characters and what is not UTF-8 are percent-encoded, so that no byte
    /// disappears and none can do harm on a terminal.
    pub fn push_url(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            self.push_clean(
                chunk.valid(),
                |c| c == ' ' || c.is_control(),
                |text, bad| {
                    bad.bytes().for_each(|byte| text.push_escape(byte));
                },
            );
            for byte in chunk.invalid() {
                self.push_escape(*byte);
            }
        }
    }

    /// Adds bytes of a header value: control characters and what is not UTF-8 become U+FFFD.
    pub fn push_lossy(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            self.push_clean(chunk.valid(), char::is_control, |text, _| text.push_str("\u{fffd}"));
            if !chunk.invalid().is_empty() {
                self.push_str("\u{fffd}");
            }
        }
    }

    /// Adds text, and what `replace` makes of each of its characters that are `bad`.
    fn push_clean(&mut self, mut text: &str, bad: fn(char) -> bool, replace: impl Fn(&mut Self, &str)) {
        // Nearly all text passes this; 0xc2 begins the control characters above 0x7f in UTF-8.
        if !text.bytes().any(|byte| byte <= b' ' || matches!(byte, 0x7f | 0xc2)) {
            return self.push_str(text);
        }
        while let Some((at, found)) = text.char_indices().find(|(_, c)| bad(*c)) {
            let (clean, rest) = text.split_at(at);
            let (found, rest) = rest.split_at(found.len_utf8());
            self.push_str(clean);
            replace(self, found);
            text = rest;
        }
        self.push_str(text);
    }

    /// Adds a query without its leading `?`, the values of [`SENSITIVE_QUERY_KEYS`] replaced.
    pub fn push_query(&mut self, query: &[u8]) {
        for (index, parameter) in query.split(|byte| *byte == b'&').enumerate() {
            if self.full {
                return;
            }
            if index > 0 {
                self.push_str("&");
            }
            let key_length = memchr::memchr(b'=', parameter);
            match key_length.and_then(|length| parameter.get(..length)) {
                Some(key) if is_sensitive(key) => {
                    self.push_url(key);
                    self.push_str("=");
                    self.push_str(REDACTED);
                }
                _ => self.push_url(parameter),
            }
        }
    }

    /// True if something did not fit.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.full
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> CompactString {
        self.text
    }

    fn push_escape(&mut self, byte: u8) {
        const HEX: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
        if self.full || self.text.len() + 3 > self.max {
            self.full = true;
            return;
        }
        self.text.push('%');
        self.text.push(HEX[usize::from(byte >> 4)]);
        self.text.push(HEX[usize::from(byte & 15)]);
    }
}

/// What the configuration has in place of [`SENSITIVE_QUERY_KEYS`].
static INSTALLED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();

/// Replaces [`SENSITIVE_QUERY_KEYS`] for the whole process. Only the first call does.
///
/// > This list is a full override of the default sensitive query parameter keys (conventions, `url.query`)
pub fn install_sensitive_query_keys(keys: impl IntoIterator<Item = String>) {
    let _ = INSTALLED.set(keys.into_iter().map(String::into_bytes).collect());
}

/// Servers take `%73ig` for `sig` (RFC 3986, section 6.2.2.2).
fn is_sensitive(key: &[u8]) -> bool {
    if memchr::memchr(b'%', key).is_none() {
        return is_listed(key);
    }
    // One byte more than the longest of them tells that a key is longer.
    let decoded: Vec<_> = percent_encoding::percent_decode(key).take(longest() + 1).collect();
    is_listed(&decoded)
}

fn is_listed(key: &[u8]) -> bool {
    match INSTALLED.get() {
        Some(installed) => installed.iter().any(|listed| listed == key),
        None => SENSITIVE_QUERY_KEYS.contains(&key),
    }
}

fn longest() -> usize {
    let longest = match INSTALLED.get() {
        Some(installed) => installed.iter().map(Vec::len).max(),
        None => SENSITIVE_QUERY_KEYS.iter().map(|key| key.len()).max(),
    };
    longest.unwrap_or(0)
}

/// A query without its leading `?`, redacted and at most `max` bytes long.
#[must_use]
pub fn query(query: &[u8], max: usize) -> CompactString {
    let mut text = BoundedText::new(max);
    text.push_query(query);
    text.finish()
}

/// Splits `user:password@` off an authority; true if there was any.
#[must_use]
pub fn strip_credentials(authority: &[u8]) -> (bool, &[u8]) {
    match memchr::memrchr(b'@', authority) {
        Some(at) => (true, authority.get(at + 1..).unwrap_or_default()),
        None => (false, authority),
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_values_are_replaced_and_keys_kept() {
        assert_eq!(query(b"color=blue&sig=abc", 100), "color=blue&sig=REDACTED");
        assert_eq!(query(b"%73i%67=abc&%73ig%=x&%7=y", 100), "%73i%67=REDACTED&%73ig%=x&%7=y");
        assert_eq!(
            query(b"X-Amz-Signature=1&X-Amz-Date=2&sig", 100),
            "X-Amz-Signature=REDACTED&X-Amz-Date=2&sig"
        );
        assert_eq!(
            query(b"SIG=1&signature=2&sig=a=b", 100),
            "SIG=1&signature=2&sig=REDACTED",
            "case-sensitive"
        );
        assert_eq!(query(b"&&a", 100), "&&a");
    }

    #[test]
    fn a_cut_never_shows_a_part_of_a_secret() {
        for max in 0..60 {
            let text = query(b"a=1&sig=0123456789&b=2", max);
            assert!(text.len() <= max && !text.contains("0123"), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_escaped_and_cut_between_characters() {
        let url = |bytes: &[u8], max| {
            let mut text = BoundedText::new(max);
            text.push_url(bytes);
            text.finish()
        };
        assert_eq!(url(b"/\xff\xc3\xa9/\xe9", 100), "/%FF\u{e9}/%E9");
        assert_eq!(url(b"/\xff/abc", 3), "/", "no half escape, nothing after it");
        assert_eq!(url("/\u{e9}\u{e9}".as_bytes(), 4), "/\u{e9}");
    }

    #[test]
    fn no_control_character_passes() {
        let all: Vec<u8> = (0..=0x9f).flat_map(|code| char::from(code).to_string().into_bytes()).collect();
        let (mut url, mut value) = (BoundedText::new(4096), BoundedText::new(4096));
        url.push_url(&all);
        value.push_lossy(&all);
        let (url, value) = (url.finish(), value.finish());
        assert!(!url.contains(|c: char| c.is_control() || c == ' '), "{url:?}");
        assert!(!value.contains(char::is_control), "{value:?}");
        assert!(
            url.starts_with("%00%01%02") && url.contains("~%7F%C2%80") && url.ends_with("%C2%9F"),
            "{url}"
        );
        assert!(value.contains(" !\"#$%&'"), "what is no control character stays");
    }
}
