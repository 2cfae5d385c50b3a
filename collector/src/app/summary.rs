//! The accounts at the end of a run: what came in, what went out, and what every named reason took.

use std::fmt;

use spantap_ebpf_common::Counter;

use super::pipeline::Pipeline;
use crate::{
    discovery::tls::TlsCounts,
    export::{
        otlp::{DestinationStats, DropReason},
        stdout::Unwritten,
    },
    kernel::Source,
    processors::sampling::LeftOut,
    replay::ReplayCounters,
};

/// Counters of the connection layer that are losses; the others say what passed, and which bytes nobody needed.
const LOSSES: &[&str] = &[
    "failed_connects_unknown",
    "dropped_messages",
    "cut_heads",
    "evicted_streams",
    "evicted_exchanges",
    "exchanges_open_at_end",
    "evicted_connections",
    "missing_bytes",
    "direction_budget_bytes",
    "total_budget_bytes",
    "evicted_bytes",
];

/// Named counts, in sections. Those that are zero are not shown.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Spans given to the exporters.
    pub spans: u64,
    /// What came in and what became of it.
    passed: Vec<(String, u64)>,
    /// What was left out, by reason.
    left_out: Vec<(String, u64)>,
}

impl Summary {
    pub(super) fn of_agent(
        pipeline: &Pipeline,
        source: &Source,
        lost: &[(Counter, u64)],
        missed_runs: u64,
        tls: TlsCounts,
    ) -> Self {
        let mut summary = Self::of_pipeline(pipeline);
        let (records, undecodable) = source.counts();
        summary.passed.insert(0, ("kernel records".into(), records));
        summary.passed.push(("TLS libraries watched".into(), tls.probed));
        summary.left_out.push(("undecodable records".into(), undecodable));
        summary
            .left_out
            .extend(lost.iter().map(|&(counter, n)| (format!("kernel: {}", words(counter.name())), n)));
        summary.left_out.push(("kernel: missed runs".into(), missed_runs));
        summary.left_out.push(("TLS libraries that cannot be watched".into(), tls.refused));
        summary.left_out.push(("TLS libraries gone before they could be watched".into(), tls.gone));
        summary.left_out.push(("processes gone before their libraries could be read".into(), tls.unread));
        summary
    }

    pub(super) fn of_replay(pipeline: &Pipeline, replay: &ReplayCounters) -> Self {
        let mut summary = Self::of_pipeline(pipeline);
        summary.passed.splice(0..0, replay.iter().map(|(name, n)| (format!("capture: {}", words(name)), n)));
        summary
    }

    fn of_pipeline(pipeline: &Pipeline) -> Self {
        let counts = pipeline.counts();
        let (lost, passed): (Vec<_>, Vec<_>) =
            pipeline.table().counters().iter().partition(|(name, _)| LOSSES.contains(name));
        let mut passed: Vec<_> = passed.into_iter().map(|(name, n)| (words(name), n)).collect();
        passed.push(("spans".into(), counts.spans));
        let sampled = pipeline.sampling().counts();
        passed.push(("spans kept as errors".into(), sampled.errors));
        passed.push(("spans kept as slowest".into(), sampled.slowest));
        let mut left_out: Vec<_> = lost.into_iter().map(|(name, n)| (words(name), n)).collect();
        let counters = pipeline.table().counters();
        // A session may be bound to a stream that was not counted as ciphertext yet, never the other way round.
        let unread = counters.ciphertext_streams.saturating_sub(counters.ciphertext_streams_read);
        left_out.push(("TLS connections whose plaintext is not seen".into(), unread));
        left_out.push(("exchanges of processes that are not watched".into(), counts.excluded));
        let unknown = "exchanges of processes that the rules could not be applied to";
        left_out.push((unknown.into(), counts.undecided));
        left_out.push(("spans of processes that export their own".into(), counts.metrics_only));
        left_out.push(("exchanges of processes that export their own spans".into(), counts.instrumented));
        left_out.extend(
            LeftOut::ALL
                .map(|reason| (format!("spans sampled out: {}", reason.name()), sampled.left_out(reason))),
        );
        let unknown = "spans not compared with the slowest: too many names";
        left_out.push((unknown.into(), sampled.not_followed));
        left_out.extend(
            pipeline
                .processors()
                .dropped()
                .map(|(name, n)| (format!("exchanges dropped by {}", words(name)), n)),
        );
        // Not lost, but not told apart any more.
        let overflowed = pipeline.outputs().overflowed();
        left_out.push(("values in series that are over the limit (otel.metric.overflow)".into(), overflowed));
        for destination in pipeline.outputs().destinations() {
            let signal = destination.signal().name();
            let rivals = pipeline.outputs().destinations().filter(|d| d.signal() == destination.signal());
            let (to, by) = of_several(rivals.count(), destination.endpoint());
            passed.push((format!("{signal} exported{to}"), destination.exported()));
            passed.push((format!("{signal} requests retried{to}"), destination.retries()));
            left_out.extend(
                dropped(destination).map(|(reason, n)| (format!("{signal} dropped{by}: {reason}"), n)),
            );
        }
        for scraped in pipeline.outputs().scraped() {
            passed.push(("scrapes answered".into(), scraped.answered()));
            left_out.push(("scrapes refused".into(), scraped.refused()));
            left_out.push(("connections of slow scrapers ended".into(), scraped.cut_off()));
        }
        for output in pipeline.outputs().printed() {
            let name = output.name();
            left_out.extend(Unwritten::ALL.map(|reason| {
                (format!("records dropped by {name}: {}", reason.name()), output.dropped(reason))
            }));
        }
        Self { spans: counts.spans, passed, left_out }
    }

    /// What came in and what became of it, by its words.
    pub(super) fn passed(&self) -> &[(String, u64)] {
        &self.passed
    }

    /// What was left out, by its words.
    pub(super) fn left_out_rows(&self) -> &[(String, u64)] {
        &self.left_out
    }

    /// A kernel-side or later loss by its words; for tests.
    pub fn left_out(&self) -> impl Iterator<Item = (&str, u64)> {
        self.left_out.iter().map(|(name, n)| (name.as_str(), *n))
    }
}

/// What names one of several destinations of a signal; a single one needs no name.
fn of_several(destinations: usize, endpoint: &str) -> (String, String) {
    if destinations > 1 {
        (format!(" to {endpoint}"), format!(" for {endpoint}"))
    } else {
        Default::default()
    }
}

fn dropped(destination: &DestinationStats) -> impl Iterator<Item = (String, u64)> + '_ {
    DropReason::ALL.iter().map(|&reason| (words(reason.name()), destination.dropped(reason)))
}

fn words(name: &str) -> String {
    name.replace(['_', '-'], " ")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, rows) in [("seen", &self.passed), ("left out", &self.left_out)] {
            writeln!(f, "{title}:")?;
            let mut any = false;
            for (name, n) in rows.iter().filter(|(_, n)| *n > 0) {
                writeln!(f, "  {n:>12}  {name}")?;
                any = true;
            }
            if !any {
                writeln!(f, "  nothing")?;
            }
        }
        Ok(())
    }
}
