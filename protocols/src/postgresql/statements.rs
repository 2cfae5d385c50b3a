//! What a connection has prepared: statements by name, and which of them each portal executes. Bounded.

use std::{collections::HashMap, sync::Arc};

use compact_str::CompactString;

use super::queue::{Parsed, Text};
use crate::{limits, sql::Statement};

#[derive(Debug, Default)]
pub(super) struct PreparedStatements {
    named: HashMap<CompactString, (u64, Arc<Statement>)>,
    unnamed: Option<Arc<Statement>>,
    /// Bytes of the named ones.
    bytes: usize,
    /// Counts up, so that the oldest is known.
    next: u64,
    portals: Vec<(CompactString, Text)>,
    unnamed_portal: Option<Text>,
}

impl PreparedStatements {
    /// Parse. Returns what had the name before.
    pub(super) fn prepare(
        &mut self,
        name: &CompactString,
        statement: Arc<Statement>,
    ) -> Option<Arc<Statement>> {
        if name.is_empty() {
            return self.unnamed.replace(statement);
        }
        let before = self.take(name);
        self.bytes += size(name, &statement);
        self.next += 1;
        self.named.insert(name.clone(), (self.next, statement));
        while self.named.len() > limits::PREPARED_STATEMENTS_MAX || self.bytes > limits::PREPARED_BYTES_MAX {
            let oldest = self.named.iter().min_by_key(|(_, (age, _))| *age).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.forget(&oldest);
        }
        before
    }

    /// The Parse has failed, or was passed over since one before it had. What had the name before still has it: a named
    /// statement stays until it is closed (exec_parse_message stores one at its very end, PostgreSQL 17).
    pub(super) fn restore(&mut self, Parsed { name, statement, before }: Parsed) {
        let is_current = self.named.get(&name).is_some_and(|(_, current)| Arc::ptr_eq(current, &statement));
        if is_current {
            self.forget(&name);
        }
        let Some(before) = before else { return };
        let portals = self.portals.iter_mut().map(|(_, text)| text);
        portals.chain(&mut self.unnamed_portal).for_each(|text| text.correct(&statement, &before));
        if is_current {
            self.prepare(&name, before);
        }
    }

    /// Close, a failed Parse, or SQL that changes it.
    pub(super) fn forget(&mut self, name: &str) {
        self.take(name);
    }

    fn take(&mut self, name: &str) -> Option<Arc<Statement>> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let (name, (_, statement)) = self.named.remove_entry(name)?;
        self.bytes -= size(&name, &statement);
        Some(statement)
    }

    /// What a Bind or Describe of this statement means.
    pub(super) fn find(&self, name: &CompactString) -> Text {
        let known = if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name).map(|(_, statement)| statement)
        };
        known.map_or_else(|| Text::Unknown(name.clone()), |statement| Text::Known(Arc::clone(statement)))
    }

    /// Bind.
    pub(super) fn bind(&mut self, portal: &CompactString, text: Text) {
        if portal.is_empty() {
            self.unnamed_portal = Some(text);
            return;
        }
        self.close_portal(portal);
        if self.portals.len() >= limits::PORTALS_MAX {
            self.portals.remove(0);
        }
        self.portals.push((portal.clone(), text));
    }

    /// What an Execute of this portal means.
    pub(super) fn portal(&self, portal: &str) -> Text {
        let known = if portal.is_empty() {
            self.unnamed_portal.as_ref()
        } else {
            self.portals.iter().find(|(name, _)| name == portal).map(|(_, text)| text)
        };
        known.cloned().unwrap_or_else(|| Text::Unknown(CompactString::default()))
    }

    pub(super) fn close_portal(&mut self, portal: &str) {
        self.portals.retain(|(name, _)| name != portal);
    }

    /// Portals end with their transaction.
    pub(super) fn end_transaction(&mut self) {
        if !self.portals.is_empty() {
            self.portals = Vec::new();
        }
        self.unnamed_portal = None;
    }

    /// Anything may have been prepared or closed meanwhile.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// SQL that prepares or closes statements itself.
    pub(super) fn note(&mut self, statement: &Statement) {
        let mut words = statement.text.split(|c: char| c.is_ascii_whitespace() || matches!(c, '(' | ';'));
        let is = |word: Option<&str>, what: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(what));
        let verb = words.next();
        if is(verb, "discard") {
            self.forget_all();
        } else if is(verb, "deallocate") || is(verb, "prepare") {
            let mut name = words.find(|word| !word.is_empty());
            if is(name, "prepare") {
                name = words.find(|word| !word.is_empty());
            }
            match name {
                Some(name) if is(Some(name), "all") && is(verb, "deallocate") => self.forget_all(),
                Some(name) if !name.contains(['"', '\\']) && !statement.cut => {
                    self.forget(&name.to_ascii_lowercase());
                }
                Some(name) if name.len() > 2 && !statement.cut => self.forget(name.trim_matches('"')),
                _ => self.forget_all(),
            }
        }
    }
}

fn size(name: &str, statement: &Statement) -> usize {
    name.len() + statement.text.len() + statement.summary.len()
}
