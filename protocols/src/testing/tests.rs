//! Every check on every registered protocol with the fixtures of its folder.

use proptest::{collection::vec, prelude::*};

use super::{
    runs::{chunks_of, run_with_gaps},
    truth::check_found,
    *,
};
use crate::{ALL, Direction, Protocol};

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

/// Run with `--nocapture` for what was lost.
#[test]
fn after_random_loss_nothing_is_wrong_and_the_parser_recovers() {
    for protocol in ALL {
        let mut sum = Loss::default();
        for fixture in fixtures(*protocol) {
            for seed in 0..SEEDS {
                sum.add(check_random_loss(*protocol, &fixture, seed, 20));
            }
        }
        println!("{}: {sum:?}", protocol.name());
        assert!(sum.later > 0 && sum.later_found == sum.later, "{}: {sum:?}", protocol.name());
        assert!(sum.lost_calls > 0 && sum.found < sum.exchanges, "{}: {sum:?}", protocol.name());
        // Not all that is lost was ever seen, but whoever lost much must know of some.
        assert!(sum.dropped > 0, "{}: {sum:?}", protocol.name());
    }
}

/// Of losing calls of one fixture by chance.
const SEEDS: u64 = 300;

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
