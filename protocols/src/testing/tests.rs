//! Every check on every registered protocol with the fixtures of its folder.

use proptest::{collection::vec, prelude::*};

use super::{
    runs::{chunks_of, run_with_gaps},
    truth::check_found,
    *,
};
use crate::{ALL, Direction, Protocol, Sniff};

fn fixtures(protocol: &dyn Protocol) -> Vec<Fixture> {
    let folder = format!("{}/src/{}/fixtures", env!("CARGO_MANIFEST_DIR"), protocol.name());
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} holds no fixture");
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        Fixture::parse(&name, &std::fs::read_to_string(path).expect("text"))
    };
    paths.iter().map(read).collect()
}

fn each(check: impl Fn(&dyn Protocol, &Fixture)) {
    for protocol in ALL {
        for fixture in fixtures(*protocol) {
            check(*protocol, &fixture);
        }
    }
}

#[test]
fn recorded_traffic_gives_the_expected_exchanges() {
    for protocol in ALL {
        for fixture in fixtures(*protocol) {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(format!("../{}/fixtures", protocol.name()));
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings
                .bind(|| insta::assert_snapshot!(fixture.name.clone(), render(&run(*protocol, &fixture))));
        }
    }
}

#[test]
fn splits_change_nothing() {
    each(check_splits);
}

#[test]
fn prefixes_match_only_as_themselves() {
    each(check_prefixes);
}

#[test]
fn after_a_gap_nothing_is_wrong_and_the_parser_recovers() {
    each(check_gaps);
}

#[test]
fn after_lost_calls_nothing_is_wrong() {
    each(check_lost_calls);
}

#[test]
fn of_cut_calls_nothing_is_wrong() {
    each(check_copy_limits);
}

#[test]
fn joined_late_nothing_is_wrong_and_the_parser_recovers() {
    each(check_late_join);
}

#[test]
fn other_protocols_do_not_match() {
    for protocol in ALL {
        check_foreign(*protocol);
    }
}

/// Bytes without any sense, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Every call of every fixture, 10 MB of noise and as much of TLS records, each against every protocol but its own:
/// run with `--nocapture` for the table.
#[test]
fn no_traffic_of_another_protocol_matches() {
    let noise = noise(10_000_000);
    let pieces = || noise.chunks(509);
    let records: Vec<Vec<u8>> = pieces().map(|piece| [&[23, 3, 3, 1, 253], piece].concat()).collect();
    for protocol in ALL {
        let matches = |bytes: &[u8]| {
            let ways = [None, Some(Direction::ToServer), Some(Direction::ToClient)];
            ways.iter().any(|way| matches!(protocol.sniff(bytes, *way), Sniff::Match(_)))
        };
        let mut row = Vec::new();
        for other in ALL.iter().filter(|other| other.name() != protocol.name()) {
            let fixtures = fixtures(*other);
            let calls = fixtures.iter().flat_map(|fixture| &fixture.chunks);
            row.push((other.name(), calls.filter(|call| matches(&call.bytes)).count()));
        }
        row.push(("noise", pieces().filter(|piece| matches(piece)).count()));
        row.push(("TLS records", records.iter().filter(|record| matches(record)).count()));
        println!("{} takes for its own: {row:?}", protocol.name());
        assert!(row.iter().all(|(_, count)| *count == 0), "{}: {row:?}", protocol.name());
    }
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::ToServer), Just(Direction::ToClient)]
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(
        from_start: bool,
        calls in vec((direction(), 0u64..3, vec(any::<u8>(), 0..200)), 0..20),
    ) {
        for protocol in ALL {
            check_garbage(*protocol, from_start, &calls);
        }
    }

    #[test]
    fn after_several_gaps_nothing_is_wrong(
        gaps in vec((direction(), any::<prop::sample::Index>(), 1usize..400), 1..5),
    ) {
        for protocol in ALL {
            for fixture in fixtures(*protocol) {
                let truth = run(*protocol, &fixture);
                let length = |way| chunks_of(&fixture, way).map(|chunk| chunk.bytes.len()).sum::<usize>();
                let ranges: Vec<_> = gaps
                    .iter()
                    .map(|(way, start, missing)| (*way, start.index(length(*way)), *missing))
                    .collect();
                let missing = |way, at| {
                    ranges.iter().any(|(gap, start, length)| *gap == way && (*start..start + length).contains(&at))
                };
                let (found, after) = run_with_gaps(*protocol, &fixture, missing);
                check_found(&found, &truth, after, fixture.recovery(), &format!("{}: {ranges:?}", fixture.name));
            }
        }
    }

    #[test]
    fn damaged_traffic_does_not_panic(
        from_start: bool,
        seed: prop::sample::Index,
        damage in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        gaps in vec(prop_oneof![9 => Just(0u64), 1 => 0u64..500], 64),
    ) {
        for protocol in ALL {
            let fixtures = fixtures(*protocol);
            let mut chunks = seed.get(&fixtures).chunks.clone();
            for (chunk, at, byte) in &damage {
                let index = chunk.index(chunks.len());
                let place = at.index(chunks[index].bytes.len());
                chunks[index].bytes[place] = *byte;
            }
            let calls: Vec<_> = chunks
                .into_iter()
                .zip(gaps.iter().cycle())
                .map(|(chunk, missing)| (chunk.direction, *missing, chunk.bytes))
                .collect();
            check_garbage(*protocol, from_start, &calls);
        }
    }
}
