//! Every recording of every protocol as a capture file: the replay finds what the parser finds, also where segments are
//! repeated and out of order; with segments missing it finds less, and nothing wrong.

use std::path::Path;

use spantap::{
    connection::{Settings, Table},
    replay::Replay,
};
use spantap_protocols::{
    ALL, Direction, Exchange, Protocol, Role,
    testing::{Fixture, Noise, check_true, fixtures, render, run},
};

/// One TCP segment.
#[derive(Clone)]
struct Segment {
    at_ns: u64,
    from_client: bool,
    /// Of its first byte, without the SYN.
    offset: usize,
    /// What its sender has of the other direction.
    has: usize,
    flags: u8,
    bytes: Vec<u8>,
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

/// The segments of a recording: a handshake, its calls in pieces, and the ends.
fn segments(fixture: &Fixture) -> Vec<Segment> {
    let first = fixture.chunks.first().expect("a call").first_at.0;
    let at_ns = first.saturating_sub(1);
    let mut offsets = [0; 2];
    let mut segment = |from_client: bool, flags, at_ns, bytes: &[u8]| {
        let (own, other) = (usize::from(from_client), usize::from(!from_client));
        let segment = Segment {
            at_ns,
            from_client,
            offset: offsets[own],
            has: offsets[other],
            flags,
            bytes: bytes.to_vec(),
        };
        offsets[own] += bytes.len();
        segment
    };
    let mut segments = vec![segment(true, SYN, at_ns, &[]), segment(false, SYN | ACK, at_ns, &[])];
    for chunk in &fixture.chunks {
        for piece in chunk.bytes.chunks(SEGMENT_BYTES) {
            segments.push(segment(chunk.direction == Direction::ToServer, ACK, chunk.first_at.0, piece));
        }
    }
    let end = fixture.chunks.last().expect("a call").last_at.0 + 1_000;
    segments.extend([true, false].map(|from_client| segment(from_client, FIN | ACK, end, &[])));
    segments
}

/// A pcap file with nanoseconds and bare IPv4 packets.
fn pcap(segments: &[Segment]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_3c4d_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(262_144_u32.to_le_bytes());
    file.extend(101_u32.to_le_bytes());
    for segment in segments {
        let length = u16::try_from(40 + segment.bytes.len()).expect("a segment");
        file.extend(u32::try_from(segment.at_ns / 1_000_000_000).expect("soon").to_le_bytes());
        file.extend(((segment.at_ns % 1_000_000_000) as u32).to_le_bytes());
        file.extend(u32::from(length).to_le_bytes());
        file.extend(u32::from(length).to_le_bytes());
        file.extend([0x45, 0]);
        file.extend(length.to_be_bytes());
        file.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (from, to) = if segment.from_client { (client, server) } else { (server, client) };
        file.extend(from);
        file.extend(to);
        let (own, other) = if segment.from_client { (40_000_u16, 50_000_u16) } else { (50_000, 40_000) };
        file.extend(own.to_be_bytes());
        file.extend(other.to_be_bytes());
        // Near the end of the numbers, so that they wrap around.
        let is_syn = u32::from(segment.flags & SYN == 0);
        let number = |offset: usize| (u32::MAX - 500).wrapping_add(offset as u32);
        file.extend(number(segment.offset).wrapping_add(is_syn).to_be_bytes());
        file.extend(number(segment.has + 1).to_be_bytes());
        file.extend([0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
        file.extend(&segment.bytes);
    }
    file
}

/// What a replay finds, in the order of the exchanges' starts, and what it says is missing.
fn replay(segments: &[Segment]) -> (Vec<Exchange>, u64) {
    let mut table = Table::new(Settings::default(), ALL);
    let (mut found, mut replay) = (Vec::new(), Replay::new(ALL));
    let file = pcap(segments);
    replay
        .read(Path::new("made.pcap"), file.as_slice(), &mut |event| table.on_event(event, &mut found))
        .expect("a whole file");
    table.finish(&mut found);
    let counters = table.counters();
    let missing = counters.dropped_messages + counters.left_out_bytes() + replay.counters().lost_bytes;
    (sorted(found.into_iter().map(|finished| finished.exchange).collect()), missing)
}

fn sorted(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    exchanges.sort_by_cached_key(|exchange| {
        (exchange.start, exchange.end, render(std::slice::from_ref(exchange)))
    });
    exchanges
}

/// Each recording as the server's end sees it, with what its parser finds.
fn each(check: impl Fn(&dyn Protocol, &Fixture, &[Exchange])) {
    for protocol in ALL {
        for mut fixture in fixtures(*protocol) {
            fixture.role = Role::Server;
            let truth = sorted(run(*protocol, &fixture));
            check(*protocol, &fixture, &truth);
        }
    }
}

#[test]
fn a_replay_finds_what_the_parser_finds() {
    each(|protocol, fixture, truth| {
        let (found, _) = replay(&segments(fixture));
        assert_eq!(render(&found), render(truth), "{} {}", protocol.name(), fixture.name);
    });
}

#[test]
fn repeated_and_reordered_segments_change_nothing_but_times() {
    let told = |exchanges: &[Exchange]| -> Vec<String> {
        let mut told: Vec<String> = exchanges
            .iter()
            .map(|exchange| {
                format!("{} {:?} {:?}", exchange.operation, exchange.outcome, exchange.attributes)
            })
            .collect();
        told.sort();
        told
    };
    each(|protocol, fixture, truth| {
        let mut noise = Noise::new(7);
        let mut all = segments(fixture);
        let (first, last) = (2, all.len() - 2);
        for at in first..last {
            if noise.below(4) == 0 {
                let again = Segment { at_ns: all[at].at_ns + 1, ..all[at].clone() };
                all.insert(at + 1, again);
            }
            // Neighbours of one direction, as of two paths.
            let (here, next) = (all[at].clone(), all[at + 1].clone());
            let same = here.from_client == next.from_client && here.at_ns == next.at_ns;
            if same && here.flags == ACK && next.flags == ACK && noise.below(2) == 0 {
                all.swap(at, at + 1);
            }
        }
        let (found, _) = replay(&all);
        assert_eq!(told(&found), told(truth), "{} {}", protocol.name(), fixture.name);
    });
}

#[test]
fn of_five_percent_lost_segments_nothing_wrong_comes() {
    each(|_, fixture, truth| {
        for seed in 0..50 {
            let mut noise = Noise::new(seed);
            let mut all = segments(fixture);
            let before = all.len();
            all.retain(|segment| segment.bytes.is_empty() || noise.below(20) > 0);
            let (found, missing) = replay(&all);
            check_true(&found, truth, &format!("{}, seed {seed}", fixture.name));
            assert!(all.len() == before || missing > 0, "{}: a loss that nobody counts", fixture.name);
            assert!(found.len() <= truth.len());
        }
    });
}

const SEGMENT_BYTES: usize = 1_400;
