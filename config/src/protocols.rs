//! `distribution.spantap.protocols`: a mapping keyed by the protocols' names, each with what all of them have.
//!
//! Which names exist is the caller's knowledge: this crate imports nothing of the workspace.

use std::collections::BTreeMap;

use crate::field::Field;

/// Settings by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    /// Only those that differ from the default, so that equal meaning is equal.
    settings: BTreeMap<String, ProtocolSettings>,
}

/// What every protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolSettings {
    /// Whether connections are tried for this protocol. Default true.
    pub enabled: bool,
}

impl Default for ProtocolSettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Protocols {
    /// The settings of the protocol called `name`.
    #[must_use]
    pub fn settings(&self, name: &str) -> ProtocolSettings {
        self.settings.get(name).copied().unwrap_or_default()
    }

    /// Whether connections are tried for the protocol called `name`.
    #[must_use]
    pub fn is_enabled(&self, name: &str) -> bool {
        self.settings(name).enabled
    }

    pub(crate) fn read(field: &Field<'_>, names: &[&str]) -> Option<Self> {
        let mut protocols = Self::default();
        let mut section = field.section()?;
        for (name, at, field) in section.named() {
            if !names.contains(&name) {
                section.unknown(at, name, names);
                continue;
            }
            let settings = ProtocolSettings::read(&field).unwrap_or_default();
            if settings != ProtocolSettings::default() {
                protocols.settings.insert(name.to_owned(), settings);
            }
        }
        section.finish();
        Some(protocols)
    }
}

impl ProtocolSettings {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut settings = Self::default();
        let mut section = field.section()?;
        section.set("enabled", &mut settings.enabled, Field::boolean);
        section.finish();
        Some(settings)
    }
}
