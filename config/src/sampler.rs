//! `tracer_provider.sampler`: which spans are kept, in the words of the OpenTelemetry schema.
//!
//! Schema: <https://github.com/open-telemetry/opentelemetry-configuration/blob/v1.1.0/schema/tracer_provider.yaml>

use crate::error::ProblemKind;
use crate::field::Field;
use crate::glob::Glob;
use crate::scalar::Scalar;

/// Decides which spans are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Those of this part of all traces, from 0 to 1: `trace_id_ratio_based` and `probability/development`.
    Probability(f64),
    /// As the caller has decided.
    ParentBased(Box<ParentBased>),
    /// `composite/development`.
    Composite(Composable),
}

/// One sampler for each thing that a caller may have said.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentBased {
    /// For spans without a parent, and where the caller left the decision open. Default always_on.
    pub root: Sampler,
    /// For spans whose caller keeps the trace. Default always_on.
    pub remote_parent_sampled: Sampler,
    /// For spans whose caller does not. Default always_off.
    pub remote_parent_not_sampled: Sampler,
    /// Never asked: parents are read from requests, so that all of them are remote.
    pub local_parent_sampled: Sampler,
    /// Never asked.
    pub local_parent_not_sampled: Sampler,
}

/// A sampler that can stand within `composite/development`.
#[derive(Clone, Debug, PartialEq)]
pub enum Composable {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Those of this part of all traces, from 0 to 1.
    Probability(f64),
    /// As the caller has decided, with its threshold; this one if there is no caller.
    ParentThreshold(Box<Composable>),
    /// The sampler of the first rule that fits; without one, no span is kept.
    RuleBased(Vec<SamplerRule>),
}

/// A rule of [`Composable::RuleBased`]. It fits if all its criteria do; without criteria it fits every span.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerRule {
    /// A span attribute must have one of these values.
    pub attribute_values: Option<AttributeValues>,
    /// A span attribute must fit these patterns.
    pub attribute_patterns: Option<AttributePatterns>,
    /// The span must be of one of these kinds; empty: any.
    pub span_kinds: Vec<RuleSpanKind>,
    /// Its parent must be one of these; empty: any.
    pub parent: Vec<SpanParent>,
    /// What decides then.
    pub sampler: Composable,
}

/// Values of an attribute, as text: 404 is `"404"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValues {
    /// The attribute.
    pub key: String,
    /// At least one.
    pub values: Vec<String>,
}

/// Patterns of an attribute's value, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributePatterns {
    /// The attribute.
    pub key: String,
    /// One of these must fit; empty: all do.
    pub included: Vec<Glob>,
    /// None of these may.
    pub excluded: Vec<Glob>,
}

/// The kind of a span in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the specification")]
pub enum RuleSpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Where the parent of a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanParent {
    /// It has none.
    None,
    /// In another process, as all are that spantap knows of.
    Remote,
    /// In the same process.
    Local,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased(Box::default())
    }
}

impl Default for ParentBased {
    fn default() -> Self {
        Self {
            root: Sampler::AlwaysOn,
            remote_parent_sampled: Sampler::AlwaysOn,
            remote_parent_not_sampled: Sampler::AlwaysOff,
            local_parent_sampled: Sampler::AlwaysOn,
            local_parent_not_sampled: Sampler::AlwaysOff,
        }
    }
}

impl Sampler {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        Self::read_at(field, 0)
    }

    fn read_at(field: &Field<'_>, depth: usize) -> Option<Self> {
        is_not_too_deep(field, depth)?;
        let mut kinds = field.section()?;
        kinds.unsupported(&["jaeger_remote/development"]);
        let names = [
            "always_on",
            "always_off",
            "trace_id_ratio_based",
            "probability/development",
            "parent_based",
            "composite/development",
        ];
        let chosen = kinds.one_of(&names);
        kinds.finish();
        let (name, field) = chosen?;
        Some(match name {
            "always_on" => empty(&field, Self::AlwaysOn)?,
            "always_off" => empty(&field, Self::AlwaysOff)?,
            "parent_based" => Self::ParentBased(Box::new(ParentBased::read(&field, depth + 1)?)),
            "composite/development" => Self::Composite(Composable::read(&field, depth + 1)?),
            _ => Self::Probability(probability(&field)?),
        })
    }

    /// One of the names of `OTEL_TRACES_SAMPLER`; `ratio` is of those that have one.
    pub(crate) fn named(name: &str, ratio: f64) -> Option<Self> {
        let of_root = |root| Self::ParentBased(Box::new(ParentBased { root, ..ParentBased::default() }));
        Some(match name {
            "always_on" => Self::AlwaysOn,
            "always_off" => Self::AlwaysOff,
            "traceidratio" => Self::Probability(ratio),
            "parentbased_always_on" => of_root(Self::AlwaysOn),
            "parentbased_always_off" => of_root(Self::AlwaysOff),
            "parentbased_traceidratio" => of_root(Self::Probability(ratio)),
            _ => return None,
        })
    }
}

impl ParentBased {
    fn read(field: &Field<'_>, depth: usize) -> Option<Self> {
        let mut all = Self::default();
        let mut section = field.section()?;
        let read = |field: &Field<'_>| Sampler::read_at(field, depth);
        section.set("root", &mut all.root, read);
        section.set("remote_parent_sampled", &mut all.remote_parent_sampled, read);
        section.set("remote_parent_not_sampled", &mut all.remote_parent_not_sampled, read);
        section.set("local_parent_sampled", &mut all.local_parent_sampled, read);
        section.set("local_parent_not_sampled", &mut all.local_parent_not_sampled, read);
        section.finish();
        Some(all)
    }
}

impl Composable {
    fn read(field: &Field<'_>, depth: usize) -> Option<Self> {
        is_not_too_deep(field, depth)?;
        let mut kinds = field.section()?;
        let names = ["always_on", "always_off", "probability", "parent_threshold", "rule_based"];
        let chosen = kinds.one_of(&names);
        kinds.finish();
        let (name, field) = chosen?;
        Some(match name {
            "always_on" => empty(&field, Self::AlwaysOn)?,
            "always_off" => empty(&field, Self::AlwaysOff)?,
            "probability" => Self::Probability(probability(&field)?),
            "parent_threshold" => {
                let mut section = field.section()?;
                let root = section.required("root");
                section.finish();
                Self::ParentThreshold(Box::new(Self::read(&root?, depth + 1)?))
            }
            _ => {
                let mut rules = Vec::new();
                let mut section = field.section()?;
                section.set("rules", &mut rules, |field| {
                    let list = limited(field, RULES_MAX)?;
                    Some(list.iter().filter_map(|field| SamplerRule::read(field, depth + 1)).collect())
                });
                section.finish();
                Self::RuleBased(rules)
            }
        })
    }
}

impl SamplerRule {
    fn read(field: &Field<'_>, depth: usize) -> Option<Self> {
        let mut section = field.section()?;
        let (mut attribute_values, mut attribute_patterns) = (None, None);
        section
            .set("attribute_values", &mut attribute_values, |field| AttributeValues::read(field).map(Some));
        section.set("attribute_patterns", &mut attribute_patterns, |field| {
            AttributePatterns::read(field).map(Some)
        });
        let (mut span_kinds, mut parent) = (Vec::new(), Vec::new());
        section.set("span_kinds", &mut span_kinds, |field| {
            several(field, |field| {
                field.choice(&[
                    ("internal", RuleSpanKind::Internal),
                    ("server", RuleSpanKind::Server),
                    ("client", RuleSpanKind::Client),
                    ("producer", RuleSpanKind::Producer),
                    ("consumer", RuleSpanKind::Consumer),
                ])
            })
        });
        section.set("parent", &mut parent, |field| {
            several(field, |field| {
                field.choice(&[
                    ("none", SpanParent::None),
                    ("remote", SpanParent::Remote),
                    ("local", SpanParent::Local),
                ])
            })
        });
        let sampler = section.required("sampler");
        section.finish();
        let sampler = Composable::read(&sampler?, depth)?;
        Some(Self { attribute_values, attribute_patterns, span_kinds, parent, sampler })
    }
}

impl AttributeValues {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        let key = section.required("key");
        let values = section.required("values");
        section.finish();
        let values = several(&values?, |field| field.text().map(str::to_owned))?;
        Some(Self { key: key?.filled_text()?.to_owned(), values })
    }
}

impl AttributePatterns {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        let key = section.required("key");
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        section.set("included", &mut included, |field| several(field, Glob::read));
        section.set("excluded", &mut excluded, |field| several(field, Glob::read));
        section.finish();
        Some(Self { key: key?.filled_text()?.to_owned(), included, excluded })
    }
}

/// `{ratio: 0.1}`; 1 if it is not there.
fn probability(field: &Field<'_>) -> Option<f64> {
    let mut ratio = 1.0;
    let mut section = field.section()?;
    section.set("ratio", &mut ratio, self::ratio);
    section.finish();
    Some(ratio)
}

/// A number from 0 to 1.
pub(crate) fn ratio(field: &Field<'_>) -> Option<f64> {
    let number = match field.scalar()? {
        Scalar::Int(number) => Some(*number as f64),
        Scalar::Float(number) => Some(*number),
        _ => None,
    };
    number.filter(|number| (0.0..=1.0).contains(number)).or_else(|| field.mismatch("a number from 0 to 1"))
}

/// A sampler that has no settings.
fn empty<T>(field: &Field<'_>, sampler: T) -> Option<T> {
    field.section()?.finish();
    Some(sampler)
}

/// The elements of a list that must have one.
fn several<T>(field: &Field<'_>, read: impl FnMut(&Field<'_>) -> Option<T>) -> Option<Vec<T>> {
    let list = limited(field, RULES_MAX)?;
    if list.is_empty() {
        field.invalid("is empty", None);
        return None;
    }
    Some(list.iter().filter_map(read).collect())
}

/// A list of not more than `most`.
pub(crate) fn limited<'a>(field: &Field<'a>, most: usize) -> Option<Vec<Field<'a>>> {
    let list = field.list()?;
    if list.len() > most {
        let expected = format!("at most {most} elements");
        field.problem(ProblemKind::Range { expected, found: list.len().to_string() }, None);
        return None;
    }
    Some(list)
}

fn is_not_too_deep(field: &Field<'_>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        field.invalid(format!("is more than {DEPTH_MAX} samplers deep"), None);
        return None;
    }
    Some(())
}

/// Every span may be tried against all of them.
pub(crate) const RULES_MAX: usize = 100;
const DEPTH_MAX: usize = 10;
