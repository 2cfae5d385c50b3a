//! What an ELF file says of its functions: where in the file they begin, and their code.
//!
//! Files are read piece by piece: an executable may have hundreds of megabytes, of which the symbols are a few.

use std::{fs::File, io::Read};

use memchr::memmem;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache, ReadRef, SymbolKind};

/// Bytes of a table of names that are looked at. Chromium's has 8 MB, a debug build of a large Rust program's 60.
const NAMES_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A function of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it lies when the file is loaded at 0.
    pub address: u64,
    /// Its length in bytes; 0 if the file does not say.
    pub size: u64,
}

/// An ELF file that is read as needed.
pub struct Image {
    cache: ReadCache<File>,
    segments: Vec<Segment>,
    is_x86_64: bool,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

impl Image {
    /// Reads the headers.
    ///
    /// # Errors
    /// The file is no ELF file that can be read.
    pub fn new(file: File) -> Result<Self, object::Error> {
        let cache = ReadCache::new(file);
        let file = object::File::parse(&cache)?;
        let is_x86_64 = file.architecture() == object::Architecture::X86_64;
        let segments = file
            .segments()
            .map(|segment| {
                let (offset, size) = segment.file_range();
                Segment { address: segment.address(), offset, size }
            })
            .collect();
        Ok(Self { cache, segments, is_x86_64 })
    }

    /// The named functions, among the dynamic symbols and, where there are any, the local ones.
    ///
    /// # Errors
    /// The file's tables make no sense.
    pub fn functions<'n>(&self, names: &[&'n str]) -> Result<Vec<(&'n str, Function)>, object::Error> {
        let file = object::File::parse(&self.cache)?;
        let mut found: Vec<(&str, Function)> = Vec::new();
        if mentions(&file, ".dynstr", names) {
            collect(file.dynamic_symbols(), names, &mut found);
        }
        // The names of a stripped library's exports stand in the first table, so the second one is rarely there.
        if mentions(&file, ".strtab", names) {
            collect(file.symbols(), names, &mut found);
        }
        Ok(found)
    }

    /// Whether its machine code is that of x86-64.
    #[must_use]
    pub fn is_x86_64(&self) -> bool {
        self.is_x86_64
    }

    /// Where in the file the code at an address lies: there the kernel places a probe.
    #[must_use]
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.size).then(|| segment.offset + inside)
        })
    }

    /// Up to `length` bytes of code at an address; fewer at the end of what is loaded.
    #[must_use]
    pub fn code(&self, address: u64, length: usize) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|segment| {
            address.checked_sub(segment.address).is_some_and(|inside| inside < segment.size)
        })?;
        let inside = address - segment.address;
        let length = (segment.size - inside).min(length as u64);
        (&self.cache).read_bytes_at(segment.offset + inside, length).ok()
    }
}

/// Whether the file is an ELF file at all: scripts, fonts and data are mapped executable, too.
pub fn is_elf(file: &mut File) -> bool {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF"
}

/// Whether a table of names has one of these. Saves walking the symbols of most files.
fn mentions<'d>(file: &object::File<'d, &'d ReadCache<File>>, table: &str, names: &[&str]) -> bool {
    let Some(section) = file.section_by_name(table).filter(|section| section.size() <= NAMES_BYTES_MAX)
    else {
        return false;
    };
    let Ok(bytes) = section.data() else { return false };
    names.iter().any(|name| memmem::find(bytes, name.as_bytes()).is_some())
}

fn collect<'d, 'n>(
    symbols: impl Iterator<Item = impl ObjectSymbol<'d>>,
    names: &[&'n str],
    found: &mut Vec<(&'n str, Function)>,
) {
    let mut initials = [false; 256];
    names.iter().filter_map(|name| name.bytes().next()).for_each(|byte| initials[usize::from(byte)] = true);
    for symbol in symbols {
        // Most of a large program's hundred thousands of symbols begin with an underscore.
        let Ok(name) = symbol.name_bytes() else { continue };
        if !name.first().is_some_and(|byte| initials[usize::from(*byte)]) {
            continue;
        }
        let Some(&wanted) = names.iter().find(|wanted| wanted.as_bytes() == name) else { continue };
        let is_function = !symbol.is_undefined() && symbol.kind() == SymbolKind::Text;
        if is_function && found.iter().all(|(known, _)| *known != wanted) {
            found.push((wanted, Function { address: symbol.address(), size: symbol.size() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_functions_are_found() {
        let image = Image::new(File::open("/proc/self/exe").unwrap()).unwrap();
        let found = image.functions(&["main", "no_such_function"]).unwrap();
        let [("main", main)] = found[..] else { panic!("{found:?}") };
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let offset = usize::try_from(image.offset_of(main.address).unwrap()).unwrap();
        assert_eq!(image.code(main.address, 16).unwrap(), &bytes[offset..offset + 16]);
        assert_eq!((image.offset_of(u64::MAX), image.code(u64::MAX, 16)), (None, None));
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in [&b"\x7fELF rubbish"[..], b"", b"\x7fELF"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), rubbish).unwrap();
            let is_error = Image::new(File::open(file.path()).unwrap()).is_err();
            assert!(is_error, "{rubbish:?}");
            assert_eq!(is_elf(&mut File::open(file.path()).unwrap()), rubbish.len() >= 4);
        }
    }
}
