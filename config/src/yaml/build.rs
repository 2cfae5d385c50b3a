//! The stack machine that turns events into a tree.
//!
//! A frame per open list or mapping; a finished node goes to the frame below it. There is no recursion, and the depth
//! is checked on push.

use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle, Tag};

use super::{Entry, Node, Value};
use crate::error::{Location, ProblemKind};
use crate::field::Sink;
use crate::scalar::{Scalar, resolve};
use crate::substitute::substitute;

/// See the module.
pub(super) struct Builder<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    sink: &'a Sink,
    open: Vec<Frame>,
    root: Option<Node>,
    /// Finished nodes with an anchor, and how many nodes each is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: usize,
}

/// An open list or mapping.
struct Frame {
    at: Location,
    anchor: usize,
    /// The value of `Builder::nodes` when it was opened.
    nodes_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Where each key was first set.
        seen: HashMap<String, Location>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    at: Location,
    /// True for a key that has been reported: its value is read and dropped.
    dropped: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>, sink: &'a Sink) -> Self {
        Self { env, sink, open: Vec::new(), root: None, anchors: HashMap::new(), nodes: 0, documents: 0 }
    }

    /// Takes one event. `None` if reading must end; the reason is in the sink.
    pub(super) fn event(&mut self, event: Event<'_>, at: Location) -> Option<()> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.stop(at, ProblemKind::SeveralDocuments);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                if let Some(Content::Map { key: None, .. }) = self.open.last().map(|frame| &frame.content) {
                    self.key(text.into_owned(), at);
                } else {
                    let node = self.scalar(&text, style, tag.as_deref(), at);
                    self.anchor(anchor, &node, 1);
                    self.place(node);
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), at);
                self.push(at, anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), at);
                self.push(at, anchor, Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.pop(),
            Event::Alias(id) => {
                let Some((node, nodes)) = self.anchors.get(&id) else {
                    return self.stop(at, ProblemKind::RecursiveAlias);
                };
                let (node, nodes) = (node.clone(), *nodes);
                self.count(nodes, at)?;
                self.place(node);
            }
            // Stream and document ends, and events of options that are off.
            _ => {}
        }
        Some(())
    }

    /// The tree; null if there was no document.
    pub(super) fn finish(self) -> Node {
        self.root.unwrap_or_else(|| Node::null(Location { line: 1, column: 1 }))
    }

    fn push(&mut self, at: Location, anchor: usize, content: Content) -> Option<()> {
        self.count(1, at)?;
        if self.open.len() >= DEPTH_MAX {
            return self.stop(at, ProblemKind::Depth { max: DEPTH_MAX });
        }
        self.open.push(Frame { at, anchor, nodes_before: self.nodes - 1, content });
        Some(())
    }

    fn pop(&mut self) {
        let Some(frame) = self.open.pop() else { return };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        let node = Node { at: frame.at, value, from_env: false };
        self.anchor(frame.anchor, &node, self.nodes - frame.nodes_before);
        self.place(node);
    }

    /// Gives a finished node to the frame that waits for it.
    fn place(&mut self, node: Node) {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key, .. } => match key.take() {
                Some(Key { dropped: true, .. }) => {}
                Some(Key { text, at, .. }) => entries.push(Entry { key: text, at, node }),
                None => {
                    *key = Some(Key { text: String::new(), at: node.at, dropped: true });
                    self.problem(node.at, ProblemKind::KeyNotText);
                }
            },
        }
    }

    /// Takes the text of a key. Keys are never substituted: "Mapping keys are not candidates for substitution."
    fn key(&mut self, text: String, at: Location) {
        let Some(Frame { content: Content::Map { seen, key, .. }, .. }) = self.open.last_mut() else {
            return;
        };
        let first = seen.get(&text).copied();
        seen.entry(text.clone()).or_insert(at);
        *key = Some(Key { text, at, dropped: first.is_some() });
        if let Some(first) = first {
            self.problem(at, ProblemKind::DuplicateKey { first_line: first.line });
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Location) -> Node {
        let text_after = match substitute(text, self.env) {
            Ok(text) => text,
            Err(invalid) => {
                let hint = "write ${NAME}, ${env:NAME} or ${NAME:-default}; $$ for a dollar sign";
                let kind = ProblemKind::Reference { reference: invalid.0 };
                self.sink.add(Some(at), &self.path(), kind, Some(hint.to_owned()));
                return Node::null(at);
            }
        };
        let plain = matches!(style, ScalarStyle::Plain);
        let scalar = match tag {
            None if plain => resolve(&text_after),
            None => Scalar::Text(text_after.to_string()),
            Some(tag) if tag.is_yaml_core_schema_tag("str") => Scalar::Text(text_after.to_string()),
            Some(tag) if tag.is_yaml_core_schema() => resolve(&text_after),
            Some(tag) => {
                self.problem(at, ProblemKind::Tag(tag.original()));
                Scalar::Null
            }
        };
        Node { at, value: Value::Scalar(scalar), from_env: text_after != text }
    }

    fn collection_tag(&self, tag: Option<&Tag>, at: Location) {
        if let Some(tag) = tag.filter(|tag| tag.is_custom()) {
            self.problem(at, ProblemKind::Tag(tag.original()));
        }
    }

    fn anchor(&mut self, anchor: usize, node: &Node, nodes: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
    }

    fn count(&mut self, nodes: usize, at: Location) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return self.stop(at, ProblemKind::Nodes { max: NODES_MAX });
        }
        Some(())
    }

    fn problem(&self, at: Location, kind: ProblemKind) {
        self.sink.add(Some(at), &self.path(), kind, None);
    }

    fn stop(&self, at: Location, kind: ProblemKind) -> Option<()> {
        self.problem(at, kind);
        None
    }

    /// The path of keys to where the next node goes.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.open {
            match &frame.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map { key: Some(key), .. } if !key.text.is_empty() => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                Content::Map { .. } => {}
            }
        }
        path
    }
}

/// Levels of nesting. The deepest key of the schema stands at level 10.
pub(super) const DEPTH_MAX: usize = 32;
/// Values after expanding aliases. A full configuration with a hundred routes and headers has some 500.
const NODES_MAX: usize = 20_000;
