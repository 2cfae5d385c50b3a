//! The reader of capture files, and what its events do to the connection layer.

use std::{fs, path::Path};

use spantap::replay::Replay;
use spantap_ebpf_common::Event;
use spantap_protocols::ALL;

use crate::{memory, table::Node};

pub(crate) fn run(input: &[u8]) -> u64 {
    let before = memory::held();
    let mut node = Node::new();
    let (mut events, mut now) = (0, 0);
    let mut replay = Replay::new(ALL);
    // A file may be damaged; what came before was passed on.
    let _ = replay.read(Path::new("fuzz"), input, &mut |event| {
        events += 1;
        now = now.max(match event {
            Event::Open(open) => open.boot_ns,
            Event::Data(data) => data.last_ns,
            Event::Close(close) => close.boot_ns,
            Event::Process(process) => process.boot_ns,
            Event::ConnectFailed(failed) => failed.boot_ns,
        });
        node.on_event(event);
    });
    node.finish(now);
    let held = memory::held() - before;
    let most = HELD_BYTES_MAX + 4 * isize::try_from(input.len()).unwrap_or(isize::MAX);
    assert!(held <= most, "{held} bytes are held for a file of {}", input.len());
    input.len() as u64 + events * EVENT_BYTES
}

/// The captures of the tests.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector/tests/fixtures/replay");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "pcap" || end == "pcapng"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no capture", folder.display());
    // Of each the beginning: a fuzzer wants small inputs.
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .map(|bytes| bytes[..bytes.len().min(SEED_BYTES_MAX)].to_vec())
        .collect()
}

const SEED_BYTES_MAX: usize = 16 * 1024;
const HELD_BYTES_MAX: isize = 1024 * 1024;
/// What an event costs even if it carries nothing.
const EVENT_BYTES: u64 = 16;
