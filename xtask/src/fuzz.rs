//! `cargo xtask fuzz`: libFuzzer against the targets of `fuzz/`, one after the other.
//!
//! Coverage comes from a pass of the stable compiler (`-Cpasses=sancov-module`), libFuzzer from the crate that brings its
//! source: a C++ compiler is all it needs besides Rust.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::{cargo, command, run as run_command};
use crate::workspace;

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these targets: the folders of fuzz/corpus. Without one, all of them, which share the time.
    targets: Vec<String>,
    /// How long, in all: 90s, 30m or 8h.
    #[arg(long, default_value = "10m", value_parser = duration)]
    time: Duration,
    /// Bytes of an input at most.
    #[arg(long, default_value_t = 16 * 1024)]
    max_len: usize,
    /// Seed of the fuzzer's choices; 0 is another one each time.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Afterwards, add the smallest set of inputs that reaches as much as all do to fuzz/corpus, each at most this long.
    #[arg(long, value_name = "BYTES")]
    keep: Option<usize>,
}

/// Runs the subcommand. False if a target has failed; the input is below target/fuzz/artifacts.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let root = workspace::root();
    let known = targets(&root.join("fuzz/corpus"))?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{unknown}`; there are {}", known.join(", "));
    }
    let wanted = if options.targets.is_empty() { &known } else { &options.targets };
    let binary = build(wanted.iter().any(|target| OF_AGENT.contains(&target.as_str())))?;
    let share = options.time / u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    for target in wanted {
        let start = Instant::now();
        let outcome = fuzz(&binary, target, share, options);
        rows.push((target, start.elapsed(), outcome));
    }
    for (target, took, outcome) in &rows {
        let said =
            outcome.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), |()| "nothing".to_owned());
        println!("{target:12} {:5} s  {said}", took.as_secs());
    }
    Ok(rows.iter().all(|(.., outcome)| outcome.is_ok()))
}

fn fuzz(binary: &PathBuf, target: &str, time: Duration, options: &Options) -> Result<()> {
    let ours = workspace::root().join("fuzz/corpus").join(target);
    let work = workspace::target().join("fuzz");
    let (found, seeds) = (work.join("corpus").join(target), work.join("seeds").join(target));
    let artifacts = work.join("artifacts").join(target);
    for folder in [&ours, &found, &seeds, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let fuzzer = || {
        let mut fuzzer = command(binary);
        fuzzer.env("SPANTAP_FUZZ_TARGET", target).env("SPANTAP_FUZZ_SEEDS", &seeds);
        fuzzer
    };
    let mut run = fuzzer();
    run.arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-max_len={}", options.max_len))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    run_command(run.arg(&found).args([&ours, &seeds]))?;
    if let Some(longest) = options.keep {
        let mut merge = fuzzer();
        // Of edges, not of how often each was taken: that would be thousands.
        merge.args(["-set_cover_merge=1", "-use_counters=0"]).arg(format!("-max_len={longest}"));
        run_command(merge.arg(&ours).args([&seeds, &found]))?;
    }
    Ok(())
}

/// Targets for which the agent is built, too, which takes some minutes more.
const OF_AGENT: &[&str] = &["pcap", "process_context", "table"];

/// Builds the fuzzer and returns where it is.
fn build(agent: bool) -> Result<PathBuf> {
    let verbose = crate::command::output(command("rustc").arg("-vV"))?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // With a target given the flags are not those of build scripts and macros, which run in the compiler.
    let mut build = cargo();
    build.args(["build", "--package", "spantap-fuzz", "--profile", "fuzz", "--locked", "--target", host]);
    build.args(["--no-default-features", "--features", if agent { "libfuzzer,agent" } else { "libfuzzer" }]);
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    for flag in COVERAGE {
        flags.push(" ");
        flags.push(flag);
    }
    run_command(build.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", workspace::target().join("fuzz")))?;
    Ok(workspace::target().join("fuzz").join(host).join("fuzz/spantap-fuzz"))
}

/// Counters for libFuzzer, what is compared with what, and a call at each edge (`fuzz/src/steps.rs`).
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-trace-pc",
];

fn targets(corpus: &std::path::Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(corpus).with_context(|| format!("failed to read {}", corpus.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// 90s, 30m, 8h.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h, such as 30m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a whole number with s, m or h, such as 30m".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert!(duration("30").is_err() && duration("m").is_err() && duration("-1s").is_err());
    }
}
