//! `distribution.spantap`: what only this agent has.
//!
//! The schema leaves everything under `distribution.<name>` to whoever has that name; the sections of others are passed
//! over.

use std::time::Duration;

use crate::capture::Capture;
use crate::discovery::Discovery;
use crate::field::Field;
use crate::limits::Limits;
use crate::protocols::Protocols;
use crate::resource::Resource;
use crate::routes::Routes;
use crate::sampling::Sampling;
use crate::stability::StabilityOptIn;
use crate::stdout::Stdout;
use crate::suggest;

/// What only this agent has.
#[derive(Clone, Debug, PartialEq)]
pub struct Spantap {
    /// Attributes added to the resource of every watched service.
    pub resource: Resource,
    /// What the kernel side copies.
    pub capture: Capture,
    /// Which processes are watched.
    pub discovery: Discovery,
    /// Which protocols are understood.
    pub protocols: Protocols,
    /// How paths become routes.
    pub routes: Routes,
    /// Which spans are kept for what they are, and how many at most.
    pub sampling: Sampling,
    /// Which older names of attributes and metrics are emitted too.
    pub semconv_stability_opt_in: StabilityOptIn,
    /// What a `console` exporter writes.
    pub stdout: Stdout,
    /// What is held in memory at most.
    pub limits: Limits,
    /// So long after the last byte an exchange without (all of) its response has failed, with `error.type` `timeout`; what
    /// comes later is not its response any more. Default 10 min.
    pub exchange_timeout: Duration,
    /// How long the agent may take to flush its queues when it is told to stop. Default 5 s.
    pub shutdown_timeout: Duration,
}

impl Default for Spantap {
    fn default() -> Self {
        Self {
            resource: Resource::default(),
            capture: Capture::default(),
            discovery: Discovery::default(),
            protocols: Protocols::default(),
            routes: Routes::default(),
            sampling: Sampling::default(),
            semconv_stability_opt_in: StabilityOptIn::default(),
            stdout: Stdout::default(),
            limits: Limits::default(),
            exchange_timeout: EXCHANGE_TIMEOUT_MAX,
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// A connection that has been silent for so long is forgotten anyway.
const EXCHANGE_TIMEOUT_MAX: Duration = Duration::from_secs(600);

impl Spantap {
    /// Reads the value of `distribution`.
    pub(crate) fn read_distribution(field: &Field<'_>, protocol_names: &[&str]) -> Option<Self> {
        let mut section = field.section()?;
        let mut spantap = Self::default();
        section.set("spantap", &mut spantap, |field| Self::read(field, protocol_names));
        for (name, at, _) in section.named() {
            if name != "spantap" && suggest::nearest(name, &["spantap"]).is_some() {
                section.unknown(at, name, &["spantap"]);
            }
        }
        section.finish();
        Some(spantap)
    }

    fn read(field: &Field<'_>, protocol_names: &[&str]) -> Option<Self> {
        let mut spantap = Self::default();
        let mut section = field.section()?;
        section.set("resource", &mut spantap.resource, Resource::read);
        section.set("capture", &mut spantap.capture, Capture::read);
        section.set("discovery", &mut spantap.discovery, Discovery::read);
        section.set("protocols", &mut spantap.protocols, |field| Protocols::read(field, protocol_names));
        section.set("routes", &mut spantap.routes, Routes::read);
        section.set("sampling", &mut spantap.sampling, Sampling::read);
        section.set("semconv_stability_opt_in", &mut spantap.semconv_stability_opt_in, StabilityOptIn::read);
        section.set("stdout", &mut spantap.stdout, Stdout::read);
        section.set("limits", &mut spantap.limits, Limits::read);
        section.set("exchange_timeout", &mut spantap.exchange_timeout, |field| {
            field.duration(Duration::from_secs(1)..=EXCHANGE_TIMEOUT_MAX)
        });
        section.set("shutdown_timeout", &mut spantap.shutdown_timeout, |field| {
            field.duration(Duration::ZERO..=Duration::from_secs(600))
        });
        section.finish();
        Some(spantap)
    }
}
