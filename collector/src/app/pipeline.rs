//! One thread's way from an event to the exporters, the same for a kernel and for a capture file.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use compact_str::CompactString;
use spantap_config as config;
use spantap_ebpf_common::{
    Event, Verdict as Asked,
    event::{Endpoint, Process, ProcessChange, Tgid},
};
use spantap_protocols::{BootNanos, Role};

use super::outputs::Outputs;
use crate::{
    connection::{Finished, Table},
    discovery::{Change, Instrumented, Selection, Services, Wanted, instrumented::Evidence},
    processors::{Processors, Sampling, Verdict, sampling::Fate},
    telemetry::{self, Clock, Endpoints, IdGenerator, Record, UnixNanos, snapshot::ServiceMetrics},
};

/// How long a process that has ended is still known: its last events may come after its end.
const REMEMBERED_NS: u64 = 10_000_000_000;

/// Between two looks for series and services that have ended.
const EXPIRY_NS: u64 = 10_000_000_000;

/// How processes get the names of their services.
pub enum Naming {
    /// From /proc.
    Processes,
    /// Each after its own address: a capture file knows no processes.
    Endpoints,
    /// All one name.
    Fixed(CompactString),
}

/// Event -> connection table -> record -> processors -> sampling -> exporters.
pub struct Pipeline {
    table: Table,
    services: Services,
    naming: Naming,
    processors: Processors,
    sampling: Sampling,
    outputs: Outputs,
    clock: Clock,
    ids: IdGenerator,
    selection: Selection,
    instrumented: Instrumented,
    of_instrumented: config::Instrumented,
    finished: Vec<Finished>,
    ended: Vec<(u64, Tgid)>,
    /// When series and services were last looked through.
    expired_at: u64,
    scans: HashMap<Tgid, BootNanos>,
    counts: Counts,
}

/// What became of finished exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Finished exchanges.
    pub exchanges: u64,
    /// Records given to the exporters as spans.
    pub spans: u64,
    /// Records that only count in metrics, since their processes export spans of their own.
    pub metrics_only: u64,
    /// Exchanges of processes that are left alone because they export spans of their own.
    pub instrumented: u64,
    /// Exchanges of processes that are not to be watched.
    pub excluded: u64,
    /// Exchanges of processes of which that could not be known any more.
    pub undecided: u64,
}

impl Pipeline {
    /// A pipeline that begins with `table` and ends in `outputs`.
    #[must_use]
    pub fn new(
        table: Table,
        services: Services,
        naming: Naming,
        processors: Processors,
        sampling: Sampling,
        outputs: Outputs,
        clock: Clock,
    ) -> Self {
        Self {
            table,
            services,
            naming,
            processors,
            sampling,
            outputs,
            clock,
            ids: IdGenerator::new(),
            selection: Selection::default(),
            instrumented: Instrumented::default(),
            of_instrumented: config::Instrumented::default(),
            finished: Vec::new(),
            ended: Vec::new(),
            expired_at: 0,
            scans: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// See [`Table::know_tls_watch`].
    pub fn know_tls_watch(&mut self, since: Arc<AtomicU64>) {
        self.table.know_tls_watch(since);
    }

    /// Watches only what the rules select, and as they say.
    pub fn select(&mut self, rules: &config::Discovery) {
        self.selection = Selection::new(rules.clone());
        self.of_instrumented = rules.instrumented;
    }

    /// Reports these processes and no others.
    pub fn only(&mut self, tgids: HashSet<Tgid>) {
        self.selection.only(tgids);
    }

    /// Takes the next event.
    pub fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Process(process) => self.on_process(process),
            // While the process is there to be read; a short-lived one will not be when its exchange is finished.
            Event::Open(open) if matches!(self.naming, Naming::Processes) => {
                self.services.of_child(open.tgid, open.parent, &open.comm);
                self.selection.know(open.tgid, open.parent, &open.comm);
            }
            Event::ConnectFailed(failed) => {
                if matches!(self.naming, Naming::Processes) {
                    self.services.of_child(failed.tgid, failed.parent, &failed.comm);
                    self.selection.know(failed.tgid, failed.parent, &failed.comm);
                }
                let reason = failed.errno.map(std::io::Error::from_raw_os_error);
                tracing::debug!(pid = failed.tgid.0, peer = %failed.peer, ?reason, "a connection failed");
            }
            _ => {}
        }
        self.table.on_event(event, &mut self.finished);
        self.pass_on();
    }

    /// Lets time pass in the connection table; about once a second.
    pub fn on_second(&mut self, now_boot_ns: u64) {
        self.clock.refresh();
        self.table.on_tick(now_boot_ns, &mut self.finished);
        self.pass_on();
        for record in self.sampling.turn(BootNanos(now_boot_ns)) {
            self.give(&record);
        }
        let (services, selection) = (&mut self.services, &mut self.selection);
        let instrumented = &mut self.instrumented;
        if now_boot_ns.saturating_sub(self.expired_at) >= EXPIRY_NS {
            self.expired_at = now_boot_ns;
            self.outputs.expire(services.take_ended(), self.clock.now());
            services.sweep().for_each(|service| self.processors.forget_service(service));
        }
        self.ended.retain(|&(at, tgid)| {
            let keep = now_boot_ns.saturating_sub(at) < REMEMBERED_NS;
            if !keep {
                services.forget(tgid);
                selection.forget(tgid);
                instrumented.forget(tgid);
            }
            keep
        });
    }

    /// Lets exporters flush; several times a second.
    pub fn tick(&mut self, now: Instant) {
        self.outputs.tick(now, self.clock.now());
    }

    /// Whether somebody reads metrics at the next tick, who is then told of the agent as well.
    #[must_use]
    pub fn metrics_are_due(&self, now: Instant) -> bool {
        self.outputs.metrics_are_due(now)
    }

    /// What the agent tells of itself from now on.
    pub fn set_own(&mut self, own: ServiceMetrics) {
        self.outputs.set_own(own);
    }

    /// Now, as everything here is stamped.
    #[must_use]
    pub fn now(&self) -> UnixNanos {
        self.clock.now()
    }

    /// Nothing more comes: finishes what is open and flushes until `deadline`.
    pub fn shutdown(&mut self, deadline: Instant) {
        self.table.finish(&mut self.finished);
        self.pass_on();
        for record in self.sampling.release() {
            self.give(&record);
        }
        self.outputs.shutdown(deadline, self.clock.now());
    }

    /// The processes that have loaded code since the last call, and when they first did.
    pub fn take_scans(&mut self) -> impl Iterator<Item = (Tgid, BootNanos)> {
        self.scans.drain()
    }

    /// Which processes the kernel side is to leave alone, or not any more, since the last call.
    pub fn take_changes(&mut self) -> impl Iterator<Item = Change> {
        self.selection.take_changes()
    }

    /// How much the kernel side is to report of which streams, since the last call.
    pub fn take_verdicts(&mut self) -> impl Iterator<Item = Asked> {
        self.table.take_verdicts()
    }

    /// The connection layer, for its counters.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The ways out, for their counters.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// The processors, for their counters.
    #[must_use]
    pub fn processors(&self) -> &Processors {
        &self.processors
    }

    /// Sampling, for its counters.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// What became of finished exchanges.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn on_process(&mut self, process: &Process) {
        match process.change {
            ProcessChange::Exec => {
                self.services.forget(process.tgid);
                self.instrumented.forget(process.tgid);
                // At once: a command that asks for one thing is often gone before its first connection is heard of.
                if matches!(self.naming, Naming::Processes) {
                    self.services.of(process.tgid, &process.comm);
                    self.selection.decide(process.tgid, &process.comm);
                }
                self.scans.insert(process.tgid, BootNanos(process.boot_ns));
            }
            ProcessChange::Mapped => {
                self.scans.entry(process.tgid).or_insert(BootNanos(process.boot_ns));
            }
            ProcessChange::Exit => {
                self.scans.remove(&process.tgid);
                self.ended.push((process.boot_ns, process.tgid));
            }
        }
    }

    fn pass_on(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        for one in finished.drain(..) {
            self.counts.exchanges += 1;
            self.record(one);
        }
        self.finished = finished;
    }

    fn record(&mut self, finished: Finished) {
        let (tgid, comm, role) = (finished.tgid, finished.comm, finished.exchange.role);
        // A capture file has no processes that could be selected.
        let is_process = matches!(self.naming, Naming::Processes);
        let mut rule = None;
        if is_process {
            let port = match finished.local {
                Some(Endpoint::Inet(address)) => Some(address.port()),
                _ => None,
            };
            match self.selection.wants(tgid, &comm, role, port) {
                Wanted::Yes(by) => rule = by.and_then(|by| Some((by, self.selection.overrides(by)?))),
                Wanted::No => {
                    self.counts.excluded += 1;
                    return;
                }
                Wanted::Undecided => {
                    self.counts.undecided += 1;
                    return;
                }
            }
            // A process that publishes who it is knows its own name best.
            if let Some(context) = self.instrumented.look(tgid, finished.exchange.end) {
                self.services.describe(tgid, &comm, &context.attributes);
            }
        }
        let of_instrumented = rule.and_then(|(_, rule)| rule.instrumented).unwrap_or(self.of_instrumented);
        let service = match &self.naming {
            Naming::Processes => match rule {
                Some((number, rule)) => self.services.of_rule(tgid, &comm, number, rule),
                None => self.services.of(tgid, &comm),
            },
            Naming::Endpoints => self.services.named(tgid, &endpoint_name(finished.local.as_ref())),
            Naming::Fixed(name) => self.services.named(tgid, name),
        };
        let [local, peer] = [finished.local, finished.peer].map(|end| end.map(endpoint));
        let endpoints = Endpoints { local, peer, tls: finished.tls };
        let mut record =
            Record::from_exchange(finished.exchange, service, &endpoints, &self.clock, &mut self.ids);
        match self.processors.process(&mut record) {
            Verdict::Keep => self.output(tgid, record, of_instrumented),
            Verdict::DropSpans if is_process => self.spans_passed(tgid, role, &record),
            Verdict::Drop | Verdict::DropSpans => {}
        }
    }

    fn spans_passed(&mut self, tgid: Tgid, role: Role, record: &Record) {
        if self.instrumented.spans_passed(tgid, role) {
            let service = record.service.name.as_str();
            tracing::info!(
                service,
                pid = tgid.0,
                "the spans that it sends are of others: its own are reported"
            );
        }
    }

    fn output(&mut self, tgid: Tgid, mut record: Record, of_instrumented: config::Instrumented) {
        if of_instrumented != config::Instrumented::All
            && let Some((evidence, is_new)) = self.instrumented.evidence(tgid)
        {
            let skip = of_instrumented == config::Instrumented::Skip;
            if is_new {
                let (service, reason) = (record.service.name.as_str(), evidence.name());
                let left = if skip { "it is left alone" } else { "only its metrics are reported" };
                tracing::info!(service, pid = tgid.0, reason, "a service exports its own spans: {left}");
            }
            if skip {
                self.counts.instrumented += 1;
                // That what it sends is of others can only turn out while it is listened to.
                if evidence == Evidence::Context {
                    self.selection.ignore(tgid);
                }
                return;
            }
            record.is_span = false;
            self.counts.metrics_only += 1;
            return self.give(&record);
        }
        match self.sampling.decide(&mut record) {
            Fate::Decided => self.give(&record),
            Fate::Waits(waiting) => {
                if let Some(left_out) = self.sampling.hold(waiting, record) {
                    self.give(&left_out);
                }
            }
        }
    }

    fn give(&mut self, record: &Record) {
        self.counts.spans += u64::from(record.is_span);
        self.outputs.on_record(record);
    }
}

fn endpoint(end: Endpoint<Arc<str>>) -> telemetry::Endpoint {
    match end {
        Endpoint::Inet(address) => telemetry::Endpoint::Inet(address),
        Endpoint::Unix(name) => telemetry::Endpoint::Unix(name),
    }
}

fn endpoint_name(local: Option<&Endpoint<Arc<str>>>) -> CompactString {
    match local {
        Some(Endpoint::Inet(address)) => compact_str::format_compact!("{address}"),
        Some(Endpoint::Unix(name)) => CompactString::from(&**name),
        None => "unknown".into(),
    }
}
