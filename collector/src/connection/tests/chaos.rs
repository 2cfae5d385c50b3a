//! Any sequence of events whatsoever: no panic, every byte accounted for, everything within its bounds.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open {
        connection: u64,
        opener: Option<Opener>,
        from_start: bool,
    },
    Data {
        stream: u64,
        connection: Option<u64>,
        layer: Layer,
        flow: Flow,
        jump: i64,
        uncopied: u64,
        text: usize,
    },
    Close {
        connection: Option<u64>,
        stream: u64,
        layer: Layer,
        sent: u64,
        received: u64,
    },
    Tick {
        seconds: u64,
    },
}

fn flow() -> impl Strategy<Value = Flow> {
    prop_oneof![Just(SENT), Just(RECEIVED)]
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![4 => Just(Layer::Socket), 1 => Just(Layer::Tls)]
}

fn step() -> impl Strategy<Value = Step> {
    let opener = prop_oneof![Just(None), Just(Some(Opener::Us)), Just(Some(Opener::Peer))];
    let jump = prop_oneof![8 => Just(0_i64), 1 => -50..50_i64, 1 => any::<i64>()];
    let uncopied = prop_oneof![6 => Just(0_u64), 1 => 0..5_000_u64, 1 => 0..1_u64 << 40];
    prop_oneof![
        1 => (1..6_u64, opener, any::<bool>())
            .prop_map(|(connection, opener, from_start)| Step::Open { connection, opener, from_start }),
        20 => (1..8_u64, prop::option::of(1..6_u64), layer(), flow(), jump, uncopied, 0..TEXTS.len())
            .prop_map(|(stream, connection, layer, flow, jump, uncopied, text)| Step::Data {
                stream, connection, layer, flow, jump, uncopied, text,
            }),
        1 => (prop::option::of(1..6_u64), 1..8_u64, layer(), 0..1_u64 << 40, 0..1_u64 << 40)
            .prop_map(|(connection, stream, layer, sent, received)| Step::Close {
                connection, stream, layer, sent, received,
            }),
        1 => (0..700_u64).prop_map(|seconds| Step::Tick { seconds }),
    ]
}

const TEXTS: &[&[u8]] = &[
    b"Q1:0\n",
    b"R1:0\n",
    b"Q2:40\nxxxxxxxxxx",
    b"R2:40\n",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    b"Q",
    b"3:",
    b"7\n",
    b"R3:500\nxx",
    b"\x17\x03\x03\x00\x05aaaaa",
    b"",
    b"garbage",
    &[b'x'; 5_000],
];

proptest! {
    #[test]
    fn any_sequence_of_events(steps in prop::collection::vec(step(), 1..200)) {
        let settings = Settings {
            streams_max: 4,
            direction_bytes_max: 2_000,
            retained_bytes_max: 6_000,
            ..Settings::default()
        };
        let mut node = Node::with(settings);
        let mut at = 0;
        let mut positions = std::collections::HashMap::<(u64, bool), u64>::new();
        for step in steps {
            at += 10 * MS;
            match step {
                Step::Open { connection, opener, from_start } => node.open(connection, opener, from_start),
                Step::Data { stream, connection, layer, flow, jump, uncopied, text } => {
                    let next = positions.entry((stream, flow == SENT)).or_default();
                    let position = next.saturating_add_signed(jump);
                    let bytes = TEXTS[text].to_vec();
                    let size = bytes.len() as u64 + uncopied;
                    *next = position.saturating_add(size);
                    node.data(stream, connection, layer, &Call { flow, at, position, size, bytes });
                }
                Step::Close { connection, stream, layer, sent, received } => {
                    let event = Event::Close(Close {
                        boot_ns: at,
                        connection: connection.map(ConnectionId),
                        stream: StreamId(stream),
                        layer,
                        sent,
                        received,
                    });
                    node.table.on_event(&event, &mut node.out);
                }
                Step::Tick { seconds } => {
                    at += seconds * 1_000 * MS;
                    node.tick(at);
                }
            }
            node.assert_balanced();
            let usage = node.table.usage();
            prop_assert!(usage.streams <= 4 && usage.connections <= 4);
            prop_assert!(usage.footprint_bytes <= 6_000);
        }
        node.table.finish(&mut node.out);
        node.tick(at + 8_000_000 * MS);
        node.assert_balanced();
        prop_assert_eq!(node.table.usage(), super::super::Usage::default());
    }
}
