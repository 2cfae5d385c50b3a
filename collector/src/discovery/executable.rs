//! What an ELF file says of its functions: where in the file they begin, and their code.
//!
//! Files are read piece by piece: an executable may have hundreds of megabytes, of which the symbols are a few.

use std::{
    fs::File,
    io::{self, Read},
};

use object::{
    Endianness, FileKind, ReadCache, ReadRef, elf,
    read::elf::{FileHeader, ProgramHeader},
};

use super::symbols::Table;

/// Sections and segments that a file may have. Large programs have some dozens, object files with a section for each
/// function some ten thousands.
const PARTS_MAX: u32 = 1 << 18;

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
    /// For the small parts: headers and code.
    cache: ReadCache<File>,
    file: File,
    segments: Vec<Segment>,
    tables: Vec<Table>,
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
    pub fn new(file: File) -> io::Result<Self> {
        // Both share a descriptor's position, which only the cache uses.
        let cache = ReadCache::new(file.try_clone()?);
        let kind = FileKind::parse(&cache).map_err(io::Error::other)?;
        let headers = match kind {
            FileKind::Elf64 => headers::<elf::FileHeader64<Endianness>>(&cache, true),
            FileKind::Elf32 => headers::<elf::FileHeader32<Endianness>>(&cache, false),
            _ => return Err(io::Error::other("not an ELF file")),
        };
        let (is_x86_64, segments, tables) = headers.map_err(io::Error::other)?;
        Ok(Self { cache, file, segments, tables, is_x86_64 })
    }

    /// The named functions, among the dynamic symbols and, where there are any, the local ones.
    ///
    /// # Errors
    /// The file's tables make no sense.
    pub fn functions<'n>(&self, names: &[&'n str]) -> io::Result<Vec<(&'n str, Function)>> {
        let mut found = Vec::new();
        self.tables.iter().try_for_each(|table| table.find(&self.file, names, &mut found))?;
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

/// Whether the machine is x86-64; the segments; the tables of symbols.
type Headers = (bool, Vec<Segment>, Vec<Table>);

fn headers<Elf: FileHeader<Endian = Endianness>>(
    cache: &ReadCache<File>,
    is_64: bool,
) -> object::Result<Headers> {
    let header = Elf::parse(cache)?;
    let endian = header.endian()?;
    let segments = match header.phnum(endian, cache)? {
        0..=PARTS_MAX => header.program_headers(endian, cache)?,
        _ => &[],
    };
    let sections = match header.shnum(endian, cache)? {
        0..=PARTS_MAX => header.section_headers(endian, cache)?,
        _ => &[],
    };
    let segments = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .map(|segment| {
            let (offset, size) = segment.file_range(endian);
            Segment { address: segment.p_vaddr(endian).into(), offset, size }
        })
        .collect();
    let is_x86_64 = header.e_machine(endian) == elf::EM_X86_64;
    Ok((is_x86_64, segments, Table::all_of::<Elf>(sections, endian, is_64)))
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
