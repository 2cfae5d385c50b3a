//! File formats, byte orders, clocks and link types.

use super::{
    build::{enhanced, interface, linked, pcap, section},
    *,
};

fn packets(link: u16, tags: &[u16], six: bool) -> Vec<Packet> {
    let linked = |packet: Packet| Packet { bytes: linked(link, tags, &packet.bytes), ..packet };
    whole(six).packets.into_iter().map(linked).collect()
}

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    for (big, nanos) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut packets = packets(1, &[], false);
        packets[3].unix_ns += 123_456_789;
        let heard = replay(&pcap(big, nanos, 1, &packets));
        assert_whole(&heard, false);
        let fraction = if nanos { 123_456_789 } else { 123_456_000 };
        assert_eq!(heard.times[0], START_NS + 3_000_000 + fraction);
    }
}

#[test]
fn link_types_tags_and_families() {
    for link in [0, 1, 12, 14, 101, 108, 113, 228, 229, 276] {
        for six in [false, true] {
            assert_whole(&replay(&pcap(false, false, link, &packets(link, &[], six))), six);
        }
    }
    for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
        assert_whole(&replay(&pcap(false, false, 1, &packets(1, tags, true))), true);
        assert_whole(&replay(&pcap(false, false, 113, &packets(113, tags, false))), false);
    }
}

#[test]
fn pcapng_with_interfaces_of_different_clocks_and_links() {
    for big in [false, true] {
        let mut writer = build::Writer { big, bytes: Vec::new() };
        section(&mut writer).block(0xbad, |body| {
            body.raw(b"unknown blocks are passed over");
        });
        interface(&mut writer, 1, None);
        interface(&mut writer, 101, Some(9));
        interface(&mut writer, 276, Some(0x80 | 20));
        interface(&mut writer, 9_999, None);
        for (number, packet) in whole(false).packets.iter().enumerate() {
            let (index, link, ticks) = match number % 3 {
                0 => (0, 1, packet.unix_ns / 1_000),
                1 => (1, 101, packet.unix_ns),
                _ => (2, 276, ((u128::from(packet.unix_ns) << 20) / 1_000_000_000) as u64),
            };
            let packet = Packet { bytes: linked(link, &[], &packet.bytes), ..packet.clone() };
            enhanced(&mut writer, index, ticks, &packet);
            enhanced(&mut writer, 3, 0, &packet);
        }
        let heard = replay(&writer.bytes);
        assert_whole(&heard, false);
        assert_eq!(heard.times[..2], [START_NS + 3_000_000, START_NS + 4_000_000]);
        assert_eq!(heard.counters.unknown_link_frames, 9);
    }
}

#[test]
fn pcapng_simple_and_obsolete_packets_and_a_second_section() {
    let mut writer = build::Writer { big: false, bytes: Vec::new() };
    let packets = whole(false).packets;
    interface(section(&mut writer), 101, None);
    for packet in &packets[..4] {
        writer.block(3, |body| {
            body.u32(packet.bytes.len() as u32).raw(&packet.bytes);
        });
    }
    writer.big = true;
    interface(section(&mut writer), 101, None);
    for packet in &packets[4..] {
        let ticks = packet.unix_ns / 1_000;
        let length = packet.bytes.len() as u32;
        writer.block(2, |body| {
            body.u16(0).u16(0).u32((ticks >> 32) as u32).u32(ticks as u32);
            body.u32(length).u32(length).raw(&packet.bytes);
        });
    }
    assert_whole(&replay(&writer.bytes), false);
}

#[test]
fn what_is_not_tcp_is_counted() {
    let mut packets = packets(1, &[], false);
    let template = packets[3].clone();
    let change = |at: usize, value: u8| {
        let mut packet = template.clone();
        packet.bytes[at] = value;
        packet
    };
    let cut = Packet { bytes: template.bytes[..40].to_vec(), original: Some(90), ..template.clone() };
    packets.extend([change(12, 0x99), change(14 + 9, 17), change(14 + 6, 0x20), change(14, 0x42), cut]);
    let heard = replay(&pcap(false, false, 1, &packets));
    assert_whole(&heard, false);
    let counters = heard.counters;
    assert_eq!((counters.not_ip_frames, counters.not_tcp_frames, counters.fragment_frames), (1, 1, 1));
    assert_eq!((counters.malformed_frames, counters.frames, counters.segments), (2, 14, 9));
}
