//! How many series may there be? Counts them by metric and service, and by metric alone.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::key::MetricKey;

/// Live series of each metric. Overflow series do not count: they are what is left when the rest is full.
#[derive(Debug)]
pub(super) struct Caps {
    per_service_max: u32,
    all_max: u32,
    by_service: HashMap<(u32, MetricKey), u32, RandomState>,
    all: HashMap<MetricKey, u32, RandomState>,
}

impl Caps {
    pub(super) fn new(per_service_max: u32, all_max: u32) -> Self {
        Self { per_service_max, all_max, by_service: HashMap::default(), all: HashMap::default() }
    }

    /// Counts a new series; false if there is no room for it.
    pub(super) fn take(&mut self, service: u32, metric: MetricKey) -> bool {
        let own = self.by_service.get(&(service, metric)).copied().unwrap_or(0);
        let all = self.all.get(&metric).copied().unwrap_or(0);
        if own >= self.per_service_max || all >= self.all_max {
            return false;
        }
        self.by_service.insert((service, metric), own + 1);
        self.all.insert(metric, all + 1);
        true
    }

    /// A series that was counted is gone.
    pub(super) fn give_back(&mut self, service: u32, metric: MetricKey) {
        if let Some(own) = self.by_service.get_mut(&(service, metric)) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_service.remove(&(service, metric));
            }
        }
        if let Some(all) = self.all.get_mut(&metric) {
            *all = all.saturating_sub(1);
        }
    }
}
