//! Gives server spans a route: `http.route` and the span's second name, both of low cardinality.
//!
//! The conventions want the framework's own route and forbid the raw path. From outside the process the framework is
//! not to be seen, and metrics by endpoint are worth little without a route; so a path is matched against the user's
//! patterns and then, unless switched off, its variable segments are replaced by placeholders (see `template.rs`).
//! That deviation is deliberate; [`Unmatched::Off`] follows the conventions to the letter.

use std::collections::{HashMap, HashSet};

use compact_str::CompactString;
use foldhash::fast::RandomState;
use opentelemetry::trace::SpanKind;
use spantap_protocols::{
    Value,
    semconv::{key, truncated},
};

use super::{Processor, Verdict, template};
use crate::telemetry::Record;

/// What a path becomes that no pattern matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// Ids, hashes, dates and the like become placeholders.
    #[default]
    Heuristic,
    /// `/**`.
    Wildcard,
    /// No route at all, as the conventions want it.
    Off,
}

/// How routes are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Tried in this order: `/users/{id}`, `/users/:id`, `/files/*` (one segment), `/static/**` (all that follows).
    pub patterns: Vec<String>,
    /// What happens to the rest.
    pub unmatched: Unmatched,
    /// Distinct heuristic routes of one service; later ones become `/**`.
    pub routes_max: usize,
}

impl Default for RouteSettings {
    fn default() -> Self {
        Self { patterns: Vec::new(), unmatched: Unmatched::Heuristic, routes_max: 200 }
    }
}

/// The route of everything that found no other.
const OVERFLOW: &str = "/**";

/// Services remembered at once; above it all are forgotten, which costs nothing but the memory of which routes were first.
const SERVICES_MAX: usize = 4_096;

/// The processor.
#[derive(Debug)]
pub struct Routes {
    settings: RouteSettings,
    patterns: Vec<Pattern>,
    known: HashMap<u32, HashSet<CompactString, RandomState>, RandomState>,
}

impl Routes {
    /// Compiles the patterns.
    #[must_use]
    pub fn new(settings: RouteSettings) -> Self {
        let patterns = settings.patterns.iter().map(|text| Pattern::new(text)).collect();
        Self { settings, patterns, known: HashMap::default() }
    }

    fn route(&mut self, service: u32, path: &str, not_found: bool) -> Option<CompactString> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        if !path.starts_with('/') {
            return None; // `OPTIONS *`, `CONNECT host:port`
        }
        if let Some(pattern) = self.patterns.iter().find(|pattern| pattern.matches(path)) {
            return Some(pattern.route.clone());
        }
        match self.settings.unmatched {
            Unmatched::Heuristic => Some(self.admit(service, template::of(path), not_found)),
            Unmatched::Wildcard => Some(CompactString::const_new(OVERFLOW)),
            Unmatched::Off => None,
        }
    }

    /// The route itself while the service has room for it.
    ///
    /// Paths that were not found may use a quarter of the room: a scanner must not push out the real ones.
    fn admit(&mut self, service: u32, route: CompactString, not_found: bool) -> CompactString {
        if self.known.len() >= SERVICES_MAX && !self.known.contains_key(&service) {
            self.known.clear();
        }
        let known = self.known.entry(service).or_default();
        let room = if not_found { self.settings.routes_max / 4 } else { self.settings.routes_max };
        if known.contains(&route) {
            return route;
        }
        if known.len() >= room {
            return CompactString::const_new(OVERFLOW);
        }
        known.insert(route.clone());
        route
    }
}

impl Processor for Routes {
    fn name(&self) -> &'static str {
        "routes"
    }

    fn process(&mut self, record: &mut Record) -> Verdict {
        if record.kind != SpanKind::Server {
            return Verdict::Keep;
        }
        if let Some(route) = record.attributes.get(key::HTTP_ROUTE).and_then(Value::as_str) {
            record.target.get_or_insert_with(|| route.into());
            return Verdict::Keep;
        }
        let Some(path) = record.attributes.get(key::URL_PATH).and_then(Value::as_str) else {
            return Verdict::Keep;
        };
        // What is only the beginning of a path could look like another route's.
        let cut = record.attributes.get(key::SPANTAP_URL_TRUNCATED).and_then(Value::as_str);
        if cut == Some(truncated::PATH) {
            if self.settings.unmatched != Unmatched::Off {
                record.attributes.push(key::HTTP_ROUTE, Value::Static(OVERFLOW));
                record.target = Some(CompactString::const_new(OVERFLOW));
            }
            return Verdict::Keep;
        }
        let not_found = record.attributes.get(key::HTTP_RESPONSE_STATUS_CODE) == Some(&Value::Int(404));
        if let Some(route) = self.route(record.service.id, path, not_found) {
            record.attributes.push(key::HTTP_ROUTE, Value::Text(route.clone()));
            record.target = Some(route);
        }
        Verdict::Keep
    }

    fn forget_service(&mut self, service: u32) {
        self.known.remove(&service);
    }
}

/// A pattern of the user's.
#[derive(Debug)]
struct Pattern {
    /// As written: what the span shows.
    route: CompactString,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq)]
enum Part {
    Exact(CompactString),
    One,
    Rest,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let parts = segments(text).map(|segment| match segment {
            "**" => Part::Rest,
            "*" => Part::One,
            _ if segment.starts_with(':') || (segment.starts_with('{') && segment.ends_with('}')) => {
                Part::One
            }
            _ => Part::Exact(segment.into()),
        });
        Self { route: text.into(), parts: parts.collect() }
    }

    fn matches(&self, path: &str) -> bool {
        let mut path = segments(path);
        for part in &self.parts {
            let fits = match part {
                Part::Rest => return true,
                Part::One => path.next().is_some(),
                Part::Exact(text) => path.next() == Some(text.as_str()),
            };
            if !fits {
                return false;
            }
        }
        path.next().is_none()
    }
}

/// The segments of a path; empty ones (`//`, a trailing slash) do not count.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use spantap_protocols::Role;

    use super::*;
    use crate::telemetry::span::tests::{record, service};

    fn route(routes: &mut Routes, service_id: u32, path: &str, status: i64) -> Option<String> {
        let mut record = record(Role::Server, status);
        record.service = service(service_id, "shop");
        record.attributes.set(key::URL_PATH, Value::Text(path.into()));
        assert_eq!(routes.process(&mut record), Verdict::Keep);
        let attribute = record.attributes.get(key::HTTP_ROUTE).and_then(Value::as_str);
        assert_eq!(attribute, record.target.as_deref());
        attribute.map(str::to_owned)
    }

    fn routes(patterns: &[&str], unmatched: Unmatched, routes_max: usize) -> Routes {
        let patterns = patterns.iter().map(|&text| text.to_owned()).collect();
        Routes::new(RouteSettings { patterns, unmatched, routes_max })
    }

    #[test]
    fn patterns_win_in_their_order() {
        let patterns = ["/users/me", "/users/{name}", "/shops/:shop/items/*", "/static/**", "/"];
        let mut routes = routes(&patterns, Unmatched::Heuristic, 10);
        for (path, expected) in [
            ("/users/me", "/users/me"),
            ("/users/ann/", "/users/{name}"),
            ("/shops/x/items/y", "/shops/:shop/items/*"),
            ("/shops/x/items", "/shops/x/items"),
            ("/static/a/b/c.js", "/static/**"),
            ("/static", "/static/**"),
            ("/", "/"),
            ("/orders/17", "/orders/{id}"),
        ] {
            assert_eq!(route(&mut routes, 1, path, 200).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn modes() {
        let of = |unmatched, path| route(&mut routes(&["/a/*"], unmatched, 10), 1, path, 200);
        assert_eq!(of(Unmatched::Wildcard, "/b/1").as_deref(), Some("/**"));
        assert_eq!(of(Unmatched::Off, "/b/1"), None);
        assert_eq!(of(Unmatched::Off, "/a/1").as_deref(), Some("/a/*"));
        assert_eq!(of(Unmatched::Heuristic, "*"), None);
    }

    #[test]
    fn the_beginning_of_a_path_is_not_taken_for_a_path() {
        for (unmatched, cut, expected) in [
            (Unmatched::Heuristic, truncated::PATH, Some("/**")),
            (Unmatched::Wildcard, truncated::PATH, Some("/**")),
            (Unmatched::Off, truncated::PATH, None),
            (Unmatched::Off, truncated::QUERY, Some("/files/*")),
        ] {
            let mut record = record(Role::Server, 200);
            record.attributes.set(key::URL_PATH, Value::Static("/files/a"));
            record.attributes.push(key::SPANTAP_URL_TRUNCATED, Value::Static(cut));
            routes(&["/files/*"], unmatched, 10).process(&mut record);
            assert_eq!(record.attributes.get(key::HTTP_ROUTE).and_then(Value::as_str), expected);
            assert_eq!(record.target.as_deref(), expected);
        }
    }

    #[test]
    fn distinct_routes_are_capped_per_service() {
        let mut routes = routes(&[], Unmatched::Heuristic, 8);
        for (at, word) in ["a", "b", "c"].iter().enumerate() {
            let found = route(&mut routes, 1, &format!("/missing/{word}"), 404);
            assert_eq!(found.as_deref() == Some("/**"), at >= 2, "not found: a quarter of the room");
        }
        for (at, word) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().enumerate() {
            let found = route(&mut routes, 1, &format!("/{word}"), 200);
            assert_eq!(found.as_deref() == Some("/**"), at >= 6);
        }
        assert_eq!(route(&mut routes, 1, "/a", 404).as_deref(), Some("/a"), "known ones stay");
        assert_eq!(
            route(&mut routes, 2, "/z", 200).as_deref(),
            Some("/z"),
            "another service has its own room"
        );
        routes.forget_service(1);
        assert_eq!(route(&mut routes, 1, "/z", 200).as_deref(), Some("/z"));
    }

    #[test]
    fn client_spans_and_routes_of_the_framework_stay_as_they_are() {
        let mut routes = routes(&[], Unmatched::Heuristic, 8);
        let mut client = record(Role::Client, 200);
        routes.process(&mut client);
        assert_eq!((client.target, client.attributes.get(key::HTTP_ROUTE)), (None, None));
        let mut server = record(Role::Server, 200);
        server.attributes.push(key::HTTP_ROUTE, Value::Static("/users/<int:pk>"));
        routes.process(&mut server);
        assert_eq!(server.name(), "GET /users/<int:pk>");
    }
}
