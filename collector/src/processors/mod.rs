//! Changes records, or drops them, between the connection layer and the exporters: an ordered list, and after it
//! sampling, which says of what remains whether it is a span.

mod older_names;
pub mod routes;
pub mod sampling;
pub mod telemetry_backends;
mod template;

pub use routes::{RouteSettings, Routes, Unmatched};
pub use sampling::Sampling;
pub use telemetry_backends::TelemetryBackends;

use crate::telemetry::{OlderNames, Record};

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next processor.
    Keep,
    /// Neither span nor metric; counted by [`Processors`].
    Drop,
    /// Likewise, because it carried spans by OTLP: from a process that exports its own, or passes on those of others.
    DropSpans,
}

/// One step. Never blocks and never panics.
pub trait Processor: Send {
    /// For counters and messages.
    fn name(&self) -> &'static str;

    /// Changes `record`, or has it dropped.
    fn process(&mut self, record: &mut Record) -> Verdict;

    /// The last process of a service has ended: forget what is kept for it.
    fn forget_service(&mut self, _service: u32) {}
}

/// The processors in their order, with the count of what each has dropped.
#[derive(Default)]
pub struct Processors(Vec<(Box<dyn Processor>, u64)>);

impl Processors {
    /// The default list: what must not be seen at all first, then what names spans, then older names of it all.
    #[must_use]
    pub fn standard(routes: RouteSettings, older: OlderNames) -> Self {
        let mut list = Self::default();
        list.push(Box::new(TelemetryBackends));
        list.push(Box::new(Routes::new(routes)));
        if older.any() {
            list.push(Box::new(older));
        }
        list
    }

    /// Adds one at the end.
    pub fn push(&mut self, processor: Box<dyn Processor>) {
        self.0.push((processor, 0));
    }

    /// Runs the list; the first that does not keep the record ends it.
    pub fn process(&mut self, record: &mut Record) -> Verdict {
        for (processor, dropped) in &mut self.0 {
            let verdict = processor.process(record);
            if verdict != Verdict::Keep {
                *dropped += 1;
                return verdict;
            }
        }
        Verdict::Keep
    }

    /// The last process of a service has ended.
    pub fn forget_service(&mut self, service: u32) {
        self.0.iter_mut().for_each(|(processor, _)| processor.forget_service(service));
    }

    /// How many records each processor has dropped, by its name.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(processor, dropped)| (processor.name(), *dropped))
    }
}
