//! Reads of files that others have mounted, which may never return: a container's FUSE or NFS whose server is gone. A
//! thread of its own does them, and nobody waits for it longer than a moment.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
    mpsc::{Receiver, SyncSender, sync_channel},
};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct Files {
    /// The thread, once there was something to read.
    thread: Mutex<Option<SyncSender<Job>>>,
    /// It reads something.
    busy: Arc<AtomicBool>,
    warned: AtomicBool,
}

/// Rationale: files that are there are read within a millisecond, from a disk within twenty; meanwhile the ring buffer
/// holds what comes.
const PATIENCE: Duration = Duration::from_millis(200);

impl Files {
    /// What `read` returns, if that is soon. While an earlier one is still waited for, nothing is read.
    pub(super) fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let busy = Arc::clone(&self.busy);
        let job = Box::new(move || {
            let value = read();
            busy.store(false, Ordering::Release);
            // Nobody waits any more if it came late.
            let _ = answer.send(value);
        });
        if !self.hand_over(job) {
            self.busy.store(false, Ordering::Release);
            return None;
        }
        let value = answered.recv_timeout(PATIENCE).ok();
        if value.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a file of a process cannot be read in time; services are named without until it can"
            );
        }
        value
    }

    /// False if there is no thread, and none can be started.
    fn hand_over(&self, job: Job) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (jobs, next) = sync_channel(1);
            let started = std::thread::Builder::new().name("files".to_owned()).spawn(move || work(&next));
            if started.is_err() {
                return false;
            }
            *thread = Some(jobs);
        }
        thread.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_never_returns_stops_nobody() {
        let files = Files::default();
        assert_eq!(files.read(|| 1), Some(1));
        let (release, released) = sync_channel::<()>(1);
        assert_eq!(files.read(move || released.recv().is_ok()), None, "it hangs");
        assert_eq!(files.read(|| 2), None, "and others are not tried meanwhile");
        release.send(()).unwrap();
        let again = (0..10_000).find_map(|_| {
            std::thread::yield_now();
            files.read(|| 3)
        });
        assert_eq!(again, Some(3), "until it returns");
    }
}
