//! The house rules, as a test over every source file of the checkout.
//!
//! Each rule is a function from one file to what is wrong with it, and a row in [`RULES`]. Rules look at code without
//! comments and the contents of strings, most of them without its tests. The samples at the end show that every rule
//! can fail.

mod protocols;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

use rules::{LINES_MAX, RULES};
use source::Source;

/// What is wrong, and where.
#[derive(Debug, PartialEq)]
struct Violation {
    rule: &'static str,
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.what)
    }
}

/// Lines of ARCHITECTURE.md: a map that nobody reads to the end is no map.
const MAP_LINES_MAX: usize = 200;

/// What all rules find in one file.
fn violations(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (rule, check) in RULES {
        for (line, what) in check(source) {
            violations.push(Violation { rule, path: source.path.clone(), line, what });
        }
    }
    violations
}

/// Every `.rs` file below `folder`, without what is built, hidden or fetched.
fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder of the checkout").flatten().collect();
    entries.sort_by_key(fs::DirEntry::path);
    for path in entries.into_iter().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            collect(root, &path, sources);
        } else if name.ends_with(".rs") {
            let below =
                path.strip_prefix(root).expect("it is below the root").to_string_lossy().replace('\\', "/");
            sources.push(Source::new(&below, &fs::read_to_string(&path).expect("a source file is UTF-8")));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder of the checkout")
}

#[test]
fn the_house_is_tidy() {
    let mut sources = Vec::new();
    collect(root(), root(), &mut sources);
    assert!(sources.len() > 30, "only {} sources were found", sources.len());
    let violations: Vec<String> =
        sources.iter().flat_map(violations).map(|violation| violation.to_string()).collect();
    assert!(
        violations.is_empty(),
        "{} against the house rules:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn the_map_is_short() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    assert!(map.lines().count() < MAP_LINES_MAX, "ARCHITECTURE.md has {} lines", map.lines().count());
}

/// The rules that a file with this text would break.
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    let mut rules: Vec<_> =
        violations(&Source::new(path, text)).iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn every_rule_can_fail() {
    let long = format!("//! x\n{}", "\n".repeat(LINES_MAX));
    for (rule, path, text) in [
        ("header", "xtask/src/a.rs", "// x\nfn main() {}\n"),
        ("length", "config/src/a.rs", long.as_str()),
        ("unfinished", "config/src/a.rs", "//! x\nfn a() { todo!() }\n"),
        ("unfinished", "tests/tests/a.rs", "//! x\nfn a() { dbg!(1); }\n"),
        ("aya", "collector/src/app.rs", "//! x\nuse aya::Ebpf;\n"),
        ("tasks", "collector/src/connection/a.rs", "//! x\nfn a() { std::thread::spawn(|| ()); }\n"),
        ("tasks", "collector/src/kernel/loader.rs", "//! x\nfn a() { tokio::spawn(b()); }\n"),
        ("time", "collector/src/export/a.rs", "//! x\nuse std::time::SystemTime;\n"),
        ("time", "collector/src/connection/a.rs", "//! x\nuse std::time::{Duration, Instant};\n"),
        ("imports", "collector/src/connection/a.rs", "//! x\nuse crate::export::Exporter;\n"),
        (
            "imports",
            "collector/src/export/a.rs",
            "//! x\nuse crate::{\n    telemetry::{A, B},\n    kernel::C,\n};\n",
        ),
        ("imports", "collector/src/export/a.rs", "//! x\nuse spantap_config::Config;\n"),
        ("imports", "collector/src/export/a.rs", "//! x\nuse spantap_protocols::{Role, http1};\n"),
        ("imports", "collector/src/telemetry/a.rs", "//! x\nfn a() { spantap_protocols::ALL.len(); }\n"),
        ("sans-io", "protocols/src/a.rs", "//! x\nuse std::net::TcpStream;\n"),
        ("sans-io", "config/src/a.rs", "//! x\nuse spantap_protocols::ALL;\n"),
        ("forbid", "config/src/lib.rs", "//! #![forbid(unsafe_code)]\n"),
        ("unsafe", "collector/src/export/a.rs", "//! x\n// SAFETY: y\nunsafe fn a() {}\n"),
        ("safety", "collector/src/kernel/a.rs", "//! x\nfn a() {\n    b();\n\n    unsafe { c() }\n}\n"),
        ("safety", "collector/src/kernel/a.rs", "//! x\n// SAFETY: of b\nunsafe { b() };\nunsafe { c() };\n"),
    ] {
        assert_eq!(broken(path, text), [rule], "{path}: {text}");
    }
}

#[test]
fn good_code_passes() {
    for (path, text) in [
        ("collector/src/kernel/a.rs", "//! x\nuse aya::Ebpf;\n// SAFETY: y\nlet x =\n    unsafe { b() };\n"),
        (
            "collector/src/export/a.rs",
            "//! x\nuse crate::{\n    telemetry::{A, B},\n    export::C,\n};\nuse std::time::Instant;\n",
        ),
        (
            "collector/src/connection/a.rs",
            "//! x\n// aya::x, todo!()\nfn a() { b(\"Instant\", r#\"\"unsafe\"#, '\"') }\n",
        ),
        (
            "collector/src/connection/a.rs",
            "//! x\n#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}\n",
        ),
        ("collector/src/connection/tests/speed.rs", "//! x\nuse std::time::Instant;\n"),
        ("protocols/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n"),
        ("collector/src/processors/a.rs", "//! x\nuse spantap_protocols::{Value, semconv::key};\n"),
    ] {
        assert_eq!(broken(path, text), Vec::<&str>::new(), "{path}: {text}");
    }
}
