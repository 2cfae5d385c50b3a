//! A buffered way out that survives a reader who leaves.

use std::io::{self, BufWriter, Write};

/// Where lines go. Flushed by the exporters' tick, so that a busy host costs few system calls.
pub struct Output {
    writer: BufWriter<Box<dyn Write + Send>>,
    broken: bool,
    lost: u64,
}

impl Output {
    /// Standard output: colours on a terminal and none elsewhere; `NO_COLOR` and `CLICOLOR_FORCE` are respected.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(Box::new(anstream::AutoStream::auto(io::stdout())))
    }

    /// Anything else: a file, a buffer. Colours stay as they are written.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer: BufWriter::with_capacity(64 << 10, writer), broken: false, lost: 0 }
    }

    /// Writes `line` and a line feed. After the first failure nothing is written any more, only counted.
    pub(super) fn line(&mut self, line: &str) {
        if self.broken {
            self.lost += 1;
            return;
        }
        let result = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.write_all(b"\n"));
        if let Err(error) = result {
            self.lost += 1;
            self.fail(&error);
        }
    }

    pub(super) fn flush(&mut self) {
        if !self.broken
            && let Err(error) = self.writer.flush()
        {
            self.fail(&error);
        }
    }

    /// True once writing has failed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn fail(&mut self, error: &io::Error) {
        self.broken = true;
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::error!("failed to write to standard output: {error}");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer whose bytes can be looked at.
    #[derive(Clone, Default)]
    pub(in super::super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
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
        let mut output = Output::new(Box::new(Gone));
        output.line("a");
        assert!(!output.is_broken(), "buffered");
        output.flush();
        output.line("b");
        assert_eq!((output.is_broken(), output.lost()), (true, 1));
    }
}
