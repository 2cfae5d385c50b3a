//! Encodes attributes and resources: OTLP's `KeyValue`, `AnyValue` and `Resource`.
//!
//! Spec: <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.11.0/opentelemetry/proto/common/v1/common.proto>

use compact_str::CompactString;
use spantap_protocols::{Attributes, Value};

use super::wire::{field_len, put_bytes, put_double, put_head, put_varint, varint_len};

/// Writes one `KeyValue` as field `tag` of the message around it.
pub(super) fn put_attribute(out: &mut Vec<u8>, tag: u8, key: &str, value: &Value) {
    let value_len = value_len(value);
    put_head(out, tag, field_len(key.len()) + field_len(value_len));
    put_bytes(out, KEY_VALUE_KEY, key.as_bytes());
    put_head(out, KEY_VALUE_VALUE, value_len);
    put_value(out, value);
}

/// The body of a `Resource` message.
pub(super) fn resource(attributes: &Attributes) -> Vec<u8> {
    let mut out = Vec::with_capacity(attributes.len() * 48);
    for (key, value) in attributes.iter() {
        put_attribute(&mut out, RESOURCE_ATTRIBUTES, key.as_str(), value);
    }
    out
}

const RESOURCE_ATTRIBUTES: u8 = 0x0a;
const KEY_VALUE_KEY: u8 = 0x0a;
const KEY_VALUE_VALUE: u8 = 0x12;
const ANY_STRING: u8 = 0x0a;
const ANY_BOOL: u8 = 0x10;
const ANY_INT: u8 = 0x18;
const ANY_DOUBLE: u8 = 0x21;
const ANY_ARRAY: u8 = 0x2a;
const ARRAY_VALUES: u8 = 0x0a;

fn value_len(value: &Value) -> usize {
    match value {
        Value::Static(text) => field_len(text.len()),
        Value::Text(text) => field_len(text.len()),
        Value::Int(int) => 1 + varint_len(int.cast_unsigned()),
        Value::Double(_) => 9,
        Value::Bool(_) => 2,
        Value::Texts(texts) => field_len(array_len(texts)),
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Static(text) => put_bytes(out, ANY_STRING, text.as_bytes()),
        Value::Text(text) => put_bytes(out, ANY_STRING, text.as_bytes()),
        Value::Int(int) => {
            out.push(ANY_INT);
            put_varint(out, int.cast_unsigned());
        }
        Value::Double(double) => put_double(out, ANY_DOUBLE, *double),
        Value::Bool(bool) => out.extend([ANY_BOOL, u8::from(*bool)]),
        Value::Texts(texts) => {
            put_head(out, ANY_ARRAY, array_len(texts));
            for text in texts {
                put_head(out, ARRAY_VALUES, field_len(text.len()));
                put_bytes(out, ANY_STRING, text.as_bytes());
            }
        }
    }
}

fn array_len(texts: &[CompactString]) -> usize {
    texts.iter().map(|text| field_len(field_len(text.len()))).sum()
}
