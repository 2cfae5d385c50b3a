//! Patterns of names and paths.

use crate::error::ProblemKind;
use crate::field::Field;

/// A pattern as OpenTelemetry's configuration has it: `?` is any one character, `*` is any number of any characters,
/// also of `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let text = field.filled_text()?;
        if text.len() > GLOB_BYTES_MAX {
            let expected = format!("at most {GLOB_BYTES_MAX} bytes");
            field.problem(ProblemKind::Range { expected, found: format!("{} bytes", text.len()) }, None);
            return None;
        }
        Some(Self(text.to_owned()))
    }

    /// Whether it is for a whole path, not for a name.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.0.contains('/')
    }

    /// Whether the file at `path` fits: a pattern with a `/` is for the whole path, one without for the file's name.
    #[must_use]
    pub fn matches_path(&self, path: &str) -> bool {
        self.matches(if self.is_path() { path } else { path.rsplit('/').next().unwrap_or(path) })
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of `text` fits. Takes at most the product of both lengths.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where to go on if what follows the last `*` does not fit: that star takes one more character.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((star_p, star_t)) = star else { return false };
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

/// Longer than any path.
const GLOB_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_the_schema_says() {
        for (glob, text, expected) in [
            ("sshd", "sshd", true),
            ("sshd", "sshd2", false),
            ("*", "", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.so*", "x.so.3", true),
            ("**", "any/thing", true),
            ("é?", "éx", true),
        ] {
            assert_eq!(Glob(glob.to_owned()).matches(text), expected, "{glob} {text}");
        }
        let hard = Glob("a*".repeat(30) + "b");
        assert!(!hard.matches(&"a".repeat(2000)), "answers, and soon");
    }

    #[test]
    fn a_pattern_without_slash_is_for_the_name() {
        let fits = |glob: &str, path: &str| Glob(glob.to_owned()).matches_path(path);
        assert!(fits("sshd", "/usr/sbin/sshd"));
        assert!(!fits("sshd", "/usr/sshd/other"));
        assert!(fits("/usr/*/sshd", "/usr/sbin/sshd"));
        assert!(!fits("/opt/*", "/usr/sbin/sshd"));
    }
}
