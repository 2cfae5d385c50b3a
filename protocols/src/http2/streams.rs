//! The open streams of one connection, by their numbers, within bounds.

use std::collections::VecDeque;

use super::stream::Stream;
use crate::limits;

/// Streams in the order of their numbers; clients open them in that order, so a new one is the last but for pushed ones.
#[derive(Debug, Default)]
pub(super) struct Streams(VecDeque<Box<Stream>>);

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= limits::STREAMS_MAX
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id).ok()?;
        self.0.get_mut(at).map(|stream| &mut **stream)
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.position(id).is_ok()
    }

    /// Adds one whose number is new.
    pub(super) fn insert(&mut self, stream: Stream) {
        if self.0.capacity() == 0 {
            self.0.reserve_exact(1);
        }
        let (Ok(at) | Err(at)) = self.position(stream.id);
        self.0.insert(at, Box::new(stream));
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let at = self.position(id).ok()?;
        let stream = self.0.remove(at)?;
        if self.0.is_empty() {
            self.0.shrink_to(1);
        }
        Some(*stream)
    }

    /// Takes out all that `select` takes.
    pub(super) fn take(&mut self, select: impl Fn(&Stream) -> bool) -> Vec<Stream> {
        let ids: Vec<u32> = self.0.iter().filter(|stream| select(stream)).map(|stream| stream.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.0.iter().map(|stream| &**stream)
    }

    pub(super) fn each(&mut self, change: impl Fn(&mut Stream)) {
        self.0.iter_mut().for_each(|stream| change(stream));
    }

    fn position(&self, id: u32) -> Result<usize, usize> {
        // Nearly always the newest, or the only one.
        match self.0.back() {
            Some(newest) if newest.id < id => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&id, |stream| stream.id),
        }
    }
}
