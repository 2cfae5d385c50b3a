//! What TCP and its capture do to segments: repetition, reordering, overlap, loss, cuts, and missing beginnings.

use proptest::prelude::*;

use super::{
    build::{ACK, FIN, RST, SYN},
    *,
};

#[test]
fn repetitions_are_dropped() {
    let mut talk = whole(false);
    talk.packets = talk.packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    let heard = talk.replay();
    assert_whole(&heard, false);
    assert_eq!(heard.counters.repeated_bytes, 23);
    assert_eq!(heard.counters.late_segments, 0);
}

#[test]
fn reordered_segments_are_put_back_with_their_own_times() {
    let mut talk = whole(false);
    talk.packets.swap(3, 4);
    let heard = talk.replay();
    assert_whole(&heard, false);
    assert_eq!(heard.counters.reordered_segments, 1);
    assert_eq!(heard.times[..2], [START_NS + 3_000_000, START_NS + 4_000_000]);
}

#[test]
fn of_overlapping_copies_the_first_counts() {
    let mut talk = Talk::new(false).handshake();
    let (seq, ack) = talk.numbers(true);
    talk.packet(true, seq.wrapping_add(6), ack, ACK, b"GHIJ");
    talk.packet(true, seq.wrapping_add(3), ack, ACK, b"defghijkl");
    talk.packet(true, seq.wrapping_add(2), ack, ACK, b"xxx");
    talk.packet(true, seq, ack, ACK, b"ABC");
    talk.packet(true, seq.wrapping_add(1), ack, ACK, b"bcdefghijklmn");
    let heard = talk.replay();
    assert_eq!(heard.received, b"ABxdefGHIJklmn");
    assert_eq!(heard.counters.repeated_bytes, 32 - 14);
    assert_eq!(heard.counters.payload_bytes, 14);
}

#[test]
fn a_lost_segment_is_a_jump() {
    // By acknowledgement and time, or by the end of the file.
    for end in [true, false] {
        let mut talk = whole(false);
        if !end {
            talk.packets.truncate(6);
            talk.packets[5].unix_ns += 1_000_000_000;
        }
        talk.packets.remove(3);
        let heard = talk.replay();
        assert_eq!(heard.received, b"??????? and two");
        assert_eq!(heard.sent, b"TELL one");
        assert_eq!(heard.counters.lost_bytes, 7);
        assert_eq!(heard.closes.len(), usize::from(end));
    }
}

#[test]
fn an_answer_does_not_overtake_a_request_after_a_loss() {
    let mut talk =
        Talk::new(false).handshake().ask(b"ASK 1").answer(b"TELL 1").ask(b"ASK 2").answer(b"TELL 2");
    talk.packets.remove(3);
    let lost = (Flow::Received, b"".to_vec());
    let first = (Flow::Sent, b"TELL 1".to_vec());
    let second = (Flow::Received, b"ASK 2".to_vec());
    assert_eq!(talk.order(), [first, lost, second, (Flow::Sent, b"TELL 2".to_vec())]);
}

#[test]
fn an_answer_that_stands_before_its_request_waits_for_it() {
    let talk =
        || Talk::new(false).handshake().ask(b"ASK 1").answer(b"TELL 1").ask(b"ASK 2").answer(b"TELL 2");
    let straight = talk().order();
    assert_eq!(straight.len(), 4);
    for swapped in [3, 5] {
        let mut talk = talk();
        talk.packets.swap(swapped, swapped + 1);
        assert_eq!(talk.order(), straight, "{swapped}");
    }
    // In three pieces, of which two have overtaken it.
    let mut talk =
        Talk::new(false).handshake().ask(b"ASK 1").answer(b"TE").answer(b"LL ").answer(b"1").ask(b"ASK 2");
    let straight = talk.order();
    let request = talk.packets.remove(3);
    talk.packets.insert(5, request);
    assert_eq!(talk.order(), straight);
    assert_eq!(talk.replay().counters.lost_bytes, 0);
}

#[test]
fn answers_that_stand_before_a_lost_request_and_the_next_one_wait_each_for_its_own() {
    let mut talk =
        Talk::new(false).handshake().ask(b"ASK 1").answer(b"TELL 1").ask(b"ASK 2").answer(b"TELL 2");
    talk.packets.remove(3);
    talk.packets.swap(4, 5);
    let (asked, told) = (Flow::Received, Flow::Sent);
    let expected = [(told, &b"TELL 1"[..]), (asked, b""), (asked, b"ASK 2"), (told, b"TELL 2")];
    assert_eq!(talk.order(), expected.map(|(flow, bytes)| (flow, bytes.to_vec())));
}

#[test]
fn an_answer_whose_request_never_comes_does_not_wait_for_ever() {
    let mut talk = Talk::new(false).handshake().ask(b"ASK 1").answer(b"TELL 1").answer(b"TELL more");
    talk.packets.remove(3);
    // By the end of the file, and by the time.
    assert_eq!(talk.order(), [(Flow::Sent, b"TELL 1".to_vec()), (Flow::Sent, b"TELL more".to_vec())]);
    talk.packets[4].unix_ns += 1_000_000_000;
    assert_eq!(talk.replay().sent, b"TELL 1TELL more");
}

#[test]
fn a_lost_end_is_told_by_the_close() {
    let mut talk = whole(false);
    talk.packets.remove(4);
    let heard = talk.replay();
    assert_eq!(heard.received, b"ASK one");
    assert_eq!(heard.closes[0].received, 15);
    assert_eq!(heard.counters.lost_bytes, 8);
}

#[test]
fn too_many_held_segments_are_given_up() {
    let mut talk = Talk::new(false).handshake().ask(b"ASK").ask(b"lost");
    talk.packets.pop();
    for _ in 0..100 {
        talk = talk.ask(&[b'x'; 100]);
    }
    let before_end = talk.packets.len();
    let heard = talk.ask(b"end").replay();
    assert_eq!(heard.counters.lost_bytes, 4);
    assert_eq!(heard.received.len(), 3 + 4 + 10_000 + 3);
    assert!(before_end > 64);
}

#[test]
fn packets_cut_by_the_snap_length_say_their_size() {
    let mut talk = whole(false);
    let length = talk.packets[3].bytes.len();
    talk.packets[3].original = Some(length as u32);
    talk.packets[3].bytes.truncate(length - 4);
    let heard = talk.replay();
    assert_eq!(heard.received, b"ASK???? and two");
    assert_eq!((heard.counters.cut_bytes, heard.counters.payload_bytes), (4, 23));
}

#[test]
fn a_connection_joined_in_its_middle_is_turned_by_content_then_by_port() {
    for (say, from_client, received, sent) in [
        (&b"ASK"[..], true, &b"ASK"[..], &b""[..]),
        (b"TELL", false, b"", b"TELL"),
        (b"opaque", true, b"opaque", b""),
        (b"opaque", false, b"", b"opaque"),
    ] {
        let heard = Talk::new(false).say(from_client, say).replay();
        assert_eq!((&heard.received[..], &heard.sent[..]), (received, sent));
        assert_eq!((heard.opens[0].opener, heard.opens[0].from_start), (None, false));
        assert_eq!(heard.opens[0].local, Endpoint::Inet(ends(false).1));
    }
    // Content beats ports.
    let mut talk = Talk::new(false);
    talk.client.set_port(80);
    let heard = talk.ask(b"ASK").replay();
    assert_eq!(heard.opens[0].local, Endpoint::Inet(ends(false).1));
    assert_eq!(heard.received, b"ASK");
}

#[test]
fn a_missing_syn_is_made_up_for_by_its_answer() {
    for missing in [0, 1, 2] {
        let mut talk = whole(false);
        talk.packets.remove(missing);
        assert_whole(&talk.replay(), false);
    }
}

#[test]
fn a_reset_closes_and_a_new_syn_begins_anew() {
    let mut talk = Talk::new(false).handshake().ask(b"ASK").end(false, RST);
    talk = talk.ask(b"late");
    (talk.client_seq, talk.server_seq) = (5_000_000, 6_000_000);
    let heard = talk.handshake().ask(b"ASK").replay();
    assert_eq!(heard.closes.len(), 1);
    assert_eq!(heard.counters.late_segments, 1);
    assert_eq!(heard.opens.len(), 2);
    assert_eq!(heard.opens[1].tgid, heard.opens[0].tgid);
    assert_ne!(heard.opens[1].connection, heard.opens[0].connection);

    // A new SYN while the old connection seems alive ends that.
    let mut talk = Talk::new(false).handshake().ask(b"ASK");
    talk.packet(true, 77, 0, SYN, b"");
    let heard = talk.replay();
    assert_eq!((heard.opens.len(), heard.closes.len()), (2, 1));
}

#[test]
fn numbers_far_off_are_strays() {
    let mut talk = Talk::new(false).handshake().ask(b"ASK");
    let (seq, ack) = talk.numbers(true);
    talk.packet(true, seq.wrapping_add(0x7000_0000), ack, ACK, b"stray");
    let heard = talk.ask(b" more").replay();
    assert_eq!(heard.received, b"ASK more");
    assert_eq!(heard.counters.stray_segments, 1);
}

proptest! {
    #[test]
    fn segments_in_any_order_with_overlaps_and_repetitions_make_the_stream(
        length in 1..3_000_usize,
        cuts in prop::collection::vec((0..3_000_usize, 1..400_usize), 0..20),
        order in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let stream: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
        // A cover of the whole, and some copies.
        let cover = (0..length).step_by(100).map(|from| (from, 100));
        let mut parts: Vec<(usize, usize)> = cover.chain(cuts.into_iter().filter(|cut| cut.0 < length)).collect();
        let mut random = seed;
        for at in (1..parts.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            parts.swap(at, (random >> 33) as usize % (at + 1));
        }
        let middle = order.index(parts.len());
        parts.rotate_left(middle);
        let mut talk = Talk::new(false).handshake();
        let (seq, ack) = talk.numbers(true);
        let mut said = 0;
        for (from, size) in parts {
            let part = &stream[from..length.min(from + size)];
            said += part.len();
            talk.packet(true, seq.wrapping_add(from as u32), ack, ACK, part);
        }
        talk.client_seq = seq.wrapping_add(length as u32);
        let heard = talk.end(true, FIN).end(false, FIN).replay();
        prop_assert_eq!(&heard.received, &stream);
        prop_assert_eq!(heard.counters.lost_bytes, 0);
        prop_assert_eq!(heard.counters.payload_bytes + heard.counters.repeated_bytes, said as u64);
        prop_assert_eq!(heard.closes.len(), 1);
    }
}
