//! From a file to a [`Config`], or to everything that is wrong with it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Location, Problem, ProblemKind, Problems};
use crate::field::{Field, Sink};
use crate::root::Config;
use crate::yaml;

/// What reading a file depends on besides the file.
#[derive(Clone, Copy)]
pub struct LoadContext<'a> {
    /// The value of an environment variable, for `${VAR}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The names of the protocols that the agent understands: the keys allowed under `protocols`.
    pub protocol_names: &'a [&'a str],
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, not only the first thing.
pub fn load(path: &Path, context: &LoadContext<'_>) -> Result<Config, Problems> {
    let bytes = read(path).map_err(|kind| {
        let hint = matches!(kind, ProblemKind::FileSize { .. }).then(|| "is it the right file?".to_owned());
        Problems::new(path, vec![Problem { location: None, key: String::new(), kind, hint }])
    })?;
    parse(&bytes, path, context)
}

/// Checks the contents of a file; `path` is only for messages.
///
/// # Errors
/// Everything that is wrong with it, not only the first thing.
pub fn parse(bytes: &[u8], path: &Path, context: &LoadContext<'_>) -> Result<Config, Problems> {
    let sink = Sink::default();
    let config = parse_into(bytes, context, &sink);
    match (config, sink.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(Problems::new(path, problems)),
    }
}

fn parse_into(bytes: &[u8], context: &LoadContext<'_>, sink: &Sink) -> Option<Config> {
    if bytes.len() > FILE_BYTES_MAX {
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        sink.add(None, "", too_large(found), None);
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (good, bad) = bytes.split_at(error.valid_up_to());
            let good = String::from_utf8_lossy(good);
            let last_line = good.rsplit('\n').next().unwrap_or_default();
            let location =
                Location { line: good.matches('\n').count() + 1, column: last_line.chars().count() + 1 };
            let kind = ProblemKind::Encoding { byte: bad.first().copied().unwrap_or_default() };
            sink.add(Some(location), "", kind, Some("save the file as UTF-8".to_owned()));
            return None;
        }
    };
    let tree = yaml::parse(text, context.env, sink)?;
    Some(Config::read(&Field::root(&tree, sink), context.protocol_names))
}

/// Reads no more than is allowed, whatever the path is.
fn read(path: &Path) -> Result<Vec<u8>, ProblemKind> {
    let io = |error: std::io::Error| ProblemKind::Read(error.to_string());
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_large(limit + 1));
    }
    Ok(bytes)
}

fn too_large(found: u64) -> ProblemKind {
    ProblemKind::FileSize { found, max: u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) }
}

/// A commented configuration with everything in it has about 10 KiB.
const FILE_BYTES_MAX: usize = 1 << 20;
