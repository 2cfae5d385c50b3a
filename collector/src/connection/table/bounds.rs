//! What keeps a table within its bounds: memory for retained bytes, time spent waiting, and idleness.

use spantap_protocols::BootNanos;

use super::{Ending, Finished, HELD_NS, Table, nanoseconds};

impl Table {
    /// Notes how much a stream retains, and whether it waits.
    pub(super) fn remeasure(&mut self, slot: u32) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let footprint = stream.measure();
        self.footprint = self.footprint - stream.footprint + footprint;
        stream.footprint = footprint;
        match (footprint > 0, self.retaining.contains(slot)) {
            (true, false) => self.retaining.push(slot),
            (false, true) => self.retaining.remove(slot),
            _ => {}
        }
        match (stream.waiting_since().is_some(), self.waiting.contains(slot)) {
            (true, false) => self.waiting.push(slot),
            (false, true) => self.waiting.remove(slot),
            _ => {}
        }
    }

    /// Gives up what the longest-retaining streams retain until all fits.
    pub(super) fn shed_over_budget(&mut self, now: BootNanos, out: &mut Vec<Finished>) {
        while self.footprint > self.settings.retained_bytes_max {
            let Some(slot) = self.retaining.first() else { return };
            self.retaining.remove(slot);
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.shed(now, &mut self.shared);
            self.deliver(slot, out);
            self.remeasure(slot);
        }
    }

    /// Ends the waiting that has lasted too long.
    pub(super) fn settle_waiting(&mut self, now: BootNanos, out: &mut Vec<Finished>) {
        let mut last = None;
        while let Some(slot) = self.waiting.first().filter(|slot| last != Some(*slot)) {
            let Some(stream) = self.streams.get_mut(slot) else { break };
            // The order is by when they began to wait; what they wait for by now may be younger.
            if stream.waiting_since().is_some_and(|since| now.since(since) < HELD_NS) {
                break;
            }
            stream.settle(now, &mut self.shared);
            self.deliver(slot, out);
            self.waiting.remove(slot);
            self.remeasure(slot);
            last = Some(slot);
        }
        self.shed_over_budget(now, out);
    }

    /// Forgets streams that are silent: sooner if somebody waits for an answer on them.
    ///
    /// Walks over those that are silent for longer than an exchange may be.
    pub(super) fn expire_streams(&mut self, now: BootNanos, out: &mut Vec<Finished>) {
        let idle_ns = nanoseconds(self.settings.idle);
        let timeout_ns = nanoseconds(self.settings.exchange_timeout).min(idle_ns);
        let mut next = self.stream_use.first();
        while let Some(slot) = next {
            next = self.stream_use.after(slot);
            let Some(stream) = self.streams.get(slot) else { return };
            let silent_ns = now.since(stream.active_at);
            if silent_ns < timeout_ns {
                return;
            }
            if silent_ns >= idle_ns || stream.awaits_bytes() {
                self.shared.counters.expired_streams += 1;
                self.end_stream(slot, now, Ending::Silent, out);
            }
        }
    }
}
