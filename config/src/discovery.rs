//! `distribution.spantap.discovery`: which processes are watched. All but the agent itself and
//! what stores telemetry, unless rules say otherwise.

use std::ops::RangeInclusive;

use crate::error::ProblemKind;
use crate::field::{Field, Section};
use crate::glob::Glob;
use crate::scalar::Scalar;

/// Which processes are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Only processes that one of these fits; without rules, all. Of several the first says what is different for it.
    pub include: Vec<Include>,
    /// Processes that are left alone, whatever `include` says.
    pub exclude: Vec<Rule>,
    /// What becomes of collectors, and of databases of telemetry.
    pub telemetry_backends: TelemetryBackends,
    /// What becomes of processes that export their spans themselves.
    pub instrumented: Instrumented,
}

/// A rule of `include`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// What a process must be like.
    pub rule: Rule,
    /// What is different for it.
    pub overrides: Overrides,
}

/// What is different for the processes, or the requests, that a rule fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `service.name` of the resource, whatever the process says.
    pub service_name: Option<String>,
    /// `service.namespace` likewise.
    pub service_namespace: Option<String>,
    /// Instead of [`Discovery::instrumented`].
    pub instrumented: Option<Instrumented>,
}

/// What becomes of collectors, and of databases of telemetry, known by the names of their executables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TelemetryBackends {
    /// They are left alone, whatever `include` says.
    #[default]
    Skip,
    /// They are treated like any other process.
    All,
}

/// What becomes of a process that exports its spans itself, so that ours would be there twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instrumented {
    /// It counts in metrics and makes no spans.
    #[default]
    MetricsOnly,
    /// It is treated like any other.
    All,
    /// It is left alone.
    Skip,
}

/// What a process must be like. All criteria that are set must fit; at least one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its executable: a pattern with a `/` is for the whole path, one without for the file's name.
    pub executable: Option<Glob>,
    /// Its command line, the arguments joined by single spaces.
    pub command_line: Option<Glob>,
    /// Its number, in the agent's own process namespace.
    pub pid: Option<u32>,
    /// The id of its container: 64 hexadecimal digits.
    pub container: Option<Glob>,
    /// The path of its control group, in any hierarchy.
    pub cgroup: Option<Glob>,
    /// The port that it serves on: fits requests which arrive there, not the whole process.
    pub port: Option<RangeInclusive<u16>>,
}

impl Discovery {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut discovery = Self::default();
        let mut section = field.section()?;
        section.set("include", &mut discovery.include, |field| {
            Some(field.list()?.iter().filter_map(Include::read).collect())
        });
        section.set("exclude", &mut discovery.exclude, |field| {
            Some(field.list()?.iter().filter_map(Rule::read).collect())
        });
        section.set("telemetry_backends", &mut discovery.telemetry_backends, |field| {
            field.choice(&[("skip", TelemetryBackends::Skip), ("all", TelemetryBackends::All)])
        });
        section.set("instrumented", &mut discovery.instrumented, Instrumented::read);
        section.finish();
        Some(discovery)
    }
}

impl Instrumented {
    fn read(field: &Field<'_>) -> Option<Self> {
        field.choice(&[("metrics_only", Self::MetricsOnly), ("all", Self::All), ("skip", Self::Skip)])
    }
}

impl Include {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut include = Self::default();
        let mut section = field.section()?;
        include.rule.set(&mut section);
        let overrides = &mut include.overrides;
        section.set("service_name", &mut overrides.service_name, |field| name(field).map(Some));
        section.set("service_namespace", &mut overrides.service_namespace, |field| name(field).map(Some));
        section.set("instrumented", &mut overrides.instrumented, |field| Instrumented::read(field).map(Some));
        section.finish();
        include.rule.names_something(field).then_some(include)
    }
}

impl Rule {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut rule = Self::default();
        let mut section = field.section()?;
        rule.set(&mut section);
        section.finish();
        rule.names_something(field).then_some(rule)
    }

    fn set(&mut self, section: &mut Section<'_>) {
        let glob = |field: &Field<'_>| Glob::read(field).map(Some);
        section.set("executable", &mut self.executable, glob);
        section.set("command_line", &mut self.command_line, glob);
        section.set("pid", &mut self.pid, |field| field.integer(1..=PID_MAX).map(Some));
        section.set("container", &mut self.container, glob);
        section.set("cgroup", &mut self.cgroup, glob);
        section.set("port", &mut self.port, |field| port_range(field).map(Some));
    }

    /// An empty rule would fit every process, which nobody means by it. A wrong value has said so already.
    fn names_something(&self, field: &Field<'_>) -> bool {
        let is_empty = *self == Self::default();
        if is_empty {
            field.invalid("names no criterion", Some(CRITERIA.to_owned()));
        }
        !is_empty
    }
}

/// The name of a service.
fn name(field: &Field<'_>) -> Option<String> {
    let text = field.filled_text()?;
    if text.len() > NAME_BYTES_MAX {
        let expected = format!("at most {NAME_BYTES_MAX} bytes");
        field.problem(ProblemKind::Range { expected, found: format!("{} bytes", text.len()) }, None);
        return None;
    }
    Some(text.to_owned())
}

/// `8080` or `8000-8099`.
fn port_range(field: &Field<'_>) -> Option<RangeInclusive<u16>> {
    let text = match field.scalar()? {
        Scalar::Int(number) => number.to_string(),
        Scalar::Text(text) => text.clone(),
        _ => String::new(),
    };
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
    let range = match text.split_once('-') {
        Some((first, last)) => port(first).zip(port(last)),
        None => port(&text).zip(port(&text)),
    };
    match range {
        Some((first, last)) if first <= last => Some(first..=last),
        _ => field.mismatch("a port, or a range of ports like 8000-8099"),
    }
}

const CRITERIA: &str = "give at least one of executable, command_line, pid, container, cgroup and port";
/// `PID_MAX_LIMIT` of `include/linux/threads.h`.
const PID_MAX: u64 = 4 << 20;
/// Longer names are no names.
const NAME_BYTES_MAX: usize = 255;
