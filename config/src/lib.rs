//! Typed configuration of spantap: one YAML file in the shape of the OpenTelemetry declarative configuration.
//!
//! The standard sections (`resource`, `tracer_provider`, `meter_provider`) follow the published schema, what only this
//! agent has stands under `distribution.spantap`. [`load`] turns a file into a [`Config`] that cannot be wrong, or into
//! all its [`Problems`] at once. An empty file is [`Config::default`], and the agent runs well with it.
//!
//! The way of a file: text -> `yaml` (located tree, with `substitute` and `scalar`) -> one `read` per section, all
//! reading through `field` -> [`Config`]. Nothing here reads the environment or names another crate of the workspace:
//! the environment and the names of the protocols come in as arguments.
#![forbid(unsafe_code)]

mod capture;
mod discovery;
mod distribution;
mod endpoint;
mod environment;
mod error;
mod exporter;
mod field;
mod glob;
mod instrumentation;
mod limits;
mod load;
mod meter_provider;
mod pairs;
mod protocols;
mod pull_reader;
mod resource;
mod root;
mod routes;
mod sampler;
mod sampling;
mod scalar;
mod secret;
mod stability;
mod stdout;
mod substitute;
mod suggest;
mod tracer_provider;
mod units;
mod yaml;

pub use capture::{Backend, Capture, CaptureTls, ProbePlacement};
pub use discovery::{Discovery, Include, Instrumented, Overrides, Rule, TelemetryBackends};
pub use distribution::Spantap;
pub use endpoint::Endpoint;
pub use environment::{EnvironmentError, FromEnvironment, config_file};
pub use error::{Location, Problem, ProblemKind, Problems};
pub use exporter::{Compression, Exporter, Header, OtlpExporter, OutputStream, Tls, Transport};
pub use glob::Glob;
pub use instrumentation::{CapturedHeaders, Instrumentation};
pub use limits::Limits;
pub use load::{LoadContext, load, parse};
pub use meter_provider::{HistogramAggregation, MeterProvider, MetricReader, Temporality};
pub use protocols::{ProtocolSettings, Protocols};
pub use pull_reader::PullReader;
pub use resource::{Attribute, AttributeValue, Resource};
pub use root::{Config, LogLevel};
pub use routes::{RoutePattern, RouteSegment, Routes, Unmatched};
pub use sampler::{
    AttributePatterns, AttributeValues, Composable, ParentBased, RuleSpanKind, Sampler, SamplerRule,
    SpanParent,
};
pub use sampling::{Keep, Sampling, ServiceSampler};
pub use secret::Secret;
pub use stability::StabilityOptIn;
pub use stdout::{Stdout, StdoutFormat};
pub use tracer_provider::{BatchProcessor, TracerProvider};
pub use units::{Size, display_duration};
