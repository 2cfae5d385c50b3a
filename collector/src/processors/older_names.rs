//! Adds the names that attributes had before their conventions were stable; on the list only if that is asked for.

use super::{Processor, Verdict};
use crate::telemetry::{OlderNames, Record};

/// The last of the list: what others have added or changed has older names too.
impl Processor for OlderNames {
    fn name(&self) -> &'static str {
        "older_names"
    }

    fn process(&mut self, record: &mut Record) -> Verdict {
        self.add(record);
        Verdict::Keep
    }
}
