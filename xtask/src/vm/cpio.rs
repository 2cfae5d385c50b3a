//! The archive that a kernel unpacks at its start: cpio in the `newc` form,
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>.

/// An archive under construction.
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

/// What an entry is.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    /// A folder.
    Folder,
    /// A file with these bytes.
    File(&'a [u8]),
    /// A file that may be run.
    Program(&'a [u8]),
}

impl Cpio {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    /// Adds an entry; the folder that it is in must have been added before.
    pub(super) fn add(&mut self, path: &str, entry: Entry<'_>) {
        let (mode, content) = match entry {
            Entry::Folder => (0o040_755, &[][..]),
            Entry::File(bytes) => (0o100_644, bytes),
            Entry::Program(bytes) => (0o100_755, bytes),
        };
        self.write(path, mode, content);
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn write(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name) = (content.len(), path.len() + 1);
        let inode = self.entries;
        // Inode, mode, uid, gid, links, mtime, size, device and special device (major, minor), name's length, check.
        let header = format!(
            "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{size:08X}{0:08X}{0:08X}{0:08X}{0:08X}{name:08X}{0:08X}",
            0, 1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_one_another_on_words() {
        let mut archive = Cpio::new();
        archive.add("bin", Entry::Folder);
        archive.add("bin/x", Entry::Program(b"12345"));
        let bytes = archive.finish();
        let headers: Vec<usize> =
            (0..bytes.len() - 6).filter(|&at| &bytes[at..at + 6] == b"070701").collect();
        assert_eq!(headers.len(), 3);
        assert!(headers.iter().all(|at| at % 4 == 0) && bytes.len().is_multiple_of(4));
        let second = &bytes[headers[1]..];
        assert_eq!(&second[14..22], b"000081ED", "the mode");
        assert_eq!(&second[54..62], b"00000005", "the size");
        assert_eq!(&second[110..115], b"bin/x");
        assert_eq!(&second[116..121], b"12345");
    }
}
