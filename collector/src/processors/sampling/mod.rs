//! Which records are exported as spans. All of them count in metrics: a span that is left out is a record like before,
//! without [`Record::is_span`].
//!
//! The decision is made when a span has ended, of what is known then. First the configured sampler is asked, that of the
//! first rule which fits the service and the span's name or the general one: as the caller has decided, by ratio,
//! everything, nothing. Errors and the slowest are asked for without chance, so that no ratio leaves them out. Then the
//! ceiling holds what remains until the second is over. Nothing of this draws lots: all chance is the randomness of a
//! trace, which others who sample it see too, and the threshold it had to reach stands in `tracestate`.

mod ceiling;
mod sampler;
mod slowest;
mod threshold;
mod tracestate;

use std::collections::HashMap;

use foldhash::fast::RandomState;
use spantap_config::{self as config, Keep, ServiceSampler};
use spantap_protocols::{BootNanos, Outcome};

use self::{
    ceiling::{Ceiling, Rank},
    sampler::{Asked, Intent, is_by_chance},
    slowest::Slowest,
    threshold::{Randomness, Threshold},
    tracestate::Said,
};
use crate::telemetry::Record;

/// Why a span is not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The caller does not keep the trace.
    Caller,
    /// A sampler keeps nothing: always_off, or rules of which none fits.
    Off,
    /// A ratio.
    Ratio,
    /// More spans a second than may leave.
    Ceiling,
}

impl LeftOut {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Caller, Self::Off, Self::Ratio, Self::Ceiling];

    /// For the accounts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller => "the caller's decision",
            Self::Off => "always_off",
            Self::Ratio => "ratio",
            Self::Ceiling => "spans_per_second",
        }
    }
}

/// What was decided of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// Whether it is a span is known.
    Decided,
    /// It is to be given to [`Sampling::hold`] with this.
    Waits(Waiting),
}

/// What [`Sampling::hold`] needs to know of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting(Rank, Intent);

/// Decides which records are spans. One for each thread that has a pipeline.
pub struct Sampling {
    samplers: Samplers,
    keep_errors: Keep,
    keep_slowest: Keep,
    /// Only where somebody asks.
    slowest: Option<Slowest>,
    ceiling: Option<Ceiling>,
    /// Whether anything is left out by chance: then what is kept for certain says so.
    by_chance: bool,
    counts: Counts,
}

/// What sampling did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    left_out: [u64; LeftOut::ALL.len()],
    /// Spans that were kept only because they are errors.
    pub errors: u64,
    /// Spans that were kept only because they are among the slowest.
    pub slowest: u64,
    /// Spans that could not be compared with others, since there are too many services and names.
    pub not_followed: u64,
}

impl Counts {
    /// Spans that are not exported for this reason.
    #[must_use]
    pub fn left_out(&self, reason: LeftOut) -> u64 {
        self.left_out[reason as usize]
    }

    fn leave_out(&mut self, reason: LeftOut) {
        self.left_out[reason as usize] += 1;
    }
}

impl Sampling {
    /// What the configuration asks for.
    #[must_use]
    pub fn new(sampler: &config::Sampler, settings: &config::Sampling) -> Self {
        let ceiling = settings.spans_per_second.map(|most| Ceiling::new(most as usize));
        let mut all = settings.rules.iter().map(|rule| &rule.sampler).chain([sampler]);
        let by_chance = ceiling.is_some() || all.any(is_by_chance);
        let is_asked_for = match settings.keep_slowest {
            Keep::LikeOthers => false,
            Keep::OverRatio => by_chance,
            Keep::Always => true,
        };
        Self {
            samplers: Samplers::new(sampler.clone(), settings.rules.clone()),
            keep_errors: settings.keep_errors,
            keep_slowest: settings.keep_slowest,
            slowest: is_asked_for.then(|| Slowest::new(settings.slowest)),
            ceiling,
            by_chance,
            counts: Counts::default(),
        }
    }

    /// Decides of a record that would be a span: changes its `is_span`, its flags and the threshold in its `tracestate`.
    pub fn decide(&mut self, record: &mut Record) -> Fate {
        let said = tracestate::read(&record.trace.state);
        let randomness = said.randomness.unwrap_or_else(|| Randomness::of(record.trace.trace_id));
        let special = self.special(record);
        let mut asked = Asked { record, said, randomness, by_chance: true };
        let sampler = self.samplers.of(record);
        let like_others = asked.ask(sampler).and_then(|intent| {
            if intent.threshold.keeps(randomness) { Ok(intent) } else { Err(LeftOut::Ratio) }
        });
        let intent = match special {
            None | Some((_, Keep::LikeOthers)) => like_others,
            Some((_, Keep::Always)) => Ok(Intent::CERTAIN),
            Some((_, Keep::OverRatio)) => {
                asked.by_chance = false;
                asked.ask(sampler)
            }
        };
        let intent = match intent {
            Ok(intent) => intent,
            Err(reason) => {
                self.counts.leave_out(reason);
                leave_out(record);
                self.say_once(record, reason);
                return Fate::Decided;
            }
        };
        match special {
            Some((Special::Error, _)) if like_others.is_err() => self.counts.errors += 1,
            Some((Special::Slowest, _)) if like_others.is_err() => self.counts.slowest += 1,
            _ => {}
        }
        if self.ceiling.is_some() {
            return Fate::Waits(Waiting(Rank::of(record, special.is_some(), randomness), intent));
        }
        keep(record, said, intent, self.by_chance);
        Fate::Decided
    }

    /// Takes a record that waits; returns one whose fate is known.
    pub fn hold(&mut self, Waiting(rank, intent): Waiting, record: Record) -> Option<Record> {
        // Who has no ceiling lets nobody wait.
        let Some(ceiling) = &mut self.ceiling else { return Some(record) };
        let mut out = ceiling.hold(rank, intent, record)?;
        self.counts.leave_out(LeftOut::Ceiling);
        leave_out(&mut out);
        Some(out)
    }

    /// The records whose second is over at `now`, which is about once a second.
    pub fn turn(&mut self, now: BootNanos) -> Vec<Record> {
        let released = self.ceiling.as_mut().map(|ceiling| ceiling.turn(now)).unwrap_or_default();
        self.finish(released)
    }

    /// All records that wait: nothing more comes.
    pub fn release(&mut self) -> Vec<Record> {
        let released = self.ceiling.as_mut().map(Ceiling::release).unwrap_or_default();
        self.finish(released)
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let not_followed = self.slowest.as_ref().map_or(0, Slowest::not_followed);
        Counts { not_followed, ..self.counts }
    }

    fn finish(&self, released: Vec<(Intent, Record)>) -> Vec<Record> {
        let finish = |(intent, mut record): (Intent, Record)| {
            let said = tracestate::read(&record.trace.state);
            keep(&mut record, said, intent, self.by_chance);
            record
        };
        released.into_iter().map(finish).collect()
    }

    /// Who looks for a request that was made would else look in vain.
    fn say_once(&self, record: &Record, reason: LeftOut) {
        if reason == LeftOut::Caller && self.counts.left_out(reason) == 1 {
            let service = record.service.name.as_str();
            tracing::info!(
                service,
                "spans whose callers do not keep the trace are only counted; the sampler always_on would keep them"
            );
        }
    }

    /// What is special about a span, and how far it is kept for that: the strongest reason.
    fn special(&mut self, record: &Record) -> Option<(Special, Keep)> {
        let is_error = matches!(record.outcome, Outcome::Error(_));
        // Those that are no errors are compared with those that are, and the other way round: each is counted.
        let is_slowest = self.slowest.as_mut().is_some_and(|slowest| slowest.take(record));
        let error = is_error.then_some((Special::Error, self.keep_errors));
        let slowest = is_slowest.then_some((Special::Slowest, self.keep_slowest));
        let strongest = [slowest, error].into_iter().flatten().max_by_key(|(_, keep)| *keep);
        strongest.filter(|(_, keep)| *keep != Keep::LikeOthers)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    Error,
    Slowest,
}

fn leave_out(record: &mut Record) {
    record.is_span = false;
    record.trace.flags = record.trace.flags.with_sampled(false);
}

fn keep(record: &mut Record, said: Said, intent: Intent, by_chance: bool) {
    record.trace.flags = record.trace.flags.with_sampled(true);
    let threshold = intent.is_known.then_some(intent.threshold);
    // That everything is kept goes without saying where nothing is left out.
    let is_said = threshold == said.threshold
        || (!by_chance && said.threshold.is_none() && threshold == Some(Threshold::ALL_KEPT));
    if !is_said {
        record.trace.state = tracestate::with_threshold(&record.trace.state, threshold);
    }
}

/// The general sampler, and those of the rules.
struct Samplers {
    general: config::Sampler,
    rules: Vec<ServiceSampler>,
    /// Which rules are for a service.
    of_service: HashMap<u32, Vec<usize>, RandomState>,
}

/// Services remembered at once; above it all are forgotten, which costs matching them again.
const SERVICES_MAX: usize = 4_096;

impl Samplers {
    fn new(general: config::Sampler, rules: Vec<ServiceSampler>) -> Self {
        Self { general, rules, of_service: HashMap::default() }
    }

    fn of(&mut self, record: &Record) -> &config::Sampler {
        if self.rules.is_empty() {
            return &self.general;
        }
        let service = &record.service;
        if self.of_service.len() >= SERVICES_MAX && !self.of_service.contains_key(&service.id) {
            self.of_service.clear();
        }
        let fitting = self.of_service.entry(service.id).or_insert_with(|| {
            let fits = |rule: &ServiceSampler| {
                rule.service.as_ref().is_none_or(|glob| glob.matches(service.name.as_str()))
            };
            self.rules.iter().enumerate().filter(|(_, rule)| fits(rule)).map(|(at, _)| at).collect()
        });
        let has_name = |rule: &&ServiceSampler| {
            rule.span_name.as_ref().is_none_or(|glob| glob.matches(record.name().as_str()))
        };
        let found = fitting.iter().filter_map(|at| self.rules.get(*at)).find(has_name);
        found.map_or(&self.general, |rule| &rule.sampler)
    }
}

#[cfg(test)]
mod tests;
