//! What can be wrong with a configuration file, and how it is said.
//!
//! A [`Problem`] says where (line, column, key path) and what ([`ProblemKind`]), and carries a hint where the user can
//! act on one. [`Problems`] is everything found in one file, in the order of its lines.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A place in the file; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// What is wrong.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ProblemKind {
    /// The file could not be read at all.
    #[error("cannot read the file: {0}")]
    Read(String),
    /// The file is larger than any configuration is.
    #[error("the file has {found} bytes, more than the {max} that are read")]
    FileSize {
        /// Its size, or the limit + 1 if it was not read to the end.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The bytes are no text.
    #[error("the file is not UTF-8: unexpected byte 0x{byte:02x}")]
    Encoding {
        /// The first byte that does not fit.
        byte: u8,
    },
    /// The text is not YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// The YAML nests deeper than any configuration does.
    #[error("nested deeper than {max} levels")]
    Depth {
        /// The limit.
        max: usize,
    },
    /// The YAML has, after expanding its aliases, more values than any configuration has.
    #[error("more than {max} values, counting those that aliases repeat")]
    Nodes {
        /// The limit.
        max: usize,
    },
    /// An alias that stands inside its own anchor.
    #[error("an alias that contains itself")]
    RecursiveAlias,
    /// A YAML tag that means nothing here.
    #[error("the tag {0} is not understood")]
    Tag(String),
    /// More than one YAML document.
    #[error("a second document starts here, a configuration is one")]
    SeveralDocuments,
    /// A mapping or list where a key belongs.
    #[error("a key must be text")]
    KeyNotText,
    /// The same key twice in one mapping.
    #[error("this key is already set in line {first_line}")]
    DuplicateKey {
        /// Where it was set first.
        first_line: usize,
    },
    /// A `${...}` that is no valid reference.
    #[error("`{reference}` is not a reference to an environment variable")]
    Reference {
        /// The reference as written.
        reference: String,
    },
    /// A key that nobody knows.
    #[error("unknown key")]
    UnknownKey,
    /// A key or value of the OpenTelemetry schema that spantap does not act on yet.
    #[error("{0} not supported by spantap yet")]
    Unsupported(String),
    /// A value of another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What belongs here.
        expected: String,
        /// What is here.
        found: String,
    },
    /// A value outside its range.
    #[error("{found} is out of range, expected {expected}")]
    Range {
        /// The range.
        expected: String,
        /// The value.
        found: String,
    },
    /// A value of the right type that cannot be understood; the text says why.
    #[error("{0}")]
    Value(String),
    /// A key that must be set and is not.
    #[error("the key `{0}` is missing")]
    Missing(String),
    /// Two settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where; `None` if it concerns the file as a whole.
    pub location: Option<Location>,
    /// The path of keys, as in `tracer_provider.processors[0].batch`; empty at the top.
    pub key: String,
    /// What.
    pub kind: ProblemKind,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that is wrong with one file; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
}

impl Problems {
    /// `list` must not be empty; it is put in the order of the lines.
    pub(crate) fn new(file: &Path, mut list: Vec<Problem>) -> Self {
        debug_assert!(!list.is_empty(), "problems without a problem");
        list.sort_by_key(|problem| problem.location);
        Self { file: file.to_path_buf(), list }
    }

    /// The file they were found in.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All of them, by line.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

/// One block per problem, as compilers do it:
///
/// ```text
/// spantap.yaml:12:7: distribution.spantap.capture.backend: expected auto, sockets or syscalls, found `syscall`
///   hint: did you mean `syscalls`?
/// ```
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(Location { line, column }) = problem.location {
                write!(f, "{line}:{column}:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}", problem.kind)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
