//! What a statement does, and to which tables: `SELECT orders customers`, `INSERT shipping_details SELECT orders`.
//!
//! Not a parser of SQL. It follows parentheses and a few keywords, and where a dialect surprises it, it says less. Names
//! that programs make up as they go (cursors, savepoints, prepared statements) are left out: the summary is part of the
//! span's name.

use compact_str::CompactString;
use smallvec::SmallVec;

use super::lexer::Token;
use crate::limits;

/// Takes the tokens of one statement, without blanks and comments.
#[derive(Default)]
pub(super) struct Summary {
    text: Vec<u8>,
    full: bool,
    levels: SmallVec<[Level; 4]>,
    level: Level,
    /// Parentheses deeper than [`DEPTH_MAX`] are only counted.
    deeper: u32,
    verb: Verb,
    /// The word before.
    last: Word,
    /// A dot was before: what follows is a name, whatever it looks like.
    after_dot: bool,
    /// `BEGIN ATOMIC` of a function's body has not met its `END` yet.
    atomic: u32,
}

/// Between a parenthesis and its end.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// No verb has been read: one may come.
    start: bool,
    /// It began with WITH: its parentheses hold statements.
    with: bool,
    /// A FROM that comes now names tables.
    from: bool,
    place: Place,
}

impl Default for Level {
    fn default() -> Self {
        Self { start: true, with: false, from: false, place: Place::Other }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Other,
    /// Behind CREATE and the like: the kind of object comes.
    Kind,
    /// A name comes.
    Name(List),
    /// A name, or a part of it, has come; it began at this length of the text.
    Named(List, usize),
    /// A dot has come behind it.
    Dot(List, usize),
    /// Behind the name and before a comma, which brings another one.
    Listed(List),
}

/// Why names are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    /// FROM, JOIN: several; one before a parenthesis is a function.
    Tables,
    /// Several objects: DROP, TRUNCATE.
    Objects,
    /// One.
    One,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verb {
    #[default]
    None,
    Explain,
    Delete,
    Merge,
    Drop,
    Define,
    Prepare,
    Declare,
    Other,
    /// Nothing behind the verb is looked at.
    Closed,
}

/// Words that mean something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    #[default]
    Unknown,
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    With,
    Define,
    Drop,
    Objects,
    Copy,
    Explain,
    Prepare,
    Declare,
    Start,
    Closed,
    From,
    Join,
    Into,
    Using,
    Distinct,
    For,
    As,
    On,
    Begin,
    Atomic,
    Case,
    End,
    EndOfTables,
    Modifier,
    Only,
    Table,
    Kind,
    Analyze,
}

const DEPTH_MAX: usize = 16;

impl Summary {
    /// Whether a semicolon here ends the statement.
    pub(super) fn may_end(&self) -> bool {
        self.levels.is_empty() && self.deeper == 0 && self.atomic == 0
    }

    pub(super) fn take(&mut self, token: Token, text: &[u8]) {
        match token {
            Token::Word => self.word(text),
            Token::Quoted => {
                self.name(text);
                self.last = Word::Unknown;
                self.level.start &= self.level.with;
            }
            Token::Symbol(symbol) => {
                self.after_dot = symbol == b'.';
                self.symbol(symbol);
            }
            Token::String | Token::Number | Token::Placeholder => {
                self.settle();
                self.last = Word::Unknown;
            }
            Token::Space | Token::Comment => {}
        }
    }

    /// The text. Of a statement that is cut a name at the end may be more than that, or not be a table's.
    pub(super) fn finish(mut self, cut: bool) -> CompactString {
        if cut && let Place::Named(_, at) | Place::Dot(_, at) = self.level.place {
            self.text.truncate(at);
        }
        CompactString::from_utf8_lossy(&self.text)
    }

    fn push(&mut self, text: &[u8]) {
        let space = usize::from(!self.text.is_empty());
        self.full |= self.text.len() + space + text.len() > limits::QUERY_SUMMARY_BYTES_MAX
            || text.iter().any(u8::is_ascii_control)
            // What stands for other bytes is longer than they are.
            || str::from_utf8(text).is_err();
        if !self.full {
            if space > 0 {
                self.text.push(b' ');
            }
            self.text.extend_from_slice(text);
        }
    }

    fn symbol(&mut self, symbol: u8) {
        match (symbol, self.level.place) {
            (b'.', Place::Named(list, at)) => {
                self.level.place = Place::Dot(list, at);
                return;
            }
            (b'(', Place::Named(List::Tables, at)) => {
                // A function in the place of a table.
                self.text.truncate(at);
                self.level.place = Place::Listed(List::Tables);
            }
            (b'(', Place::Name(list @ (List::Tables | List::One))) => self.level.place = Place::Listed(list),
            // VACUUM (FULL) t
            (b'(', Place::Name(List::Objects)) => {}
            (b',', Place::Named(list @ (List::Tables | List::Objects), _) | Place::Listed(list))
                if list != List::One =>
            {
                self.level.place = Place::Name(list);
            }
            (b'*', Place::Name(_)) => {}
            _ => self.settle(),
        }
        match symbol {
            b'(' if self.levels.len() >= DEPTH_MAX => self.deeper += 1,
            b'(' => {
                let inner = Level { with: false, ..Level::default() };
                self.levels.push(std::mem::replace(&mut self.level, inner));
            }
            b')' if self.deeper > 0 => self.deeper -= 1,
            b')' => {
                if let Some(outer) = self.levels.pop() {
                    self.level = outer;
                }
            }
            _ => {}
        }
        self.last = Word::Unknown;
    }

    /// What follows is not part of the name.
    fn settle(&mut self) {
        self.level.place = match self.level.place {
            Place::Named(List::One, _) | Place::Dot(List::One, _) => Place::Other,
            Place::Named(list, _) | Place::Dot(list, _) => Place::Listed(list),
            place => place,
        };
    }

    /// Takes a name if one is expected; true if so.
    fn name(&mut self, text: &[u8]) -> bool {
        match self.level.place {
            Place::Name(list) => {
                let at = self.text.len();
                self.push(text);
                self.level.place = Place::Named(list, at);
            }
            Place::Dot(list, at) => {
                let room = self.text.len() + 1 + text.len() <= limits::QUERY_SUMMARY_BYTES_MAX;
                if !self.full && room && str::from_utf8(text).is_ok() {
                    self.text.push(b'.');
                    self.text.extend_from_slice(text);
                } else {
                    self.text.truncate(at);
                    self.full = true;
                }
                self.level.place = Place::Named(list, at);
            }
            _ => {
                self.settle();
                return false;
            }
        }
        true
    }

    fn word(&mut self, text: &[u8]) {
        if self.deeper > 0 || self.verb == Verb::Closed {
            return;
        }
        let word = if self.after_dot { Word::Unknown } else { keyword(text) };
        self.after_dot = false;
        let last = std::mem::replace(&mut self.last, word);
        match (word, self.level.place) {
            (Word::Only | Word::Modifier, Place::Name(_)) => return,
            // CREATE INDEX ON t
            (Word::On, Place::Name(List::One)) if self.verb == Verb::Define => return,
            (Word::Table | Word::Kind | Word::Analyze, Place::Name(List::Objects))
                if self.verb == Verb::Other =>
            {
                return;
            }
            (_, Place::Name(_) | Place::Dot(..)) => {
                self.name(text);
                return;
            }
            (Word::Modifier | Word::Only | Word::On | Word::Insert, Place::Kind) => return,
            (Word::Kind | Word::Table, Place::Kind) => {
                self.push(text);
                let list = if self.verb == Verb::Drop { List::Objects } else { List::One };
                match () {
                    () if text.eq_ignore_ascii_case(b"materialized") => {}
                    // START TRANSACTION, ALTER SYSTEM: no name follows.
                    () if is_any(text, &[b"transaction", b"system"]) => self.verb = Verb::Closed,
                    () => self.level.place = Place::Name(list),
                }
                return;
            }
            (_, Place::Kind) => self.level.place = Place::Other,
            _ => self.settle(),
        }
        if self.level.start && self.verb(word, text) {
            return;
        }
        self.clause(word, last, text);
    }

    /// A word where a verb may stand; true if it was one.
    fn verb(&mut self, word: Word, text: &[u8]) -> bool {
        let outermost = self.levels.is_empty();
        let statement = outermost || self.levels.last().is_some_and(|outer| outer.with);
        let (verb, place, from) = match word {
            Word::With => {
                self.level.with = true;
                return true;
            }
            Word::Select => return false,
            Word::Insert if statement => (Verb::Other, Place::Other, false),
            Word::Update if statement => (Verb::Other, Place::Name(List::One), true),
            Word::Delete if statement => (Verb::Delete, Place::Other, true),
            Word::Merge if statement => (Verb::Merge, Place::Other, false),
            _ if !outermost => {
                self.level.start = self.level.with;
                return false;
            }
            Word::Explain => {
                self.push(text);
                self.verb = Verb::Explain;
                return true;
            }
            Word::Analyze if self.verb == Verb::Explain => return true,
            Word::Define => (Verb::Define, Place::Kind, false),
            Word::Drop => (Verb::Drop, Place::Kind, false),
            Word::Objects | Word::Analyze => (Verb::Other, Place::Name(List::Objects), false),
            Word::Copy => (Verb::Other, Place::Name(List::One), false),
            Word::Prepare => (Verb::Prepare, Place::Other, false),
            Word::Declare => (Verb::Declare, Place::Other, false),
            Word::Start => (Verb::Define, Place::Kind, false),
            Word::Closed | Word::Begin | Word::End => (Verb::Closed, Place::Other, false),
            _ if self.level.with || self.verb == Verb::Explain => return true,
            // `(SELECT …) UNION`
            _ if self.verb != Verb::None => return false,
            _ => {
                // Not a statement that we know: nothing is made of its words.
                self.verb = Verb::Closed;
                return true;
            }
        };
        self.push(text);
        self.verb = verb;
        self.level = Level { start: false, with: false, from, place };
        true
    }

    fn clause(&mut self, word: Word, last: Word, text: &[u8]) {
        let level = &mut self.level;
        match word {
            Word::Select if last != Word::For || self.verb == Verb::Declare => {
                *level = Level { start: false, with: false, from: true, place: Place::Other };
                if self.verb == Verb::None || self.verb == Verb::Explain {
                    self.verb = Verb::Other;
                }
                self.push(text);
            }
            Word::From if level.from && last != Word::Distinct => {
                level.from = false;
                level.place = Place::Name(List::Tables);
            }
            Word::Join => level.place = Place::Name(List::Tables),
            Word::Using if matches!(self.verb, Verb::Delete | Verb::Merge) => {
                level.place = Place::Name(List::Tables);
            }
            Word::Into => level.place = Place::Name(List::One),
            // SET and FETCH are verbs only at the start.
            Word::EndOfTables | Word::Closed if matches!(level.place, Place::Listed(_)) => {
                level.place = Place::Other;
            }
            Word::As if self.verb == Verb::Prepare => level.start = true,
            Word::Atomic if last == Word::Begin => self.atomic += 1,
            Word::Case if self.atomic > 0 => self.atomic += 1,
            Word::End if self.atomic > 0 => self.atomic -= 1,
            _ => {}
        }
    }
}

fn is_any(text: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn keyword(text: &[u8]) -> Word {
    let mut lower = [0; 12];
    let Some(lower) = lower.get_mut(..text.len()) else { return Word::Unknown };
    lower.copy_from_slice(text);
    lower.make_ascii_lowercase();
    match &*lower {
        b"select" => Word::Select,
        b"insert" | b"replace" => Word::Insert,
        b"update" => Word::Update,
        b"delete" => Word::Delete,
        b"merge" => Word::Merge,
        b"with" => Word::With,
        b"create" | b"alter" | b"refresh" | b"reindex" | b"comment" => Word::Define,
        b"drop" => Word::Drop,
        b"truncate" | b"lock" | b"vacuum" => Word::Objects,
        b"copy" | b"call" => Word::Copy,
        b"explain" => Word::Explain,
        b"prepare" => Word::Prepare,
        b"declare" => Word::Declare,
        b"start" => Word::Start,
        b"begin" => Word::Begin,
        b"end" => Word::End,
        b"commit" | b"rollback" | b"abort" | b"savepoint" | b"release" | b"set" | b"reset" | b"show"
        | b"listen" | b"unlisten" | b"notify" | b"deallocate" | b"discard" | b"checkpoint" | b"cluster"
        | b"execute" | b"fetch" | b"move" | b"close" | b"grant" | b"revoke" | b"do" | b"values" | b"load"
        | b"use" | b"describe" | b"security" | b"import" | b"reassign" => Word::Closed,
        b"from" => Word::From,
        b"join" => Word::Join,
        b"into" => Word::Into,
        b"using" => Word::Using,
        b"distinct" => Word::Distinct,
        b"for" => Word::For,
        b"as" => Word::As,
        b"on" => Word::On,
        b"atomic" => Word::Atomic,
        b"case" => Word::Case,
        b"where" | b"group" | b"order" | b"having" | b"limit" | b"offset" | b"window" | b"returning"
        | b"union" | b"except" | b"intersect" => Word::EndOfTables,
        b"or" | b"temp" | b"temporary" | b"unlogged" | b"global" | b"local" | b"unique" | b"recursive"
        | b"concurrently" | b"if" | b"not" | b"exists" | b"full" | b"verbose" | b"freeze" => Word::Modifier,
        b"only" | b"lateral" => Word::Only,
        b"analyze" | b"analyse" => Word::Analyze,
        b"table" => Word::Table,
        b"index" | b"view" | b"materialized" | b"sequence" | b"schema" | b"function" | b"procedure"
        | b"trigger" | b"type" | b"database" | b"extension" | b"user" | b"role" | b"domain" | b"policy"
        | b"aggregate" | b"publication" | b"subscription" | b"server" | b"transaction" | b"column"
        | b"rule" | b"system" => Word::Kind,
        _ => Word::Unknown,
    }
}
