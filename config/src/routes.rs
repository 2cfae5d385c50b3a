//! `distribution.spantap.routes`: how a request's path becomes a route of low cardinality.
//!
//! The user's patterns come first, then what `unmatched` says.

use crate::error::ProblemKind;
use crate::field::Field;

/// How paths become routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// What happens to a path that no pattern matches.
    pub unmatched: Unmatched,
    /// Tried in this order.
    pub patterns: Vec<RoutePattern>,
    /// Different routes of one service, at most; what comes on top is `/**`. Default 500.
    pub max_per_service: u32,
}

/// What happens to a path that no pattern matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// Segments that look like identifiers become `{id}`. It departs from the semantic conventions, which want no
    /// route rather than a guessed one, because rates and errors per endpoint are useless without it.
    #[default]
    Heuristic,
    /// The route is `/**`.
    Wildcard,
    /// No route: the semantic conventions to the letter.
    Off,
}

/// A route, written as `/users/{id}/orders`, `/files/*` or `/static/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    text: String,
    segments: Vec<RouteSegment>,
}

/// A segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteSegment {
    /// Exactly this text.
    Literal(String),
    /// `{name}` or `*`: any one segment.
    Any,
    /// `**`, only at the end: any number of segments, also none.
    Rest,
}

impl Default for Routes {
    fn default() -> Self {
        Self { unmatched: Unmatched::default(), patterns: Vec::new(), max_per_service: 500 }
    }
}

impl Routes {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut routes = Self::default();
        let mut section = field.section()?;
        section.set("unmatched", &mut routes.unmatched, |field| {
            field.choice(&[
                ("heuristic", Unmatched::Heuristic),
                ("wildcard", Unmatched::Wildcard),
                ("off", Unmatched::Off),
            ])
        });
        section.set("patterns", &mut routes.patterns, |field| {
            let list = field.list()?;
            if list.len() > PATTERNS_MAX {
                let expected = format!("at most {PATTERNS_MAX} patterns");
                field.problem(ProblemKind::Range { expected, found: list.len().to_string() }, None);
            }
            Some(list.iter().filter_map(RoutePattern::read).collect())
        });
        section.set("max_per_service", &mut routes.max_per_service, |field| field.integer(1..=100_000));
        section.finish();
        Some(routes)
    }
}

impl RoutePattern {
    fn read(field: &Field<'_>) -> Option<Self> {
        match Self::parse(field.filled_text()?) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                field.invalid(why, Some("write it like /users/{id}/orders or /static/**".to_owned()));
                None
            }
        }
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix('/').ok_or("must begin with /")?;
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')) {
            return Err("must be a path, without blanks, ? and #");
        }
        let mut segments = Vec::new();
        let mut pieces = rest.split('/').peekable();
        while let Some(piece) = pieces.next() {
            segments.push(match piece {
                "*" => RouteSegment::Any,
                "**" if pieces.peek().is_none() => RouteSegment::Rest,
                "**" => return Err("may have ** only at its end"),
                _ => match piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) {
                    Some(name) if !name.is_empty() && !name.contains(['{', '}']) => RouteSegment::Any,
                    None if !piece.contains(['{', '}', '*']) => RouteSegment::Literal(piece.to_owned()),
                    _ => return Err("may have {name}, * and ** only as a whole segment"),
                },
            });
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as written: the value of `http.route`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments; `/` has one empty literal.
    #[must_use]
    pub fn segments(&self) -> &[RouteSegment] {
        &self.segments
    }

    /// Whether `path`, without its query, fits.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut pieces = path.split('/');
        for segment in &self.segments {
            let piece = match segment {
                RouteSegment::Rest => return true,
                _ => pieces.next(),
            };
            match (segment, piece) {
                (RouteSegment::Literal(text), Some(piece)) if text == piece => {}
                (RouteSegment::Any, Some(piece)) if !piece.is_empty() => {}
                _ => return false,
            }
        }
        pieces.next().is_none()
    }
}

/// Every path is tried against all of them.
const PATTERNS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_paths() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/7/orders", false),
            ("/users/*/orders", "/users/7/orders", true),
            ("/static/**", "/static/a/b.js", true),
            ("/static/**", "/static/", true),
            ("/static/**", "/static", true),
            ("/static/**", "/statics", false),
            ("/**", "/", true),
            ("/a", "a", false),
        ] {
            let parsed = RoutePattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for pattern in ["", "users", "/a b", "/a?x", "/**/a", "/{}", "/{a}b", "/a*", "/{a", "/a}", "/{{a}}"] {
            assert!(RoutePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
