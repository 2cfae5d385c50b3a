//! Memory stays within its caps whatever comes in, and what that costs is counted.

use super::*;

fn call(flow: Flow, at: u64, position: u64, bytes: &[u8]) -> Call {
    Call { flow, at, position, size: bytes.len() as u64, bytes: bytes.to_vec() }
}

#[test]
fn unconsumable_bytes_of_one_direction_stay_bounded() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&Script::default().exchange(1, 0, 0).calls);
    // A response to a request that never comes is held back.
    let mut position = 5;
    for at in 0..3_000 {
        let bytes = if at == 0 { message(b'R', 9, 100_000) } else { vec![b'x'; 1_000] };
        let bytes = &bytes[..1_000];
        node.call(&call(SENT, at * 1_000, position, bytes));
        position += 1_000;
        assert!(node.table.usage().footprint_bytes <= 140 * 1024);
    }
    let counters = *node.table.counters();
    assert!(counters.direction_budget_bytes > 0);
    // It is found again.
    node.calls(&[call(RECEIVED, 9_000 * MS, 5, b"Q11:0\n"), call(SENT, 9_000 * MS, position, b"R11:0\n")]);
    assert_eq!(node.found(), [1, 11]);
}

#[test]
fn a_call_larger_than_the_budget_is_a_gap() {
    let settings = Settings { direction_bytes_max: 100, ..Settings::default() };
    let mut node = Node::with(settings);
    node.open(1, Some(Opener::Peer), true);
    node.calls(&Script::default().exchange(1, 0, 0).calls);
    node.call(&call(SENT, 9 * MS, 5, &message(b'R', 2, 500)));
    assert_eq!(node.table.counters().direction_budget_bytes, 507);
    assert_eq!(node.table.usage().footprint_bytes, 0);
}

#[test]
fn alternating_bytes_and_gaps_stay_bounded() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&Script::default().exchange(1, 0, 0).calls);
    for step in 0..10_000 {
        let mut call = call(SENT, 9 * MS, 5 + step * 10, b"R9");
        call.size = 10;
        node.call(&call);
        assert!(node.table.usage().footprint_bytes <= 8 * 1024);
    }
}

#[test]
fn jumping_positions_stay_bounded() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    for step in 0..2_000_u64 {
        node.call(&call(RECEIVED, 9 * MS, step * 10_000, &[b'x'; 5_000]));
        assert!(node.table.usage().footprint_bytes <= 64 * 1024);
    }
    node.call(&call(RECEIVED, 9 * MS, u64::MAX, b"xx"));
    node.call(&call(RECEIVED, 9 * MS, u64::MAX - 1, b"xx"));
    node.tick(u64::MAX);
    assert_eq!(node.table.usage().footprint_bytes, 0);
}

#[test]
fn all_streams_together_stay_bounded() {
    let settings = Settings { retained_bytes_max: 256 * 1024, ..Settings::default() };
    let mut node = Node::with(settings);
    for stream in 1..=200_u64 {
        node.open(stream, Some(Opener::Peer), true);
        for request in [b"Q1:0\n".as_slice(), &message(b'R', 9, 10_000)] {
            let flow = if request.first() == Some(&b'Q') { RECEIVED } else { SENT };
            node.data(stream, Some(stream), Layer::Socket, &call(flow, stream, 0, request));
        }
        assert!(node.table.usage().footprint_bytes <= 256 * 1024);
    }
    let counters = *node.table.counters();
    assert!(counters.total_budget_bytes > 1_000_000, "{counters:?}");
    assert_eq!(counters.direction_budget_bytes, 0);
    // Those that were shed go on.
    let next = [call(RECEIVED, MS, 5, b"Q10:0\n"), call(SENT, MS, 10_009, b"R10:0\n")];
    let shed = message(b'R', 9, 10_000).len() as u64;
    assert_eq!(shed, 10_009);
    next.iter().for_each(|call| node.data(1, Some(1), Layer::Socket, call));
    assert_eq!(node.found(), [10]);
}

#[test]
fn the_least_recently_used_stream_is_evicted() {
    let settings = Settings { streams_max: 4, ..Settings::default() };
    let mut node = Node::with(settings);
    for stream in [1, 2, 3, 4, 1, 5] {
        let position = if stream == 1 && node.table.usage().streams == 4 { 5 } else { 0 };
        let id = 1 + position;
        let bytes = format!("Q{id}:0\n").into_bytes();
        node.data(stream, Some(stream), Layer::Socket, &call(RECEIVED, stream, position, &bytes));
    }
    let usage = node.table.usage();
    assert_eq!((usage.streams, usage.connections), (4, 4));
    assert_eq!(node.table.counters().evicted_streams, 1);
    assert_eq!(node.table.counters().evicted_connections, 1);
    // 1 was used again, so it was 2 that went, without an error made of it.
    assert!(node.out.is_empty());
    node.data(1, Some(1), Layer::Socket, &call(SENT, 9, 0, b"R6:0\n"));
    assert_eq!(node.found(), [6]);
    // 2 is found again in its middle.
    node.data(2, Some(2), Layer::Socket, &call(RECEIVED, 9, 500, b"Q8:0\n"));
    node.data(2, Some(2), Layer::Socket, &call(SENT, 9, 700, b"R8:0\n"));
    assert_eq!(node.found(), [6, 8]);
    assert_eq!(node.table.counters().missing_bytes, 0);
}

#[test]
fn what_waits_too_long_has_timed_out_and_what_comes_late_is_no_answer() {
    let timeout = Duration::from_secs(5);
    let mut node = Node::with(Settings { exchange_timeout: timeout, ..Settings::default() });
    for connection in 1..=3 {
        node.open(connection, Some(Opener::Peer), true);
    }
    // 1 waits for an answer, 2 for a question, and of 3 the rest of a question is on its way, which nobody need see.
    let on = |node: &mut Node, stream, call: Call| node.data(stream, Some(stream), Layer::Socket, &call);
    on(&mut node, 1, call(RECEIVED, MS, 0, b"Q1:0\n"));
    on(&mut node, 2, call(RECEIVED, MS, 0, b"Q2:0\n"));
    on(&mut node, 2, call(SENT, 2 * MS, 0, b"R2:0\n"));
    on(&mut node, 3, call(RECEIVED, MS, 0, b"Q3:0\n"));
    on(&mut node, 3, call(SENT, 4_900 * MS, 0, b"R3"));
    node.tick(5_000 * MS);
    assert_eq!(node.found(), [2], "not yet");
    node.tick(5_001 * MS);
    assert_eq!(node.table.usage().streams, 2);
    let failed = &node.out.last().expect("there is one").exchange;
    assert_eq!(failed.outcome, Outcome::Error("timeout".into()));
    assert_eq!((failed.start.0, failed.end.0), (MS, 5_001 * MS));
    // The late answer is nobody's, and the next question has its own.
    on(&mut node, 1, call(SENT, 6_000 * MS, 0, b"R1:0\n"));
    on(&mut node, 1, call(RECEIVED, 6_100 * MS, 5, b"Q4:0\n"));
    on(&mut node, 1, call(SENT, 6_200 * MS, 5, b"R4:0\n"));
    assert_eq!((node.found(), node.table.counters().gaps), (vec![2, 4], 0));
    node.tick(11_000 * MS);
    assert_eq!(node.table.usage().streams, 2, "3 has timed out, 1 and 2 may be silent for longer");
}

#[test]
fn many_streams_come_and_go_without_a_trace() {
    let mut node = Node::new();
    for stream in 1..=2_000_u64 {
        node.open(1, Some(Opener::Peer), true);
        node.call(&call(RECEIVED, stream * MS, 0, b"Q1"));
        node.call(&call(SENT, stream * MS, 20, b"R1:0\n"));
        node.close(1, Layer::Socket, stream * MS, 25, 2);
    }
    assert_eq!(node.table.usage(), super::super::Usage::default());
}
