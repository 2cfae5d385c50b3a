//! What /proc says of a process: CPU time, memory, children.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The first number of the line `name: number` of a file.
pub(super) fn field(file: &str, name: &str) -> Option<u64> {
    number(&fs::read_to_string(file).ok()?, name)
}

/// The first number of the line `name: number` of a text.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// CPU time of a process of one thread, to the nanosecond: what utime + stime of its `stat` say in ticks.
pub(super) fn cpu_of_thread(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {file}"))?;
    let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
    Ok(Duration::from_nanos(nanos.with_context(|| format!("{file} says {text:?}"))?))
}

/// CPU time (user and system) of a process, threads that have ended included.
pub(super) fn cpu_of_process(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {file}"))?;
    let [own, _] = ticks(&text).with_context(|| format!("{file} says {text:?}"))?;
    Ok(Duration::from_millis(own * 1000 / USER_HZ))
}

/// The same of a process and its children, also of those that have ended.
pub(super) fn cpu_of_family(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {file}"))?;
    let [own, ended] = ticks(&text).with_context(|| format!("{file} says {text:?}"))?;
    let mut sum = Duration::from_millis((own + ended) * 1000 / USER_HZ);
    for child in children(pid) {
        // One that has ended meanwhile is in the sum of those.
        sum += cpu_of_process(child).unwrap_or_default();
    }
    Ok(sum)
}

/// utime + stime, and cutime + cstime: fields 14 to 17, counted behind the name, which may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<[u64; 2]> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some([next()? + next()?, next()? + next()?])
}

/// Processes whose name begins so.
pub(super) fn named(name: &str) -> Vec<u32> {
    let is =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name));
    all().filter(is).collect()
}

/// Processes started by this one.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let is = |pid: &u32| field(&format!("/proc/{pid}/status"), "PPid") == Some(u64::from(parent));
    all().filter(is).collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Unit of the times in `stat`; the same on every architecture but alpha and ia64.
const USER_HZ: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        assert_eq!(number("VmRSS:\t   60196 kB\nRssAnon: 1 kB", "VmRSS"), Some(60196));
        assert_eq!(number("VmRSSX:\t 1", "VmRSS"), None);
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 7 4 20 0 1";
        assert_eq!(ticks(stat), Some([300, 11]));
    }
}
