//! What waits for an output's thread, and that thread: lines by the bytes they hold, written as many at a time as there are.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::stats::{OutputStats, Unwritten};
use crate::export::Pressure;

/// What the two sides share.
pub(super) struct Queue {
    pub(super) bytes_max: usize,
    pub(super) pressure: Pressure,
    pub(super) state: Mutex<State>,
    /// The thread has something to do.
    pub(super) ready: Condvar,
    /// The thread has done something.
    pub(super) moved: Condvar,
    pub(super) broken: AtomicBool,
    pub(super) stats: Arc<OutputStats>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) pieces: VecDeque<Piece>,
    /// Of the pieces, and of those that the thread has in hand.
    pub(super) bytes: usize,
    /// Items that the thread has in hand.
    pub(super) in_hand: u64,
    /// What is here is to be written now.
    pub(super) flush: bool,
    pub(super) closed: bool,
}

/// Lines, or what makes one.
pub(super) struct Piece {
    pub(super) items: u64,
    pub(super) bytes: usize,
    pub(super) content: Content,
}

pub(super) enum Content {
    Text(String),
    Later(Box<dyn FnOnce() -> String + Send>),
}

/// So many bytes are written without waiting for a flush.
const CHUNK_BYTES: usize = 64 << 10;

/// How long a descriptor that would block is left alone.
const RETRY: Duration = Duration::from_millis(5);

impl Queue {
    pub(super) fn new(name: &str, pressure: Pressure, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            pressure,
            state: Mutex::default(),
            ready: Condvar::new(),
            moved: Condvar::new(),
            broken: AtomicBool::new(false),
            stats: Arc::new(OutputStats::new(name)),
        }
    }

    /// Lines share a piece while they are short.
    pub(super) fn push_line(&self, line: &str) {
        let bytes = line.len() + 1;
        let Some(mut state) = self.room_for(1, bytes) else { return };
        state.bytes += bytes;
        match state.pieces.back_mut() {
            Some(Piece { items, bytes: all, content: Content::Text(text) }) if text.len() < CHUNK_BYTES => {
                *items += 1;
                *all += bytes;
                text.push_str(line);
                text.push('\n');
            }
            _ => {
                let mut text = String::with_capacity(bytes.max(CHUNK_BYTES / 16));
                text.push_str(line);
                text.push('\n');
                state.pieces.push_back(Piece { items: 1, bytes, content: Content::Text(text) });
            }
        }
        self.notify_if_much(state);
    }

    pub(super) fn push(&self, piece: Piece) {
        let Some(mut state) = self.room_for(piece.items, piece.bytes) else { return };
        state.bytes += piece.bytes;
        state.pieces.push_back(piece);
        self.notify_if_much(state);
    }

    fn notify_if_much(&self, state: MutexGuard<'_, State>) {
        if state.bytes >= CHUNK_BYTES {
            drop(state);
            self.ready.notify_one();
        }
    }

    /// The state with room for `bytes` more, unless these items are dropped, which is counted. Something larger than the
    /// whole queue finds room when it is empty.
    fn room_for(&self, items: u64, bytes: usize) -> Option<MutexGuard<'_, State>> {
        self.stats.count_received(items);
        let mut state = self.lock();
        loop {
            if self.broken.load(Relaxed) {
                self.stats.count_dropped(Unwritten::Broken, items);
                return None;
            }
            if state.closed {
                self.stats.count_dropped(Unwritten::AtEnd, items);
                return None;
            }
            if state.bytes == 0 || state.bytes + bytes <= self.bytes_max {
                return Some(state);
            }
            if self.pressure == Pressure::Drop {
                self.stats.count_dropped(Unwritten::QueueFull, items);
                return None;
            }
            state.flush = true;
            self.ready.notify_one();
            state = self.wait(&self.moved, state);
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Drops all that is not written, whoever has it.
    pub(super) fn abandon(&self, state: &mut State, reason: Unwritten) {
        let waiting: u64 = state.pieces.drain(..).map(|piece| piece.items).sum();
        let in_hand = std::mem::take(&mut state.in_hand);
        self.stats.count_dropped(reason, waiting + in_hand);
        state.bytes = 0;
    }

    /// The thread.
    pub(super) fn run(&self, mut writer: Box<dyn Write + Send>) {
        while let Some(pieces) = self.take() {
            for piece in pieces {
                let text = match piece.content {
                    Content::Text(text) => text,
                    Content::Later(make) => make() + "\n",
                };
                let result = write_all(&mut *writer, text.as_bytes());
                let mut state = self.lock();
                if let Err(error) = result {
                    self.broken.store(true, Relaxed);
                    self.abandon(&mut state, Unwritten::Broken);
                    drop(state);
                    self.moved.notify_all();
                    return self.explain(&error);
                }
                // They may have been given up in the meantime.
                let items = piece.items.min(state.in_hand);
                state.in_hand -= items;
                state.bytes = state.bytes.saturating_sub(piece.bytes);
                self.stats.count_written(items);
                drop(state);
                self.moved.notify_all();
            }
        }
    }

    /// All that is here, once it is worth a write; `None` when nothing more will come.
    fn take(&self) -> Option<VecDeque<Piece>> {
        let mut state = self.lock();
        loop {
            let due = state.flush || state.closed || state.bytes >= CHUNK_BYTES;
            if due && !state.pieces.is_empty() {
                state.flush = false;
                let pieces = std::mem::take(&mut state.pieces);
                state.in_hand = pieces.iter().map(|piece| piece.items).sum();
                return Some(pieces);
            }
            if state.closed {
                return None;
            }
            state = self.wait(&self.ready, state);
        }
    }

    fn explain(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::error!("failed to write to {}: {error}", self.stats.name());
        }
    }

    pub(super) fn wait<'a>(&self, what: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        what.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing panics while it is held; if something did, the state is still whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As `Write::write_all`, but also to a descriptor that somebody has made non-blocking, as shells and node do.
pub(super) fn write_all(writer: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match writer.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}
