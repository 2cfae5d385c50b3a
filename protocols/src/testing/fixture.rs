//! A recorded conversation, and the text form that it is kept in.

use super::truth::Recovery;
use crate::protocol::{BootNanos, Direction, OpenContext, Protocol, Role};

/// What one system call sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which way.
    pub direction: Direction,
    /// See [`crate::Segment::first_at`].
    pub first_at: BootNanos,
    /// See [`crate::Segment::last_at`].
    pub last_at: BootNanos,
    /// What; at least one byte.
    pub bytes: Vec<u8>,
}

/// A conversation, whole and in order.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// For messages.
    pub name: String,
    /// Which end was watched.
    pub role: Role,
    /// Whether after a gap the parser must find back, see [`super::check_gaps`]. Not so where several requests are under way
    /// at once and nothing on the wire says which response is whose.
    pub recovers: bool,
    /// What is found again after a gap may lack what later messages refer to (HPACK's table).
    pub partly: bool,
    /// The calls.
    pub chunks: Vec<Chunk>,
}

impl Fixture {
    /// Reads a fixture file: lines of `# comment`, `role server|client`, `recovers no|partly`, `> <microseconds>` and
    /// `< <microseconds>` (a call towards the server, towards the client), each followed by lines of its bytes. Line ends
    /// of the file are no content; `\r`, `\n`, `\t`, `\\`, `\s` (a space at the start of a line) and `\xNN` are.
    ///
    /// # Panics
    /// If the text does not have that form.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut fixture = Self {
            name: name.to_owned(),
            role: Role::Server,
            recovers: true,
            partly: false,
            chunks: Vec::new(),
        };
        for line in text.lines() {
            let chunk = |direction, time: &str| {
                let at = BootNanos(1000 * time.parse::<u64>().expect("a time in microseconds"));
                Chunk { direction, first_at: at, last_at: at, bytes: Vec::new() }
            };
            match line.split_once(' ') {
                Some(("#", _)) => {}
                Some(("role", "client")) => fixture.role = Role::Client,
                Some(("role", "server")) => fixture.role = Role::Server,
                Some(("recovers", "no")) => fixture.recovers = false,
                Some(("recovers", "partly")) => fixture.partly = true,
                Some((">", time)) => fixture.chunks.push(chunk(Direction::ToServer, time)),
                Some(("<", time)) => fixture.chunks.push(chunk(Direction::ToClient, time)),
                _ => unescape(line, &mut fixture.chunks.last_mut().expect("a call before its bytes").bytes),
            }
        }
        fixture
    }

    /// A conversation of calls one microsecond apart.
    #[must_use]
    pub fn of(name: &str, role: Role, calls: &[(Direction, &[u8])]) -> Self {
        let chunks = calls.iter().enumerate().map(|(index, (direction, bytes))| {
            let at = BootNanos(1000 * (index as u64 + 1));
            Chunk { direction: *direction, first_at: at, last_at: at, bytes: bytes.to_vec() }
        });
        Self { name: name.to_owned(), role, recovers: true, partly: false, chunks: chunks.collect() }
    }

    pub(super) fn recovery(&self) -> Recovery {
        match (self.recovers, self.partly) {
            (false, _) => Recovery::None,
            (true, false) => Recovery::Whole,
            (true, true) => Recovery::Partly,
        }
    }

    pub(super) fn context(&self, from_start: bool) -> OpenContext {
        OpenContext { role: self.role, from_start, answered: false, tls: false }
    }

    pub(super) fn closed_at(&self) -> BootNanos {
        BootNanos(self.chunks.last().map_or(0, |chunk| chunk.last_at.0) + 1000)
    }
}

/// The fixtures of a protocol's folder, in the order of their names.
///
/// # Panics
/// If there is none, or one cannot be read.
#[must_use]
pub fn fixtures(protocol: &dyn Protocol) -> Vec<Fixture> {
    let folder = format!("{}/src/{}/fixtures", env!("CARGO_MANIFEST_DIR"), protocol.name());
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} holds no fixture");
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        Fixture::parse(&name, &std::fs::read_to_string(path).expect("text"))
    };
    paths.iter().map(read).collect()
}

fn unescape(line: &str, bytes: &mut Vec<u8>) {
    let mut rest = line.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let [escape, after @ ..] = rest else { panic!("a lone backslash at the end of a line") };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b's' => b' ',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).expect("hex"), 16).expect("hex")
            }
            other => panic!("unknown escape {}", char::from(*other)),
        });
    }
}
