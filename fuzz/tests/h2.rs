//! Conversations of the `h2` crate's client and server, through what every parser must stand (`protocols`, `testing`).

use spantap_fuzz::{TARGETS, h2};
use spantap_protocols::{
    Role,
    http2::Http2,
    testing::{Fixture, check_gaps, check_late_join, check_lost_calls, check_random_loss, check_splits, run},
};

/// Short ones: each is fed thousands of times.
fn recordings(role: Role) -> Vec<Fixture> {
    let all = (1_000..).map(|seed| h2::recording(seed, role));
    let short = all.filter(|fixture| {
        let bytes: usize = fixture.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        bytes < 6_000 && (8..80).contains(&fixture.chunks.len())
    });
    short.take(RECORDINGS).collect()
}

fn each(check: impl Fn(&Fixture)) {
    for role in [Role::Server, Role::Client] {
        let recordings = recordings(role);
        let exchanges: usize = recordings.iter().map(|fixture| run(&Http2, fixture).len()).sum();
        assert!(exchanges > 2 * RECORDINGS, "only {exchanges} exchanges");
        recordings.iter().for_each(&check);
    }
}

#[test]
fn splits_change_nothing() {
    each(|fixture| check_splits(&Http2, fixture));
}

#[test]
fn gaps_make_nothing_wrong_and_it_recovers() {
    each(|fixture| check_gaps(&Http2, fixture));
}

#[test]
fn lost_calls_make_nothing_wrong() {
    each(|fixture| {
        check_lost_calls(&Http2, fixture);
        for seed in 0..50 {
            let _ = check_random_loss(&Http2, fixture, seed, 20);
        }
    });
}

#[test]
fn joined_anywhere_nothing_is_wrong_and_it_recovers() {
    each(|fixture| check_late_join(&Http2, fixture));
}

/// More and longer conversations than the bounded run of all targets has.
#[test]
fn whatever_is_said_is_read() {
    let target = TARGETS.iter().find(|target| target.name == "h2").expect("registered");
    let bytes: u64 = (0..CONVERSATIONS).map(|seed| (target.run)(&h2::noise(seed))).sum();
    println!("{CONVERSATIONS} conversations of {bytes} bytes");
    assert!(bytes > 1_000 * CONVERSATIONS);
}

const RECORDINGS: usize = 6;
const CONVERSATIONS: u64 = 300;
