//! A source file as the rules see it: without comments, the contents of strings, and its tests.

use crate::rules::Findings;

/// A file of the checkout.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same lines with comments and the contents of strings blanked out.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    pub(crate) fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let is_name = name == "tests.rs" || name.ends_with("_tests.rs") || name == "testing.rs";
        let below = ["/tests/", "/testing/"].iter().any(|folder| self.path.contains(folder));
        is_name || below || self.path.starts_with("tests/")
    }

    /// The code before the tests, which stand last; nothing of a file that is all tests.
    pub(crate) fn without_tests(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]").map(|at| from + at) {
            let after = self.code[at..].trim_start_matches("#[cfg(test)]").trim_start();
            let after = after.strip_prefix("pub(crate) ").unwrap_or(after);
            let head = after.lines().next().unwrap_or_default();
            if head.starts_with("mod ") && head.trim_end().ends_with('{') {
                return &self.code[..at];
            }
            from = at + 1;
        }
        &self.code
    }

    /// The room of the agent that it is in, as in `collector/src/<room>/...`.
    pub(crate) fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("collector/src/")?;
        Some(rest.split(['/', '.']).next().unwrap_or_default())
    }

    pub(crate) fn lines_with(&self, code: &str, needles: &[&str]) -> Findings {
        let found = |line: &str| {
            needles.iter().find(|needle| has_word(line, needle)).map(|needle| (*needle).to_owned())
        };
        code.lines().enumerate().filter_map(|(index, line)| Some((index + 1, found(line)?))).collect()
    }
}

pub(crate) fn lines_where(code: &str, is_it: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    code.lines().enumerate().filter(move |(_, line)| is_it(line)).map(|(index, _)| index + 1)
}

pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Whether `needle` is in `line` and not inside of a longer word.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(needle).any(|(at, _)| !line[..at].ends_with(is_word))
}

/// The names right below `root` in code: `b` and `c` of `use root::{b::x, c}`, and `b` of `root::b::x()`.
pub(crate) fn names_below(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let needle = format!("{root}::");
    for (at, _) in code.match_indices(&needle) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + needle.len()..];
        let first = |text: &str| words(text).next().map(str::to_owned);
        let Some(list) = rest.strip_prefix('{') else {
            names.extend(first(rest).map(|name| (line, name)));
            continue;
        };
        let (mut depth, mut start) = (0_usize, 0);
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    names.extend(first(&list[start..index]).map(|name| (line, name)));
                    start = index + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names
}

/// `text` with comments and the contents of strings replaced by blanks, line by line the same length in characters.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1).copied()) {
            ('/', Some('/')) => chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n),
            ('/', Some('*')) => end_of_comment(&chars, at),
            ('"', _) => end_of_string(&chars, at + 1),
            ('r', Some('"' | '#')) if at == 0 || !is_name(chars[at - 1]) || chars[at - 1] == 'b' => {
                end_of_raw_string(&chars, at)
            }
            ('\'', Some('\\')) => {
                chars[at + 2..].iter().skip(1).position(|c| *c == '\'').map_or(at, |n| at + n + 4)
            }
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            let end = end.min(chars.len());
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

pub(crate) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Comments nest.
pub(crate) fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

pub(crate) fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `start` is at the `r`; returns `start` if it is no raw string but, say, `r#type`.
pub(crate) fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (open + 1..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes)
}

#[test]
fn comments_and_strings_are_blanked() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"a\\\"b\", c)", "f(      , c)"),
        ("r#\"a\"b\"# c", "         c"),
        ("r#type br\"x\" y", "r#type b     y"),
        ("'\"' 'a' '\\'' '\\u{1}' &'a b", "                     &'a b"),
    ] {
        assert_eq!(blank(text), expected, "{text}");
    }
}
