//! Which language is a program written in? By the name of what executes it, or by what its compiler left in the file.
//!
//! The words are those of `telemetry.sdk.language` (conventions 1.44, "Telemetry SDK"): user interfaces choose icons and
//! dashboards by them. Of programs in C nothing is said; the list has no word for it.

use std::{collections::HashMap, fs::File, os::unix::fs::MetadataExt, path::Path};

use object::{
    Endianness, FileKind, ReadCache,
    read::elf::{FileHeader, SectionHeader},
};
use spantap_ebpf_common::event::Tgid;

use crate::discovery::files::Files;

/// A language, and the name of what executes it where the conventions have one (`process.runtime.name`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Language {
    pub(super) name: &'static str,
    pub(super) runtime: Option<&'static str>,
}

/// Interpreters by the names of their executables, without what follows the letters (`python3.11`, `php-fpm8.2`).
const INTERPRETERS: &[(&str, Language)] = &[
    ("python", Language { name: "python", runtime: Some("cpython") }),
    ("pypy", Language { name: "python", runtime: Some("pypy") }),
    ("node", Language { name: "nodejs", runtime: Some("nodejs") }),
    ("nodejs", Language { name: "nodejs", runtime: Some("nodejs") }),
    ("java", Language { name: "java", runtime: None }),
    ("ruby", Language { name: "ruby", runtime: Some("ruby") }),
    ("php", Language { name: "php", runtime: Some("php") }),
    ("php-fpm", Language { name: "php", runtime: Some("php") }),
    ("dotnet", Language { name: "dotnet", runtime: Some(".NET") }),
    ("beam.smp", Language { name: "erlang", runtime: Some("BEAM") }),
];

/// The interpreter that an executable is.
pub(super) fn interpreter(executable: &str) -> Option<Language> {
    let plain = executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.iter().find(|(name, _)| [plain, executable].contains(name)).map(|(_, language)| *language)
}

/// What is known of the files of executables.
#[derive(Default)]
pub(in crate::discovery) struct Languages {
    by_file: HashMap<(u64, u64), Option<Language>, foldhash::fast::RandomState>,
}

/// Files remembered; beyond it all are forgotten (looking into one takes less than 150 us).
const FILES_MAX: usize = 4_096;

impl Languages {
    /// That of a process whose executable is at `path`.
    pub(super) fn of(&mut self, tgid: Tgid, path: &Path, files: &Files) -> Option<Language> {
        let name = path.file_name()?.to_str()?;
        if let Some(language) = interpreter(name) {
            return Some(language);
        }
        // Through the process, since its path may be one of another mount namespace.
        let opened = files.read(move || {
            let file = File::open(format!("/proc/{}/exe", tgid.0)).ok()?;
            let metadata = file.metadata().ok()?;
            Some((file, (metadata.dev(), metadata.ino())))
        });
        let (file, identity) = opened.flatten()?;
        if let Some(known) = self.by_file.get(&identity) {
            return *known;
        }
        let found = files.read(move || compiled(file))?;
        if self.by_file.len() >= FILES_MAX {
            self.by_file.clear();
        }
        self.by_file.insert(identity, found);
        found
    }
}

/// What the compiler left: Go's build information, or the version of rustc among those of all compilers.
fn compiled(file: File) -> Option<Language> {
    let cache = ReadCache::new(file);
    match FileKind::parse(&cache).ok()? {
        FileKind::Elf64 => of_sections::<object::elf::FileHeader64<Endianness>>(&cache),
        FileKind::Elf32 => of_sections::<object::elf::FileHeader32<Endianness>>(&cache),
        _ => None,
    }
}

/// Sections of a file that is looked into, and bytes of its comment.
const SECTIONS_MAX: u32 = 1 << 16;
const COMMENT_BYTES_MAX: u64 = 4_096;

fn of_sections<Elf: FileHeader<Endian = Endianness>>(cache: &ReadCache<File>) -> Option<Language> {
    let header = Elf::parse(cache).ok()?;
    let endian = header.endian().ok()?;
    if header.shnum(endian, cache).ok()? > SECTIONS_MAX {
        return None;
    }
    let sections = header.sections(endian, cache).ok()?;
    if sections.section_by_name(endian, b".go.buildinfo").is_some() {
        return Some(Language { name: "go", runtime: Some("go") });
    }
    let (_, comment) = sections.section_by_name(endian, b".comment")?;
    if comment.sh_size(endian).into() > COMMENT_BYTES_MAX {
        return None;
    }
    let text = comment.data(endian, cache).ok()?;
    let rust = memchr::memmem::find(text, b"rustc version ").is_some();
    rust.then_some(Language { name: "rust", runtime: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_by_name() {
        let name = |executable| interpreter(executable).map(|language| language.name);
        for (executable, expected) in [
            ("python3.11", Some("python")),
            ("python", Some("python")),
            ("pypy3", Some("python")),
            ("node", Some("nodejs")),
            ("php-fpm8.2", Some("php")),
            ("ruby3.1", Some("ruby")),
            ("beam.smp", Some("erlang")),
            ("node_exporter", None),
            ("javac", None),
            ("nginx", None),
        ] {
            assert_eq!(name(executable), expected, "{executable}");
        }
    }

    #[test]
    fn this_is_rust() {
        let own = Tgid(std::process::id());
        let path = std::env::current_exe().unwrap();
        let (mut languages, files) = (Languages::default(), Files::default());
        for _ in 0..2 {
            assert_eq!(languages.of(own, &path, &files).map(|language| language.name), Some("rust"));
        }
        assert_eq!(languages.of(Tgid(u32::MAX), Path::new("/gone"), &files), None);
        assert_eq!(languages.of(Tgid(u32::MAX), Path::new("/gone/node"), &files).unwrap().name, "nodejs");
    }

    #[test]
    fn what_is_no_executable_has_no_language() {
        for rubbish in [&b"\x7fELF rubbish"[..], b"", b"#!/bin/sh\n"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), rubbish).unwrap();
            assert_eq!(compiled(File::open(file.path()).unwrap()), None);
        }
    }
}
