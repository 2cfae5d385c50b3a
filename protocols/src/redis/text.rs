//! `db.query.text` of a command: its name and its keys as redis-cli writes them, a `?` in the place of everything else.
//!
//! > For Redis, the value provided for `db.query.text` SHOULD correspond to the syntax of the Redis CLI. If, for example,
//! > the HMSET command is invoked, `HMSET myhash field1 ? field2 ?` would be a suitable value (conventions, "Redis")

use compact_str::CompactString;

use crate::limits;

/// A text that grows word by word.
#[derive(Debug, Default)]
pub(super) struct QueryText {
    text: CompactString,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is none: of a command that nobody knows, or one of which a shown part was not seen.
    #[default]
    None,
    Growing,
    /// No more words are added.
    Full,
}

impl QueryText {
    /// Begins with the command's name.
    pub(super) fn begin(&mut self, name: &str) {
        self.text = CompactString::new(name);
        self.state = State::Growing;
    }

    /// Whether the word `index` would be shown, if it is a key.
    pub(super) fn takes(&self, index: u32) -> bool {
        self.state == State::Growing && index <= limits::REDIS_TEXT_ARGUMENTS_MAX
    }

    /// A part that should be shown was not seen: there is no text then, half of one would mislead.
    pub(super) fn give_up(&mut self) {
        if self.state == State::Growing {
            *self = Self::default();
        }
    }

    /// Adds a value.
    pub(super) fn push_redacted(&mut self, index: u32) {
        if self.room(index, 2) {
            self.text.push_str(" ?");
        }
    }

    /// Adds a key of `length` bytes that begins with `content`.
    pub(super) fn push_key(&mut self, index: u32, content: &[u8], length: u64) {
        let content = content.get(..limits::REDIS_KEY_BYTES_MAX).unwrap_or(content);
        // Each byte may be an escape.
        if !self.room(index, content.len() + 8) {
            return;
        }
        self.text.push(' ');
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
        match str::from_utf8(content) {
            Ok(text) if !text.is_empty() && content.iter().all(plain) => self.text.push_str(text),
            _ => self.push_quoted(content),
        }
        if length > content.len() as u64 {
            self.text.push_str("...");
        }
    }

    /// As redis-cli quotes and reads: <https://redis.io/docs/latest/develop/tools/cli/#string-quoting-and-escaping>
    fn push_quoted(&mut self, content: &[u8]) {
        self.text.push('"');
        for byte in content {
            if self.text.len() + 8 > limits::REDIS_TEXT_BYTES_MAX {
                break;
            }
            match byte {
                b'"' | b'\\' => self.text.extend(['\\', char::from(*byte)]),
                b'\n' => self.text.push_str("\\n"),
                b'\r' => self.text.push_str("\\r"),
                b'\t' => self.text.push_str("\\t"),
                b' '..=b'~' => self.text.push(char::from(*byte)),
                byte => {
                    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
                    self.text.extend(['\\', 'x', digit(byte >> 4), digit(byte & 15)]);
                }
            }
        }
        self.text.push('"');
    }

    /// Whether there is room for the word `index`; the first that finds none leaves `...` behind.
    fn room(&mut self, index: u32, length: usize) -> bool {
        if self.state != State::Growing {
            return false;
        }
        let room = index <= limits::REDIS_TEXT_ARGUMENTS_MAX
            && self.text.len() + 1 + length + " ...".len() <= limits::REDIS_TEXT_BYTES_MAX;
        if !room {
            self.text.push_str(" ...");
            self.state = State::Full;
        }
        room
    }

    /// The text, if there is one.
    pub(super) fn finish(self) -> CompactString {
        match self.state {
            State::None => CompactString::const_new(""),
            State::Growing | State::Full => self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, words: &[Option<&[u8]>]) -> String {
        let mut text = QueryText::default();
        text.begin(name);
        for (index, word) in (1..).zip(words) {
            match word {
                Some(key) => text.push_key(index, key, key.len() as u64),
                None => text.push_redacted(index),
            }
        }
        text.finish().into_string()
    }

    #[test]
    fn keys_are_shown_as_the_command_line_writes_them() {
        assert_eq!(text("SET", &[Some(b"user:1"), None]), "SET user:1 ?");
        assert_eq!(
            text("GET", &[Some(b"a b\"\\\r\n\t\xff\xc3\xa9")]),
            "GET \"a b\\\"\\\\\\r\\n\\t\\xff\\xc3\\xa9\""
        );
        assert_eq!(text("GET", &[Some(b"")]), "GET \"\"");
        assert_eq!(text("PING", &[]), "PING");
    }

    #[test]
    fn a_long_text_is_cut_between_words() {
        let many = text("DEL", &[Some(b"k".as_slice()); 40]);
        assert_eq!(many, format!("DEL{} ...", " k".repeat(16)));
        let long = text("DEL", &[Some([b'k'; 100].as_slice()); 5]);
        assert_eq!(long, format!("DEL {0}... {0}... {0}... ...", "k".repeat(64)));
        for byte in [0_u8, b'"', b'k', 0xff] {
            for length in [1, 30, 64, 1000] {
                let text = text("MGET", &[Some(vec![byte; length].as_slice()); 30]);
                assert!(text.len() <= limits::REDIS_TEXT_BYTES_MAX + 16, "{} {text}", text.len());
            }
        }
    }
}
