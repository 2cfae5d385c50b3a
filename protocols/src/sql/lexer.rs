//! Where does a token of SQL end? One pass, no allocation, and no text is wrong: what is not understood is a symbol.
//!
//! Spec: <https://www.postgresql.org/docs/15/sql-syntax-lexical.html>

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Blanks and line ends.
    Space,
    /// `-- to the end of its line` (which is not part of it), or `/* nested */`.
    Comment,
    /// A keyword or a plain identifier.
    Word,
    /// `"an identifier"`, or one in backticks.
    Quoted,
    /// Text, bit strings, dollar quotes, with their prefix.
    String,
    /// A number without its sign.
    Number,
    /// `$1`.
    Placeholder,
    /// One byte of anything else.
    Symbol(u8),
}

/// What a backslash is in `'text'` without a prefix. In `E'text'` it always escapes.
///
/// PostgreSQL says it in the parameter `standard_conforming_strings`, which a session may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backslash {
    /// A character as any other: `on`, the default since 9.1.
    Plain,
    /// It escapes the character behind it: `off`.
    Escape,
    /// One of the two. Text whose end depends on it has none, as if the rest of the query belonged to it.
    #[default]
    Unclear,
}

/// Splits text into tokens that cover all of it. One that lacks its end reaches to the end of the text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    backslash: Backslash,
    /// Where the last token ends is not known.
    pub(super) unclear: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8], backslash: Backslash) -> Self {
        Self { text, at: 0, backslash, unclear: false }
    }

    /// The byte `ahead` of the next token's first one; 0 at the end.
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Goes on while `is` holds.
    fn skip_while(&mut self, is: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len());
    }

    /// Goes behind the next `end`, or to the end of the text.
    fn skip_behind(&mut self, end: &[u8]) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += memchr::memmem::find(rest, end).map_or(rest.len(), |at| at + end.len());
    }

    /// Behind the quote that ends a text; a doubled one does not, nor one after a backslash if those escape.
    ///
    /// In some encodings of clients (SJIS, BIG5, GBK, GB18030, JOHAB) the second byte of a character may look like a
    /// backslash. Which encoding it is need not be known, so behind a byte that is no ASCII it is unclear.
    fn skip_quoted(&mut self, quote: u8, backslash: Backslash) {
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            if *byte == quote {
                if self.peek(0) != quote {
                    return;
                }
                self.at += 1;
            } else if *byte == b'\\' && backslash != Backslash::Plain {
                // Whatever it means, behind any other character both readings are at the same place.
                let in_character =
                    self.at > 1 && self.text.get(self.at - 2).is_some_and(|byte| !byte.is_ascii());
                let decides = self.peek(0) == quote || in_character && self.peek(0) == b'\\';
                if decides && (backslash == Backslash::Unclear || in_character) {
                    self.unclear = true;
                    self.at = self.text.len();
                    return;
                }
                self.at = (self.at + 1).min(self.text.len());
            }
        }
    }

    /// Goes behind text that escapes, and behind what goes on with it on another line:
    ///
    /// > Two string constants that are only separated by whitespace with at least one newline are concatenated and
    /// > effectively treated as if the string had been written as one constant. (PostgreSQL, section 4.1.2.1)
    fn skip_escaping(&mut self) {
        loop {
            self.skip_quoted(b'\'', Backslash::Escape);
            let mut after = Self { at: self.at, ..self.clone() };
            let mut newline = false;
            while let Some((token, start, end)) = after.blank() {
                newline |= token == Token::Space && after.text.get(start..end).is_some_and(is_on_lines);
            }
            if !newline || after.peek(0) != b'\'' {
                return;
            }
            self.at = after.at + 1;
        }
    }

    /// The next token if it is blanks, or a comment to the end of its line.
    fn blank(&mut self) -> Option<(Token, usize, usize)> {
        let is_blank = self.peek(0).is_ascii_whitespace() || self.peek(0) == 0x0b;
        if self.at < self.text.len() && (is_blank || (self.peek(0), self.peek(1)) == (b'-', b'-')) {
            return self.next();
        }
        None
    }

    /// Comments nest in PostgreSQL as in standard SQL.
    fn skip_block_comment(&mut self) {
        let mut depth = 0_u32;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.text.len());
    }

    fn number(&mut self) -> Token {
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            self.at += 2;
        } else {
            let digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
            self.skip_while(digit);
            // `1..10` is a range of PL/pgSQL.
            if self.peek(0) == b'.' && self.peek(1) != b'.' {
                self.at += 1;
                self.skip_while(digit);
            }
            if matches!(self.peek(0), b'e' | b'E')
                && (self.peek(1).is_ascii_digit()
                    || (matches!(self.peek(1), b'+' | b'-') && self.peek(2).is_ascii_digit()))
            {
                self.at += 2;
            }
        }
        // Junk behind a number belongs to it: nothing of it may stay.
        self.skip_while(in_word);
        Token::Number
    }

    fn dollar(&mut self) -> Token {
        if self.peek(0).is_ascii_digit() {
            self.skip_while(|byte| byte.is_ascii_digit());
            return Token::Placeholder;
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !in_word(*byte) || *byte == b'$').unwrap_or(rest.len());
        let Some(delimiter) = self.text.get(self.at - 1..=self.at + length) else {
            // Cut inside of the tag, or a lone dollar at the end.
            self.at += length;
            return Token::String;
        };
        if delimiter.last() != Some(&b'$') {
            return Token::Symbol(b'$');
        }
        self.at += length + 1;
        self.skip_behind(delimiter);
        Token::String
    }

    fn word(&mut self, start: usize) -> Token {
        self.skip_while(in_word);
        let word = self.text.get(start..self.at).unwrap_or_default();
        let (next, after) = (self.peek(0), self.peek(1));
        match (word, next, after) {
            ([b'e' | b'E'], b'\'', _) => {
                self.at += 1;
                self.skip_escaping();
            }
            ([b'b' | b'B' | b'x' | b'X'], b'\'', _) => {
                self.at += 1;
                self.skip_quoted(b'\'', Backslash::Plain);
            }
            ([b'n' | b'N'], b'\'', _) => {
                self.at += 1;
                self.skip_quoted(b'\'', self.backslash);
            }
            // Where backslashes escape, the server refuses it.
            ([b'u' | b'U'], b'&', b'\'') => {
                self.at += 2;
                self.skip_quoted(b'\'', self.backslash);
            }
            ([b'u' | b'U'], b'&', b'"') => {
                self.at += 2;
                self.skip_quoted(b'"', Backslash::Plain);
                return Token::Quoted;
            }
            _ => return Token::Word,
        }
        Token::String
    }
}

impl Iterator for Lexer<'_> {
    /// The token, where it begins and where it ends.
    type Item = (Token, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let first = *self.text.get(start)?;
        self.at += 1;
        let token = match (first, self.peek(0)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => {
                self.skip_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
                Token::Space
            }
            (b'-', b'-') => {
                self.skip_while(|byte| byte != b'\n');
                Token::Comment
            }
            (b'/', b'*') => {
                self.at = start;
                self.skip_block_comment();
                Token::Comment
            }
            (b'\'', _) => {
                self.skip_quoted(b'\'', self.backslash);
                Token::String
            }
            (quote @ (b'"' | b'`'), _) => {
                self.skip_quoted(quote, Backslash::Plain);
                Token::Quoted
            }
            (b'$', _) => self.dollar(),
            (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => {
                self.at = start;
                self.number()
            }
            (byte, _) if in_word(byte) => self.word(start),
            (byte, _) => Token::Symbol(byte),
        };
        Some((token, start, self.at))
    }
}

fn is_on_lines(blanks: &[u8]) -> bool {
    blanks.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(Token, &str)> {
        let mut end_of_last = 0;
        let tokens = Lexer::new(text.as_bytes(), Backslash::Plain).map(|(token, start, end)| {
            assert!(start == end_of_last && end > start, "{text:?}: {start}..{end}");
            end_of_last = end;
            (token, &text[start..end])
        });
        let tokens: Vec<_> = tokens.collect();
        assert_eq!(end_of_last, text.len(), "{text:?}");
        tokens
    }

    #[test]
    fn whole_literals_are_one_token() {
        for text in [
            "'it''s'",
            "'a\\'",
            r"E'a\'b'",
            "e'\\\\'",
            "B'01'",
            "x'1F'",
            "N'a'",
            "U&'d\\0061t'",
            "$$a ' b$$",
            "$tag$ $$ $other$ $tag$",
            "$t_1$x$t_1$",
            "'never ends",
            "E'ends in \\",
            "E'a' -- b\n \n'c\\'d'",
            "$$never $x$",
            "$ta",
        ] {
            assert_eq!(tokens(text), [(Token::String, text)], "{text}");
        }
        for text in ["1", "12.5", ".5", "5.", "1e5", "1E-5", "0xDEADbeef", "1_000", "12abc", "1.5e+10", "0b1"]
        {
            assert_eq!(tokens(text), [(Token::Number, text)], "{text}");
        }
        for text in ["\"a\"\"b\"", "U&\"x\"", "`a b`", "\"never ends"] {
            assert_eq!(tokens(text), [(Token::Quoted, text)], "{text}");
        }
        for text in ["-- a ' b", "/* a /* b */ ' */", "/* never /* ends */", "/*", "/**", "/*/"] {
            assert_eq!(tokens(text), [(Token::Comment, text)], "{text}");
        }
    }

    #[test]
    fn neighbours_are_told_apart() {
        let kinds = |text| tokens(text).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        use Token::{Comment, Number, Placeholder, Space, String, Symbol, Word};
        assert_eq!(kinds("$1::int"), [Placeholder, Symbol(b':'), Symbol(b':'), Word]);
        assert_eq!(kinds("a$1"), [Word], "a dollar inside an identifier begins nothing");
        assert_eq!(kinds("a-1"), [Word, Symbol(b'-'), Number]);
        assert_eq!(kinds("1..10"), [Number, Symbol(b'.'), Number]);
        assert_eq!(kinds("--x\ny"), [Comment, Space, Word]);
        assert_eq!(kinds("'a' 'b'"), [String, Space, String]);
        assert_eq!(kinds("E'a' 'b'"), [String, Space, String], "on one line it is an error");
        assert_eq!(kinds("é été"), [Word, Space, Word]);
        assert_eq!(kinds("$ 1"), [Symbol(b'$'), Space, Number]);
    }

    #[test]
    fn a_backslash_before_a_quote_is_what_the_session_says() {
        let strings = |text: &str, backslash| {
            let mut lexer = Lexer::new(text.as_bytes(), backslash);
            let found: Vec<usize> =
                lexer.by_ref().filter(|(token, ..)| *token == Token::String).map(|(.., end)| end).collect();
            (found, lexer.unclear)
        };
        for (text, plain, escape, unclear) in [
            (r"'a\'b', 'c'", &[4, 9, 11][..], &[6, 11][..], (&[11][..], true)),
            (r"'a\\', 'c'", &[5, 10], &[5, 10], (&[5, 10], false)),
            (r"'a\\\'', 'c'", &[10, 12], &[7, 12], (&[12], true)),
            (r"'a\b', 'c'", &[5, 10], &[5, 10], (&[5, 10], false)),
            (r"N'a\'b', 'c'", &[5, 10, 12], &[7, 12], (&[12], true)),
            (r"E'a\'b', 'c'", &[7, 12], &[7, 12], (&[7, 12], false)),
            (r"X'a\' || 'c'", &[5, 12], &[5, 12], (&[5, 12], false)),
            (r"'never ends\", &[12], &[12], (&[12], false)),
        ] {
            assert_eq!(strings(text, Backslash::Plain), (plain.to_vec(), false), "{text}");
            assert_eq!(strings(text, Backslash::Escape), (escape.to_vec(), false), "{text}");
            assert_eq!(strings(text, Backslash::Unclear), (unclear.0.to_vec(), unclear.1), "{text}");
        }
    }
}
