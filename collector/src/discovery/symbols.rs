//! Finds functions by name in the symbol tables of an ELF file.
//!
//! An executable may have a hundred megabytes of symbols, and one look at it must not cost that much memory: tables are
//! read in pieces of one buffer. First the names are looked for among the strings; most files have none of them. Only
//! then are the symbols walked, for those that point at what was found.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt};

use memchr::memmem;
use object::{
    Endianness, elf,
    pod::{self, Pod},
    read::elf::{FileHeader, SectionHeader, Sym},
};

use super::executable::Function;

/// Bytes of a table of names that are looked at. Chromium's has 8 MB, a debug build of a large Rust program's 60.
const NAMES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a table of symbols that are looked at, a hundred times what Chromium has: a sparse file may claim any size.
const SYMBOLS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Places where wanted names stand. A linker writes each once; endings of other names count, too.
const PLACES_MAX: usize = 65_536;
/// Bytes read at once: a multiple of the size of every kind of symbol.
const PIECE_BYTES: usize = 24 * 16 * 512;

/// A table of symbols with its names.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    symbols: Extent,
    names: Extent,
    is_64: bool,
    endian: Endianness,
}

/// A part of a file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    offset: u64,
    size: u64,
}

impl Table {
    /// The tables that a file's sections name: the one for the dynamic linker, then the one for debuggers.
    pub fn all_of<Elf: FileHeader<Endian = Endianness>>(
        sections: &[Elf::SectionHeader],
        endian: Endianness,
        is_64: bool,
    ) -> Vec<Self> {
        let extent = |section: &Elf::SectionHeader| {
            section.file_range(endian).map(|(offset, size)| Extent { offset, size })
        };
        let of_kind = |kind| sections.iter().find(move |section| section.sh_type(endian) == kind);
        [elf::SHT_DYNSYM, elf::SHT_SYMTAB]
            .into_iter()
            .filter_map(|kind| {
                let section = of_kind(kind)?;
                let names = sections.get(section.sh_link(endian) as usize)?;
                Some(Self { symbols: extent(section)?, names: extent(names)?, is_64, endian })
            })
            .collect()
    }

    /// Adds the named functions that the table has and `found` has not.
    ///
    /// # Errors
    /// The file cannot be read, or ends within the table.
    pub fn find<'n>(
        &self,
        file: &File,
        names: &[&'n str],
        found: &mut Vec<(&'n str, Function)>,
    ) -> io::Result<()> {
        if self.names.size > NAMES_BYTES_MAX || self.symbols.size > SYMBOLS_BYTES_MAX {
            return Ok(());
        }
        let places = self.places(file, names)?;
        match (places.is_empty(), self.is_64) {
            (true, _) => Ok(()),
            (false, true) => self.walk::<elf::Sym64<Endianness>>(file, &places, found),
            (false, false) => self.walk::<elf::Sym32<Endianness>>(file, &places, found),
        }
    }

    /// Where the names stand. A linker may let a name be the end of another one.
    fn places<'n>(&self, file: &File, names: &[&'n str]) -> io::Result<HashMap<u32, &'n str>> {
        let finders: Vec<_> = names.iter().map(|name| (*name, memmem::Finder::new(*name))).collect();
        // What begins in the last bytes of a piece is found in the next one, which begins with them.
        let shared = names.iter().map(|name| name.len() + 1).max().unwrap_or(0);
        let mut places = HashMap::new();
        pieces(file, self.names, shared, |at, piece| {
            for (name, finder) in &finders {
                for place in finder.find_iter(piece) {
                    if piece.get(place + name.len()) != Some(&0) {
                        continue;
                    }
                    if places.len() >= PLACES_MAX {
                        return Err(io::Error::other("too many symbols of one name"));
                    }
                    places.extend(u32::try_from(at + place as u64).map(|place| (place, *name)));
                }
            }
            Ok(())
        })?;
        Ok(places)
    }

    fn walk<'n, S: Sym<Endian = Endianness> + Pod>(
        &self,
        file: &File,
        places: &HashMap<u32, &'n str>,
        found: &mut Vec<(&'n str, Function)>,
    ) -> io::Result<()> {
        pieces(file, self.symbols, 0, |_, piece| {
            let whole = piece.len() / size_of::<S>();
            let Ok((symbols, _)) = pod::slice_from_bytes::<S>(piece, whole) else {
                return Err(io::Error::other("misplaced symbols"));
            };
            for symbol in symbols {
                let Some(name) = places.get(&symbol.st_name(self.endian)) else { continue };
                let is_function = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
                if is_function
                    && !symbol.is_undefined(self.endian)
                    && found.iter().all(|(known, _)| known != name)
                {
                    let (address, size) = (symbol.st_value(self.endian), symbol.st_size(self.endian));
                    found.push((name, Function { address: address.into(), size: size.into() }));
                }
            }
            Ok(())
        })
    }
}

/// Reads a part of a file piece by piece, the last `shared` bytes of each again with the next. Pieces come with their
/// place in the part.
fn pieces(
    file: &File,
    part: Extent,
    shared: usize,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(part.size).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
    let mut at = 0;
    loop {
        let length = usize::try_from(part.size - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let offset = part.offset.checked_add(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        file.read_exact_at(&mut buffer[..length], offset)?;
        take(at, &buffer[..length])?;
        if at + length as u64 == part.size {
            return Ok(());
        }
        at += (length - shared) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_pieces_end() {
        const NAME: &str = "SSL_read";
        let file = tempfile::NamedTempFile::new().unwrap();
        for before_end in 0..=NAME.len() + 1 {
            let at = PIECE_BYTES - before_end;
            let mut names = vec![b'x'; 2 * PIECE_BYTES];
            names[at..at + NAME.len()].copy_from_slice(NAME.as_bytes());
            names[at + NAME.len()] = 0;
            std::fs::write(file.path(), &names).unwrap();
            let table = Table {
                symbols: Extent { offset: 0, size: 0 },
                names: Extent { offset: 0, size: names.len() as u64 },
                is_64: true,
                endian: Endianness::Little,
            };
            let file = File::open(file.path()).unwrap();
            let places = table.places(&file, &["SSL_write_ex", NAME]).unwrap();
            assert_eq!(places.into_iter().collect::<Vec<_>>(), [(u32::try_from(at).unwrap(), NAME)]);
        }
    }

    #[test]
    fn a_table_behind_the_end_is_an_error() {
        let file = File::open("/proc/self/exe").unwrap();
        let behind = Extent { offset: file.metadata().unwrap().len(), size: 100 };
        let far = Extent { offset: u64::MAX, size: u64::MAX };
        for part in [behind, far] {
            assert!(pieces(&file, part, 0, |_, _| Ok(())).is_err());
        }
    }
}
