//! Captures of real programs: the events must reproduce what the programs themselves say they sent and received.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use spantap::replay::{Replay, ReplayCounters};
use spantap_ebpf_common::{
    Event,
    event::{Flow, Opener, Tgid},
};

/// What a replay of one capture said.
struct Heard {
    /// Requests and responses, of all connections in the order in which they began; bytes that were cut are `?`.
    requests: Vec<u8>,
    responses: Vec<u8>,
    servers: Vec<SocketAddr>,
    times: Vec<u64>,
    counters: ReplayCounters,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replay").join(name)
}

fn truth(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect("the fixture is checked in")
}

fn replay(name: &str) -> Heard {
    let mut streams = BTreeMap::<u64, [Vec<u8>; 2]>::new();
    let mut times = Vec::new();
    let (mut opened, mut closed) = (0, 0);
    let mut replay = Replay::new(&[]);
    let result = replay.run(&fixture(name), &mut |event| match event {
        Event::Open(open) => {
            opened += 1;
            assert!(open.from_start && open.opener == Some(Opener::Peer));
        }
        Event::Close(close) => {
            closed += 1;
            let streams = &streams[&close.stream.0];
            assert_eq!([close.received, close.sent], [0, 1].map(|which: usize| streams[which].len() as u64));
        }
        Event::Data(data) => {
            times.push(data.first_ns);
            let streams = streams.entry(data.stream.0).or_default();
            let stream = &mut streams[usize::from(data.flow == Flow::Sent)];
            assert_eq!(data.position, stream.len() as u64, "nothing is missing");
            stream.extend(data.bytes);
            stream.resize((data.position + data.size) as usize, b'?');
        }
        Event::Process(_) | Event::ConnectFailed(_) => {
            panic!("a capture knows neither processes nor intentions")
        }
    });
    result.expect("the capture is whole");
    assert_eq!(opened, closed);
    Heard {
        requests: streams.values().flat_map(|both| both[0].clone()).collect(),
        responses: streams.values().flat_map(|both| both[1].clone()).collect(),
        servers: (1..).map_while(|tgid| replay.server(Tgid(tgid))).collect(),
        times,
        counters: *replay.counters(),
    }
}

#[test]
fn python_http_server_and_curl() {
    let heard = replay("python.pcap");
    assert!(heard.requests == truth("python.requests"));
    assert!(heard.responses == truth("python.responses"));
    assert_eq!(heard.servers, ["127.0.0.1:18771".parse().unwrap()]);
    assert_eq!(heard.counters.connections, 3);
}

#[test]
fn nginx_on_any_interface_in_both_families() {
    let heard = replay("nginx-any.pcap");
    assert!(heard.requests == truth("nginx-any.requests"));
    assert!(heard.responses == truth("nginx-any.responses"));
    assert_eq!(heard.servers, ["[::1]:18772".parse().unwrap(), "127.0.0.1:18772".parse().unwrap()]);
    assert!(heard.times.iter().any(|time| time % 1_000 != 0), "nanoseconds");
}

#[test]
fn nginx_cut_by_the_snap_length() {
    let heard = replay("nginx-snap.pcap");
    for (heard, truth) in
        [(&heard.requests, truth("nginx-snap.requests")), (&heard.responses, truth("nginx-snap.responses"))]
    {
        assert_eq!(heard.len(), truth.len());
        assert!(heard.iter().zip(&truth).all(|(heard, truth)| heard == truth || *heard == b'?'));
        assert!(heard.starts_with(&truth[..80]));
    }
    assert!(heard.counters.cut_bytes > 2_000);
    assert_eq!(heard.counters.lost_bytes, 0);
}
