//! The small typed reader that every section uses: it takes values out of the tree, and notes whatever does not fit.
//!
//! A [`Section`] is a mapping being read: each key is asked for by name, and what nobody asked for is reported by
//! [`Section::finish`] with the nearest name that was. A [`Field`] is one value with its path. Readers return `None`
//! after noting a problem and the caller keeps the default, so that one pass finds everything.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Location, Problem, ProblemKind};
use crate::scalar::Scalar;
use crate::suggest;
use crate::units::{Size, display_duration, parse_duration, parse_size};
use crate::yaml::{Entry, Node, Value};

/// Where problems are noted while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    problems: RefCell<Vec<Problem>>,
}

impl Sink {
    pub(crate) fn add(&self, location: Option<Location>, key: &str, kind: ProblemKind, hint: Option<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(Problem { location, key: key.to_owned(), kind, hint });
        }
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// One value, with the path of keys that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    node: &'a Node,
    path: String,
    sink: &'a Sink,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node, sink: &'a Sink) -> Self {
        Self { node, path: String::new(), sink }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// Notes a problem with this value.
    pub(crate) fn problem(&self, kind: ProblemKind, hint: Option<String>) {
        self.sink.add(Some(self.node.at), &self.path, kind, hint);
    }

    /// Notes that this value cannot be understood, for a reason that does not repeat a secret.
    pub(crate) fn invalid(&self, why: impl Into<String>, hint: Option<String>) {
        self.problem(ProblemKind::Value(why.into()), hint);
    }

    /// Notes that two settings contradict each other here.
    pub(crate) fn conflict(&self, why: impl Into<String>) {
        self.problem(ProblemKind::Conflict(why.into()), None);
    }

    /// Notes that this value is of another type than expected.
    pub(crate) fn mismatch<T>(&self, expected: &str) -> Option<T> {
        self.wrong_type(expected, None)
    }

    fn wrong_type<T>(&self, expected: impl Into<String>, hint: Option<&str>) -> Option<T> {
        let kind = ProblemKind::Type { expected: expected.into(), found: self.found() };
        self.problem(kind, hint.map(str::to_owned));
        None
    }

    /// What stands here, for a message: never a value from the environment, and not much of any.
    fn found(&self) -> String {
        match &self.node.value {
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) => format!("a mapping of {}", entries.len()),
            Value::Scalar(Scalar::Null) if self.node.from_env => {
                "nothing (the environment variable is not set)".to_owned()
            }
            Value::Scalar(scalar) => {
                let (what, text) = match scalar {
                    Scalar::Null => return "nothing".to_owned(),
                    Scalar::Bool(value) => ("boolean", value.to_string()),
                    Scalar::Int(value) => ("number", value.to_string()),
                    Scalar::Float(value) => ("number", value.to_string()),
                    Scalar::Text(text) => ("text", text.clone()),
                };
                if self.node.from_env {
                    format!("a {what} from the environment")
                } else {
                    format!("the {what} `{}`", shorten(&text))
                }
            }
        }
    }

    pub(crate) fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => self.wrong_type("a single value", None),
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Scalar(Scalar::Bool(value)) => Some(*value),
            _ => self.wrong_type("true or false", None),
        }
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(Scalar::Text(text)) => Some(text),
            Value::Scalar(Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_)) => {
                self.wrong_type("text", Some("put it in quotes"))
            }
            _ => self.wrong_type("text", None),
        }
    }

    /// Text with something in it.
    pub(crate) fn filled_text(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.invalid("is empty", None);
            return None;
        }
        Some(text)
    }

    /// A whole number; `T` must hold all of `range`.
    pub(crate) fn integer<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        match &self.node.value {
            Value::Scalar(Scalar::Int(number)) => {
                let inside = u64::try_from(*number).ok().filter(|number| range.contains(number));
                inside
                    .and_then(|number| T::try_from(number).ok())
                    .or_else(|| self.out_of_range(self.found(), expected()))
            }
            _ => self.wrong_type(expected(), None),
        }
    }

    /// A duration of the standard sections: whole milliseconds.
    pub(crate) fn millis(&self, range: RangeInclusive<u64>) -> Option<Duration> {
        if let Value::Scalar(Scalar::Text(text)) = &self.node.value
            && let Ok(duration) = parse_duration(text)
        {
            let hint = format!("this section counts in milliseconds: write {}", duration.as_millis());
            return self.wrong_type("a whole number of milliseconds", Some(&hint));
        }
        self.integer(range).map(Duration::from_millis)
    }

    /// A duration of the standard sections where 0 means "no limit".
    pub(crate) fn timeout_millis(&self) -> Option<Option<Duration>> {
        let duration = self.millis(0..=TIMEOUT_MILLIS_MAX)?;
        Some((!duration.is_zero()).then_some(duration))
    }

    /// A duration of our section: `30s`.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let expected = "a duration like 500ms, 30s or 1m30s";
        let text = match &self.node.value {
            Value::Scalar(Scalar::Text(text)) => text,
            Value::Scalar(Scalar::Int(_)) => return self.wrong_type(expected, Some("add the unit")),
            _ => return self.wrong_type(expected, None),
        };
        let Ok(duration) = parse_duration(text) else { return self.wrong_type(expected, None) };
        if !range.contains(&duration) {
            let (start, end) = (display_duration(*range.start()), display_duration(*range.end()));
            return self.out_of_range(self.found(), format!("{start} to {end}"));
        }
        Some(duration)
    }

    /// A size of our section: `64KiB`, or a bare number of bytes.
    pub(crate) fn size(&self, range: RangeInclusive<Size>) -> Option<Size> {
        let size = match &self.node.value {
            Value::Scalar(Scalar::Int(bytes)) => match u64::try_from(*bytes) {
                Ok(bytes) => Size(bytes),
                Err(_) => {
                    return self.out_of_range(self.found(), format!("{} to {}", range.start(), range.end()));
                }
            },
            Value::Scalar(Scalar::Text(text)) => match parse_size(text) {
                Ok(size) => size,
                Err(hint) => return self.wrong_type("a size in bytes", Some(&hint)),
            },
            _ => return self.wrong_type("a size like 64KiB or 16MiB", None),
        };
        if !range.contains(&size) {
            return self.out_of_range(self.found(), format!("{} to {}", range.start(), range.end()));
        }
        Some(size)
    }

    /// One of a few names.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = || match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        };
        let Value::Scalar(Scalar::Text(text)) = &self.node.value else {
            return self.wrong_type(expected(), None);
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(value.clone());
        }
        let hint = suggest::nearest(text, &names).map(|name| format!("did you mean `{name}`?"));
        self.wrong_type(expected(), hint.as_deref())
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &self.node.value else {
            return self.wrong_type("a list", Some("start each element with `- `"));
        };
        let child = |(index, node)| Field { node, path: format!("{}[{index}]", self.path), sink: self.sink };
        Some(items.iter().enumerate().map(child).collect())
    }

    /// A mapping, to be read key by key. Null is an empty one, as for `console:`.
    pub(crate) fn section(&self) -> Option<Section<'a>> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Scalar(Scalar::Null) => &[],
            _ => return self.wrong_type("a mapping of keys", None),
        };
        Some(Section { field: self.clone(), entries, asked: Vec::new(), refused: Vec::new() })
    }

    fn out_of_range<T>(&self, found: String, expected: String) -> Option<T> {
        self.problem(ProblemKind::Range { expected, found }, None);
        None
    }
}

/// A mapping being read.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
    asked: Vec<&'a str>,
    refused: Vec<&'a str>,
}

impl<'a> Section<'a> {
    /// The value of `key`, if it is there and not null.
    pub(crate) fn field(&mut self, key: &'a str) -> Option<Field<'a>> {
        self.field_or_null(key).filter(|field| !field.is_null())
    }

    /// The value of `key` if it is there, also if it is null.
    pub(crate) fn field_or_null(&mut self, key: &'a str) -> Option<Field<'a>> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.child(entry))
    }

    /// Reads `key` into `target`; leaves it as it is if the key is absent, null or wrong.
    pub(crate) fn set<T>(
        &mut self,
        key: &'a str,
        target: &mut T,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.field(key).as_ref().and_then(read) {
            *target = value;
        }
    }

    /// Like [`Section::field`], but notes a missing key. Null counts as missing.
    pub(crate) fn required(&mut self, key: &'a str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.field.problem(ProblemKind::Missing(key.to_owned()), None);
        }
        field
    }

    /// Names keys that the schema has and spantap does not act on: present, they are reported as such, not as unknown.
    pub(crate) fn unsupported(&mut self, keys: &[&'a str]) {
        self.refused.extend_from_slice(keys);
        for entry in self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            let kind = ProblemKind::Unsupported("is".to_owned());
            self.field.sink.add(Some(entry.at), &self.path_of(&entry.key), kind, None);
        }
    }

    /// The one key of a mapping that names a kind, as `{otlp_http: ...}` does, and its value, which may be null.
    ///
    /// Notes a problem and returns `None` for none, several or a key outside `kinds`.
    pub(crate) fn one_of(&mut self, kinds: &[&'a str]) -> Option<(&'a str, Field<'a>)> {
        let found: Vec<_> =
            kinds.iter().filter_map(|kind| Some((*kind, self.field_or_null(kind)?))).collect();
        if self.entries.is_empty() {
            self.field.problem(ProblemKind::Missing(kinds.join("` or `")), None);
        } else if let [(first, _), .., (last, _)] = found.as_slice() {
            self.field.conflict(format!("one key is allowed here, `{first}` and `{last}` are set"));
        }
        found.into_iter().next()
    }

    /// The entries, for mappings whose keys are names: each key with its value.
    pub(crate) fn named(&mut self) -> Vec<(&'a str, Location, Field<'a>)> {
        let entries = self.entries;
        self.asked.extend(entries.iter().map(|entry| entry.key.as_str()));
        entries.iter().map(|entry| (entry.key.as_str(), entry.at, self.child(entry))).collect()
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        let mut known = self.asked.clone();
        known.extend_from_slice(&self.refused);
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            self.unknown(entry.at, &entry.key, &self.asked);
        }
    }

    /// Notes that `key` is not one of `names`.
    pub(crate) fn unknown(&self, at: Location, key: &str, names: &[&str]) {
        let path = self.path_of(key);
        self.field.sink.add(Some(at), &path, ProblemKind::UnknownKey, suggest::hint(key, names));
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        // A value that is not there (`key:`) stands where its key does.
        Field { node: &entry.node, path: self.path_of(&entry.key), sink: self.field.sink }
    }

    fn path_of(&self, key: &str) -> String {
        let key = shorten(key);
        if self.field.path.is_empty() { key } else { format!("{}.{key}", self.field.path) }
    }
}

/// At most [`TEXT_CHARS_MAX`] characters, on one line, without control characters.
fn shorten(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(clean).take(TEXT_CHARS_MAX).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// Problems kept of one file: more do not help anyone.
const PROBLEMS_MAX: usize = 200;
/// Characters of a value repeated in a message.
const TEXT_CHARS_MAX: usize = 60;
/// A day. Longer is a mistake of units.
pub(crate) const TIMEOUT_MILLIS_MAX: u64 = 86_400_000;
