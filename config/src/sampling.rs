//! `distribution.spantap.sampling`: what no standard sampler can decide, since it is known only when a span has ended.

use crate::field::Field;
use crate::glob::Glob;
use crate::sampler::{RULES_MAX, Sampler, limited, ratio};

/// What is kept besides, what else decides, and how much at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Spans with an error. Default [`Keep::OverRatio`].
    pub keep_errors: Keep,
    /// Spans that took longer than nearly all others of their service and name. Default [`Keep::OverRatio`].
    pub keep_slowest: Keep,
    /// The part that is the slowest, above 0 and up to 0.5. Default 0.01: above the 99th percentile.
    pub slowest: f64,
    /// Spans a second, all services together; `None` is no limit, which is the default.
    pub spans_per_second: Option<u32>,
    /// The first that fits a span names the sampler for it.
    pub rules: Vec<ServiceSampler>,
}

/// Whether spans of a sort are kept for what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// They are sampled as any other.
    LikeOthers,
    /// No ratio leaves them out, and the ceiling only when it leaves out all others. What the caller has decided and
    /// always_off are obeyed.
    #[default]
    OverRatio,
    /// Likewise, and whatever the caller has decided.
    Always,
}

/// A rule: a sampler for some services, or for some spans of theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSampler {
    /// `service.name`.
    pub service: Option<Glob>,
    /// The span's name: `GET /health*`.
    pub span_name: Option<Glob>,
    /// What decides instead of `tracer_provider.sampler`.
    pub sampler: Sampler,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            keep_errors: Keep::default(),
            keep_slowest: Keep::default(),
            slowest: 0.01,
            spans_per_second: None,
            rules: Vec::new(),
        }
    }
}

impl Sampling {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut sampling = Self::default();
        let mut section = field.section()?;
        section.set("keep_errors", &mut sampling.keep_errors, Keep::read);
        section.set("keep_slowest", &mut sampling.keep_slowest, Keep::read);
        section.set("slowest", &mut sampling.slowest, |field| {
            let part = ratio(field)?;
            if (SLOWEST_MIN..=SLOWEST_MAX).contains(&part) {
                return Some(part);
            }
            field.mismatch(&format!("a number from {SLOWEST_MIN} to {SLOWEST_MAX}"))
        });
        section.set("spans_per_second", &mut sampling.spans_per_second, |field| {
            field.integer(1..=SPANS_PER_SECOND_MAX).map(Some)
        });
        section.set("rules", &mut sampling.rules, |field| {
            Some(limited(field, RULES_MAX)?.iter().filter_map(ServiceSampler::read).collect())
        });
        section.finish();
        Some(sampling)
    }
}

impl Keep {
    fn read(field: &Field<'_>) -> Option<Self> {
        field.choice(&[
            ("like_others", Self::LikeOthers),
            ("over_ratio", Self::OverRatio),
            ("always", Self::Always),
        ])
    }
}

impl ServiceSampler {
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        let (mut service, mut span_name) = (None, None);
        let mut wrong = false;
        for (key, target) in [("service", &mut service), ("span_name", &mut span_name)] {
            if let Some(field) = section.field(key) {
                *target = Glob::read(&field);
                wrong |= target.is_none();
            }
        }
        let sampler = section.required("sampler");
        section.finish();
        let sampler = Sampler::read(&sampler?)?;
        if service.is_none() && span_name.is_none() {
            if !wrong {
                let hint = "give service, span_name or both; for all spans there is tracer_provider.sampler";
                field.invalid("names no criterion", Some(hint.to_owned()));
            }
            return None;
        }
        Some(Self { service, span_name, sampler })
    }
}

/// A smaller part would need longer than any service lives to be told apart.
const SLOWEST_MIN: f64 = 0.0001;
const SLOWEST_MAX: f64 = 0.5;
/// As many spans are held for a second, some 100 MiB.
const SPANS_PER_SECOND_MAX: u64 = 100_000;
