//! From text to a located tree: YAML events become [`Node`]s that know their line and column.
//!
//! References to environment variables are replaced here, scalar by scalar, before the type of the scalar is decided;
//! so a variable can never bring in structure. Everything is bounded: nesting, and the number of values after aliases
//! are expanded. Syntax errors end the reading, everything else is noted and the reading goes on.

mod build;
#[cfg(test)]
mod tests;

use granit_parser::{Marker, Parser};

use crate::error::{Location, ProblemKind};
use crate::field::Sink;
use crate::scalar::Scalar;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Location,
    pub(crate) value: Value,
    /// True if a variable of the environment took part: then the value is not repeated in messages.
    pub(crate) from_env: bool,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Location,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn null(at: Location) -> Self {
        Self { at, value: Value::Scalar(Scalar::Null), from_env: false }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Scalar(Scalar::Null)
    }
}

/// Reads `text`. `None` if it is no YAML document of bearable size; the reason is then in `sink`. The tree of an empty
/// text is null.
pub(crate) fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>, sink: &Sink) -> Option<Node> {
    let mut builder = build::Builder::new(env, sink);
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = build::DEPTH_MAX;
    options.block_nesting_limit = build::DEPTH_MAX;
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                builder.event(event, location(&span.start))?;
            }
            Err(error) if *error.kind() == granit_parser::ErrorKind::RecursionLimitExceeded => {
                let kind = ProblemKind::Depth { max: build::DEPTH_MAX };
                sink.add(Some(location(error.marker())), "", kind, None);
                return None;
            }
            Err(error) => {
                let message = error.info();
                let hint = message
                    .contains("tab")
                    .then(|| "YAML is indented with spaces, a tab stands here".to_owned())
                    .or_else(|| {
                        message.contains("mapping values are not allowed").then(|| {
                            "a value that holds `: ` needs quotes; else look at the indentation".to_owned()
                        })
                    })
                    .or_else(|| {
                        // Between [ ] and { } a brace ends a plain value: `[/users/{id}]`.
                        let line = text.lines().nth(error.marker().line().saturating_sub(1))?;
                        line.contains(['{', '}']).then(|| "put values with { } in quotes".to_owned())
                    });
                sink.add(Some(location(error.marker())), "", ProblemKind::Syntax(message), hint);
                return None;
            }
        }
    }
    Some(builder.finish())
}

fn location(marker: &Marker) -> Location {
    Location { line: marker.line().max(1), column: marker.col() + 1 }
}
