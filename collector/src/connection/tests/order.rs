//! Splits, losses, reordering, inversion and late joins: what comes out must be right whatever way bytes came in.

use proptest::prelude::*;

use super::*;

/// Cuts the bytes of each direction into calls of the given sizes, and takes from either direction as told.
fn split(received: &[u8], sent: &[u8], sizes: &[usize], turns: &[bool]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut at = [0, 0];
    let mut sizes = sizes.iter().cycle();
    let mut turns = turns.iter().cycle();
    while at[0] < received.len() || at[1] < sent.len() {
        let which = usize::from(*turns.next().unwrap());
        let (flow, bytes) = if which == 0 { (RECEIVED, received) } else { (SENT, sent) };
        let from = at[which];
        let to = bytes.len().min(from + sizes.next().unwrap());
        if from < to {
            let at = MS * calls.len() as u64;
            let bytes = bytes[from..to].to_vec();
            calls.push(Call { flow, at, position: from as u64, size: bytes.len() as u64, bytes });
        }
        at[which] = to;
    }
    calls
}

fn conversation(bodies: &[(usize, usize)]) -> (Vec<u8>, Vec<u8>) {
    let mut both = (Vec::new(), Vec::new());
    for (id, (request, response)) in (1..).zip(bodies) {
        both.0.extend(message(b'Q', id, *request));
        both.1.extend(message(b'R', id, *response));
    }
    both
}

fn opener() -> impl Strategy<Value = Option<Opener>> {
    prop_oneof![Just(None), Just(Some(Opener::Peer))]
}

fn bodies() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..300_usize, 0..300_usize), 1..20)
}

proptest! {
    #[test]
    fn any_split_and_interleaving_gives_the_same(
        bodies in bodies(), opener in opener(),
        sizes in prop::collection::vec(1..200_usize, 1..20),
        turns in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let (received, sent) = conversation(&bodies);
        let turns = [&turns[..], &[true, false]].concat();
        let mut node = Node::opened(opener, true);
        node.calls(&split(&received, &sent, &sizes, &turns));
        node.close(1, Layer::Socket, u64::MAX / 2, sent.len() as u64, received.len() as u64);
        prop_assert_eq!(node.found(), (1..=bodies.len() as u64).collect::<Vec<_>>());
        for (finished, (request, response)) in node.out.iter().zip(&bodies) {
            let id: u64 = finished.exchange.operation.parse().unwrap();
            prop_assert_eq!(finished.exchange.role, Role::Server);
            prop_assert_eq!(finished.exchange.request_bytes, message(b'Q', id, *request).len() as u64);
            prop_assert_eq!(finished.exchange.response_bytes, message(b'R', id, *response).len() as u64);
        }
        let counters = node.table.counters();
        prop_assert_eq!(counters.parsed_bytes, counters.seen_bytes);
    }

    #[test]
    fn calls_that_return_in_another_order_are_put_back(
        bodies in bodies(),
        sizes in prop::collection::vec(1..200_usize, 1..20),
        swaps in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let (received, sent) = conversation(&bodies);
        let mut calls = split(&received, &sent, &sizes, &[false, false, false, true, true]);
        let mut swaps = swaps.iter().cycle();
        for pair in calls.chunks_exact_mut(2) {
            if pair[0].flow == pair[1].flow && *swaps.next().unwrap() {
                pair.reverse();
            }
        }
        let mut node = Node::opened(Some(Opener::Peer), true);
        node.calls(&calls);
        // Times are those of the script, so no hold is given up unless calls lie far apart.
        prop_assert_eq!(node.found(), (1..=bodies.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(node.table.counters().missing_bytes, 0);
    }

    #[test]
    fn after_losses_nothing_is_wrong_and_the_rest_is_found(
        bodies in bodies(), opener in opener(),
        sizes in prop::collection::vec(1..400_usize, 1..20),
        lost in prop::collection::vec(prop::bool::weighted(0.15), 5..60),
        open_lost in any::<bool>(),
    ) {
        let (mut received, mut sent) = conversation(&bodies);
        let mut calls = split(&received, &sent, &sizes, &[false, true]);
        let mut lost = lost.iter().cycle();
        calls.retain(|_| !lost.next().unwrap());
        let mut node = if open_lost { Node::new() } else { Node::opened(opener, true) };
        node.calls(&calls);
        // Long after, so that every hold is over.
        for id in 101..104_u64 {
            for (flow, all, letter) in [(RECEIVED, &mut received, b'Q'), (SENT, &mut sent, b'R')] {
                let bytes = message(letter, id, 5);
                let position = all.len() as u64;
                all.extend(&bytes);
                let at = id * 1_000 * MS;
                node.call(&Call { flow, at, position, size: bytes.len() as u64, bytes });
            }
        }
        node.tick(200_000 * MS);
        let found = node.found();
        prop_assert!(found.ends_with(&[102, 103]), "{:?}", found);
        for finished in &node.out {
            let id: usize = finished.exchange.operation.parse().unwrap();
            let (request, response) = if id > 100 { (5, 5) } else { bodies[id - 1] };
            prop_assert_eq!(finished.exchange.request_bytes, message(b'Q', id as u64, request).len() as u64);
            prop_assert_eq!(finished.exchange.response_bytes, message(b'R', id as u64, response).len() as u64);
        }
        let totals = (received.len() + sent.len()) as u64;
        node.close(1, Layer::Socket, 300_000 * MS, sent.len() as u64, received.len() as u64);
        let counters = node.table.counters();
        let passed = counters.seen_bytes - counters.overlap_bytes + counters.missing_bytes;
        let right = if open_lost { passed <= totals } else { passed == totals };
        prop_assert!(right);
    }

    #[test]
    fn a_late_join_finds_the_next_message(
        bodies in bodies(), join in 0..100_usize, known in opener(),
        sizes in prop::collection::vec(1..400_usize, 1..20),
    ) {
        let (received, sent) = conversation(&bodies);
        let calls = split(&received, &sent, &sizes, &[false, true]);
        let mut node = Node::opened(known, false);
        let join = join.min(calls.len());
        let base = |flow| calls[join..].iter().find(|call| call.flow == flow).map_or(0, |call| call.position);
        let bases = [base(RECEIVED), base(SENT)];
        for call in &calls[join..] {
            let base = bases[usize::from(call.flow == SENT)];
            node.call(&Call { position: call.position - base, ..call.clone() });
        }
        let mut script = Script {
            received: received.len() as u64 - if bases[0] == 0 && join == calls.len() { received.len() as u64 } else { bases[0] },
            sent: sent.len() as u64 - if bases[1] == 0 && join == calls.len() { sent.len() as u64 } else { bases[1] },
            calls: Vec::new(),
        };
        // If nothing was received or sent after the join, its positions begin now.
        if !calls[join..].iter().any(|call| call.flow == RECEIVED) { script.received = 0; }
        if !calls[join..].iter().any(|call| call.flow == SENT) { script.sent = 0; }
        for id in 101..104 {
            script.exchange(id, 3, 3);
        }
        for call in &mut script.calls { call.at += 100_000 * MS; }
        node.calls(&script.calls);
        let found = node.found();
        prop_assert!(found.ends_with(&[102, 103]), "{:?}", found);
        for finished in &node.out {
            let id: usize = finished.exchange.operation.parse().unwrap();
            let (_, response) = if id > 100 { (3, 3) } else { bodies[id - 1] };
            prop_assert_eq!(finished.exchange.response_bytes, message(b'R', id as u64, response).len() as u64);
        }
    }
}

#[test]
fn sizes_stay_right_for_bodies_that_are_not_copied() {
    let mut script = Script::default();
    for id in 1..=3 {
        script.cut(RECEIVED, &message(b'Q', id, 10_000), 40).cut(SENT, &message(b'R', id, 1_000_000), 40);
    }
    let mut node = Node::opened(None, true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1, 2, 3]);
    assert!(node.out.iter().all(|finished| finished.exchange.response_bytes == 1_000_011));
    let counters = node.table.counters();
    assert_eq!(counters.uncopied_bytes, script.sent + script.received - 6 * 40);
    assert_eq!(counters.gaps, 6);
}

#[test]
fn a_cut_response_that_came_before_its_request_is_held() {
    let mut script = Script::default();
    script.exchange(1, 0, 0).say(RECEIVED, &message(b'Q', 2, 0)).cut(SENT, &message(b'R', 2, 500), 40);
    script.calls.swap(2, 3);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1, 2]);
    assert_eq!(node.out[1].exchange.response_bytes, 507);
    assert_eq!(node.table.counters().incomplete_bytes, 0);
}

#[test]
fn a_head_cut_by_a_gap_is_given_up_in_time() {
    let mut script = Script::default();
    script.exchange(1, 0, 0).cut(RECEIVED, b"Q2:0\n", 3).say(RECEIVED, b"Q3:0\n").say(SENT, b"R3:0\n");
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1]);
    node.tick(110 * MS);
    assert_eq!(node.found(), [1, 3]);
    assert_eq!(node.table.counters().incomplete_bytes, 3);
}

#[test]
fn a_loss_is_a_gap_once_its_time_is_over_even_without_a_tick() {
    let mut script = Script::default();
    script.exchange(1, 0, 0).exchange(2, 0, 0).exchange(3, 0, 0);
    script.calls[4].at = 300 * MS;
    script.calls[5].at = 500 * MS;
    script.calls.remove(2);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls[..4]);
    assert_eq!(node.table.counters().missing_bytes, 0);
    node.open(2, Some(Opener::Peer), true);
    let late = Call { at: 401 * MS, ..Script::default().say(RECEIVED, b"Q1:0\n").calls[0].clone() };
    node.data(2, Some(2), Layer::Socket, &late);
    assert_eq!(node.table.counters().missing_bytes, 5);
    node.calls(&script.calls[4..]);
    assert_eq!(node.found(), [1, 3]);
}

#[test]
fn a_loss_is_a_gap_as_soon_as_the_other_direction_moves() {
    let mut script = Script::default();
    script.exchange(1, 0, 0).exchange(2, 0, 0).exchange(3, 0, 0);
    script.calls.remove(2);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1, 3]);
}

#[test]
fn bytes_seen_twice_are_trimmed() {
    let mut script = Script::default();
    script.exchange(1, 20, 0).exchange(2, 0, 0);
    let mut again = script.calls[0].clone();
    again.bytes.extend(b"Q2:0\n");
    again.size += 5;
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls[..1]);
    node.calls(&[script.calls[0].clone(), again]);
    node.calls(&script.calls[1..]);
    assert_eq!(node.found(), [1, 2]);
    assert_eq!(node.table.counters().overlap_bytes, 26 + 26 + 5);
}
