//! A snapshot as text, in pieces: of twenty thousand series it is some tens of megabytes, which nobody holds at once.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use super::{
    format::Format,
    names::{self, FamilyName},
    targets::{Target, targets},
};
use crate::telemetry::{
    MetricsSnapshot, UnixNanos,
    histogram::{Buckets, Exemplar},
    snapshot::{HistogramPoint, MetricPoints, NumberKind, NumberMetric, NumberPoint},
};

/// What is written beside the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Additions {
    /// `otel_scope_name` and `otel_scope_version` on each sample.
    pub scope_info: bool,
    /// `target_info`, a series for each service with all that its resource says.
    pub target_info: bool,
}

/// The text of a snapshot, being written.
pub(super) struct Exposition {
    snapshot: Arc<MetricsSnapshot>,
    format: Format,
    targets: Vec<Target>,
    families: Vec<Family>,
    next: Next,
    /// If `target_info` is wanted, it comes first.
    target_info: bool,
}

/// All samples of one name stand together, whichever services they are of.
struct Family {
    name: FamilyName,
    help: &'static str,
    kind: Kind,
    /// Service and metric, as positions in the snapshot.
    parts: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Histogram,
    Number(NumberKind),
}

/// What is written next.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    has_begun: bool,
    family: usize,
    part: usize,
    point: usize,
    has_ended: bool,
}

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;

impl Exposition {
    pub(super) fn new(snapshot: Arc<MetricsSnapshot>, format: Format, additions: Additions) -> Self {
        let targets = targets(&snapshot.services, additions.scope_info);
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut add = |name: FamilyName, help, kind, part| {
            let family = families.entry(name.name.clone());
            let family = family.or_insert_with(|| Family { name, help, kind, parts: Vec::new() });
            // A name stands for one kind of thing; of two metrics that would share it, the first has it.
            if family.kind == kind {
                family.parts.push(part);
            }
        };
        for (at, service) in snapshot.services.iter().enumerate() {
            for (part, metric) in service.metrics.iter().enumerate() {
                let name = FamilyName::of(metric.metric.name, metric.metric.unit, false);
                add(name, metric.metric.description, Kind::Histogram, (at, part));
            }
            for (part, metric) in service.numbers.iter().enumerate() {
                let name = FamilyName::of(metric.name, metric.unit, metric.kind == NumberKind::Gauge);
                add(name, metric.description, Kind::Number(metric.kind), (at, part));
            }
        }
        let families = families.into_values().collect();
        let target_info = additions.target_info;
        Self { snapshot, format, targets, families, next: Next::default(), target_info }
    }

    /// Appends the next piece; false if there is none.
    pub(super) fn write(&mut self, out: &mut String) -> bool {
        if self.next.has_ended {
            return false;
        }
        let until = out.len() + PIECE_BYTES;
        if !std::mem::replace(&mut self.next.has_begun, true) && self.target_info {
            self.write_target_info(out);
        }
        while out.len() < until {
            let Some(family) = self.families.get(self.next.family) else {
                if self.format.is_open_metrics() {
                    out.push_str("# EOF\n");
                }
                self.next.has_ended = true;
                break;
            };
            if (self.next.part, self.next.point) == (0, 0) {
                self.write_head(out, family);
            }
            let Some(&(service, part)) = family.parts.get(self.next.part) else {
                self.next = Next { family: self.next.family + 1, part: 0, point: 0, ..self.next };
                continue;
            };
            let at = self.next.point;
            let written = match family.kind {
                Kind::Histogram => self.histogram(service, part).and_then(|metric| {
                    let point = metric.points.get(at)?;
                    self.write_histogram(out, family, self.targets.get(service)?, metric, point);
                    Some(())
                }),
                Kind::Number(kind) => self.number(service, part).and_then(|metric| {
                    self.write_number(out, family, self.targets.get(service)?, kind, metric.points.get(at)?);
                    Some(())
                }),
            };
            match written {
                Some(()) => self.next.point += 1,
                None => self.next = Next { part: self.next.part + 1, point: 0, ..self.next },
            }
        }
        true
    }

    fn histogram(&self, service: usize, part: usize) -> Option<&MetricPoints> {
        self.snapshot.services.get(service)?.metrics.get(part)
    }

    fn number(&self, service: usize, part: usize) -> Option<&NumberMetric> {
        self.snapshot.services.get(service)?.numbers.get(part)
    }

    fn write_target_info(&self, out: &mut String) {
        if self.targets.is_empty() {
            return;
        }
        out.push_str(if self.format.is_open_metrics() {
            "# HELP target Target metadata\n# TYPE target info\n"
        } else {
            "# HELP target_info Target metadata\n# TYPE target_info gauge\n"
        });
        for target in &self.targets {
            put(out, format_args!("target_info{{{}}} 1\n", target.info));
        }
    }

    fn write_head(&self, out: &mut String, family: &Family) {
        let open = self.format.is_open_metrics();
        let kind = match family.kind {
            Kind::Histogram => "histogram",
            Kind::Number(NumberKind::Counter) => "counter",
            Kind::Number(NumberKind::Gauge | NumberKind::UpDown) => "gauge",
        };
        // The older format names the sample, the newer the family.
        let suffix = if kind == "counter" && !open { "_total" } else { "" };
        let name = &family.name.name;
        put(out, format_args!("# HELP {name}{suffix} "));
        names::put_escaped(out, family.help, open);
        put(out, format_args!("\n# TYPE {name}{suffix} {kind}\n"));
        if open && !family.name.unit.is_empty() {
            put(out, format_args!("# UNIT {name} {}\n", family.name.unit));
        }
    }

    fn write_histogram(
        &self,
        out: &mut String,
        family: &Family,
        target: &Target,
        metric: &MetricPoints,
        point: &HistogramPoint,
    ) {
        // Exponential buckets have no form in text; a reader of text is given explicit ones.
        let Buckets::Explicit(counts) = &point.histogram.buckets else { return };
        let name = &family.name.name;
        let own = names::labels(point.dimensions.iter(), RESERVED);
        let labels = &target.labels;
        let separator = if own.is_empty() { "" } else { "," };
        let open = self.format.is_open_metrics();
        let mut total = 0;
        for (range, count) in counts.iter().enumerate() {
            total += count;
            put(out, format_args!("{name}_bucket{{{labels}{separator}{own},le=\""));
            match metric.metric.bounds.get(range) {
                // With a point always: `1` and `1.0` would be two series.
                Some(bound) => put(out, format_args!("{bound:?}")),
                None => out.push_str("+Inf"),
            }
            put(out, format_args!("\"}} {total}"));
            if let Some(exemplar) = point.histogram.exemplars.get(range).filter(|_| open) {
                put_exemplar(out, exemplar);
            }
            out.push('\n');
        }
        put(out, format_args!("{name}_sum{{{labels}{separator}{own}}} {:?}\n", point.histogram.sum));
        put(out, format_args!("{name}_count{{{labels}{separator}{own}}} {}\n", point.histogram.count));
        self.write_created(out, family, labels, &own, point.start);
    }

    fn write_number(
        &self,
        out: &mut String,
        family: &Family,
        target: &Target,
        kind: NumberKind,
        point: &NumberPoint,
    ) {
        let own = names::labels(point.attributes.iter().map(|(name, value)| (*name, value)), RESERVED);
        let (name, labels) = (&family.name.name, &target.labels);
        let separator = if own.is_empty() { "" } else { "," };
        let suffix = if kind == NumberKind::Counter { "_total" } else { "" };
        put(out, format_args!("{name}{suffix}{{{labels}{separator}{own}}} {}\n", point.value));
        if kind == NumberKind::Counter {
            self.write_created(out, family, labels, &own, point.start);
        }
    }

    fn write_created(&self, out: &mut String, family: &Family, labels: &str, own: &str, start: UnixNanos) {
        if self.format.is_open_metrics() {
            let separator = if own.is_empty() { "" } else { "," };
            put(out, format_args!("{}_created{{{labels}{separator}{own}}} ", family.name.name));
            put_seconds(out, start);
            out.push('\n');
        }
    }
}

/// Labels that are ours to give.
const RESERVED: &[&str] = &["job", "instance", "le", "otel_scope_name", "otel_scope_version"];

fn put_exemplar(out: &mut String, exemplar: &Exemplar) {
    let (trace, span) = (exemplar.trace_id, exemplar.span_id);
    put(out, format_args!(" # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {:?} ", exemplar.value));
    put_seconds(out, exemplar.time);
}

fn put_seconds(out: &mut String, time: UnixNanos) {
    put(out, format_args!("{}.{:09}", time.0 / 1_000_000_000, time.0 % 1_000_000_000));
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
