//! The door between the pipeline's thread and the task that sends: bounded by bytes, never blocks the pushing side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    batch::Batch,
    settings::{QueueSettings, WhenFull},
    stats::{DestinationStats, DropReason},
};

#[derive(Debug)]
pub(super) struct Queue {
    settings: QueueSettings,
    /// A newer snapshot replaces older ones that still wait: true for cumulative metrics.
    latest_only: bool,
    state: Mutex<State>,
    ready: Notify,
    stats: Arc<DestinationStats>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// The generation pushed last.
    generation: u64,
    closed: bool,
}

impl Queue {
    pub(super) fn new(settings: QueueSettings, latest_only: bool, stats: Arc<DestinationStats>) -> Self {
        Self { settings, latest_only, state: Mutex::default(), ready: Notify::new(), stats }
    }

    /// Adds a batch; what finds no room is dropped and counted.
    pub(super) fn push(&self, batch: Batch) {
        let mut state = self.lock();
        state.generation = batch.generation;
        if self.latest_only {
            let newest = batch.generation;
            while state.batches.front().is_some_and(|waiting| waiting.generation < newest) {
                self.drop_oldest(&mut state, DropReason::Superseded);
            }
        }
        // A batch larger than the whole queue must not push everything else out in vain.
        if self.settings.when_full == WhenFull::DropOldest && batch.body.len() <= self.settings.bytes_max {
            while state.bytes + batch.body.len() > self.settings.bytes_max && !state.batches.is_empty() {
                self.drop_oldest(&mut state, DropReason::QueueFull);
            }
        }
        let fits = state.bytes + batch.body.len() <= self.settings.bytes_max;
        if state.closed || !fits {
            let reason = if state.closed { DropReason::Shutdown } else { DropReason::QueueFull };
            self.stats.count_dropped(reason, batch.items);
            return;
        }
        state.bytes += batch.body.len();
        state.batches.push_back(batch);
        drop(state);
        self.ready.notify_one();
    }

    /// The oldest batch; `None` once the queue is closed and empty. For one consumer.
    pub(super) async fn pop(&self) -> Option<Batch> {
        loop {
            // Registered before looking, so that a push in between is not missed.
            let ready = self.ready.notified();
            {
                let mut state = self.lock();
                if let Some(batch) = state.batches.pop_front() {
                    state.bytes -= batch.body.len();
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
            }
            ready.await;
        }
    }

    /// No more pushes; what waits can still be popped.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Drops all that waits, counted.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        while !state.batches.is_empty() {
            self.drop_oldest(&mut state, DropReason::Shutdown);
        }
    }

    /// True if a later snapshot has been pushed, which makes sending this one pointless.
    pub(super) fn superseded(&self, batch: &Batch) -> bool {
        self.latest_only && self.lock().generation > batch.generation
    }

    fn drop_oldest(&self, state: &mut State, reason: DropReason) {
        if let Some(batch) = state.batches.pop_front() {
            state.bytes -= batch.body.len();
            self.stats.count_dropped(reason, batch.items);
        }
    }

    /// Nothing panics while it is held; if something did, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::settings::{Protocol, Signal},
        *,
    };

    fn batch(items: u64, bytes: usize, generation: u64) -> Batch {
        Batch { signal: Signal::Metrics, body: vec![0; bytes].into(), items, generation }
    }

    fn queue(when_full: WhenFull, latest_only: bool) -> (Queue, Arc<DestinationStats>) {
        let stats = Arc::new(DestinationStats::new(Signal::Metrics, Protocol::Grpc, String::new()));
        (Queue::new(QueueSettings { bytes_max: 100, when_full }, latest_only, Arc::clone(&stats)), stats)
    }

    async fn drain(queue: &Queue) -> Vec<u64> {
        queue.close();
        let mut items = Vec::new();
        while let Some(batch) = queue.pop().await {
            items.push(batch.items);
        }
        items
    }

    #[tokio::test]
    async fn a_full_queue_drops_by_its_policy_and_counts() {
        for (when_full, left) in [(WhenFull::DropNewest, vec![1, 2]), (WhenFull::DropOldest, vec![2, 3])] {
            let (queue, stats) = queue(when_full, false);
            (1..=3).for_each(|items| queue.push(batch(items, 50, 0)));
            queue.push(batch(10, 101, 0));
            assert_eq!(drain(&queue).await, left);
            assert_eq!(stats.dropped(DropReason::QueueFull), 10 + 6 - left.iter().sum::<u64>());
        }
    }

    #[tokio::test]
    async fn a_newer_snapshot_replaces_an_older_one() {
        let (queue, stats) = queue(WhenFull::DropNewest, true);
        for (items, generation) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
            queue.push(batch(items, 10, generation));
        }
        assert!(queue.superseded(&batch(1, 10, 1)));
        assert_eq!(drain(&queue).await, [3, 4]);
        assert_eq!(stats.dropped(DropReason::Superseded), 3);
        queue.push(batch(7, 1, 3));
        assert_eq!(stats.dropped(DropReason::Shutdown), 7);
    }
}
