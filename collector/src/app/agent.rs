//! The agent on a host: the kernel's events in, until told to stop.
//!
//! Four threads do all the work: this one reads the ring buffer and runs the pipeline, two find and probe libraries, and
//! the runtime's one sends to backends. Standard output and each file have one more, which waits for its reader.

use std::{
    collections::HashSet,
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use spantap_config::Config;
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::{Attributes, Key, Protocol, Value};
use tokio::runtime::{Handle, Runtime};

use super::{
    cadence::Cadence,
    outputs::{Opened, Outputs},
    own,
    pipeline::{Naming, Pipeline},
    scanner::Scanner,
    summary::Summary,
    wiring::{self, WiringError},
};
use crate::{
    connection::Table,
    discovery::{Change, Services, services},
    export::Pressure,
    kernel::{self, Attacher, Ignored, Kernel, KernelError, Losses, Report, Source, Verdicts, Way, Weight},
    processors::{Processors, Sampling},
    telemetry::{Clock, Service, UnixNanos},
};

/// Between two calls of [`Pipeline::tick`].
const TICK: Duration = Duration::from_millis(100);
/// How long the ring is emptied at the end, if it does not get empty.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
/// Records taken from the ring between two looks at the clock.
const DRAIN_MAX: usize = 16_384;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An exporter.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The operating system refused a thread.
    #[error("failed to start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running agent.
pub struct Agent {
    source: Source,
    losses: Losses,
    ignored: Ignored,
    verdicts: Verdicts,
    pipeline: Pipeline,
    scanner: Scanner,
    /// The agent as a service, and since when it runs.
    own: (Arc<Service>, UnixNanos),
    shutdown_timeout: Duration,
    stop: Arc<AtomicBool>,
    runtime: Runtime,
}

impl Agent {
    /// Loads the kernel side and starts everything; from here on the host is watched.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn start(config: &Config) -> Result<Self, AppError> {
        let mut kernel = Kernel::start(&wiring::kernel_settings(&config.spantap.capture))?;
        let way = kernel.attacher.way();
        tracing::debug!(backend = kernel.backend.name(), probes = way.name(), "kernel programs attached");
        for (program, reason) in &kernel.degraded {
            tracing::warn!(
                program,
                reason,
                "a kernel program could not be attached; what it sees is missing"
            );
        }
        say_missing(&mut kernel.attacher);
        // Before the first thread is started, and after everything that others may be forbidden to open.
        let opened = Opened::of(config)?;
        if let Err(error) = kernel::give_up_others(way == Way::PerfEvents) {
            tracing::warn!(%error, "capabilities that are not needed could not be given up");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = Arc::new(AtomicBool::new(false));
        runtime.spawn(stop_on_signal(Arc::clone(&stop)));
        let outputs = Outputs::start_with(config, opened, runtime.handle(), Pressure::Drop)?;
        wiring::install(&config.instrumentation);
        let mut common = services::common_attributes();
        let own = own::service(&config.resource, common.clone());
        add_configured(&mut common, &config.spantap.resource);
        let mut pipeline = Pipeline::new(
            Table::new(wiring::table_settings(&config.spantap), enabled_protocols(config)),
            Services::new(common),
            Naming::Processes,
            Processors::standard(
                wiring::route_settings(&config.spantap.routes),
                wiring::older_names(config.spantap.semconv_stability_opt_in),
            ),
            Sampling::new(&config.tracer_provider.sampler, &config.spantap.sampling),
            outputs,
            Clock::system(),
        );
        pipeline.select(&config.spantap.discovery);
        // Since the kernel side came first, everything is by now.
        pipeline.outputs().say_attached();
        let started = pipeline.now();
        let watched_since = Arc::new(AtomicU64::new(u64::MAX));
        pipeline.know_tls_watch(Arc::clone(&watched_since));
        let scanner = Scanner::start(kernel.attacher, &config.spantap.capture.tls, watched_since)?;
        Ok(Self {
            source: kernel.source,
            losses: kernel.losses,
            ignored: kernel.ignored,
            verdicts: kernel.verdicts,
            pipeline,
            scanner,
            own: (own, started),
            shutdown_timeout: config.spantap.shutdown_timeout,
            stop,
            runtime,
        })
    }

    /// Reports these processes and no others.
    pub fn only(&mut self, tgids: HashSet<Tgid>) {
        self.pipeline.only(tgids);
    }

    /// Where spans and metrics go, in one line.
    #[must_use]
    pub fn describe_outputs(&self) -> String {
        self.pipeline.outputs().describe()
    }

    /// The runtime of the exporters.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Runs until a signal, until `duration` has passed, or until nobody reads the output any more. Flushes, and
    /// returns the accounts.
    pub fn run(mut self, duration: Option<Duration>) -> Summary {
        let began = Instant::now();
        let (mut next_tick, mut next_second) = (began, began);
        let mut cadence = Cadence::new();
        let mut last_look = began;
        loop {
            self.source.wait(cadence.wait());
            let look = Instant::now();
            cadence.found(self.drain(), look - last_look);
            last_look = look;
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                if self.pipeline.metrics_are_due(now) {
                    self.tell_of_itself();
                }
                self.pipeline.tick(now);
            }
            if now >= next_second {
                next_second = now + Duration::from_secs(1);
                self.pipeline.on_second(crate::telemetry::clock::boot_now().0);
            }
            let over = duration.is_some_and(|duration| began.elapsed() >= duration);
            if over || self.stop.load(Ordering::Relaxed) || self.pipeline.outputs().broken().is_some() {
                break;
            }
        }
        say_stopping();
        // What was submitted before we decided to stop is still part of the accounts; on a busy host there is always
        // something new.
        let enough = Instant::now() + DRAIN_TIME_MAX;
        while self.drain() == DRAIN_MAX && Instant::now() < enough {}
        // Detaching may take seconds, in which the ring fills with what nobody will read: that is no loss of this run.
        let lost: Vec<_> = self.losses.all().collect();
        let missed = self.losses.missed_runs();
        self.tell_of_itself();
        self.pipeline.shutdown(Instant::now() + self.shutdown_timeout);
        let Self { source, pipeline, scanner, .. } = self;
        Summary::of_agent(&pipeline, &source, &lost, missed, scanner.stop())
    }

    /// Gives the accounts so far to those who are about to read metrics.
    fn tell_of_itself(&mut self) {
        let lost: Vec<_> = self.losses.all().collect();
        let missed = self.losses.missed_runs();
        let summary = Summary::of_agent(&self.pipeline, &self.source, &lost, missed, self.scanner.counts());
        let (service, started) = &self.own;
        let own = own::metrics(service, &summary, &self.pipeline, *started);
        self.pipeline.set_own(own);
    }

    fn drain(&mut self) -> usize {
        let pipeline = &mut self.pipeline;
        let drained = self.source.drain(DRAIN_MAX, |event| pipeline.on_event(event));
        let scanner = &self.scanner;
        pipeline.take_scans().for_each(|(tgid, at)| scanner.scan(tgid, at));
        for change in pipeline.take_changes() {
            match change {
                Change::Ignore(tgid) => self.ignored.add(tgid),
                Change::Report(tgid) => self.ignored.remove(tgid),
            }
        }
        pipeline.take_verdicts().for_each(|verdict| self.verdicts.set(verdict));
        drained
    }
}

/// Detaching perf events takes a second for each TLS library (links a fraction of one for all), in which somebody at a
/// terminal wants to know that Ctrl-C was heard.
fn say_stopping() {
    const STOPPING: &str = "stopping, detaching probes...";
    if tracing::enabled!(tracing::Level::INFO) {
        tracing::info!("{STOPPING}");
    } else if std::io::stderr().is_terminal() {
        anstream::eprintln!("{STOPPING}");
    }
}

/// Says which capabilities are missing, and what is lost without them.
fn say_missing(attacher: &mut Attacher) {
    for capability in kernel::Held::own().missing() {
        // Some kernels want it for probes and others do not: only trying tells.
        if capability.is_for_probes() && attacher.try_probing(&mut Report::new()).is_ok() {
            continue;
        }
        match capability.weight {
            Weight::All | Weight::Part => {
                tracing::warn!("{} is missing: {}", capability.name, capability.without);
            }
            Weight::Cost => tracing::debug!("{} is missing: {}", capability.name, capability.without),
        }
    }
}

/// The protocols that the configuration leaves enabled. Leaked: they live as long as the agent.
pub(super) fn enabled_protocols(config: &Config) -> &'static [&'static dyn Protocol] {
    let enabled: Vec<&'static dyn Protocol> = spantap_protocols::ALL
        .iter()
        .copied()
        .filter(|protocol| config.spantap.protocols.is_enabled(protocol.name()))
        .collect();
    Vec::leak(enabled)
}

pub(super) fn add_configured(common: &mut Attributes, resource: &spantap_config::Resource) {
    use spantap_config::AttributeValue;
    for attribute in &resource.attributes {
        let value = match &attribute.value {
            AttributeValue::String(text) => Value::Text(text.into()),
            AttributeValue::Bool(truth) => Value::Bool(*truth),
            AttributeValue::Int(number) => Value::Int(*number),
            AttributeValue::Double(number) => Value::Double(*number),
            other => Value::Text(compact_str::format_compact!("{other:?}")),
        };
        common.set(Key::Owned(attribute.name.as_str().into()), value);
    }
}

/// The first SIGINT or SIGTERM asks for an orderly end, the second one gets its way at once.
async fn stop_on_signal(stop: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for nth in 0.. {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        if nth > 0 {
            kernel::leave_detaching_to_child();
            std::process::exit(130);
        }
        stop.store(true, Ordering::Relaxed);
    }
}
