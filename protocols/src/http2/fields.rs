//! The fields of one header block that matter here, and what of it is not known.

use smallvec::SmallVec;

use super::hpack::{Decoder, End, HeaderField, Name};
use crate::http::{HttpRequest, REQUEST_FIELDS, UrlPart, captured};

/// The name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    /// `content-type`.
    ContentType,
    /// How long a gRPC client is ready to wait.
    GrpcTimeout,
    GrpcStatus,
    GrpcMessage,
    /// One of [`REQUEST_FIELDS`].
    Request(u8),
    /// One that the configuration lists, by its place in the list.
    Captured(u8),
    /// None that matters.
    Other,
}

impl Name for Field {
    fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            b"content-type" => Self::ContentType,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-message" => Self::GrpcMessage,
            _ => match REQUEST_FIELDS.iter().position(|known| known.as_bytes() == name) {
                Some(at) => u8::try_from(at).map_or(Self::Other, Self::Request),
                None => captured::find(name).map_or(Self::Other, Self::Captured),
            },
        }
    }

    fn is_wanted(&self) -> bool {
        *self != Self::Other
    }
}

impl Field {
    /// Its place in the list of those that the configuration names.
    fn place(self) -> Option<u8> {
        match self {
            Self::Captured(at) => Some(at),
            Self::ContentType => captured::find(b"content-type"),
            Self::Request(at) => captured::find(REQUEST_FIELDS.get(usize::from(at))?.as_bytes()),
            _ => None,
        }
    }
}

/// One header block, decoded.
#[derive(Debug)]
pub(super) struct Fields {
    text: SmallVec<[u8; 512]>,
    /// Where in `text` each value ends; it begins where the one before ends.
    values: SmallVec<[(Field, u32); 24]>,
    /// Some field is not known, or none behind a cut.
    pub(super) is_partial: bool,
    pub(super) end: End,
}

impl Fields {
    /// Decodes a block whose frames stand one after the other in `blocks`.
    pub(super) fn decode(decoder: &mut Decoder<Field>, block: &[u8]) -> Self {
        let mut fields =
            Self { text: SmallVec::new(), values: SmallVec::new(), is_partial: false, end: End::Whole };
        fields.end = decoder.decode(block, |field| match field {
            HeaderField::Known(name, value) if name.is_wanted() => {
                fields.text.extend_from_slice(value);
                let end = u32::try_from(fields.text.len()).unwrap_or(u32::MAX);
                fields.values.push((*name, end));
            }
            HeaderField::Known(..) => {}
            HeaderField::Unknown => fields.is_partial = true,
        });
        fields.is_partial |= fields.end != End::Whole;
        fields
    }

    /// The value of a field, if it is there and known.
    pub(super) fn get(&self, field: Field) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// True if it names anything that only a request has.
    pub(super) fn is_request(&self) -> bool {
        let names = [Field::Method, Field::Scheme, Field::Path, Field::Authority];
        self.values.iter().any(|(name, _)| names.contains(name))
    }

    /// The status of a response.
    pub(super) fn status(&self) -> Option<u16> {
        let value = self.get(Field::Status).filter(|value| value.len() == 3)?;
        str::from_utf8(value).ok()?.parse().ok().filter(|status| (100..=999).contains(status))
    }

    /// The fields that the configuration lists, by their places in the list.
    pub(super) fn captured(&self) -> impl Iterator<Item = (u8, &[u8])> + Clone {
        self.iter().filter_map(|(field, value)| Some((field.place()?, value)))
    }

    /// A request in the words that all versions of HTTP share.
    pub(super) fn request(&self) -> HttpRequest<'_> {
        let mut request = HttpRequest { version: Some("2"), ..HttpRequest::default() };
        for (field, value) in self.iter() {
            match field {
                Field::Method => request.method = value,
                Field::Scheme => request.scheme = Some(value),
                Field::Authority => request.authority = Some(value),
                Field::Path => request.set_target(value),
                Field::Request(at) => {
                    let name = REQUEST_FIELDS.get(usize::from(at)).copied().unwrap_or_default();
                    request.fields.take(name, value);
                }
                Field::ContentType | Field::Captured(_) => {
                    request.fields.captured.extend(field.place().map(|at| (at, value)));
                }
                _ => {}
            }
        }
        // Of CONNECT it is not missed.
        if self.is_partial && request.path.is_none() && request.method != b"CONNECT" {
            request.cut = Some(UrlPart::Path);
        }
        request
    }

    fn iter(&self) -> impl Iterator<Item = (Field, &[u8])> + Clone {
        let mut start = 0;
        self.values.iter().map(move |(field, end)| {
            let value = self.text.get(start as usize..*end as usize).unwrap_or_default();
            start = *end;
            (*field, value)
        })
    }
}
