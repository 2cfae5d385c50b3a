//! Who looks for TLS libraries, and when? Two threads beside the pipeline.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, mpsc},
    thread,
};

use spantap_config::{CaptureTls, ProbePlacement};
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::BootNanos;

use crate::{
    discovery::{Placement, TlsFinder, TlsProber, procfs, tls::TlsCounts},
    kernel::Attacher,
};

/// Looks for TLS libraries, on two threads of its own: one opens what processes map, while they are there, and one looks
/// into the files and probes them. The latter holds all kernel programs: when it ends, nothing stays attached.
pub(super) struct Scanner {
    requests: mpsc::Sender<(Tgid, BootNanos)>,
    finder: thread::JoinHandle<()>,
    prober: thread::JoinHandle<()>,
    /// What each of them has counted so far.
    counts: Arc<[Mutex<TlsCounts>; 2]>,
}

/// In [`Scanner::counts`].
const FINDER: usize = 0;
const PROBER: usize = 1;

/// Files that are open at a time.
const FILES_MAX: usize = 256;

impl Scanner {
    /// Starts both threads.
    pub(super) fn start(
        attacher: Attacher,
        tls: &CaptureTls,
        watched_since: Arc<AtomicU64>,
    ) -> Result<Self, std::io::Error> {
        let is_enabled = tls.openssl;
        let placement = match tls.placement {
            ProbePlacement::Cheapest => Placement::Cheapest,
            ProbePlacement::Symbol => Placement::Symbol,
        };
        let (requests, incoming) = mpsc::channel::<(Tgid, BootNanos)>();
        let (files, found) = mpsc::sync_channel(FILES_MAX);
        let counts = Arc::new(<[Mutex<TlsCounts>; 2]>::default());
        let counted = Arc::clone(&counts);
        let find = move || {
            let mut finder = TlsFinder::default();
            if is_enabled {
                // Nobody receives any more only when all ends.
                finder.host().for_each(|file| drop(files.send(file)));
                for tgid in procfs::processes().filter(|tgid| procfs::executable(*tgid).is_some()) {
                    finder.scan(tgid, None).into_iter().for_each(|file| drop(files.send(file)));
                }
            }
            *lock(&counted[FINDER]) = finder.gone();
            while let Ok(first) = incoming.recv() {
                // A process that starts maps many files in a row: one look is enough for all of them.
                let mut waiting = HashMap::from([first]);
                for (tgid, at) in incoming.try_iter() {
                    waiting.entry(tgid).or_insert(at);
                }
                for (tgid, at) in waiting.into_iter().filter(|_| is_enabled) {
                    finder.scan(tgid, Some(at)).into_iter().for_each(|file| drop(files.send(file)));
                }
                *lock(&counted[FINDER]) = finder.gone();
            }
        };
        let counted = Arc::clone(&counts);
        let probe = move || {
            let mut prober = TlsProber::new(attacher, placement, watched_since);
            for file in found {
                prober.look_into(file);
                *lock(&counted[PROBER]) = prober.counts();
            }
        };
        let finder = thread::Builder::new().name("discovery".into()).spawn(find)?;
        let prober = thread::Builder::new().name("probes".into()).spawn(probe)?;
        Ok(Self { requests, finder, prober, counts })
    }

    /// Looks at what a process maps.
    pub(super) fn scan(&self, tgid: Tgid, at: BootNanos) {
        // The thread ends only after this sender is gone.
        let _ = self.requests.send((tgid, at));
    }

    /// What it has found so far.
    pub(super) fn counts(&self) -> TlsCounts {
        counts(&self.counts)
    }

    /// Ends the threads, and with them every attachment.
    pub(super) fn stop(self) -> TlsCounts {
        drop(self.requests);
        // A thread that has panicked has said so; what it counted before is there.
        let _ = (self.finder.join(), self.prober.join());
        counts(&self.counts)
    }
}

fn counts(counts: &[Mutex<TlsCounts>; 2]) -> TlsCounts {
    let TlsCounts { gone, unread, .. } = *lock(&counts[FINDER]);
    TlsCounts { gone, unread, ..*lock(&counts[PROBER]) }
}

/// Numbers are whole, whoever has panicked.
fn lock(counts: &Mutex<TlsCounts>) -> MutexGuard<'_, TlsCounts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
