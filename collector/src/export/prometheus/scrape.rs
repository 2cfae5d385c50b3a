//! How does a scraper get a snapshot of tables that another thread owns? It asks, and is answered at that thread's next
//! tick.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::telemetry::MetricsSnapshot;

type Question = oneshot::Sender<Arc<MetricsSnapshot>>;

/// Questions that wait for an answer; further ones are refused at once.
const WAITING_MAX: usize = 8;
/// A snapshot as young as this is good enough: collecting costs the pipeline some milliseconds, however many ask.
const YOUNG: Duration = Duration::from_secs(1);

/// The side that asks.
#[derive(Clone, Debug)]
pub(super) struct Scraper(mpsc::Sender<Question>);

/// The side that answers.
#[derive(Debug)]
pub struct Scrapes {
    questions: mpsc::Receiver<Question>,
    latest: Option<(Instant, Arc<MetricsSnapshot>)>,
}

/// What became of those who asked.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    answered: AtomicU64,
    refused: AtomicU64,
    cut_off: AtomicU64,
}

pub(super) fn pair() -> (Scraper, Scrapes) {
    let (sender, questions) = mpsc::channel(WAITING_MAX);
    (Scraper(sender), Scrapes { questions, latest: None })
}

impl Scraper {
    /// `None` if too many wait already, or if nobody answers any more.
    pub(super) async fn snapshot(&self) -> Option<Arc<MetricsSnapshot>> {
        let (question, answer) = oneshot::channel();
        self.0.try_send(question).ok()?;
        answer.await.ok()
    }
}

impl Scrapes {
    /// Whether somebody waits.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Answers all that wait, with one snapshot.
    pub fn answer(&mut self, now: Instant, collect: impl FnOnce() -> MetricsSnapshot) {
        // An old snapshot may be large; nobody needs it but those who are reading it.
        self.latest.take_if(|(at, _)| now.saturating_duration_since(*at) >= YOUNG);
        let Ok(first) = self.questions.try_recv() else { return };
        let (_, snapshot) = self.latest.get_or_insert_with(|| (now, Arc::new(collect())));
        let mut next = Some(first);
        while let Some(question) = next {
            // Who asked may have left.
            let _ = question.send(Arc::clone(snapshot));
            next = self.questions.try_recv().ok();
        }
    }
}

impl ScrapeStats {
    /// Scrapes that were given a snapshot.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// Scrapes that were turned away: too many at once, or no snapshot in time.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Connections that were ended by us: too slow, or in the way of newer ones.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.cut_off.load(Relaxed)
    }

    pub(super) fn count_scrape(&self, is_answered: bool) {
        let count = if is_answered { &self.answered } else { &self.refused };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Temporality, UnixNanos};

    fn snapshot(time: u64) -> MetricsSnapshot {
        MetricsSnapshot {
            time: UnixNanos(time),
            previous: UnixNanos(0),
            temporality: Temporality::Cumulative,
            services: Vec::new(),
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_a_snapshot_and_the_next_second_brings_a_new_one() {
        let (scraper, mut scrapes) = pair();
        let start = Instant::now();
        scrapes.answer(start, || panic!("nobody has asked"));
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let scraper = scraper.clone();
            waiting.push(tokio::spawn(async move { scraper.snapshot().await.map(|found| found.time.0) }));
        }
        tokio::task::yield_now().await;
        assert!(scraper.snapshot().await.is_none(), "one too many");
        scrapes.answer(start, || snapshot(1));
        for one in waiting {
            assert_eq!(one.await.unwrap(), Some(1));
        }
        for (after, expected) in [(YOUNG / 2, 1), (YOUNG * 2, 3)] {
            let scraper = scraper.clone();
            let asked = tokio::spawn(async move { scraper.snapshot().await.map(|found| found.time.0) });
            tokio::task::yield_now().await;
            scrapes.answer(start + after, || snapshot(3));
            assert_eq!(asked.await.unwrap(), Some(expected));
        }
        drop(scrapes);
        assert!(scraper.snapshot().await.is_none(), "nobody answers");
    }
}
