//! Header fields that are told because the configuration names them. By default none is: nobody knows which of them hold
//! secrets.
//!
//! > Instrumentations SHOULD require an explicit configuration of which headers are to be captured. Including all request
//! > headers can be a security risk (conventions, `http.request.header.<key>`)
//!
//! There is one list for the whole process, set before the first parser is opened: names of header fields are read in
//! places that know of no connection.

use std::sync::OnceLock;

use compact_str::{CompactString, format_compact};

use crate::{
    exchange::{Attributes, Key, Value},
    limits,
    protocol::Role,
    redact::BoundedText,
};

static LISTED: OnceLock<CapturedHeaders> = OnceLock::new();
static NONE: CapturedHeaders = CapturedHeaders { listed: Vec::new() };

/// Which of the two heads of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

/// The header fields to tell.
#[derive(Clone, Debug, Default)]
pub struct CapturedHeaders {
    listed: Vec<Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    /// In lower case.
    name: CompactString,
    /// By role and head.
    wanted: Vec<(Role, Head)>,
}

impl CapturedHeaders {
    /// Adds `name` (in any case) for one role and head. What is beyond [`limits::CAPTURED_HEADERS_MAX`] is left out.
    pub fn add(&mut self, role: Role, head: Head, name: &str) {
        let name = CompactString::from(name).to_lowercase();
        let is_full = self.listed.len() >= limits::CAPTURED_HEADERS_MAX;
        match self.listed.iter_mut().find(|listed| listed.name == name) {
            Some(listed) => listed.wanted.push((role, head)),
            None if is_full => {}
            None => self.listed.push(Listed { name, wanted: vec![(role, head)] }),
        }
    }

    /// Makes this the process's list. Only the first call does.
    pub fn install(self) {
        let _ = LISTED.set(self);
    }

    fn position(&self, name: &[u8]) -> Option<u8> {
        let at = self.listed.iter().position(|listed| listed.name.as_bytes().eq_ignore_ascii_case(name))?;
        u8::try_from(at).ok()
    }
}

/// The process's list.
fn installed() -> &'static CapturedHeaders {
    LISTED.get().unwrap_or(&NONE)
}

/// Whether anything is listed.
pub(crate) fn any() -> bool {
    !installed().listed.is_empty()
}

/// The place of a field in the list, whatever it is listed for.
pub(crate) fn find(name: &[u8]) -> Option<u8> {
    if any() { installed().position(name) } else { None }
}

/// Adds the fields of a head that are listed for it, by their places in the list: an attribute for each name, with all
/// its values.
pub(crate) fn push<'a>(
    attributes: &mut Attributes,
    role: Role,
    head: Head,
    fields: impl Iterator<Item = (u8, &'a [u8])> + Clone,
) {
    for (at, listed) in (0..).zip(&installed().listed) {
        if !listed.wanted.contains(&(role, head)) {
            continue;
        }
        let values: Vec<CompactString> = fields
            .clone()
            .filter(|(place, _)| *place == at)
            .take(limits::CAPTURED_VALUES_MAX)
            .map(|(_, value)| {
                let mut text = BoundedText::new(limits::CAPTURED_VALUE_BYTES_MAX);
                text.push_lossy(value);
                text.finish()
            })
            .collect();
        let key = match head {
            Head::Request => format_compact!("http.request.header.{}", listed.name),
            Head::Response => format_compact!("http.response.header.{}", listed.name),
        };
        if !values.is_empty() && attributes.get(&key).is_none() {
            attributes.push(Key::Owned(key), Value::Texts(values));
        }
    }
}
