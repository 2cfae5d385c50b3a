//! A way out with a thread of its own: whoever hands it lines never waits for those who read them.
//!
//! Lines wait in a queue that is bounded in bytes; what finds no room is dropped and counted, or, where the source can
//! wait as well (a capture file), waited for. The thread takes all that is there and writes it, whole lines at a time,
//! so that two outputs on the same descriptor do not mix. Work that can be done there, such as writing JSON, is.

use std::{
    io::{self, Write},
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    thread,
    time::Instant,
};

use super::{
    stats::{OutputStats, Unwritten},
    waiting::{Content, Piece, Queue, write_all},
};
use crate::export::Pressure;

/// Where lines go. Flushed by the exporters' tick, so that a busy host costs few system calls.
pub struct Output {
    queue: Arc<Queue>,
}

/// Bytes that wait for a reader. Rationale: a second of a busy host's lines; memory that is only taken while the reader
/// is slower than the host.
const QUEUE_BYTES_MAX: usize = 16 << 20;

impl Output {
    /// Standard output: colours on a terminal and none elsewhere; `NO_COLOR` and `CLICOLOR_FORCE` are respected.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn stdout(pressure: Pressure) -> io::Result<Self> {
        let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
        Self::new("standard output", Box::new(Stdout { plain }), pressure)
    }

    /// Anything else: a file, a buffer. Colours stay as they are written. `name` is for messages.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn new(name: &str, writer: Box<dyn Write + Send>, pressure: Pressure) -> io::Result<Self> {
        Self::bounded(name, writer, pressure, QUEUE_BYTES_MAX)
    }

    fn bounded(
        name: &str,
        writer: Box<dyn Write + Send>,
        pressure: Pressure,
        bytes_max: usize,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(name, pressure, bytes_max));
        let of_thread = Arc::clone(&queue);
        // Not joined: at the end it may hang in a write that nobody reads.
        thread::Builder::new().name("output".into()).spawn(move || of_thread.run(writer))?;
        Ok(Self { queue })
    }

    /// Writes `line` and a line feed: one item.
    pub(super) fn line(&self, line: &str) {
        self.queue.push_line(line);
    }

    /// Writes the line that `make` returns, and a line feed. Until then it holds `bytes`; it stands for `items`.
    pub(super) fn later(&self, items: u64, bytes: usize, make: impl FnOnce() -> String + Send + 'static) {
        self.queue.push(Piece { items, bytes, content: Content::Later(Box::new(make)) });
    }

    /// What is here is written as soon as can be.
    pub(super) fn flush(&self) {
        let mut state = self.queue.lock();
        if !state.pieces.is_empty() {
            state.flush = true;
            self.queue.ready.notify_one();
        }
    }

    /// Waits until all is written, at the latest until `deadline` (without limit if the source waits, too); what is left
    /// then is dropped.
    pub(super) fn finish(&self, deadline: Instant) {
        self.queue.close();
        let mut state = self.queue.lock();
        while !self.is_broken() && (state.bytes > 0 || state.in_hand > 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            state = match self.queue.pressure {
                Pressure::Wait => self.queue.wait(&self.queue.moved, state),
                Pressure::Drop if left.is_zero() => break,
                Pressure::Drop => {
                    let waited = self.queue.moved.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let reason = if self.is_broken() { Unwritten::Broken } else { Unwritten::AtEnd };
        self.queue.abandon(&mut state, reason);
    }

    /// True once writing has failed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.queue.broken.load(Relaxed)
    }

    /// What became of the lines.
    #[must_use]
    pub fn stats(&self) -> Arc<OutputStats> {
        Arc::clone(&self.queue.stats)
    }
}

impl Drop for Output {
    /// What waits is still written, if the process lives long enough.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Standard output. Its own buffer ends at line ends, as our writes do.
struct Stdout {
    plain: bool,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const ESCAPE: u8 = 0x1b;
        // Held until all is out: another output on it would get between.
        let mut stdout = io::stdout().lock();
        if self.plain && bytes.contains(&ESCAPE) {
            write_all(&mut stdout, &anstream::adapter::strip_bytes(bytes).into_vec())?;
        } else {
            write_all(&mut stdout, bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        sync::{Mutex, mpsc},
        time::Duration,
    };

    use super::*;

    /// A writer whose bytes can be looked at.
    #[derive(Clone, Default)]
    pub(in super::super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        pub(in super::super) fn output(&self) -> Output {
            Output::new("test", Box::new(self.clone()), Pressure::Wait).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader who takes a write only when told to, by a message.
    struct Slow(mpsc::Receiver<()>, Shared);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn far() -> Instant {
        now() + Duration::from_secs(60)
    }

    /// Waits until the thread is in its write.
    fn in_hand(output: &Output) {
        output.flush();
        while output.queue.lock().in_hand == 0 {
            thread::yield_now();
        }
    }

    fn counts(output: &Output) -> (u64, u64, [u64; 3]) {
        let stats = output.stats();
        (stats.received(), stats.written(), Unwritten::ALL.map(|reason| stats.dropped(reason)))
    }

    #[test]
    fn a_slow_reader_blocks_nobody_and_what_it_misses_is_counted() {
        let (go, wait) = mpsc::channel();
        let shared = Shared::default();
        let slow = Slow(wait, shared.clone());
        let output = Output::bounded("test", Box::new(slow), Pressure::Drop, 100).unwrap();
        output.line("first");
        in_hand(&output);
        // 100 bytes hold this and nine more of ten bytes each; the thread is in its write.
        (0..30).for_each(|_| output.line("123456789"));
        output.later(7, 90, || "never made".to_owned());
        assert_eq!(counts(&output), (38, 0, [21 + 7, 0, 0]));
        for _ in 0..2 {
            go.send(()).unwrap();
        }
        output.finish(far());
        assert_eq!(shared.text().lines().count(), 10);
        assert_eq!(counts(&output), (38, 10, [28, 0, 0]));
    }

    #[test]
    fn a_reader_who_never_reads_does_not_hold_up_the_end() {
        let (_go, wait) = mpsc::channel();
        let slow = Slow(wait, Shared::default());
        let output = Output::bounded("test", Box::new(slow), Pressure::Drop, 100).unwrap();
        output.line("in hand");
        in_hand(&output);
        output.line("waiting");
        output.finish(now());
        output.line("too late");
        assert_eq!(counts(&output), (3, 0, [0, 0, 3]));
        let said = output.stats().undelivered().unwrap();
        assert!(said.starts_with("3 of 3 records were not written to test: 3 "), "{said}");
    }

    #[test]
    fn a_source_that_can_wait_loses_nothing() {
        let (go, wait) = mpsc::sync_channel(1);
        let shared = Shared::default();
        let slow = Slow(wait, shared.clone());
        let output = Output::bounded("test", Box::new(slow), Pressure::Wait, 100).unwrap();
        let reader = thread::spawn(move || while go.send(()).is_ok() {});
        (0..1_000).for_each(|n| output.line(&format!("{n:09}")));
        output.later(1, 500, || "large".to_owned());
        output.finish(now());
        assert_eq!(counts(&output), (1_001, 1_001, [0; 3]));
        assert_eq!(shared.text().lines().count(), 1_001);
        drop(output);
        reader.join().unwrap();
    }

    #[test]
    fn a_reader_who_leaves_is_noticed_and_the_rest_is_counted() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::new("test", Box::new(Gone), Pressure::Wait).unwrap();
        output.line("a");
        output.flush();
        while !output.is_broken() {
            thread::yield_now();
        }
        output.line("b");
        output.finish(far());
        assert_eq!(counts(&output), (2, 0, [0, 2, 0]));
    }

    #[test]
    fn a_descriptor_that_would_block_is_tried_again() {
        struct Now(bool, Shared);
        impl Write for Now {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = !self.0;
                if self.0 { Err(io::ErrorKind::WouldBlock.into()) } else { self.1.write(&bytes[..1]) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let shared = Shared::default();
        let output = Output::new("test", Box::new(Now(false, shared.clone())), Pressure::Drop).unwrap();
        output.line("abc");
        output.finish(far());
        assert_eq!(shared.text(), "abc\n");
    }
}
