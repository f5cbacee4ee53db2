//! Answers written by hand with netlink-packet-route's encoder, which shares no code with our decoder.

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkVfInfo, VfInfo, VfInfoMac, VfStats};

use super::{VfStatistics, any_counted, decode};

fn message(vfs: Vec<Vec<VfInfo>>) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = 3;
    message.attributes = vec![
        LinkAttribute::Address(vec![2, 0, 0, 0, 1, 0]),
        LinkAttribute::NumVf(u32::try_from(vfs.len()).unwrap()),
        LinkAttribute::VfInfoList(vfs.into_iter().map(LinkVfInfo).collect()),
    ];
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

fn mac(vf: u32) -> VfInfo {
    VfInfo::Mac(VfInfoMac::new(vf, &[2, 0, 0, 0, 0, 9]))
}

/// As the kernel sends it: padding between the counters, and one that is not known yet.
fn counted(vf: u32, from: u64) -> Vec<VfInfo> {
    let counters = vec![
        VfStats::RxPackets(from),
        VfStats::TxPackets(from + 1),
        VfStats::RxBytes(from + 2),
        VfStats::TxBytes(u64::MAX),
        VfStats::Broadcast(from + 4),
        VfStats::Multicast(from + 5),
        VfStats::Other(DefaultNla::new(6, Vec::new())),
        VfStats::RxDropped(from + 7),
        VfStats::TxDropped(from + 8),
        VfStats::Other(DefaultNla::new(99, vec![1])),
    ];
    vec![mac(vf), VfInfo::Stats(counters)]
}

#[test]
fn every_counter_is_read() {
    let found = decode(&message(vec![counted(0, 10), counted(5, 1 << 40)])).unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 5], "numbers may have gaps");
    let expected = VfStatistics {
        rx_packets: 10,
        tx_packets: 11,
        rx_bytes: 12,
        tx_bytes: u64::MAX,
        broadcast: 14,
        multicast: 15,
        rx_dropped: Some(17),
        tx_dropped: Some(18),
    };
    assert_eq!(found.get(&0), Some(&expected));
    assert_eq!(found.get(&5).unwrap().rx_packets, 1 << 40, "counters are 64 bits wide");
    assert!(any_counted(&found));
}

#[test]
fn what_is_not_told_is_absent_and_not_zero() {
    let old = vec![mac(1), VfInfo::Stats(vec![VfStats::RxPackets(3)])];
    let found = decode(&message(vec![vec![mac(0)], old])).unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1], "a VF without counters has none");
    assert_eq!(found.get(&1).unwrap().rx_dropped, None);
    assert_eq!(decode(&message(Vec::new())).unwrap().len(), 0);
}

#[test]
fn nothing_but_zeros_is_a_driver_that_does_not_count() {
    let zeros = |vf| vec![mac(vf), VfInfo::Stats(vec![VfStats::RxPackets(0), VfStats::RxDropped(0)])];
    let silent = decode(&message(vec![zeros(0), zeros(1)])).unwrap();
    assert_eq!((silent.len(), any_counted(&silent)), (2, false));
    let one = decode(&message(vec![zeros(0), counted(1, 0)])).unwrap();
    assert!(any_counted(&one), "a VF that saw nothing beside one that did is zero");
}

#[test]
fn a_counter_of_wrong_length_is_an_error() {
    let short = VfInfo::Stats(vec![VfStats::Other(DefaultNla::new(2, vec![1, 2, 3, 4]))]);
    let error = decode(&message(vec![vec![mac(0), short]])).unwrap_err();
    assert!(error.0.contains("attribute 2 has 4 bytes"), "{error:?}");
    let nameless = decode(&message(vec![vec![VfInfo::Stats(vec![VfStats::RxPackets(1)])]])).unwrap_err();
    assert_eq!(nameless.0, "a VF without index");
}

#[test]
fn a_message_cut_anywhere_is_an_error_or_whole() {
    let whole = message(vec![counted(0, 1), counted(1, 2)]);
    let expected = decode(&whole).unwrap();
    for length in 0..whole.len() {
        if let Ok(found) = decode(whole.get(..length).unwrap()) {
            assert!(found == expected || found.is_empty(), "cut at {length}");
        }
    }
}

#[test]
fn a_list_that_wraps_its_length_is_an_error() {
    let mut body = message(vec![counted(0, 1), counted(1, 2)]);
    let mut stray = message(vec![counted(2, 3)]);
    let info = stray.split_off(16 + 12 + 8 + 4);
    body.extend_from_slice(&info);
    assert!(decode(&body).is_err());
}
