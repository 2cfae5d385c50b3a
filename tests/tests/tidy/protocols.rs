//! What a protocol needs besides its folder: a row in `ALL`, recordings, a setting, a row in the README, a fuzz target.

use std::fs;
use std::path::Path;

use crate::source::{blank, has_word};

/// Where the places stand that must name every protocol; the text of each.
struct Places {
    lib: String,
    settings: String,
    readme: String,
    fuzz: String,
}

/// A protocol's folder.
struct Folder {
    name: String,
    /// The first line of its `mod.rs`.
    title: String,
    recordings: usize,
    corpus: usize,
}

/// The code of the list of all protocols.
fn all(lib: &str) -> &str {
    lib.split_once("pub const ALL").map_or("", |(_, all)| all.split(';').next().unwrap_or_default())
}

/// What is missing, for each folder and each row of `ALL`.
fn missing(places: &Places, folders: &[Folder]) -> Vec<String> {
    let mut missing = Vec::new();
    let rows = all(&places.lib);
    let settings = places.settings.split_once("\n    protocols:\n").map_or("", |(_, rest)| rest);
    // To the next section.
    let settings = settings.split("\n\n").next().unwrap_or_default();
    for Folder { name, title, recordings, corpus } in folders {
        let mut need = |is_there: bool, what: &str| {
            if !is_there {
                missing.push(format!("{name}: {what}"));
            }
        };
        need(has_word(rows, &format!("{name}::")), "no row in ALL of protocols/src/lib.rs");
        need(*recordings > 0, "no recording in its fixtures/");
        let setting = format!("      {name}:");
        need(settings.lines().any(|line| line.starts_with(&setting)), "not in config/examples/full.yaml");
        // What the protocol is called is the first word of its documentation.
        let called = title
            .trim_start_matches("//! ")
            .split([' ', ',', ':', ';', '.', '\''])
            .next()
            .unwrap_or_default();
        let is_row = |line: &str| {
            let cell = line.strip_prefix("| protocols | ").or_else(|| line.strip_prefix("| | "));
            cell.is_some_and(|cell| cell.starts_with(called))
        };
        need(!called.is_empty() && places.readme.lines().any(is_row), "no row in README.md");
        need(places.fuzz.contains(&format!("name: \"{name}\"")), "no target in fuzz/src/lib.rs");
        need(*corpus > 0, "nothing in its folder of fuzz/corpus");
    }
    for row in rows.split("::").filter_map(|before| before.rsplit(['&', ' ', '[', ',']).next()) {
        let is_name = !row.is_empty() && row.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if is_name && !folders.iter().any(|folder| folder.name == row) {
            missing.push(format!("{row}: a row in ALL without a folder"));
        }
    }
    missing
}

fn files_in(folder: &Path, end: &str) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(end)).count()
}

#[test]
fn every_protocol_is_complete() {
    let root = crate::root();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let places = Places {
        lib: blank(&read("protocols/src/lib.rs")),
        settings: read("config/examples/full.yaml"),
        readme: read("README.md"),
        fuzz: read("fuzz/src/lib.rs"),
    };
    let source = root.join("protocols/src");
    let mut folders = Vec::new();
    for entry in fs::read_dir(&source).expect("the protocols are there").flatten() {
        let path = entry.path();
        let Ok(module) = fs::read_to_string(path.join("mod.rs")) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        folders.push(Folder {
            title: module.lines().next().unwrap_or_default().to_owned(),
            recordings: files_in(&path.join("fixtures"), ".txt"),
            corpus: files_in(&root.join("fuzz/corpus").join(&name), ""),
            name,
        });
    }
    assert!(folders.len() >= 4, "only {} protocols were found", folders.len());
    let missing = missing(&places, &folders);
    assert!(missing.is_empty(), "protocols are incomplete:\n{}", missing.join("\n"));
}

#[test]
fn whatever_is_missing_is_noticed() {
    let folder = |name: &str, recordings, corpus| Folder {
        name: name.to_owned(),
        title: "//! Redis, and more.".to_owned(),
        recordings,
        corpus,
    };
    let complete = || Places {
        lib: "pub const ALL: &[&dyn Protocol] = &[&redis::Redis];\nuse other::x;".to_owned(),
        settings: "\n    protocols:\n      redis:\n        enabled: true\n\n    routes:\n".to_owned(),
        readme: "| protocols | Redis (RESP2): x |".to_owned(),
        fuzz: "Target { name: \"redis\" }".to_owned(),
    };
    let found = |places: Places| missing(&places, &[folder("redis", 1, 1)]);
    assert_eq!(found(complete()), Vec::<String>::new());
    for (places, what) in [
        (Places { lib: String::new(), ..complete() }, "redis: no row in ALL of protocols/src/lib.rs"),
        (Places { settings: String::new(), ..complete() }, "redis: not in config/examples/full.yaml"),
        (Places { readme: "Redis".to_owned(), ..complete() }, "redis: no row in README.md"),
        (Places { fuzz: String::new(), ..complete() }, "redis: no target in fuzz/src/lib.rs"),
    ] {
        assert_eq!(found(places), [what]);
    }
    let empty = missing(&complete(), &[folder("redis", 0, 0)]);
    assert_eq!(
        empty,
        ["redis: no recording in its fixtures/", "redis: nothing in its folder of fuzz/corpus"]
    );
    assert_eq!(missing(&complete(), &[]), ["redis: a row in ALL without a folder"]);
}
