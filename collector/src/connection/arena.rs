//! Slots with stable numbers, and lists that keep some of them in order (least recently used, first to wait).
//!
//! Everything is O(1) but growth. A number that is not in use is never an error: lookups say `None`, removals do
//! nothing.

/// Values in numbered slots; the number of a removed one is used again.
#[derive(Debug)]
pub(super) struct Arena<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Puts `value` into a free slot.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            *place = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        u32::try_from(self.slots.len() - 1).expect("the table's caps are far below 2^32")
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}

/// A doubly linked list over slot numbers: each is in it at most once.
#[derive(Debug, Default)]
pub(super) struct Order {
    links: Vec<Link>,
    first: Option<u32>,
    last: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    listed: bool,
    before: Option<u32>,
    after: Option<u32>,
}

impl Order {
    /// The slot that was put in the longest ago.
    pub(super) fn first(&self) -> Option<u32> {
        self.first
    }

    /// The one that was put in after `slot`.
    pub(super) fn after(&self, slot: u32) -> Option<u32> {
        self.links.get(slot as usize)?.after
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.listed)
    }

    /// Makes `slot` the last one, whether it was in the list or not.
    pub(super) fn push(&mut self, slot: u32) {
        if self.last == Some(slot) {
            return;
        }
        self.remove(slot);
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link::default());
        }
        self.links[index] = Link { listed: true, before: self.last, after: None };
        match self.last.and_then(|last| self.links.get_mut(last as usize)) {
            Some(link) => link.after = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes `slot` out, if it is in.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize).filter(|link| link.listed) else { return };
        let Link { before, after, .. } = std::mem::take(link);
        match before.and_then(|before| self.links.get_mut(before as usize)) {
            Some(link) => link.after = after,
            None => self.first = after,
        }
        match after.and_then(|after| self.links.get_mut(after as usize)) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(order: &mut Order) -> Vec<u32> {
        std::iter::from_fn(|| {
            let slot = order.first()?;
            order.remove(slot);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn pushing_again_moves_to_the_end() {
        let mut order = Order::default();
        [0, 1, 2, 0, 2, 2].into_iter().for_each(|slot| order.push(slot));
        assert!(order.contains(1) && !order.contains(7));
        assert_eq!([1, 0, 2, 7].map(|slot| order.after(slot)), [Some(0), Some(2), None, None]);
        assert_eq!(listed(&mut order), [1, 0, 2]);
    }

    #[test]
    fn removing_from_the_middle_and_the_ends_keeps_the_rest() {
        let mut order = Order::default();
        (0..5).for_each(|slot| order.push(slot));
        [2, 0, 4, 9].into_iter().for_each(|slot| order.remove(slot));
        assert_eq!(listed(&mut order), [1, 3]);
        order.push(4);
        assert_eq!(listed(&mut order), [4]);
    }

    #[test]
    fn slots_are_used_again() {
        let mut arena = Arena::new();
        let (a, b) = (arena.insert('a'), arena.insert('b'));
        assert_eq!(arena.remove(a), Some('a'));
        assert_eq!(arena.remove(a), None);
        assert_eq!(arena.insert('c'), a);
        assert_eq!(arena.get(b), Some(&'b'));
        assert_eq!(arena.iter().count(), 2);
    }
}
