//! The kernel's view of the agent's BPF objects: run time of programs and locked memory, from its `fdinfo`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::procfs::number;
use crate::command::{command, output};

/// A loaded program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Its name if bpftool is there to ask, else the tracepoint that it is attached to, or its type.
    pub(super) name: String,
    /// Nanoseconds in it, while the kernel's statistics were on.
    pub(super) run_time_ns: u64,
    /// How often it ran meanwhile.
    pub(super) runs: u64,
    /// Locked memory.
    pub(super) bytes: u64,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Its name if bpftool is there to ask, and its shape.
    pub(super) name: String,
    /// Locked memory.
    pub(super) bytes: u64,
    /// Whether it is the ring buffer.
    pub(super) is_ring: bool,
}

/// The BPF objects of a process, by the kernel's number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    pub(super) programs: BTreeMap<u64, Program>,
    pub(super) maps: BTreeMap<u64, Map>,
}

impl Objects {
    /// What the process holds.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {folder}"))?;
        // A descriptor may be closed between listing and reading.
        let texts: Vec<String> =
            entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
        let mut objects = Self::parse(&texts, &names("map"));
        for (id, name) in names("prog") {
            objects.programs.entry(id).and_modify(|program| program.name = name);
        }
        Ok(objects)
    }

    fn parse(texts: &[String], names: &BTreeMap<u64, String>) -> Self {
        let mut objects = Self::default();
        for text in texts {
            let bytes = number(text, "memlock").unwrap_or(0);
            if let Some(id) = number(text, "map_id") {
                let kind = number(text, "map_type").unwrap_or(0);
                let entries = number(text, "max_entries").unwrap_or(0);
                let entry = number(text, "key_size").unwrap_or(0) + number(text, "value_size").unwrap_or(0);
                let shape = match kind {
                    RING => "ring buffer".to_owned(),
                    _ => format!("{entries} x {entry} B"),
                };
                let name = names.get(&id).map_or_else(|| shape.clone(), |name| format!("{name}: {shape}"));
                objects.maps.insert(id, Map { name, bytes, is_ring: kind == RING });
            } else if let (Some(id), Some(kind)) = (number(text, "prog_id"), number(text, "prog_type")) {
                let program = objects.programs.entry(id).or_default();
                program.bytes = bytes;
                program.run_time_ns = number(text, "run_time_ns").unwrap_or(0);
                program.runs = number(text, "run_cnt").unwrap_or(0);
                if program.name.is_empty() {
                    program.name = if kind == KPROBE { "uprobe" } else { "program" }.to_owned();
                }
            } else if let (Some(id), Some(tracepoint)) = (number(text, "prog_id"), tracepoint(text)) {
                objects.programs.entry(id).or_default().name = tracepoint.to_owned();
            }
        }
        objects
    }

    /// Locked memory of all maps but the ring buffer.
    pub(super) fn map_bytes(&self) -> u64 {
        self.maps.values().filter(|map| !map.is_ring).map(|map| map.bytes).sum()
    }

    /// Locked memory of the ring buffer.
    pub(super) fn ring_bytes(&self) -> u64 {
        self.maps.values().filter(|map| map.is_ring).map(|map| map.bytes).sum()
    }

    /// Locked memory of the programs.
    pub(super) fn program_bytes(&self) -> u64 {
        self.programs.values().map(|program| program.bytes).sum()
    }

    /// Name, runs and nanoseconds since `before` of each program that has run.
    pub(super) fn since(&self, before: &Self) -> Vec<(&str, u64, u64)> {
        let mut ran = Vec::new();
        for (id, now) in &self.programs {
            let then = before.programs.get(id).cloned().unwrap_or_default();
            let (runs, ns) =
                (now.runs.saturating_sub(then.runs), now.run_time_ns.saturating_sub(then.run_time_ns));
            if runs > 0 {
                ran.push((now.name.as_str(), runs, ns));
            }
        }
        ran
    }
}

/// Of a link's `fdinfo`.
fn tracepoint(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("tp_name:")).map(str::trim)
}

/// Names of this machine's objects, `map` or `prog`; none without bpftool.
fn names(kind: &str) -> BTreeMap<u64, String> {
    let text = output(command("bpftool").args([kind, "show"])).unwrap_or_default();
    // `12: lru_hash  name CONNECTIONS  flags 0x0`
    let name = |line: &str| {
        let (id, rest) = line.split_once(": ")?;
        let name = rest.split_once("  name ")?.1.split_whitespace().next()?;
        Some((id.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(name).collect()
}

/// `BPF_MAP_TYPE_RINGBUF`
const RING: u64 = 27;
/// `BPF_PROG_TYPE_KPROBE`, which uprobes have.
const KPROBE: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_from_fdinfo() {
        let texts = [
            "flags:\t02000002\nmap_type:\t27\nkey_size:\t0\nvalue_size:\t0\nmax_entries:\t4096\nmemlock:\t9000\nmap_id:\t7\n",
            "flags:\t0\nmap_type:\t9\nkey_size:\t8\nvalue_size:\t40\nmax_entries:\t16\nmemlock:\t800\nmap_id:\t8\n",
            "flags:\t0\nprog_type:\t26\nmemlock:\t53248\nprog_id:\t384\nrun_time_ns:\t1200\nrun_cnt:\t10\n",
            "flags:\t0\nlink_type:\traw_tracepoint\nprog_id:\t384\ntp_name:\tsys_exit\ncookie:\t0\n",
        ];
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let names = BTreeMap::from([(8, "CONNECTIONS".to_owned())]);
        let objects = Objects::parse(&texts, &names);
        assert_eq!((objects.map_bytes(), objects.ring_bytes(), objects.program_bytes()), (800, 9000, 53248));
        assert_eq!(objects.maps[&8].name, "CONNECTIONS: 16 x 48 B");
        assert_eq!(objects.programs[&384].name, "sys_exit");
        assert_eq!(objects.since(&Objects::default()), [("sys_exit", 10, 1200)]);
    }
}
