//! The machine: what its numbers belong to, whether it is quiet, and whether it has the programs.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::procfs;
use crate::command::{command, output};

/// Load above which numbers are noise.
const LOAD_MAX: f64 = 0.5;

/// Debian packages of the programs that are run.
const PACKAGES: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("openssl", "openssl"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("redis-benchmark", "redis-tools"),
    ("pgbench", "postgresql"),
    ("h2load", "nghttp2-client"),
];

/// Kernel, processor, load, date, revision.
pub(super) fn describe() -> Vec<(&'static str, String)> {
    let said = |program: &str, arguments: &[&str]| {
        output(command(program).args(arguments)).unwrap_or_else(|_| "unknown".to_owned())
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ':', ' ']);
    let changed = if said("git", &["status", "--porcelain"]).is_empty() { "" } else { ", with changes" };
    vec![
        ("kernel", format!("{} {}", said("uname", &["-sr"]), said("uname", &["-m"]))),
        ("processor", format!("{} cores, {model}", cores())),
        ("memory", format!("{} MiB", procfs::field("/proc/meminfo", "MemTotal").unwrap_or(0) / 1024)),
        ("load", load().map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2} at the start"))),
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("revision", format!("{}{changed}", said("git", &["rev-parse", "--short=12", "HEAD"]))),
    ]
}

/// What makes the numbers doubtful.
pub(super) fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(load) = load().filter(|&load| load > LOAD_MAX) {
        warnings.push(format!("the load average is {load:.2}: others run too, and these numbers are noisy"));
    }
    if cores() < 2 {
        warnings.push("there is one core: pinned runs share it".to_owned());
    }
    let others = procfs::named("spantap");
    if !others.is_empty() {
        warnings.push(format!("another spantap is running ({others:?}): it is in every number"));
    }
    warnings
}

/// Whether an agent runs that is not ours.
pub(super) fn others(ours: Option<u32>) -> bool {
    procfs::named("spantap").into_iter().any(|pid| Some(pid) != ours)
}

/// How many cores there are.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Fails with the packages to install if one of the programs is not there.
pub(super) fn require<'p>(programs: impl Iterator<Item = &'p str>) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut missing: Vec<&str> = programs
        .filter(|program| !folders.iter().any(|folder| folder.join(program).is_file()))
        .filter(|program| !Path::new("/usr/sbin").join(program).is_file())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let package =
        |program: &&str| PACKAGES.iter().find(|(name, _)| name == program).map(|(_, package)| *package);
    let packages: Vec<&str> = missing.iter().filter_map(package).collect();
    bail!("missing: {}; on Debian: apt-get install {}", missing.join(", "), packages.join(" "))
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
