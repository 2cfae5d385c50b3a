//! Which words are values: `SET name = word`, and the same within `ALTER` and `CREATE`; and what stands behind the
//! `PASSWORD` of a role, though the server takes it only in quotes.
//!
//! Everywhere else a value is a literal and a word is a name. Here PostgreSQL takes words without quotes, and those in
//! double quotes, as text: <https://www.postgresql.org/docs/current/sql-set.html>.

use super::lexer::Token;

/// Reads along with a statement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setting {
    state: State,
    /// Nothing but values can follow the first one: not so in `CREATE FUNCTION ... SET a = b AS ...`.
    to_the_end: bool,
    /// `ALTER USER`, `CREATE ROLE` and the like.
    of_role: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing has been read.
    #[default]
    Begins,
    /// Behind `ALTER` or `CREATE`: what it is about comes.
    About,
    /// Something may be set further on: `ALTER ROLE x SET ...`.
    May,
    /// Behind `SET`, and perhaps `SESSION` or `LOCAL`, or behind a dot: a part of the name comes.
    Name,
    /// A part of the name has been read.
    Named,
    /// Behind `=`, `TO` or a comma: what comes is a value.
    Value,
    /// A value has been read; a comma leads to another one.
    Done,
    /// Behind `PASSWORD`.
    Password,
    /// Nothing is set.
    Never,
}

impl Setting {
    /// Whether a word that comes now is a value.
    pub(super) fn is_value(self) -> bool {
        matches!(self.state, State::Value | State::Password) || self.state == State::Done && self.to_the_end
    }

    /// Takes the next token that is no blank and no comment.
    pub(super) fn take(&mut self, token: Token, text: &[u8]) {
        let is = |word: &[u8]| token == Token::Word && text.eq_ignore_ascii_case(word);
        let is_name = matches!(token, Token::Word | Token::Quoted);
        self.state = match self.state {
            State::Begins => {
                self.to_the_end = !is(b"create");
                if is(b"set") {
                    State::Name
                } else if is(b"alter") || is(b"create") {
                    State::About
                } else {
                    State::Never
                }
            }
            State::About => {
                self.of_role = is(b"user") || is(b"role");
                if is(b"set") { State::Name } else { State::May }
            }
            State::May if self.of_role && is(b"password") => State::Password,
            State::Password => State::May,
            State::Name if is(b"session") || is(b"local") => State::Name,
            State::Name if is_name => State::Named,
            State::Named if token == Token::Symbol(b'.') => State::Name,
            State::Named if is(b"to") || token == Token::Symbol(b'=') => State::Value,
            // A sign in front of a number.
            State::Value if matches!(token, Token::Symbol(b'+' | b'-')) => State::Value,
            State::Value => State::Done,
            State::Done if matches!(token, Token::Symbol(b',' | b'.')) => State::Value,
            State::Done if self.to_the_end => State::Done,
            State::May | State::Name | State::Named | State::Done if is(b"set") => State::Name,
            State::May | State::Name | State::Named | State::Done => State::May,
            State::Never => State::Never,
        };
    }
}
