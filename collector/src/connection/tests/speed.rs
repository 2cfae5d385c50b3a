//! What the steady path costs: `cargo test --release connection::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

#[test]
#[ignore = "a measurement, not a test"]
fn nanoseconds_per_event() {
    for streams in [1_u64, 1_000, 50_000] {
        let mut table = Table::new(Settings::default(), toy::TOY);
        let mut out = Vec::new();
        let (request, response) = (message(b'Q', 1, 200), message(b'R', 1, 1_000));
        let rounds = 2_000_000 / streams;
        let started = Instant::now();
        for round in 0..rounds {
            for stream in 1..=streams {
                for (flow, bytes) in [(RECEIVED, &request), (SENT, &response)] {
                    let data = Data {
                        tgid: Tgid(1),
                        connection: Some(ConnectionId(stream)),
                        stream: StreamId(stream),
                        layer: Layer::Socket,
                        flow,
                        first_ns: round,
                        last_ns: round,
                        position: round * bytes.len() as u64,
                        size: bytes.len() as u64,
                        bytes,
                    };
                    table.on_event(&Event::Data(data), &mut out);
                }
                out.clear();
            }
        }
        let events = rounds * streams * 2;
        let each = started.elapsed().as_nanos() as u64 / events;
        println!("{streams} streams: {each} ns per event, {} exchanges", table.counters().exchanges);
    }
}
