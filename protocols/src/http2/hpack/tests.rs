//! The published stories, joined at every block; the specification's examples; damaged blocks.

use proptest::{collection::vec, prelude::*};

use super::{plain::Plain, *};

/// `None` is an unknown field.
type Fields = Vec<Option<(String, String)>>;

fn decode(decoder: &mut Decoder<Plain>, block: &[u8]) -> (End, Fields) {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let end = decoder.decode(block, |field| {
        fields.push(match field {
            HeaderField::Known(name, value) => Some((text(&name.0), text(value))),
            HeaderField::Unknown => None,
        });
    });
    (end, fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn known(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| Some(((*name).to_owned(), (*value).to_owned()))).collect()
}

/// RFC 7541, appendix C.4: one connection, Huffman-coded.
const REQUESTS: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

#[test]
fn the_examples_of_the_specification() {
    let mut decoder = Decoder::new();
    let common = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    let first = decode(&mut decoder, &hex(REQUESTS[0]));
    assert_eq!(first, (End::Whole, known(&common)));
    assert_eq!(decoder.table.state(), (1, 57));
    let mut second = known(&common);
    second.extend(known(&[("cache-control", "no-cache")]));
    assert_eq!(decode(&mut decoder, &hex(REQUESTS[1])), (End::Whole, second));
    assert_eq!(decoder.table.state(), (2, 110));
    let third = decode(&mut decoder, &hex(REQUESTS[2])).1;
    assert_eq!(third[4], known(&[("custom-key", "custom-value")])[0]);
    assert_eq!(decoder.table.state(), (3, 164));
}

#[test]
fn who_joins_late_knows_what_was_inserted_since() {
    let mut decoder = Decoder::new();
    let (end, second) = decode(&mut decoder, &hex(REQUESTS[1]));
    assert_eq!((end, &second[3], second[4].is_some()), (End::Whole, &None, true), "the authority is unknown");
    let third = decode(&mut decoder, &hex("8287 85be")).1;
    assert_eq!(third[3], known(&[("cache-control", "no-cache")])[0]);
    // A literal whose name is an unknown entry has an unknown name, and still is an entry.
    let (end, fields) = decode(&mut decoder, &hex("7f 02 01 61 be bf"));
    assert_eq!((end, &fields[..2]), (End::Whole, &[None, None][..]));
    assert_eq!(fields[2], known(&[("cache-control", "no-cache")])[0]);
}

#[test]
fn the_encoder_sizes_its_table() {
    let mut decoder = Decoder::new();
    let _ = decode(&mut decoder, &hex(REQUESTS[0]));
    let (end, fields) = decode(&mut decoder, &hex("20 be"));
    assert_eq!((end, fields), (End::Whole, vec![None]), "size 0 empties it");
    let _ = decode(&mut decoder, &hex("40 01 61 01 62"));
    assert_eq!(decoder.table.state(), (0, 0), "nothing fits");
    // 3f 11 is 48: room for one entry of 34 bytes, not of 57, which empties the table.
    let _ = decode(&mut decoder, &hex("3f 11 40 01 61 01 62"));
    assert_eq!(decoder.table.state(), (1, 34));
    let _ = decode(&mut decoder, &hex("41 8c f1 e3 c2 e5 f2 3a 6b a0 ab 90 f4 ff"));
    assert_eq!(decoder.table.state(), (0, 0));
}

#[test]
fn what_no_encoder_writes_is_invalid_and_what_lacks_its_end_is_cut() {
    for (block, expected) in [
        ("82 80", End::Invalid),
        ("82 ff ff ff ff ff 0f", End::Invalid),
        ("82 ff ff ff ff 7f", End::Invalid),
        ("82 41 81 ff", End::Invalid),
        ("82 41 8c f1 e3", End::Cut),
        ("82 7f", End::Cut),
        ("82 40", End::Cut),
    ] {
        let mut decoder = Decoder::new();
        let _ = decode(&mut decoder, &hex(REQUESTS[0]));
        let (end, fields) = decode(&mut decoder, &hex(block));
        assert_eq!((end, fields), (expected, known(&[(":method", "GET")])), "{block}");
        assert_eq!(decoder.table.state(), (0, 0), "nothing is known of the table after {block}");
    }
}

/// A block as a story tells it.
struct Told {
    wire: Vec<u8>,
    fields: Fields,
}

/// The stories of <https://github.com/hyperium/h2/tree/master/fixtures/hpack> (MIT), if they are here.
fn stories() -> Vec<(String, Vec<Told>)> {
    let corpus = format!("{}/../../shared/corpora", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var("SPANTAP_CORPORA").unwrap_or(corpus);
    let mut stories = Vec::new();
    for encoder in ["nghttp2", "nghttp2-change-table-size"] {
        let Ok(folder) = std::fs::read_dir(format!("{corpus}/hpack/{encoder}")) else { continue };
        for file in folder {
            let path = file.expect("readable").path();
            let story = std::fs::read_to_string(&path).expect("text");
            stories.push((path.display().to_string(), blocks(&story)));
        }
    }
    if stories.is_empty() {
        println!("skipped: corpus hpack absent");
    }
    stories
}

fn blocks(story: &str) -> Vec<Told> {
    let story: serde_json::Value = serde_json::from_str(story).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let cases = story["cases"].as_array().expect("cases").iter();
    let told = cases.map(|case| {
        let headers = case["headers"].as_array().expect("headers").iter();
        let fields = headers.flat_map(|header| header.as_object().expect("a field"));
        Told {
            wire: hex(&text(&case["wire"])),
            fields: fields.map(|(name, value)| Some((name.clone(), text(value)))).collect(),
        }
    });
    told.collect()
}

#[test]
fn every_block_of_every_story_is_decoded() {
    for (name, blocks) in stories() {
        let mut decoder = Decoder::new();
        for (index, told) in blocks.iter().enumerate() {
            let (end, fields) = decode(&mut decoder, &told.wire);
            assert_eq!((end, &fields), (End::Whole, &told.fields), "{name}: block {index}");
        }
    }
}

#[test]
fn a_story_joined_at_any_block_is_never_told_wrong() {
    let (mut total, mut unknown) = (0, 0);
    for (name, blocks) in stories() {
        for begin in (1..blocks.len()).step_by(1 + blocks.len() / 40) {
            let mut decoder = Decoder::new();
            for (index, told) in blocks.iter().enumerate().skip(begin) {
                let (end, fields) = decode(&mut decoder, &told.wire);
                let what = format!("{name}: joined at {begin}, block {index}");
                assert_eq!((end, fields.len()), (End::Whole, told.fields.len()), "{what}");
                for (field, truth) in fields.iter().zip(&told.fields) {
                    assert!(field.is_none() || field == truth, "{what}: {field:?} is {truth:?}");
                    total += 1;
                    unknown += usize::from(field.is_none());
                }
            }
        }
    }
    println!("{unknown} of {total} fields unknown after joining late");
    assert!(unknown * 2 <= total, "most fields are known soon");
}

#[test]
fn a_story_with_a_block_missing_or_cut_is_never_told_wrong() {
    for (name, blocks) in stories() {
        for lost in (0..blocks.len()).step_by(1 + blocks.len() / 20) {
            let mut decoder = Decoder::new();
            for (index, told) in blocks.iter().enumerate() {
                if index == lost {
                    let half = told.wire.len() / 2;
                    let (_, fields) = decode(&mut decoder, &told.wire[..half]);
                    assert_eq!(fields, told.fields[..fields.len()], "{name}: the half of block {index}");
                    decoder.forget();
                    continue;
                }
                let fields = decode(&mut decoder, &told.wire).1;
                for (field, truth) in fields.iter().zip(&told.fields) {
                    assert!(field.is_none() || field == truth, "{name}: {lost} lost, block {index}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn random_blocks_do_not_panic_and_stay_bounded(blocks in vec(vec(any::<u8>(), 0..300), 1..20)) {
        let mut decoder = Decoder::new();
        for block in &blocks {
            let (_, fields) = decode(&mut decoder, block);
            prop_assert!(fields.len() <= block.len());
            let (entries, used) = decoder.table.state();
            prop_assert!(used <= 64 * 1024 && entries * 32 <= used);
        }
    }
}
