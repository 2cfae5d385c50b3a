//! The rules: each a function from one file to what is wrong with it, and a row in [`RULES`].

use crate::source::{Source, lines_where, names_below, words};

/// What a rule finds: a line, and what is wrong with it.
pub(crate) type Findings = Vec<(usize, String)>;

/// Its name, and what it finds in a file.
pub(crate) type Rule = (&'static str, fn(&Source) -> Findings);

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    ("header", starts_with_its_question),
    ("length", is_not_too_long),
    ("unfinished", has_no_unfinished_code),
    ("aya", only_kernel_names_aya),
    ("tasks", only_the_edges_spawn),
    ("time", only_the_clock_knows_the_time),
    ("imports", imports_point_one_way),
    ("sans-io", parsers_and_configuration_do_no_io),
    ("forbid", forbids_unsafe_where_promised),
    ("unsafe", unsafe_stays_at_the_kernel),
    ("safety", every_unsafe_block_says_why),
];

/// Lines of a file, without its tests. Longer ones answer more than one question.
pub(crate) const LINES_MAX: usize = 500;

/// Which rooms of the agent a room may name, besides itself and [`COMMON`]. `app`, `main` and `demo` may name all.
const ROOMS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("replay", &[]),
    ("connection", &[]),
    ("telemetry", &[]),
    ("discovery", &["kernel", "telemetry"]),
    ("processors", &["telemetry", "discovery"]),
    ("export", &["telemetry"]),
    ("selfmon", &[]),
];
/// What every room may name: identifiers, and the counters of what it drops.
const COMMON: &[&str] = &["ids", "selfmon"];

/// Which crates of the workspace a room may name.
const CRATES: &[(&str, &[&str])] = &[
    ("kernel", &["spantap_ebpf_common"]),
    ("replay", &["spantap_ebpf_common", "spantap_protocols"]),
    ("connection", &["spantap_ebpf_common", "spantap_protocols"]),
    ("telemetry", &["spantap_protocols"]),
    ("discovery", &["spantap_ebpf_common", "spantap_protocols", "spantap_config"]),
    ("processors", &["spantap_protocols", "spantap_config"]),
    ("export", &["spantap_protocols"]),
    ("selfmon", &["spantap_ebpf_common"]),
];

fn starts_with_its_question(source: &Source) -> Findings {
    let good = source.text.starts_with("//!") || source.text.starts_with("#!/");
    finding(!good, 1, "the first line must be a //! that says which question the file answers")
}

fn is_not_too_long(source: &Source) -> Findings {
    let lines = source.without_tests().lines().count();
    finding(
        !source.is_test() && lines > LINES_MAX,
        LINES_MAX + 1,
        &format!("{lines} lines, {LINES_MAX} are allowed"),
    )
}

fn has_no_unfinished_code(source: &Source) -> Findings {
    source.lines_with(&source.code, &["todo!", "unimplemented!", "dbg!"])
}

fn only_kernel_names_aya(source: &Source) -> Findings {
    let allowed = ["collector/src/kernel/", "collector-ebpf/src/"];
    if source.is_below(&allowed) {
        return Vec::new();
    }
    source.lines_with(&source.code, &["aya::", "aya_obj", "aya_ebpf", "use aya", "extern crate aya"])
}

/// Allowed: `app` and `main` start what runs, exporters their senders, `kernel/source.rs` the reader of the ring
/// buffer, `kernel/uprobe_multi.rs` those that detach at once, `demo` the workload, which stands for programs of others.
fn only_the_edges_spawn(source: &Source) -> Findings {
    let edges = [
        "app",
        "main.rs",
        "demo",
        "discovery/files.rs",
        "export/",
        "kernel/source.rs",
        "kernel/uprobe_multi.rs",
    ]
    .map(|edge| format!("collector/src/{edge}"));
    if !source.path.starts_with("collector/src/") || edges.iter().any(|edge| source.path.starts_with(edge)) {
        return Vec::new();
    }
    let words = ["tokio::spawn", "task::spawn", "thread::spawn", "spawn_blocking", "spawn_local", "JoinSet"];
    let more = ["thread::Builder", "thread::scope", "runtime.spawn(", "handle.spawn(", "runtime::Builder"];
    let mut found = source.lines_with(source.without_tests(), &words);
    found.extend(source.lines_with(source.without_tests(), &more));
    found
}

/// Wall time is for `telemetry/clock.rs` alone, and for `main.rs`, which names the timer of log lines. An `Instant`,
/// which only measures waiting, is also for the edges: the exporters' retries and deadlines, `app`, `main` and `demo`,
/// and `kernel/` and `discovery/`, which rescan.
fn only_the_clock_knows_the_time(source: &Source) -> Findings {
    if !source.is_below(&["collector/src/", "protocols/src/", "config/src/", "collector-ebpf/common/"])
        || source.is_below(&["collector/src/telemetry/clock"])
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    if source.path != "collector/src/main.rs" {
        let wall = ["SystemTime", "UNIX_EPOCH", "chrono::", "CLOCK_"];
        found.extend(source.lines_with(source.without_tests(), &wall));
    }
    let waits = ["app", "main.rs", "demo", "export/", "kernel/", "discovery/"];
    if !waits.iter().any(|edge| source.path.starts_with(&format!("collector/src/{edge}"))) {
        found.extend(source.lines_with(source.without_tests(), &["Instant"]));
    }
    found
}

fn imports_point_one_way(source: &Source) -> Findings {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, rooms)) = ROOMS.iter().find(|(name, _)| *name == room) else { return Vec::new() };
    let code = source.without_tests();
    let mut found = Vec::new();
    for (line, name) in names_below(code, "crate") {
        let allowed = name == room || rooms.contains(&name.as_str()) || COMMON.contains(&name.as_str());
        let is_room = ROOMS.iter().any(|(room, _)| *room == name) || ["app", "demo"].contains(&name.as_str());
        if is_room && !allowed {
            found.push((line, format!("{room} must not import {name}")));
        }
    }
    let crates = CRATES.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, crates)| crates);
    for name in ["spantap_protocols", "spantap_config", "spantap_ebpf_common"] {
        if !crates.contains(&name) {
            found.extend(source.lines_with(code, &[name]));
        }
    }
    // Records are neutral: whoever handles them knows no protocol, so a new one never touches them.
    if ["telemetry", "processors", "discovery", "export"].contains(&room) {
        for (line, name) in names_below(code, "spantap_protocols") {
            let neutral =
                ["exchange", "semconv", "Attributes", "BootNanos", "Exchange", "Key", "Outcome", "Role"];
            if !neutral.contains(&name.as_str())
                && !["Value", "TraceContext", "trace_context"].contains(&name.as_str())
            {
                found.push((line, format!("{room} must not know of spantap_protocols::{name}")));
            }
        }
    }
    found
}

/// Time and bytes come in as arguments. The one door of `config` is `load.rs`, which reads the file.
fn parsers_and_configuration_do_no_io(source: &Source) -> Findings {
    if !source.is_below(&["protocols/src/", "config/src/"])
        || source.path == "config/src/load.rs"
        || source.is_test()
    {
        return Vec::new();
    }
    let words =
        ["tokio", "std::net", "std::fs", "std::env::var", "std::thread", "std::process", "aya", "spantap_"];
    source.lines_with(source.without_tests(), &words)
}

fn forbids_unsafe_where_promised(source: &Source) -> Findings {
    let promised = ["protocols/src/lib.rs", "config/src/lib.rs"].contains(&source.path.as_str());
    finding(
        promised && !source.code.contains("#![forbid(unsafe_code)]"),
        1,
        "#![forbid(unsafe_code)] is missing",
    )
}

/// Allowed: the kernel's side and `kernel/`, the clock for `clock_gettime`, tests, which set up the machine, and the
/// allocator that counts for the fuzzer.
fn unsafe_stays_at_the_kernel(source: &Source) -> Findings {
    let allowed = [
        "collector-ebpf/",
        "collector/src/kernel/",
        "collector/src/telemetry/clock.rs",
        "tests/",
        "fuzz/src/memory.rs",
    ];
    if source.is_below(&allowed) || source.is_test() {
        return Vec::new();
    }
    let code = source.code.replace("unsafe_code", "");
    lines_where(&code, |line| words(line).any(|word| word == "unsafe"))
        .map(|l| (l, "unsafe".to_owned()))
        .collect()
}

fn every_unsafe_block_says_why(source: &Source) -> Findings {
    let lines: Vec<&str> = source.text.lines().collect();
    let opens = |line: &str| {
        line.match_indices("unsafe").any(|(at, word)| {
            let after = line[at + word.len()..].trim_start();
            after.starts_with('{') || after.starts_with("impl")
        })
    };
    let said = |line: usize| {
        // On the line itself, or in the comment above the statement that it is in.
        let above = lines[..line].iter().rev().take(8);
        let statement = above.take_while(|text| {
            let text = text.trim();
            text.starts_with("//")
                || text.starts_with("#[")
                || !(text.ends_with([';', '}']) || text.is_empty())
        });
        lines[line].contains("SAFETY:") || statement.into_iter().any(|text| text.contains("SAFETY:"))
    };
    lines_where(&source.code, opens)
        .filter(|line| !said(line - 1))
        .map(|line| (line, "no // SAFETY: above".to_owned()))
        .collect()
}

fn finding(is_wrong: bool, line: usize, what: &str) -> Findings {
    if is_wrong { vec![(line, what.to_owned())] } else { Vec::new() }
}
