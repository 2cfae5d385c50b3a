//! What became of every span and metric point: received = exported + waiting + what each named reason took.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use spantap_protocols::semconv::own::EXPORTER_OPERATION_DURATION;

use super::settings::{Protocol, Signal};
use crate::telemetry::histogram::{Aggregation, Distribution};

const BOUNDS: &[f64] = EXPORTER_OPERATION_DURATION.bounds;

/// Why items were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue had no room.
    QueueFull,
    /// The backend was away for longer than we insist.
    RetryExpired,
    /// The backend refused the request for good.
    Refused,
    /// The backend refused the request for its size, also in halves.
    TooLarge,
    /// The backend took the request but not these (partial success).
    Rejected,
    /// Still waiting when the agent had to end.
    Shutdown,
    /// A later snapshot said the same and more: no loss.
    Superseded,
}

impl DropReason {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::RetryExpired,
        Self::Refused,
        Self::TooLarge,
        Self::Rejected,
        Self::Shutdown,
        Self::Superseded,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::RetryExpired => "retry_expired",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::Shutdown => "shutdown",
            Self::Superseded => "superseded",
        }
    }

    /// For messages; `None` for what is no loss.
    fn explanation(self) -> Option<&'static str> {
        Some(match self {
            Self::QueueFull => "the queue was full",
            Self::RetryExpired => "the backend was away for too long",
            Self::Refused => "the backend refused them",
            Self::TooLarge => "too large for the backend",
            Self::Rejected => "the backend took the request without them",
            Self::Shutdown => "still waiting for the backend at the end",
            Self::Superseded => return None,
        })
    }
}

/// The counters of one destination; shared, and read at any time.
#[derive(Debug)]
pub struct DestinationStats {
    signal: Signal,
    protocol: Protocol,
    endpoint: String,
    received: AtomicU64,
    exported: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    dropped_attributes: AtomicU64,
    failing: AtomicBool,
    in_flight: AtomicU64,
    /// Of attempts that succeeded, and of those that failed, in seconds.
    durations: Mutex<[Distribution; 2]>,
}

impl DestinationStats {
    pub(in crate::export) fn new(signal: Signal, protocol: Protocol, endpoint: String) -> Self {
        Self {
            signal,
            protocol,
            endpoint,
            received: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            dropped: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped_attributes: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            durations: Mutex::new([(); 2].map(|()| Distribution::new(Aggregation::Explicit, BOUNDS))),
        }
    }

    /// Traces or metrics.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// How they go.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Spans or points in the request that is being sent, or that waits to be sent again.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Where they go, without secrets.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has not reached the backend and will not any more, in one line; `None` if nothing.
    #[must_use]
    pub fn undelivered(&self) -> Option<String> {
        let (mut total, mut reasons) = (0, Vec::new());
        for reason in DropReason::ALL {
            let dropped = self.dropped(reason);
            if let Some(explanation) = reason.explanation().filter(|_| dropped > 0) {
                total += dropped;
                reasons.push(format!("{dropped} {explanation}"));
            }
        }
        (total > 0).then(|| {
            let (items, received) = (self.signal.items(), self.received());
            let reasons = reasons.join(", ");
            format!("{total} of {received} {items} were not delivered to {}: {reasons}", self.endpoint)
        })
    }

    /// How long attempts took that succeeded, and those that failed: seconds, between the conventions' bounds.
    #[must_use]
    pub fn durations(&self) -> [Distribution; 2] {
        self.lock().clone()
    }

    pub(super) fn count_duration(&self, took: Duration, is_taken: bool) {
        let [taken, failed] = &mut *self.lock();
        let durations = if is_taken { taken } else { failed };
        durations.record(BOUNDS, took.as_secs_f64(), None);
    }

    /// Nothing panics while it is held; if something did, the counts are still whole.
    fn lock(&self) -> MutexGuard<'_, [Distribution; 2]> {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the last attempt to send failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// The last attempt to send has failed, or has not.
    pub(in crate::export) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Relaxed);
    }

    /// Spans or points handed to the exporter.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Spans or points that the backend took.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    /// Spans or points dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Spans or points neither exported nor dropped yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let dropped: u64 = DropReason::ALL.iter().map(|reason| self.dropped(*reason)).sum();
        self.received().saturating_sub(self.exported()).saturating_sub(dropped)
    }

    /// Requests that were answered or failed, retries included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests that were sent again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Attributes left out of spans that had too many.
    #[must_use]
    pub fn dropped_attributes(&self) -> u64 {
        self.dropped_attributes.load(Relaxed)
    }

    pub(super) fn count_received(&self, items: u64) {
        self.received.fetch_add(items, Relaxed);
    }

    pub(super) fn set_in_flight(&self, items: u64) {
        self.in_flight.store(items, Relaxed);
    }

    pub(super) fn count_exported(&self, items: u64, bytes: usize) {
        self.exported.fetch_add(items, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_dropped(&self, reason: DropReason, items: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(items, Relaxed);
        }
    }

    pub(super) fn count_request(&self, retry: bool) {
        self.requests.fetch_add(1, Relaxed);
        self.retries.fetch_add(u64::from(retry), Relaxed);
    }

    pub(super) fn set_dropped_attributes(&self, count: u64) {
        self.dropped_attributes.store(count, Relaxed);
    }
}

impl fmt::Display for DestinationStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, bytes) = (self.signal.items(), self.bytes.load(Relaxed));
        write!(f, "{}: {} of {} {items} exported", self.signal.name(), self.exported(), self.received())?;
        write!(f, " in {} requests ({} retries, {bytes} bytes)", self.requests(), self.retries())?;
        if self.waiting() > 0 {
            write!(f, ", {} waiting", self.waiting())?;
        }
        for reason in DropReason::ALL.into_iter().filter(|reason| self.dropped(*reason) > 0) {
            write!(f, ", {} dropped ({})", self.dropped(reason), reason.name())?;
        }
        if self.dropped_attributes() > 0 {
            write!(f, ", {} attributes over the limit", self.dropped_attributes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_names_every_reason_that_took_something() {
        let stats =
            DestinationStats::new(Signal::Traces, Protocol::Grpc, "http://a:4318/v1/traces".to_owned());
        assert_eq!(stats.undelivered(), None);
        stats.count_received(10);
        stats.count_exported(4, 2048);
        stats.count_request(false);
        stats.count_request(true);
        stats.count_dropped(DropReason::QueueFull, 3);
        stats.count_dropped(DropReason::Shutdown, 1);
        assert_eq!(stats.waiting(), 2);
        assert_eq!(
            stats.to_string(),
            "traces: 4 of 10 spans exported in 2 requests (1 retries, 2048 bytes), 2 waiting, \
             3 dropped (queue_full), 1 dropped (shutdown)"
        );
        stats.count_dropped(DropReason::Superseded, 1);
        assert_eq!(
            stats.undelivered().as_deref(),
            Some(
                "4 of 10 spans were not delivered to http://a:4318/v1/traces: 3 the queue was full, \
                 1 still waiting for the backend at the end"
            )
        );
    }
}
