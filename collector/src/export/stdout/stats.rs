//! What became of every record that was to be printed: received = written + waiting + what each named reason took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why records were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// The reader was slower than the host, and the queue had no room.
    QueueFull,
    /// The reader has left, or writing failed.
    Broken,
    /// Still waiting for the reader when the agent had to end.
    AtEnd,
}

impl Unwritten {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::Broken, Self::AtEnd];

    /// For the accounts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue full",
            Self::Broken => "reader gone",
            Self::AtEnd => "unwritten at end",
        }
    }
}

/// The counters of one output; shared, and read at any time. Spans and metric points alike are records here, and so is
/// each line of the table at the end.
#[derive(Debug)]
pub struct OutputStats {
    name: String,
    received: AtomicU64,
    written: AtomicU64,
    dropped: [AtomicU64; Unwritten::ALL.len()],
}

impl OutputStats {
    pub(super) fn new(name: &str) -> Self {
        let (received, written) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name: name.to_owned(), received, written, dropped: Default::default() }
    }

    /// Standard output, or the path of a file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records that were to be written.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Records that were.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Records dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: Unwritten) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// What will not be written any more, in one line; `None` if nothing, or if the reader did not want it.
    #[must_use]
    pub fn undelivered(&self) -> Option<String> {
        let (slow, late) = (self.dropped(Unwritten::QueueFull), self.dropped(Unwritten::AtEnd));
        let mut reasons = Vec::new();
        if slow > 0 {
            reasons.push(format!("{slow} came faster than they were read"));
        }
        if late > 0 {
            reasons.push(format!("{late} still waited for the reader at the end"));
        }
        let (name, received) = (&self.name, self.received());
        let (total, reasons) = (slow + late, reasons.join(", "));
        (total > 0).then(|| format!("{total} of {received} records were not written to {name}: {reasons}"))
    }

    pub(super) fn count_received(&self, items: u64) {
        self.received.fetch_add(items, Relaxed);
    }

    pub(super) fn count_written(&self, items: u64) {
        self.written.fetch_add(items, Relaxed);
    }

    pub(super) fn count_dropped(&self, reason: Unwritten, items: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(items, Relaxed);
        }
    }
}
