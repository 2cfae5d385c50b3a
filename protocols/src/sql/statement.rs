//! From the text of a query to [`Statement`]s: literals are replaced, comments removed, statements told apart.

use compact_str::CompactString;
use smallvec::SmallVec;

use super::{
    lexer::{Backslash, Lexer, Token},
    setting::Setting,
    summary::Summary,
};
use crate::limits;

/// One SQL statement, as far as it may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// `db.query.text`: at most [`limits::QUERY_TEXT_BYTES_MAX`] bytes; empty if there is none that may be shown.
    pub text: CompactString,
    /// `db.query.summary`: at most [`limits::QUERY_SUMMARY_BYTES_MAX`] bytes; empty for an unknown kind of statement.
    pub summary: CompactString,
    /// The text, the summary or both are shorter than what was sent.
    pub cut: bool,
}

/// The statements of one query, nearly always one.
pub type Statements = SmallVec<[Statement; 1]>;

/// The statements of a query that carries its values in its text: each literal becomes `?`. Empty ones (blanks and
/// comments) are left out; what is beyond [`limits::STATEMENTS_MAX`] is, too. `cut` says that the text may go on. Where `backslash` leaves it open
/// which bytes are text, the last statement is cut, and others may follow it.
#[must_use]
pub fn simple(text: &[u8], cut: bool, backslash: Backslash) -> Statements {
    let mut statements = Statements::new();
    let mut reading = Reading::new(text, cut, backslash);
    while statements.len() < limits::STATEMENTS_MAX
        && let Some(statement) = reading.next_statement(true)
    {
        statements.push(statement);
    }
    statements
}

/// The one statement of a prepared query. The conventions would show text with placeholders as it is; here literals are
/// replaced in it all the same, since drivers leave many values in it that are none of its parameters.
#[must_use]
pub fn prepared(text: &[u8], cut: bool, backslash: Backslash) -> Statement {
    Reading::new(text, cut, backslash).next_statement(false).unwrap_or_default()
}

struct Reading<'a> {
    text: &'a [u8],
    cut: bool,
    lexer: Lexer<'a>,
    /// What is written of the present statement: grows to the limit, then not any more.
    written: Vec<u8>,
    full: bool,
}

impl<'a> Reading<'a> {
    fn new(text: &'a [u8], cut: bool, backslash: Backslash) -> Self {
        let lexer = Lexer::new(text, backslash);
        Self { text, cut, lexer, written: Vec::new(), full: false }
    }

    fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.text.get(start..end).unwrap_or_default()
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.full || bytes.is_empty() {
            return;
        }
        if self.written.capacity() == 0 {
            self.written.reserve(self.text.len().min(limits::QUERY_TEXT_BYTES_MAX));
        }
        let room = limits::QUERY_TEXT_BYTES_MAX - self.written.len();
        self.full = bytes.len() > room;
        self.written.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }

    /// Reads to the next semicolon that ends a statement (`split`), or to the end. `None` at the end.
    fn next_statement(&mut self, split: bool) -> Option<Statement> {
        let mut summary = Summary::default();
        let mut copied = None;
        let mut last = Last::default();
        let mut list = List::None;
        let mut setting = Setting::default();
        let mut significant = false;
        let mut ended = false;
        while let Some((token, start, end)) = self.lexer.next() {
            let touches_end = self.cut && end == self.text.len();
            if token == Token::Symbol(b';') && split && summary.may_end() {
                if !significant {
                    // An empty statement; what was copied are blanks.
                    copied = None;
                    self.written.clear();
                    continue;
                }
                ended = true;
                self.flush(&mut copied, start);
                break;
            }
            let replaced = match token {
                // It may be the beginning of something that is not shown: of `E'…'`, `true`, `-1`, `--`.
                Token::Word | Token::Symbol(_) if touches_end => Some(b"".as_slice()),
                Token::String if touches_end && end == start + 1 && self.slice(start, end) == b"$" => {
                    Some(b"".as_slice())
                }
                Token::Comment => Some(b"".as_slice()),
                Token::String | Token::Number => Some(b"?".as_slice()),
                Token::Word if is_truth(self.slice(start, end)) => Some(b"?".as_slice()),
                Token::Word | Token::Quoted if setting.is_value() => Some(b"?".as_slice()),
                // A sign in front of a number is part of it, unless something is being added or subtracted: `-1`,
                // `, +1`, `99+100` (as in the cases of the conventions), but not `a-1`.
                Token::Symbol(b'+' | b'-') if self.is_sign(&last, start) => Some(b"".as_slice()),
                _ => None,
            };
            if !matches!(token, Token::Space | Token::Comment) {
                significant = true;
                if !touches_end || matches!(token, Token::Symbol(_)) {
                    summary.take(token, self.slice(start, end));
                }
            }
            match replaced {
                Some(replacement) => {
                    self.flush(&mut copied, start);
                    self.write(replacement);
                }
                None if copied.is_none() => copied = Some(start),
                None => {}
            }
            // `IN (1, 2, 3)` is `IN (?)`: how long a list is would make many texts of one.
            match (token, &list) {
                (Token::Space | Token::Comment, _) => {}
                (Token::Symbol(b'('), _) if last.is_in && !self.full => {
                    self.flush(&mut copied, end);
                    list = List::Open { at: self.written.len(), values: 0 };
                }
                (Token::String | Token::Number, List::Open { at, values }) => {
                    list = List::Open { at: *at, values: values + 1 };
                }
                (Token::Symbol(b',' | b'+' | b'-'), List::Open { .. }) => {}
                (Token::Symbol(b')'), List::Open { at, values: 2.. }) => {
                    self.flush(&mut copied, start);
                    self.close_list(*at);
                    copied = Some(start);
                    list = List::None;
                }
                _ => list = List::None,
            }
            if !matches!(token, Token::Space | Token::Comment) {
                setting.take(token, self.slice(start, end));
                let is_in = token == Token::Word && self.slice(start, end).eq_ignore_ascii_case(b"in");
                last = Last { token: Some(token), end, is_in };
            }
        }
        self.flush(&mut copied, self.text.len());
        if let List::Open { at, values: 1.. } = list {
            self.close_list(at);
        }
        let cut = (self.cut || self.lexer.unclear) && !ended;
        let statement = significant.then(|| self.finish(summary.finish(cut), cut));
        self.written.clear();
        self.full = false;
        statement
    }

    /// Writes one `?` for all that came since `at`, however much did not fit.
    fn close_list(&mut self, at: usize) {
        self.written.truncate(at);
        self.full = false;
        self.write(b"?");
    }

    /// Writes what was copied so far as it is.
    fn flush(&mut self, copied: &mut Option<usize>, end: usize) {
        if let Some(start) = copied.take() {
            let slice = self.slice(start, end);
            self.write(slice);
        }
    }

    /// Whether the sign at `at` belongs to the number behind it.
    fn is_sign(&self, last: &Last, at: usize) -> bool {
        let number =
            matches!((self.lexer.peek(0), self.lexer.peek(1)), (b'0'..=b'9', _) | (b'.', b'0'..=b'9'));
        let operand = matches!(
            last.token,
            Some(Token::Word | Token::Quoted | Token::Placeholder | Token::Symbol(b')' | b']'))
        );
        number && !(operand && last.end == at)
    }

    fn finish(&self, summary: CompactString, cut: bool) -> Statement {
        let (shown, _) = bounded(self.written.trim_ascii());
        Statement { text: clean(shown), summary, cut: cut || self.full }
    }
}

/// The token before, blanks and comments left out.
#[derive(Default)]
struct Last {
    token: Option<Token>,
    end: usize,
    is_in: bool,
}

/// A list behind `IN`, as long as it holds nothing but values.
enum List {
    None,
    Open {
        /// Where in the written text it begins.
        at: usize,
        values: usize,
    },
}

fn is_truth(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"true") || word.eq_ignore_ascii_case(b"false")
}

/// At most as much as may be shown, and whether something is left out.
fn bounded(text: &[u8]) -> (&[u8], bool) {
    match text.get(..limits::QUERY_TEXT_BYTES_MAX) {
        Some(shown) => (shown, shown.len() < text.len()),
        None => (text, false),
    }
}

/// As text: control characters other than line ends and tabs, and what is no UTF-8, become U+FFFD, as many as there is
/// room for.
fn clean(bytes: &[u8]) -> CompactString {
    let harmless = |text: &str| {
        !text.bytes().any(|byte| (byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t')) || byte == 0x7f)
            && !text.contains(is_harmful)
    };
    if let Ok(text) = str::from_utf8(bytes)
        && harmless(text)
    {
        return text.into();
    }
    let mut text = CompactString::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some('\u{fffd}');
        let shown = chunk.valid().chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c });
        for c in shown.chain(invalid) {
            // It is longer than what it stands for.
            if text.len() + c.len_utf8() > limits::QUERY_TEXT_BYTES_MAX {
                return text;
            }
            text.push(c);
        }
    }
    text
}

fn is_harmful(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}
