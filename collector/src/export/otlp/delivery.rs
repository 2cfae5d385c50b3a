//! The task of one destination: takes batches from its queue, sends, waits, sends again, gives up; counts all of it.

use std::{
    sync::{Arc, mpsc},
    time::Instant,
};

use tokio::sync::watch;

use super::{
    batch::Batch,
    client::{Client, ExportResponse},
    health::Health,
    queue::Queue,
    retry::{Backoff, Failure, FailureKind},
    settings::RetrySettings,
    stats::{DestinationStats, DropReason},
};
use crate::telemetry::id::Random;

/// Everything the task owns.
#[derive(Debug)]
pub(super) struct Delivery {
    pub queue: Arc<Queue>,
    pub client: Client,
    pub retry: RetrySettings,
    pub stats: Arc<DestinationStats>,
    pub health: Health,
    pub random: Random,
}

/// How the sending of one request ended.
enum End {
    Taken(ExportResponse),
    TooLarge(String),
    Dropped(DropReason, String),
    Superseded,
}

impl Delivery {
    /// Runs until the queue is closed and empty, or the moment in `deadline` has come; then says so to `done`.
    pub(super) async fn run(
        mut self,
        mut deadline: watch::Receiver<Option<Instant>>,
        done: mpsc::SyncSender<()>,
    ) {
        tokio::select! {
            () = self.drain() => {}
            () = passed(&mut deadline) => {
                self.stats.count_dropped(DropReason::Shutdown, self.stats.in_flight());
                self.stats.set_in_flight(0);
                self.queue.abandon();
            }
        }
        let _ = done.try_send(()); // nobody may be waiting
    }

    async fn drain(&mut self) {
        while let Some(batch) = self.queue.pop().await {
            // Taken from the queue and not yet counted.
            self.stats.set_in_flight(batch.items);
            self.deliver(batch).await;
        }
    }

    async fn deliver(&mut self, batch: Batch) {
        match self.send(&batch).await {
            End::TooLarge(why) => match batch.split() {
                Some((first, second)) => {
                    for half in [first, second] {
                        let end = self.send(&half).await;
                        self.settle(&half, end);
                    }
                }
                None => self.settle(&batch, End::TooLarge(why)),
            },
            end => self.settle(&batch, end),
        }
    }

    /// Sends until it is taken or there is no point in trying.
    async fn send(&mut self, batch: &Batch) -> End {
        let begun = Instant::now();
        let mut backoff = Backoff::new(self.retry);
        let prepared = self.client.prepare(&batch.body);
        let mut retry = false;
        loop {
            self.stats.count_request(retry);
            let asked = Instant::now();
            let answer = self.client.send(prepared.clone()).await;
            self.stats.count_duration(asked.elapsed(), answer.is_ok());
            let Failure { kind, message } = match answer {
                Ok(answer) => {
                    self.stats.set_failing(false);
                    self.health.up();
                    return End::Taken(answer);
                }
                Err(failure) => {
                    self.stats.set_failing(true);
                    if matches!(failure.kind, FailureKind::Retryable { .. }) {
                        self.health.down(&failure);
                    } else {
                        self.health.answered();
                    }
                    failure
                }
            };
            let not_before = match kind {
                FailureKind::Retryable { not_before } => not_before,
                FailureKind::TooLarge => return End::TooLarge(message),
                FailureKind::Permanent => return End::Dropped(DropReason::Refused, message),
            };
            let Some(wait) = backoff.next(begun.elapsed(), not_before, &mut self.random) else {
                return End::Dropped(DropReason::RetryExpired, message);
            };
            tokio::time::sleep(wait).await;
            if self.queue.superseded(batch) {
                return End::Superseded;
            }
            retry = true;
        }
    }

    /// Counts how it ended.
    fn settle(&mut self, batch: &Batch, end: End) {
        self.stats.set_in_flight(self.stats.in_flight().saturating_sub(batch.items));
        match end {
            End::Taken(answer) => {
                let mut rejected = 0;
                if let Some(partial) = answer.partial_success {
                    rejected = u64::try_from(partial.rejected).unwrap_or(0).min(batch.items);
                    if rejected > 0 || !partial.error_message.is_empty() {
                        self.health.partial(rejected, &partial.error_message);
                    }
                }
                self.stats.count_exported(batch.items - rejected, batch.body.len());
                self.stats.count_dropped(DropReason::Rejected, rejected);
            }
            End::TooLarge(why) => {
                self.stats.count_dropped(DropReason::TooLarge, batch.items);
                self.health.dropped(batch.items, &format!("too large even in halves: {why}"));
            }
            End::Dropped(reason, why) => {
                self.stats.count_dropped(reason, batch.items);
                self.health.dropped(batch.items, &why);
            }
            End::Superseded => self.stats.count_dropped(DropReason::Superseded, batch.items),
        }
    }
}

/// Ends when a deadline has been set and has passed.
async fn passed(deadline: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let at = *deadline.borrow_and_update();
        match at {
            Some(at) => return tokio::time::sleep_until(at.into()).await,
            None => {
                if deadline.changed().await.is_err() {
                    // The exporter is gone without a shutdown: nobody will ever set one.
                    return;
                }
            }
        }
    }
}
