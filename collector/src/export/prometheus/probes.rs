//! Is the agent alive, and is it ready? What `/healthz` and `/readyz` answer.

use std::{
    fmt::Write,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::export::otlp::DestinationStats;

/// What is known of the agent's state; shared by the thread that works and the one that answers.
#[derive(Debug)]
pub struct Probes {
    since: Instant,
    /// When the pipeline last moved, in milliseconds after `since`.
    beat_ms: AtomicU64,
    /// Set once everything is attached: the destinations by then.
    attached: OnceLock<Vec<Arc<DestinationStats>>>,
}

/// The pipeline moves ten times a second; a machine that does not run us for this long has other troubles.
const STILL: Duration = Duration::from_secs(30);

impl Default for Probes {
    fn default() -> Self {
        Self { since: Instant::now(), beat_ms: AtomicU64::new(0), attached: OnceLock::new() }
    }
}

impl Probes {
    /// The pipeline has moved.
    pub fn beat(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.since).as_millis();
        self.beat_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Relaxed);
    }

    /// Everything is attached, and records go to `destinations`.
    pub fn attached(&self, destinations: Vec<Arc<DestinationStats>>) {
        // Only the first time counts.
        let _ = self.attached.set(destinations);
    }

    /// Whether the pipeline moves, and a line that says so.
    pub(super) fn is_alive(&self, now: Instant) -> (bool, String) {
        let beat = self.since + Duration::from_millis(self.beat_ms.load(Relaxed));
        let still = now.saturating_duration_since(beat);
        if still < STILL {
            (true, "ok\n".to_owned())
        } else {
            (false, format!("the pipeline has not moved for {} s\n", still.as_secs()))
        }
    }

    /// Whether requests are seen and get out, and a line about each reason.
    pub(super) fn is_ready(&self, now: Instant) -> (bool, String) {
        let (mut ready, mut text) = self.is_alive(now);
        let Some(destinations) = self.attached.get() else {
            return (false, "not attached yet\n".to_owned());
        };
        text.push_str("attached\n");
        for destination in destinations {
            let failing = destination.is_failing();
            ready &= !failing;
            let state = if failing { "does not take" } else { "takes" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {state} {}", destination.endpoint(), destination.signal().name());
        }
        (ready, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::settings::{Protocol, Signal};

    #[test]
    fn alive_while_the_pipeline_moves() {
        let probes = Probes::default();
        let start = Instant::now();
        assert!(probes.is_alive(start).0);
        let (alive, text) = probes.is_alive(start + Duration::from_secs(40));
        assert!(!alive && text.starts_with("the pipeline has not moved for "), "{text}");
        probes.beat(start + Duration::from_secs(20));
        assert!(probes.is_alive(start + Duration::from_secs(40)).0);
    }

    #[test]
    fn ready_once_attached_and_while_backends_take_what_comes() {
        let (probes, now) = (Probes::default(), Instant::now());
        assert_eq!(probes.is_ready(now), (false, "not attached yet\n".to_owned()));
        let stats =
            Arc::new(DestinationStats::new(Signal::Traces, Protocol::Grpc, "http://b:4318/v1/traces".into()));
        probes.attached(vec![Arc::clone(&stats)]);
        assert_eq!(
            probes.is_ready(now),
            (true, "ok\nattached\nhttp://b:4318/v1/traces takes traces\n".into())
        );
        stats.set_failing(true);
        let (ready, text) = probes.is_ready(now);
        assert!(!ready && text.ends_with("http://b:4318/v1/traces does not take traces\n"), "{text}");
        stats.set_failing(false);
        assert!(probes.is_ready(now).0);
        assert!(!probes.is_ready(now + Duration::from_secs(60)).0, "it has died since");
    }
}
