//! What does a connection take from the heap once it runs? Nothing for a segment that begins no exchange, little for one
//! that does, and little for waiting.

#[allow(dead_code, reason = "shared: each takes what it needs")]
mod support;

use support::{
    Connection, Conversation,
    conversations::{large, small},
    counting::{Counting, taken},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An idle connection's parser and all that it owns.
const IDLE_BYTES_MAX: i64 = 2048;

/// Of one exchange: its attributes, and texts that do not stand inline. A simple query of PostgreSQL has most, its text
/// and its summary.
const ALLOCATIONS_MAX: u64 = 7;

fn rounds(connection: &mut Connection, conversation: &mut Conversation, count: usize) {
    let before = connection.exchanges;
    for _ in 0..count {
        connection.round(conversation);
    }
    let found = connection.exchanges - before;
    assert_eq!(found, count * conversation.exchanges, "{}", conversation.name);
}

#[test]
fn an_exchange_takes_no_more_than_the_first_one_did() {
    for mut conversation in small() {
        let mut connection = Connection::open(&conversation);
        rounds(&mut connection, &mut conversation, 4);
        let first = taken().allocations;
        rounds(&mut connection, &mut conversation, 1);
        let second = taken().allocations;
        rounds(&mut connection, &mut conversation, 10);
        assert_eq!(taken().allocations - second, 10 * (second - first), "{}", conversation.name);
        let each = (second - first) as f64 / conversation.exchanges as f64;
        assert!(each <= ALLOCATIONS_MAX as f64, "{}: {each} allocations an exchange", conversation.name);
    }
}

#[test]
fn a_segment_of_a_body_takes_nothing() {
    for mut conversation in large() {
        let mut connection = Connection::open(&conversation);
        rounds(&mut connection, &mut conversation, 4);
        let before = taken().allocations;
        rounds(&mut connection, &mut conversation, 1);
        let many = taken().allocations - before;
        // Each call is at least one segment.
        assert!(conversation.round.len() >= 18, "{}", conversation.name);
        assert!(
            many <= ALLOCATIONS_MAX,
            "{}: {many} in {} calls",
            conversation.name,
            conversation.round.len()
        );
    }
}

#[test]
fn an_idle_connection_is_small() {
    for mut conversation in small().into_iter().chain(large()) {
        let before = taken().live;
        let mut connection = Connection::open(&conversation);
        let outside = i64::try_from(connection.outside()).unwrap();
        rounds(&mut connection, &mut conversation, 4);
        let live = taken().live - before - outside;
        assert!(live > 0 && live <= IDLE_BYTES_MAX, "{}: {live} bytes", conversation.name);
    }
}
