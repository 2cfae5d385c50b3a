//! Which protocols take what is not theirs: recorded conversations of every protocol, noise, TLS records and text, each
//! against every protocol alone and against all of them in the order of [`ALL`], through detection and parsers.
//!
//! `cargo test -p spantap connection::tests::confusion -- --nocapture` prints the tables.

use std::{collections::BTreeMap, fs, path::Path};

use spantap_protocols::{
    ALL, Direction, Protocol,
    testing::{FOREIGN, Fixture, Noise, fixtures},
};

use super::{
    super::detect::{self, Verdict},
    *,
};

/// One call: its flow seen from the watched process, and its bytes.
type Said = (Flow, Vec<u8>);

/// What one protocol alone, or all together, made of the conversations of one kind.
#[derive(Default)]
struct Cell {
    /// Streams in which a protocol was recognised.
    recognised: u64,
    /// Exchanges that its parser gave.
    exchanges: u64,
}

/// Lets a whole table hear a conversation; the protocols of the exchanges, and whether any was recognised.
fn hear(
    protocols: &'static [&'static dyn Protocol],
    opener: Option<Opener>,
    from_start: bool,
    calls: &[Said],
) -> (bool, Vec<&'static str>) {
    let mut node = Node { table: Table::new(Settings::default(), protocols), out: Vec::new() };
    node.open(1, opener, from_start);
    let mut positions = [0; 2];
    for (n, (flow, bytes)) in calls.iter().enumerate() {
        let position = &mut positions[usize::from(*flow == SENT)];
        let call = Call {
            flow: *flow,
            at: MS * (n as u64 + 1),
            position: *position,
            size: bytes.len() as u64,
            bytes: bytes.clone(),
        };
        *position += call.size;
        node.call(&call);
    }
    node.close(1, Layer::Socket, MS * (calls.len() as u64 + 1), positions[1], positions[0]);
    let names = node.out.iter().map(|finished| finished.exchange.protocol).collect();
    (node.table.counters().detected_streams > 0, names)
}

/// The calls of a fixture, from the byte `at` of call `first` on.
fn tail(fixture: &Fixture, first: usize, at: usize) -> Vec<Said> {
    let calls = fixture.chunks[first..].iter().enumerate().map(|(n, chunk)| {
        let flow = match (chunk.direction, fixture.role) {
            (Direction::ToServer, Role::Client) | (Direction::ToClient, Role::Server) => SENT,
            _ => RECEIVED,
        };
        (flow, chunk.bytes[if n == 0 { at } else { 0 }..].to_vec())
    });
    calls.collect()
}

/// `payload` in TLS records of application data.
fn tls_records(payload: &[u8]) -> Vec<Vec<u8>> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).expect("a short record").to_be_bytes();
        [&[23, 3, 3, length[0], length[1]], piece].concat()
    };
    payload.chunks(509).map(record).collect()
}

/// The sources and documents of this checkout, line by line.
fn lines_of_text() -> Vec<Vec<u8>> {
    fn collect(folder: &Path, lines: &mut Vec<Vec<u8>>) {
        let mut entries: Vec<_> =
            fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let is_text =
                [".rs", ".md", ".toml", ".yaml", ".py", ".lock"].iter().any(|end| name.ends_with(end));
            if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
                collect(&path, lines);
            } else if is_text {
                let text = fs::read(&path).expect("readable");
                lines.extend(text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            }
        }
    }
    let mut lines = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace"), &mut lines);
    assert!(lines.len() > 20_000, "only {} lines", lines.len());
    lines
}

/// Whose the head of a direction is, in whichever direction it may travel.
fn owners(protocols: &'static [&'static dyn Protocol], head: &[u8]) -> Vec<&'static str> {
    let ways = [None, Some(Direction::ToServer), Some(Direction::ToClient)];
    let owner = |way| match detect::sniff(protocols, head, way) {
        Verdict::Match(protocol, _) => Some(protocol.name()),
        Verdict::NeedMore | Verdict::Reject => None,
    };
    ways.into_iter().filter_map(owner).collect()
}

/// Every protocol alone.
fn each_alone() -> impl Iterator<Item = (&'static str, &'static [&'static dyn Protocol])> {
    ALL.iter().map(|protocol| (protocol.name(), std::slice::from_ref(protocol)))
}

/// Every fixture, from its start and joined at every call and at some places within it, whoever opened the connection.
#[test]
fn no_protocol_takes_conversations_of_another() {
    let mut rows: BTreeMap<(&str, &str), Cell> = BTreeMap::new();
    let mut wrong = Vec::new();
    for spoken in ALL {
        for fixture in fixtures(*spoken) {
            let known = match fixture.role {
                Role::Client => Some(Opener::Us),
                Role::Server => Some(Opener::Peer),
            };
            for (first, chunk) in fixture.chunks.iter().enumerate() {
                let places = [0, 1, 5, 9, 24, 100, 1000];
                for at in places.into_iter().filter(|at| *at == 0 || *at < chunk.bytes.len()) {
                    let calls = tail(&fixture, first, at);
                    let from_start = first == 0 && at == 0;
                    let all = ("all", ALL);
                    let ears = each_alone().chain([all]);
                    for (name, protocols) in ears {
                        for opener in [None, known] {
                            let (recognised, found) = hear(protocols, opener, from_start, &calls);
                            let cell = rows.entry((spoken.name(), name)).or_default();
                            cell.recognised += u64::from(recognised);
                            cell.exchanges += found.len() as u64;
                            let what = format!("{} {first}+{at} {name} {opener:?}: {found:?}", fixture.name);
                            let own = name == "all" || name == spoken.name();
                            if found.iter().any(|found| *found != spoken.name()) || (recognised && !own) {
                                wrong.push(what);
                            } else if from_start && own {
                                assert!(recognised, "{what} is not recognised");
                            }
                        }
                    }
                }
            }
        }
    }
    println!("conversations recognised / exchanges, spoken by row, heard by column");
    for spoken in ALL {
        let cells = ALL.iter().map(|protocol| protocol.name()).chain(["all"]).map(|heard| {
            let cell = &rows[&(spoken.name(), heard)];
            format!("{heard} {}/{}", cell.recognised, cell.exchanges)
        });
        println!("{:12} {}", spoken.name(), cells.collect::<Vec<_>>().join("  "));
    }
    assert!(wrong.is_empty(), "{} taken by another protocol: {wrong:#?}", wrong.len());
}

/// Heads at every byte of noise and of TLS records, and at every line of text, against detection; and all of it as
/// connections against detection and parsers.
#[test]
fn no_protocol_takes_what_is_none() {
    let noise = Noise::new(1).bytes(NOISE_BYTES);
    let records = tls_records(&noise);
    let joined = records.concat();
    let text = lines_of_text();
    let foreign: Vec<Vec<u8>> = FOREIGN
        .iter()
        .filter(|(name, _)| ALL.iter().all(|protocol| !name.starts_with(protocol.name())))
        .map(|(_, bytes)| bytes.to_vec())
        .collect();
    let everywhere =
        |bytes: &'static [u8]| (0..bytes.len()).map(move |at| &bytes[at..bytes.len().min(at + HEAD_BYTES)]);
    let noise: &'static [u8] = noise.leak();
    let joined: &'static [u8] = joined.leak();
    let mut sum = 0;
    for (kind, heads) in [
        ("noise", everywhere(noise).collect::<Vec<_>>()),
        ("TLS records", everywhere(joined).collect()),
        ("text", text.iter().map(Vec::as_slice).collect()),
        ("others", foreign.iter().map(Vec::as_slice).collect()),
    ] {
        for (name, protocols) in each_alone().chain([("all", ALL)]) {
            let mut taken = 0;
            for head in &heads {
                let owners = owners(protocols, head);
                if !owners.is_empty() {
                    taken += 1;
                    println!("{name} takes {kind}: {:?}", head.escape_ascii().to_string());
                }
            }
            println!("{kind:12} {name:12} {taken} of {} heads", heads.len());
            sum += taken;
        }
    }
    let pieces: Vec<Vec<u8>> = noise.chunks(509).map(<[u8]>::to_vec).collect();
    for (kind, calls) in [("noise", pieces), ("TLS records", records), ("text", text)] {
        for (name, protocols) in each_alone().chain([("all", ALL)]) {
            let (mut taken, mut count) = (0, 0);
            for (n, calls) in calls.chunks(40).enumerate() {
                let flow = |n: usize| if n.is_multiple_of(2) { RECEIVED } else { SENT };
                let calls: Vec<Said> =
                    calls.iter().cloned().enumerate().map(|(n, call)| (flow(n), call)).collect();
                let opener = [None, Some(Opener::Us), Some(Opener::Peer)][n % 3];
                let (recognised, found) = hear(protocols, opener, n % 2 == 0, &calls);
                if recognised || !found.is_empty() {
                    taken += 1;
                    println!("{name} takes connection {n} of {kind}: {found:?}");
                }
                count += 1;
            }
            println!("{kind:12} {name:12} {taken} of {count} connections");
            sum += taken;
        }
    }
    assert_eq!(sum, 0, "taken for a protocol that it is not");
}

/// Of noise, and as much within TLS records.
const NOISE_BYTES: usize = 10_000_000;
/// Of a head in noise: what follows tells detection nothing new.
const HEAD_BYTES: usize = 64;
