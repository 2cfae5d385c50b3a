//! `distribution.spantap.stdout`: what a `console` exporter writes.

use crate::field::Field;

/// What a `console` exporter writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdout {
    /// The format.
    pub format: StdoutFormat,
}

/// How records look on the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StdoutFormat {
    /// For people: a coloured line per span.
    #[default]
    Pretty,
    /// For tools: OTLP JSON, one object a line.
    OtlpJson,
    /// Nothing, whatever the exporters say.
    None,
}

/// The names of the formats, for the file and for the command line.
pub(crate) const FORMATS: [(&str, StdoutFormat); 3] =
    [("pretty", StdoutFormat::Pretty), ("otlp-json", StdoutFormat::OtlpJson), ("none", StdoutFormat::None)];

impl Stdout {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut stdout = Self::default();
        let mut section = field.section()?;
        section.set("format", &mut stdout.format, |field| field.choice(&FORMATS));
        section.finish();
        Some(stdout)
    }
}
