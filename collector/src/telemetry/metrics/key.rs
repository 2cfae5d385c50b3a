//! Which series does a record count into? Its values of the metric's dimensions, borrowed, hashed and compared.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use spantap_protocols::{Value, semconv::Metric};

use super::super::{Record, snapshot::Dimensions};

/// Metrics are statics: their address is their identity (kept as a number, so that the table may move to a thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MetricKey(usize);

impl MetricKey {
    pub(super) fn of(metric: &'static Metric) -> Self {
        Self(std::ptr::from_ref(metric).addr())
    }
}

/// More dimensions than any convention lists; further ones would be ignored.
const DIMENSIONS_MAX: usize = 16;

/// A record's values of a metric's dimensions.
pub(super) struct Picked<'a> {
    present: u32,
    values: [Option<&'a Value>; DIMENSIONS_MAX],
}

impl<'a> Picked<'a> {
    pub(super) fn of(record: &'a Record, metric: &Metric) -> Self {
        let dimensions = metric.dimensions.get(..DIMENSIONS_MAX).unwrap_or(metric.dimensions);
        // Most attributes are no dimensions, and most of those are as long as none is.
        let lengths = dimensions.iter().fold(0_u64, |lengths, name| lengths | 1 << (name.len() & 63));
        let mut picked = Self { present: 0, values: [None; DIMENSIONS_MAX] };
        for (key, value) in record.attributes.iter() {
            let key = key.as_str();
            if lengths >> (key.len() & 63) & 1 == 0 {
                continue;
            }
            // Equal names are mostly the same constant.
            let same =
                |name: &&str| name.len() == key.len() && (name.as_ptr() == key.as_ptr() || *name == key);
            let found = dimensions.iter().position(same);
            if let Some((at, slot)) = found.and_then(|at| Some((at, picked.values.get_mut(at)?))) {
                *slot = Some(value);
                picked.present |= 1 << at;
            }
        }
        picked
    }

    pub(super) fn hash(&self, hasher: &RandomState, service: u32, metric: &'static Metric) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_usize(MetricKey::of(metric).0);
        state.write_u64(u64::from(service) << 32 | u64::from(self.present));
        for value in self.values.iter().flatten() {
            hash_value(value, &mut state);
        }
        state.finish()
    }

    pub(super) fn matches(&self, dimensions: &Dimensions) -> bool {
        dimensions.present() == self.present
            && self.values.iter().flatten().zip(dimensions.values()).all(|(a, b)| same(a, b))
    }

    pub(super) fn dimensions(&self, metric: &'static Metric) -> Dimensions {
        let values = self.values.iter().filter_map(|value| value.cloned()).collect();
        Dimensions::new(metric.dimensions, self.present, values)
    }
}

/// Like [`same`]: a constant text and an owned one of the same bytes are one value. Where one text ends and the next begins
/// is not told: who compares finds out.
fn hash_value(value: &Value, state: &mut impl Hasher) {
    match value {
        Value::Static(text) => state.write(text.as_bytes()),
        Value::Text(text) => state.write(text.as_bytes()),
        Value::Int(int) => state.write_i64(*int),
        Value::Double(double) => state.write_u64(double.to_bits()),
        Value::Bool(bool) => state.write_u8(u8::from(*bool)),
        Value::Texts(texts) => texts.iter().for_each(|text| state.write(text.as_bytes())),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_str(), b.as_str()) {
        // Mostly one constant.
        (Some(a), Some(b)) => std::ptr::eq(a, b) || a == b,
        (None, None) => a == b,
        _ => false,
    }
}
