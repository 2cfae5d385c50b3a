//! `distribution.spantap.discovery`: which processes are watched. All but the agent itself, unless rules say otherwise.

use std::ops::RangeInclusive;

use crate::field::Field;
use crate::glob::Glob;
use crate::scalar::Scalar;

/// Which processes are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Only processes that one of these fits; without rules, all.
    pub include: Vec<Rule>,
    /// Processes that are left alone, whatever `include` says.
    pub exclude: Vec<Rule>,
    /// What becomes of processes that export their spans themselves.
    pub instrumented: Instrumented,
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
        section.set("include", &mut discovery.include, rules);
        section.set("exclude", &mut discovery.exclude, rules);
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

fn rules(field: &Field<'_>) -> Option<Vec<Rule>> {
    Some(field.list()?.iter().filter_map(Rule::read).collect())
}

impl Rule {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut rule = Self::default();
        let mut section = field.section()?;
        let glob = |field: &Field<'_>| Glob::read(field).map(Some);
        section.set("executable", &mut rule.executable, glob);
        section.set("command_line", &mut rule.command_line, glob);
        section.set("pid", &mut rule.pid, |field| field.integer(1..=PID_MAX).map(Some));
        section.set("container", &mut rule.container, glob);
        section.set("cgroup", &mut rule.cgroup, glob);
        section.set("port", &mut rule.port, |field| port_range(field).map(Some));
        section.finish();
        if rule == Self::default() {
            // An empty rule would fit every process, which nobody means by it. A wrong value has said so already.
            field.invalid("names no criterion", Some(CRITERIA.to_owned()));
            return None;
        }
        Some(rule)
    }
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
