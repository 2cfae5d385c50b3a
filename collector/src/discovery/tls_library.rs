//! Which TLS library a file is or contains, and which of its functions are to be probed.
//!
//! A library is known by its symbols, not by its name: wheels rename it, executables link it in, and other libraries
//! have functions of the same names (libgnutls-openssl wraps GnuTLS, NSS has an `SSL_` family of its own).

use std::io;

use super::{
    executable::{Function, Image},
    machine_code::{self, CODE_BYTES_MAX, Code64},
};
use crate::kernel::{Does, Moved, Probe};

/// A library, or a family of them with the same interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// OpenSSL from 1.1 on, BoringSSL, LibreSSL: `include/openssl/ssl.h`.
    OpenSsl,
    /// GnuTLS 3: `gnutls/gnutls.h`.
    GnuTls,
}

impl Family {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::GnuTls => "GnuTLS",
        }
    }
}

/// A function that may be probed.
struct Candidate {
    family: Family,
    name: &'static str,
    does: Does,
    /// A file without it is not of the family: what has only some of the names is something else.
    required: bool,
    /// Where this other function is there too, that one does the work.
    unless: Option<&'static str>,
}

const fn candidate(family: Family, name: &'static str, does: Does) -> Candidate {
    Candidate { family, name, does, required: false, unless: None }
}

const fn required(family: Family, name: &'static str, does: Does) -> Candidate {
    Candidate { family, name, does, required: true, unless: None }
}

use Does::{Drive, Free, Read, Write};
use Family::{GnuTls, OpenSsl};
use Moved::{Fifth, Fourth, Result as ByResult};

/// SSL_accept and SSL_connect call SSL_do_handshake, and the early-data functions of OpenSSL the `_ex` forms.
/// SSL_clear ends a session as SSL_free does, only that its memory stays in use.
const CANDIDATES: &[Candidate] = &[
    required(OpenSsl, "SSL_read", Read(ByResult)),
    required(OpenSsl, "SSL_write", Write(ByResult)),
    candidate(OpenSsl, "SSL_read_ex", Read(Fourth)),
    // Calls SSL_write_ex2 since that exists (3.3).
    Candidate {
        family: OpenSsl,
        name: "SSL_write_ex",
        does: Write(Fourth),
        required: false,
        unless: Some("SSL_write_ex2"),
    },
    candidate(OpenSsl, "SSL_write_ex2", Write(Fifth)),
    required(OpenSsl, "SSL_do_handshake", Drive),
    required(OpenSsl, "SSL_free", Free),
    candidate(OpenSsl, "SSL_clear", Free),
    required(GnuTls, "gnutls_record_recv", Read(ByResult)),
    candidate(GnuTls, "gnutls_record_send2", Write(ByResult)),
    // Calls gnutls_record_send2 since that exists (3.6.3).
    Candidate {
        family: GnuTls,
        name: "gnutls_record_send",
        does: Write(ByResult),
        required: true,
        unless: Some("gnutls_record_send2"),
    },
    candidate(GnuTls, "gnutls_record_uncork", Drive),
    required(GnuTls, "gnutls_handshake", Drive),
    required(GnuTls, "gnutls_deinit", Free),
];

/// Not probed, but asked: whether what SSL_read calls is only for reading, and where a session's random is.
const PEEK: &str = "SSL_peek";
const GET_RANDOM: &str = "SSL_get_client_random";

/// Where probes are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Where the machine code says that they cost least, else at the symbol.
    Cheapest,
    /// At the symbol.
    Symbol,
}

/// A TLS library in a file.
pub struct Library {
    /// Which one.
    pub family: Family,
    /// Where to probe it.
    pub probes: Vec<Probe>,
    /// Where its sessions may keep the client's random.
    pub randoms: Vec<(Option<u32>, u32)>,
}

/// The library in a file. `None` if there is none.
///
/// # Errors
/// The file's symbols cannot be read.
pub fn identify(image: &Image, placement: Placement) -> io::Result<Option<Library>> {
    let names: Vec<&'static str> =
        CANDIDATES.iter().map(|candidate| candidate.name).chain([PEEK, GET_RANDOM]).collect();
    let functions = image.functions(&names)?;
    let family = [OpenSsl, GnuTls].into_iter().find(|family| is_complete(*family, &functions));
    Ok(family.map(|family| Library {
        family,
        probes: probes(family, &functions, image, placement),
        randoms: function(&functions, GET_RANDOM)
            .and_then(|function| whole(image, function))
            .map(machine_code::random_places)
            .unwrap_or_default(),
    }))
}

fn is_complete(family: Family, functions: &[(&'static str, Function)]) -> bool {
    CANDIDATES
        .iter()
        .filter(|candidate| candidate.family == family && candidate.required)
        .all(|candidate| function(functions, candidate.name).is_some())
}

fn probes(
    family: Family,
    functions: &[(&'static str, Function)],
    image: &Image,
    placement: Placement,
) -> Vec<Probe> {
    let peek = function(functions, PEEK);
    let mut probes: Vec<Probe> = Vec::new();
    for candidate in CANDIDATES.iter().filter(|candidate| candidate.family == family) {
        if candidate.unless.is_some_and(|other| function(functions, other).is_some()) {
            continue;
        }
        let Some(function) = function(functions, candidate.name) else { continue };
        let cheapest = match placement {
            Placement::Cheapest => cheapest(image, candidate.does, function, peek),
            Placement::Symbol => None,
        };
        let (does, address) = cheapest.unwrap_or((candidate.does, function.address));
        let Some(offset) = image.offset_of(address) else { continue };
        // Two functions may share an inner one.
        if probes.iter().all(|probe| (probe.does, probe.offset) != (does, offset)) {
            probes.push(Probe { function: candidate.name, does, offset });
        }
    }
    probes
}

/// A place that costs less than the symbol, and what the function does that it is in.
fn cheapest(image: &Image, does: Does, function: Function, peek: Option<Function>) -> Option<(Does, u64)> {
    if let Some(place) = cheap_entry(image, function.address) {
        return Some((does, place));
    }
    let moved = match does {
        Read(ByResult) | Write(ByResult) => None,
        Read(Fourth) | Write(Fourth) => Some(3),
        Read(Fifth) | Write(Fifth) => Some(4),
        Drive | Free => return None,
    };
    let inner = machine_code::inner(whole(image, function)?, moved)?;
    let peeks = peek.and_then(|peek| machine_code::inner(whole(image, peek)?, None));
    if peeks.is_some_and(|peeks| peeks.address == inner.address) {
        return None;
    }
    let moved = match inner.moved {
        3 => Fourth,
        4 => Fifth,
        _ => return None,
    };
    let does = if matches!(does, Read(_)) { Read(moved) } else { Write(moved) };
    Some((does, cheap_entry(image, inner.address)?))
}

fn cheap_entry(image: &Image, address: u64) -> Option<u64> {
    let bytes = image.code(address, CODE_BYTES_MAX).filter(|_| image.is_x86_64())?;
    machine_code::cheap_entry(Code64 { address, bytes })
}

/// All of a function's code, if its size is known and not too large.
fn whole(image: &Image, function: Function) -> Option<Code64<'_>> {
    let size = usize::try_from(function.size).ok().filter(|size| (1..=CODE_BYTES_MAX).contains(size))?;
    let bytes =
        image.code(function.address, size).filter(|bytes| image.is_x86_64() && bytes.len() == size)?;
    Some(Code64 { address: function.address, bytes })
}

fn function(functions: &[(&'static str, Function)], name: &str) -> Option<Function> {
    functions.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(names: &[&'static str]) -> Vec<(&'static str, Function)> {
        names.iter().map(|name| (*name, Function { address: 1, size: 1 })).collect()
    }

    #[test]
    fn a_family_is_known_by_all_of_its_functions() {
        let openssl = ["SSL_read", "SSL_write", "SSL_do_handshake", "SSL_free"];
        assert!(is_complete(OpenSsl, &some(&openssl)));
        // libgnutls-openssl has no SSL_do_handshake.
        assert!(!is_complete(OpenSsl, &some(&["SSL_read", "SSL_write", "SSL_free", "SSL_clear"])));
        assert!(!is_complete(GnuTls, &some(&openssl)));
    }

    #[test]
    fn what_calls_another_probed_function_is_not_probed() {
        let image = Image::new(std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let main = image.functions(&["main"]).unwrap()[0].1;
        let both = ["gnutls_record_send", "gnutls_record_send2"].map(|name| (name, main));
        let names = |functions: &[(&'static str, Function)]| {
            probes(GnuTls, functions, &image, Placement::Symbol)
                .iter()
                .map(|probe| probe.function)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&both), ["gnutls_record_send2"]);
        assert_eq!(names(&both[..1]), ["gnutls_record_send"]);
    }
}
