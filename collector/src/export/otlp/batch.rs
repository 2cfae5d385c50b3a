//! Gathers encoded spans or metrics of many services into one request, and cuts a request in two.
//!
//! Spans and metrics share the envelope's shape and tags: request { 1: resource { 1: Resource, 2: scope { 1: Scope,
//! 2: item..., 3: schema }, 3: schema } }. So one batcher serves both. Items are appended to a buffer per service;
//! [`Batcher::finish`] joins the buffers to one request of exactly its size.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use spantap_protocols::semconv::SCHEMA_URL;

use super::{
    attributes, points,
    settings::Signal,
    spans::{self, SCOPE_ITEM},
    wire::{Field, field_len, fields, put_bytes, put_head},
};
use crate::telemetry::{MetricsSnapshot, Record, Service};

/// An encoded `ExportTraceServiceRequest` or `ExportMetricsServiceRequest`; never without items.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Spans or metrics.
    pub signal: Signal,
    /// Protobuf.
    pub body: Bytes,
    /// Spans or metric points in it.
    pub items: u64,
    /// Which snapshot a metrics request belongs to; 0 for spans.
    pub generation: u64,
}

/// Builds batches. Owned by the pipeline's thread.
#[derive(Debug)]
pub struct Batcher {
    signal: Signal,
    open: hashbrown::HashMap<u32, Open, RandomState>,
    scratch: Vec<u8>,
    bytes: usize,
    items: u64,
    generation: u64,
    dropped_attributes: u64,
}

/// What one service has in the open batch.
#[derive(Debug)]
struct Open {
    service: Arc<Service>,
    /// The body of its `Resource`, encoded once.
    resource: Vec<u8>,
    items: Vec<u8>,
}

const REQUEST_RESOURCE: u8 = 0x0a;
const RESOURCE_RESOURCE: u8 = 0x0a;
const RESOURCE_SCOPE: u8 = 0x12;
const RESOURCE_SCHEMA: u8 = 0x1a;
const SCOPE_SCOPE: u8 = 0x0a;
const SCOPE_SCHEMA: u8 = 0x1a;
const SCOPE_NAME: u8 = 0x0a;
const SCOPE_VERSION: u8 = 0x12;

/// A buffer that has grown beyond this is not kept for the next batch.
const KEPT_BYTES_MAX: usize = 256 << 10;

impl Batcher {
    /// An empty one.
    #[must_use]
    pub fn new(signal: Signal) -> Self {
        Self {
            signal,
            open: hashbrown::HashMap::default(),
            scratch: Vec::new(),
            bytes: 0,
            items: 0,
            generation: 0,
            dropped_attributes: 0,
        }
    }

    /// Adds a span. If it would make the request larger than `bytes_max`, the request so far is returned first.
    pub fn push_span(&mut self, record: &Record, bytes_max: usize) -> Option<Batch> {
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        self.dropped_attributes += spans::put_span(&mut body, record);
        let full = self.append(&record.service, &body, 1, bytes_max);
        self.scratch = body;
        full
    }

    /// Adds all points of a snapshot and finishes; `each` gets every batch, none larger than `bytes_max` unless a single
    /// metric is.
    pub fn push_snapshot(
        &mut self,
        snapshot: &MetricsSnapshot,
        bytes_max: usize,
        mut each: impl FnMut(Batch),
    ) {
        self.generation += 1;
        for service in &snapshot.services {
            for metric in &service.metrics {
                points::for_each_metric(metric, snapshot, |body, points| {
                    self.append(&service.service, body, points, bytes_max).into_iter().for_each(&mut each);
                });
            }
            for metric in &service.numbers {
                let (mut body, points) = (Vec::new(), metric.points.len() as u64);
                points::put_numbers(&mut body, metric, snapshot);
                self.append(&service.service, &body, points, bytes_max).into_iter().for_each(&mut each);
            }
        }
        self.finish().into_iter().for_each(each);
    }

    /// Adds an encoded item; returns the request so far if there is no room for it.
    fn append(&mut self, service: &Arc<Service>, body: &[u8], items: u64, bytes_max: usize) -> Option<Batch> {
        let len = field_len(body.len());
        let mut full = None;
        let mut open = Open::of(&mut self.open, &mut self.bytes, service);
        if self.items > 0 && self.bytes + len > bytes_max {
            full = self.finish();
            open = Open::of(&mut self.open, &mut self.bytes, service);
        }
        put_bytes(&mut open.items, SCOPE_ITEM, body);
        self.bytes += len;
        self.items += items;
        full
    }

    /// How large the request would be at most.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }

    /// Attributes that did not fit their span, since the start.
    pub(in crate::export) fn dropped_attributes(&self) -> u64 {
        self.dropped_attributes
    }

    /// The request, if there is anything in it. Services that had nothing are forgotten.
    pub fn finish(&mut self) -> Option<Batch> {
        self.open.retain(|_, open| !open.items.is_empty());
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        if items == 0 {
            return None;
        }
        let mut order: Vec<&mut Open> = self.open.values_mut().collect();
        order.sort_by_key(|open| open.service.id);
        let mut body = Vec::with_capacity(order.iter().map(|open| field_len(open.lens().1)).sum());
        for open in order {
            open.put(&mut body);
            open.items.clear();
            if open.items.capacity() > KEPT_BYTES_MAX {
                open.items = Vec::new();
            }
        }
        Some(Batch { signal: self.signal, body: body.into(), items, generation: self.generation })
    }
}

impl Open {
    /// The service's buffer; opening one adds its envelope to `bytes`.
    fn of<'a>(
        open: &'a mut hashbrown::HashMap<u32, Self, RandomState>,
        bytes: &mut usize,
        service: &Arc<Service>,
    ) -> &'a mut Self {
        let slot = open.entry(service.id).or_insert_with(|| Self {
            service: Arc::clone(service),
            resource: attributes::resource(&service.attributes),
            items: Vec::new(),
        });
        if slot.items.is_empty() {
            *bytes += field_len(slot.lens().1) + 12; // the lengths will grow
        }
        slot
    }

    /// The lengths of the bodies of its `ScopeSpans` and of its `ResourceSpans`.
    fn lens(&self) -> (usize, usize) {
        let scope = field_len(scope_len()) + self.items.len() + field_len(SCHEMA_URL.len());
        (scope, field_len(self.resource.len()) + field_len(scope) + field_len(SCHEMA_URL.len()))
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (scope_len, resource_len) = self.lens();
        put_head(out, REQUEST_RESOURCE, resource_len);
        put_bytes(out, RESOURCE_RESOURCE, &self.resource);
        put_head(out, RESOURCE_SCOPE, scope_len);
        put_scope(out);
        out.extend_from_slice(&self.items);
        put_bytes(out, SCOPE_SCHEMA, SCHEMA_URL.as_bytes());
        put_bytes(out, RESOURCE_SCHEMA, SCHEMA_URL.as_bytes());
    }
}

const SCOPE: (&str, &str) = ("spantap", env!("CARGO_PKG_VERSION"));

fn scope_len() -> usize {
    field_len(SCOPE.0.len()) + field_len(SCOPE.1.len())
}

fn put_scope(out: &mut Vec<u8>) {
    put_head(out, SCOPE_SCOPE, scope_len());
    put_bytes(out, SCOPE_NAME, SCOPE.0.as_bytes());
    put_bytes(out, SCOPE_VERSION, SCOPE.1.as_bytes());
}

impl Batch {
    /// Two requests of about half the size with all items between them; `None` if there is only one item.
    pub(in crate::export) fn split(&self) -> Option<(Self, Self)> {
        let mut first = Half::default();
        let mut second = Half::default();
        for resource in fields(&self.body) {
            let parts: Vec<Field<'_>> = fields(resource.payload).collect();
            for scope in parts.iter().filter(|part| part.tag == RESOURCE_SCOPE) {
                for item in fields(scope.payload).filter(|field| field.tag == SCOPE_ITEM) {
                    // The first item always goes to the first half, the last one to the second.
                    let half = if first.bytes == 0 || first.bytes + item.whole.len() <= self.body.len() / 2 {
                        &mut first
                    } else {
                        &mut second
                    };
                    half.push(&parts, scope, &item, self.signal);
                }
            }
        }
        let half = |half: Half| {
            let body = half.finish();
            (body.1 > 0).then(|| Self { body: body.0.into(), items: body.1, ..self.clone() })
        };
        Some((half(first)?, half(second)?))
    }
}

/// One half of a split request while it is put together.
#[derive(Default)]
struct Half<'a> {
    resources: Vec<HalfResource<'a>>,
    bytes: usize,
    items: u64,
}

/// One resource with those of its items that this half gets.
struct HalfResource<'a> {
    fields: Vec<Field<'a>>,
    scope: Field<'a>,
    items: Vec<&'a [u8]>,
}

impl<'a> Half<'a> {
    fn push(&mut self, resource: &[Field<'a>], scope: &Field<'a>, item: &Field<'a>, signal: Signal) {
        self.bytes += item.whole.len();
        self.items += match signal {
            Signal::Traces => 1,
            Signal::Metrics => points_of(item.payload),
        };
        match self.resources.last_mut().filter(|last| std::ptr::eq(last.scope.whole, scope.whole)) {
            Some(last) => last.items.push(item.whole),
            None => {
                let (fields, items) = (resource.to_vec(), vec![item.whole]);
                self.resources.push(HalfResource { fields, scope: *scope, items });
            }
        }
    }

    fn finish(self) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(self.bytes + 512);
        for HalfResource { fields: resource, scope, items } in self.resources {
            let mut scope_body = Vec::new();
            let (head, tail): (Vec<_>, Vec<_>) = fields(scope.payload)
                .filter(|field| field.tag != SCOPE_ITEM)
                .partition(|field| field.tag == SCOPE_SCOPE);
            head.iter().for_each(|field| scope_body.extend_from_slice(field.whole));
            items.iter().for_each(|item| scope_body.extend_from_slice(item));
            tail.iter().for_each(|field| scope_body.extend_from_slice(field.whole));
            let mut resource_body = Vec::new();
            for field in resource {
                if field.tag == RESOURCE_SCOPE {
                    put_bytes(&mut resource_body, RESOURCE_SCOPE, &scope_body);
                } else {
                    resource_body.extend_from_slice(field.whole);
                }
            }
            put_bytes(&mut out, REQUEST_RESOURCE, &resource_body);
        }
        (out, self.items)
    }
}

/// The points of an encoded `Metric`.
fn points_of(metric: &[u8]) -> u64 {
    let data = fields(metric).filter(|field| points::METRIC_DATA.contains(&field.tag));
    data.flat_map(|data| fields(data.payload)).filter(|f| f.tag == points::DATA_POINTS).count() as u64
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
