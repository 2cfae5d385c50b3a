//! What the kernel side is asked to leave out, and what becomes of a stream that it did so of.

use spantap_ebpf_common::Verdict;

use super::*;

impl Node {
    fn verdicts(&mut self) -> Vec<Verdict> {
        self.table.take_verdicts().collect()
    }
}

/// So much talk of no known protocol that quiet is asked for at its end.
fn babble(script: &mut Script) {
    for _ in 0..80 {
        script.say(RECEIVED, b"hello").say(SENT, b"world");
    }
}

#[test]
fn a_stream_that_nobody_knows_may_be_quiet() {
    let mut script = Script::default();
    babble(&mut script);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    let verdicts = node.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].stream, 1);
    assert!(verdicts[0].quiet_until_ns > verdicts[0].active_ns, "{verdicts:?}");
    // What the kernel side then leaves out is no loss, and what comes afterwards is found.
    let (heard, mut resumed) = (script.calls.len(), script);
    for _ in 0..10 {
        resumed.say(RECEIVED, b"unheard").say(SENT, b"unheard");
    }
    let unheard = resumed.calls.len() - heard;
    (1..=10).for_each(|id| {
        resumed.exchange(id, 5, 5);
    });
    // By then it was idle for so long that the kernel side reports it again.
    resumed.calls[heard + unheard..].iter_mut().for_each(|call| call.at += 2_000 * MS);
    node.calls(&resumed.calls[heard + unheard..]);
    let counters = *node.table.counters();
    assert_eq!((counters.missing_bytes, counters.unwanted_bytes), (0, 20 * 7));
    assert_eq!(node.found(), (1..=10).collect::<Vec<_>>());
    let lifted = node.verdicts();
    assert_eq!(lifted.last().map(|verdict| verdict.quiet_until_ns), Some(0), "{lifted:?}");
}

#[test]
fn what_is_missing_after_a_silence_is_missing() {
    let mut script = Script::default();
    babble(&mut script);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    let heard = script.calls.len();
    script.say(RECEIVED, b"unwanted").say(RECEIVED, b"heard").say(RECEIVED, b"lost").say(RECEIVED, b"heard");
    node.call(&script.calls[heard + 1]);
    node.call(&script.calls[heard + 3]);
    node.tick(10_000 * MS);
    let counters = *node.table.counters();
    assert_eq!((counters.unwanted_bytes, counters.missing_bytes), (8, 4));
}

#[test]
fn a_known_protocol_is_wanted() {
    let mut script = Script::default();
    (0..1_000).for_each(|id| {
        script.exchange(id, 5, 5);
    });
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert_eq!(node.verdicts(), []);
}

#[test]
fn a_long_body_is_not_copied() {
    let mut script = Script::default();
    script.say(RECEIVED, b"Q1:1000000\n");
    let body_ends = script.received + 1_000_000;
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    let verdicts = node.verdicts();
    assert_eq!(verdicts, [Verdict { stream: 1, received_until: body_ends, ..Verdict::default() }]);
    let before = script.calls.len();
    (0..10).for_each(|_| {
        script.cut(RECEIVED, &[b'x'; 100_000], 0);
    });
    script.say(SENT, b"R1:0\n").exchange(2, 5, 5);
    node.calls(&script.calls[before..]);
    assert_eq!(node.found(), [1, 2]);
    assert_eq!(node.out[0].exchange.request_bytes, body_ends);
    assert_eq!(node.verdicts(), [], "told once");
}

#[test]
fn where_too_little_is_copied_more_is_asked_for() {
    let mut script = Script::default();
    // Requests that came with one call, of which the kernel side copied the first.
    script.cut(RECEIVED, b"Q1:0\nQ2:0\nQ3:0\n", 5).say(SENT, b"R1:0\nR2:0\nR3:0\n").exchange(4, 5, 5);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    let verdicts = node.verdicts();
    assert!(
        verdicts.iter().any(|verdict| verdict.copy_bytes > 0),
        "{verdicts:?}\n{:?}",
        node.table.counters()
    );
}
