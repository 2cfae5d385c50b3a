//! What a sampler of the configuration wants of a span: the threshold that its trace must reach, or that it goes.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling>

use compact_str::{CompactString, ToCompactString};
use opentelemetry::trace::SpanKind;
use spantap_config::{
    AttributePatterns, AttributeValues, Composable, ParentBased, RuleSpanKind, Sampler, SamplerRule,
    SpanParent,
};
use spantap_protocols::Value;

use super::{
    LeftOut,
    threshold::{Randomness, Threshold},
    tracestate::Said,
};
use crate::telemetry::Record;

/// What a sampler wants of a span that it does not leave out for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// What the randomness of its trace must reach.
    pub threshold: Threshold,
    /// Whether that is all that has chosen it, so that a backend may count by it.
    pub is_known: bool,
}

impl Intent {
    /// It is kept for certain.
    pub(super) const CERTAIN: Self = Self { threshold: Threshold::ALL_KEPT, is_known: true };
}

/// A span, and what is known of its trace.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub record: &'a Record,
    pub said: Said,
    pub randomness: Randomness,
    /// False if no ratio may leave it out.
    pub by_chance: bool,
}

impl Asked<'_> {
    /// Asks a sampler.
    ///
    /// # Errors
    /// Why the span goes, whatever its randomness.
    pub(super) fn ask(&self, sampler: &Sampler) -> Result<Intent, LeftOut> {
        match sampler {
            Sampler::AlwaysOn => Ok(Intent::CERTAIN),
            Sampler::AlwaysOff => Err(LeftOut::Off),
            Sampler::Probability(probability) => Ok(self.probability(*probability)),
            Sampler::ParentBased(all) => self.parent_based(all),
            Sampler::Composite(sampler) => self.composed(sampler),
        }
    }

    fn parent_based(&self, all: &ParentBased) -> Result<Intent, LeftOut> {
        match self.record.trace.caller_samples {
            None => self.ask(&all.root),
            Some(true) => {
                let parent = self.of_parent();
                let own = self.ask(&all.remote_parent_sampled)?;
                let is_known = parent.is_known && own.is_known;
                Ok(Intent { threshold: parent.threshold.max(own.threshold), is_known })
            }
            Some(false) => match &all.remote_parent_not_sampled {
                Sampler::AlwaysOff => Err(LeftOut::Caller),
                // Its traces are those that others have left over: how many there were of them is not known.
                other => Ok(Intent { is_known: false, ..self.ask(other)? }),
            },
        }
    }

    fn composed(&self, sampler: &Composable) -> Result<Intent, LeftOut> {
        match sampler {
            Composable::AlwaysOn => Ok(Intent::CERTAIN),
            Composable::AlwaysOff => Err(LeftOut::Off),
            Composable::Probability(probability) => Ok(self.probability(*probability)),
            Composable::ParentThreshold(root) => match self.record.trace.caller_samples {
                None => self.composed(root),
                Some(true) => Ok(self.of_parent()),
                Some(false) => Err(LeftOut::Caller),
            },
            // "If no rules match, the span is not sampled."
            Composable::RuleBased(rules) => match rules.iter().find(|rule| fits(rule, self.record)) {
                Some(rule) => self.composed(&rule.sampler),
                None => Err(LeftOut::Off),
            },
        }
    }

    fn probability(&self, probability: f64) -> Intent {
        if !self.by_chance {
            return Intent::CERTAIN;
        }
        Intent { threshold: Threshold::of_probability(probability), is_known: true }
    }

    /// > Parent-based samplers propagate the incoming threshold as the outgoing threshold [...]. If a sampled incoming
    /// > threshold is apparently inconsistent, erase it.
    fn of_parent(&self) -> Intent {
        match self.said.threshold.filter(|threshold| threshold.keeps(self.randomness)) {
            Some(threshold) => Intent { threshold, is_known: true },
            None => Intent { threshold: Threshold::ALL_KEPT, is_known: false },
        }
    }
}

/// Whether a sampler leaves spans out by their traces' randomness.
pub(super) fn is_by_chance(sampler: &Sampler) -> bool {
    match sampler {
        Sampler::AlwaysOn | Sampler::AlwaysOff => false,
        Sampler::Probability(probability) => *probability < 1.0,
        Sampler::ParentBased(all) => [&all.root, &all.remote_parent_sampled, &all.remote_parent_not_sampled]
            .into_iter()
            .any(is_by_chance),
        Sampler::Composite(sampler) => is_composed_by_chance(sampler),
    }
}

fn is_composed_by_chance(sampler: &Composable) -> bool {
    match sampler {
        Composable::AlwaysOn | Composable::AlwaysOff => false,
        Composable::Probability(probability) => *probability < 1.0,
        Composable::ParentThreshold(root) => is_composed_by_chance(root),
        Composable::RuleBased(rules) => rules.iter().any(|rule| is_composed_by_chance(&rule.sampler)),
    }
}

fn fits(rule: &SamplerRule, record: &Record) -> bool {
    let kind = match record.kind {
        SpanKind::Internal => RuleSpanKind::Internal,
        SpanKind::Server => RuleSpanKind::Server,
        SpanKind::Client => RuleSpanKind::Client,
        SpanKind::Producer => RuleSpanKind::Producer,
        SpanKind::Consumer => RuleSpanKind::Consumer,
    };
    let parent = if record.trace.parent.is_some() { SpanParent::Remote } else { SpanParent::None };
    (rule.span_kinds.is_empty() || rule.span_kinds.contains(&kind))
        && (rule.parent.is_empty() || rule.parent.contains(&parent))
        && rule.attribute_values.as_ref().is_none_or(|wanted| has_value(wanted, record))
        && rule.attribute_patterns.as_ref().is_none_or(|wanted| has_pattern(wanted, record))
}

fn has_value(wanted: &AttributeValues, record: &Record) -> bool {
    any_text(record, &wanted.key, |text| wanted.values.iter().any(|value| value == text))
}

fn has_pattern(wanted: &AttributePatterns, record: &Record) -> bool {
    any_text(record, &wanted.key, |text| {
        (wanted.included.is_empty() || wanted.included.iter().any(|glob| glob.matches(text)))
            && !wanted.excluded.iter().any(|glob| glob.matches(text))
    })
}

/// > Non-string attributes are matched using their string representation [...]. For array attributes, if any item
/// > matches, it is considered a match.
fn any_text(record: &Record, key: &str, fits: impl Fn(&str) -> bool) -> bool {
    let text: CompactString = match record.attributes.get(key) {
        None => return false,
        Some(Value::Texts(texts)) => return texts.iter().any(|text| fits(text)),
        Some(Value::Static(text)) => return fits(text),
        Some(Value::Text(text)) => return fits(text),
        Some(Value::Int(number)) => number.to_compact_string(),
        Some(Value::Double(number)) => number.to_compact_string(),
        Some(Value::Bool(truth)) => truth.to_compact_string(),
    };
    fits(&text)
}
