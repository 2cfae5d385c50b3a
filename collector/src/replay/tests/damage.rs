//! Truncated and corrupt files: events up to the damage, then one error; never a panic, a hang or a huge allocation.

use proptest::prelude::*;

use super::{
    super::ErrorKind,
    build::{enhanced, interface, pcap, section},
    *,
};

fn pcapng() -> Vec<u8> {
    let mut writer = build::Writer { big: false, bytes: Vec::new() };
    interface(section(&mut writer), 101, Some(9));
    for packet in whole(false).packets {
        enhanced(&mut writer, 0, packet.unix_ns, &packet);
    }
    writer.bytes
}

#[test]
fn truncation_anywhere_is_an_error_after_the_events_before_it() {
    for file in [whole(false).file(), whole(true).file(), pcapng()] {
        let mut ends = 0;
        for length in 0..file.len() {
            let heard = replay(&file[..length]);
            assert!(b"ASK one and two".starts_with(&heard.received));
            assert!(b"TELL one".starts_with(&heard.sent));
            match heard.error {
                Some(error) => {
                    let expected = if length == 0 { ErrorKind::Empty } else { ErrorKind::Truncated };
                    assert_eq!(error.kind.to_string(), expected.to_string());
                    assert!(error.offset <= length as u64);
                }
                None => ends += 1,
            }
        }
        assert!((9..=11).contains(&ends), "{ends}: only between records is there a whole file");
    }
}

#[test]
fn errors_say_what_and_where() {
    let error = |file: &[u8]| replay(file).error.map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(
        error(b"GIF89a, not a capture"),
        "replay test.pcap: not a capture file: expected pcap or pcapng (at byte 0)"
    );
    assert_eq!(error(b""), "replay test.pcap: the file is empty (at byte 0)");
    assert!(error(b"GI").contains("truncated"));
    assert!(error(&pcap(false, false, 147, &[])).contains("link type 147"));
    let mut file = whole(false).file();
    file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(error(&file).contains("corrupt") && error(&file).contains("at byte 24"));
    let mut file = pcapng();
    let at = file.len() - 1;
    file[at] ^= 1;
    assert!(error(&file).contains("two lengths"), "{}", error(&file));
    let missing = Replay::new(SHOUT).run(Path::new("/nonexistent.pcap"), &mut |_| {});
    assert!(matches!(missing, Err(ReplayError { kind: ErrorKind::Io(_), .. })));
}

proptest! {
    #[test]
    fn corrupt_files_never_panic(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = match which {
            0 => whole(false).file(),
            1 => whole(true).file(),
            2 => pcapng(),
            _ => {
                let linked = |packet: Packet| Packet { bytes: build::linked(1, &[0x8100], &packet.bytes), ..packet };
                pcap(true, false, 1, &whole(true).packets.into_iter().map(linked).collect::<Vec<_>>())
            }
        };
        for (index, value) in changes {
            let at = index.index(file.len());
            file[at] = value;
        }
        let heard = replay(&file);
        prop_assert!(heard.counters.frames <= 100);
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..4_usize) {
        let magic: [&[u8]; 4] = [
            b"", b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0",
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
            b"\xa1\xb2\x3c\x4d\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\x01",
        ];
        bytes.splice(0..0, magic[kind].iter().copied());
        replay(&bytes);
    }
}
