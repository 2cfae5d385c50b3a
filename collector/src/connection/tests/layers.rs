//! Detection and revocation, roles, and what lies above and below TLS.

use std::sync::{Arc, atomic::AtomicU64};

use super::*;

#[test]
fn the_opener_decides_the_role_and_content_if_it_is_unknown() {
    for (opener, flow, role) in [
        (Some(Opener::Us), SENT, Role::Client),
        (Some(Opener::Peer), RECEIVED, Role::Server),
        (None, SENT, Role::Client),
        (None, RECEIVED, Role::Server),
    ] {
        let mut node = Node::opened(opener, true);
        let answer = if flow == SENT { RECEIVED } else { SENT };
        node.calls(&Script::default().say(flow, b"Q1:0\n").say(answer, b"R1:0\n").calls);
        assert_eq!(node.out[0].exchange.role, role);
    }
    let mut node = Node::opened(Some(Opener::Us), true);
    node.calls(&Script::default().say(RECEIVED, b"Q1:0\n").calls);
    assert_eq!(node.table.counters().detected_streams, 0, "a request from the server is none");
}

#[test]
fn a_response_that_came_first_is_not_lost() {
    for opener in [None, Some(Opener::Peer)] {
        let mut script = Script::default();
        script.exchange(1, 5, 5);
        script.calls.swap(0, 1);
        let mut node = Node::opened(opener, true);
        node.calls(&script.calls);
        assert_eq!(node.found(), [1]);
    }
}

#[test]
fn a_head_in_pieces_is_put_together() {
    let mut script = Script::default();
    script.say(RECEIVED, b"Q").say(RECEIVED, b"1:").say(SENT, b"R1").say(RECEIVED, b"0\n").say(SENT, b":0\n");
    let mut node = Node::opened(None, true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1]);
    assert_eq!(node.out[0].exchange.start.0, MS);
    assert_eq!(node.out[0].exchange.response_start.map(|at| at.0), Some(3 * MS));
}

#[test]
fn an_unknown_stream_is_found_later() {
    let mut script = Script::default();
    for _ in 0..200 {
        script.say(RECEIVED, b"hello").say(SENT, b"world");
    }
    let unknown = script.sent + script.received;
    for id in 1..=10 {
        script.exchange(id, 0, 0);
    }
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert!(node.found().ends_with(&[6, 7, 8, 9, 10]), "{:?}", node.found());
    assert!(node.table.counters().unknown_bytes >= unknown);
}

#[test]
fn a_lost_parser_gives_its_stream_back() {
    let mut script = Script::default();
    script.exchange(1, 0, 0);
    for _ in 0..5 {
        script.say(RECEIVED, b"garbage, Quite so, Quite so");
    }
    script.exchange(2, 0, 0).exchange(3, 0, 0);
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls);
    assert_eq!(node.found(), [1, 2, 3]);
    assert_eq!(node.table.counters().revoked_streams, 1);
    assert_eq!(node.table.counters().detected_streams, 2);
}

/// A TLS record of application data.
fn record(length: u16) -> Vec<u8> {
    let mut bytes = vec![0x17, 3, 3];
    bytes.extend(length.to_be_bytes());
    bytes.resize(5 + usize::from(length), 0xAA);
    bytes
}

#[test]
fn tls_records_are_passed_over_and_doubted_after_long_absence() {
    let mut script = Script::default();
    script.say(RECEIVED, &record(600)).say(SENT, b"Q1:0\nR1:0\n");
    for _ in 0..100 {
        script.say(SENT, b"Q1:0 opaque");
    }
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&script.calls[..40]);
    let counters = node.table.counters();
    assert_eq!((counters.ciphertext_streams, counters.unknown_bytes), (1, 0));
    assert_eq!(counters.ciphertext_streams_read, 0, "no session, no plaintext");
    node.calls(&script.calls[40..]);
    assert!(node.table.counters().unknown_bytes > 0);
    let (sent, received) = (script.sent, script.received);
    let mut script = Script { sent, received, ..Script::default() };
    node.calls(&script.exchange(1, 0, 0).calls);
}

#[test]
fn a_tls_session_takes_over_from_its_socket() {
    let mut below = Script::default();
    below.say(RECEIVED, b"Q1").say(SENT, &record(50)).say(RECEIVED, &message(b'Q', 5, 5));
    let mut above = Script::default();
    for id in 1..=3 {
        above.exchange(id, 2, 2);
    }
    let mut node = Node::opened(Some(Opener::Peer), true);
    node.call(&below.calls[0]);
    node.data(9, None, Layer::Tls, &above.calls[0]);
    node.data(9, None, Layer::Tls, &above.calls[1]);
    for call in &above.calls[2..] {
        node.data(9, Some(1), Layer::Tls, call);
    }
    node.calls(&below.calls[1..]);
    assert_eq!(node.found(), [1, 2, 3]);
    assert!(node.out.iter().all(|finished| finished.tls));
    assert_eq!(node.out[0].local, None);
    assert_eq!(node.out[2].local, Some(Endpoint::Inet(([127, 0, 0, 1], 80).into())));
    let counters = node.table.counters();
    assert_eq!(counters.ciphertext_bytes, below.sent + below.received);
    assert_eq!((counters.ciphertext_streams, counters.ciphertext_streams_read), (1, 1));
    node.close(1, Layer::Socket, 99 * MS, below.sent, below.received);
    assert_eq!(node.table.usage(), super::super::Usage::default());
}

/// What is written into a session after its socket has closed goes to nobody: a request there is none.
#[test]
fn a_session_without_its_socket_is_over_until_it_has_another() {
    let mut script = Script::default();
    script.exchange(1, 2, 2).say(SENT, b"Q2:0\n");
    let (whole, late) = script.calls.split_at(script.calls.len() - 1);
    let mut node = Node::opened(Some(Opener::Us), true);
    for call in whole {
        node.data(9, Some(1), Layer::Tls, call);
    }
    node.close(1, Layer::Socket, 50 * MS, 0, 0);
    let told = node.out.len();
    for connection in [None, Some(1)] {
        node.data(9, connection, Layer::Tls, &late[0]);
    }
    assert_eq!(node.table.counters().unsent_bytes, 10);
    node.close(9, Layer::Tls, 99 * MS, 0, 0);
    assert_eq!(node.out.len(), told);
    node.data(9, None, Layer::Tls, &late[0]);
    assert_eq!(node.table.usage().streams, 1, "the number means another session now");
}

#[test]
fn a_session_is_whole_if_its_library_was_watched_before_its_connection() {
    let found = |opened_from_start, watched_since: Option<u64>, sessions: &[u64]| {
        let mut node =
            Node { table: Table::new(Settings::default(), spantap_protocols::ALL), out: Vec::new() };
        if let Some(since) = watched_since {
            node.table.know_tls_watch(Arc::new(AtomicU64::new(since)));
        }
        node.open(1, Some(Opener::Us), opened_from_start);
        // Its handshake.
        node.calls(&Script::default().say(SENT, &record(200)).say(RECEIVED, &record(900)).calls);
        let mut found = Vec::new();
        for session in sessions {
            // By itself no proof of Redis.
            for call in &Script::default().say(SENT, b"PING\r\n").say(RECEIVED, b"+PONG\r\n").calls {
                node.data(*session, Some(1), Layer::Tls, call);
            }
            found.push(node.out.len());
        }
        found
    };
    assert_eq!(found(true, Some(0), &[9]), [1], "the connection was opened at 0");
    assert_eq!(found(true, Some(1), &[9]), [0], "its first calls may have been missed");
    assert_eq!(found(false, Some(0), &[9]), [0], "it is older than the agent");
    assert_eq!(found(true, None, &[9]), [0], "nobody says since when");
    assert_eq!(found(true, Some(0), &[9, 10]), [1, 1], "the second may be the rest of the first");
}

#[test]
fn a_socket_first_seen_below_a_tls_session_is_ciphertext() {
    let mut node = Node::opened(Some(Opener::Us), true);
    let mut above = Script::default();
    above.say(SENT, b"Q1:0\n");
    node.data(9, Some(1), Layer::Tls, &above.calls[0]);
    node.calls(&Script::default().say(SENT, b"Q7:0\n").calls);
    let counters = node.table.counters();
    assert_eq!(counters.ciphertext_bytes, 5);
    assert_eq!((counters.ciphertext_streams, counters.ciphertext_streams_read), (1, 1));
    node.close(9, Layer::Tls, 9 * MS, 5, 0);
    assert_eq!(node.out.len(), 1, "the session's open exchange failed");
    assert_eq!(node.out[0].exchange.role, Role::Client);
}
