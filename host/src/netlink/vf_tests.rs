//! Answers written by hand with netlink-packet-route's encoder, which shares no code with our decoder.

use std::collections::BTreeMap;

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::link::{
    LinkAttribute, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate, VfInfoSpoofCheck,
    VfInfoTrust, VfInfoVlan, VfLinkState, VfVlan, VfVlanInfo, VlanProtocol as WireProtocol,
};
use portwright_core::desired::{LinkState, TxRate, Vlan, VlanProtocol};
use portwright_core::observed::VfAdmin;
use portwright_core::{Fact, MacAddress};

use super::decode;

fn mac(vf: u32) -> VfInfo {
    let [.., high, low] = vf.to_be_bytes();
    VfInfo::Mac(VfInfoMac::new(vf, &[2, 0, 0, 0, high, low]))
}

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

/// An attribute of 32-bit words.
fn words(kind: u16, words: &[u32]) -> VfInfo {
    VfInfo::Other(DefaultNla::new(kind, words.iter().flat_map(|word| word.to_ne_bytes()).collect()))
}

fn full(vf: u32) -> Vec<VfInfo> {
    vec![
        mac(vf),
        VfInfo::Vlan(VfInfoVlan::new(vf, 100, 3)),
        VfInfo::Rate(VfInfoRate::new(vf, 10, 200)),
        VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, false)),
        VfInfo::LinkState(VfInfoLinkState::new(vf, VfLinkState::Disable)),
        VfInfo::Trust(VfInfoTrust::new(vf, true)),
        VfInfo::VlanList(vec![VfVlan::Info(VfVlanInfo::new(vf, 100, 3, WireProtocol::Ieee8021Ad))]),
    ]
}

#[test]
fn every_attribute_is_read() {
    let vfs = decode(&message(vec![full(0), full(5)])).unwrap();
    let admin = VfAdmin {
        mac: Fact::Known(MacAddress([2, 0, 0, 0, 0, 5])),
        vlan: Fact::Known(Vlan { id: 100, qos: 3, protocol: VlanProtocol::Dot1ad }),
        spoof_check: Fact::Known(false),
        trust: Fact::Known(true),
        tx_rate: Fact::Known(TxRate { min: 10, max: 200 }),
        link_state: Fact::Known(LinkState::Disable),
    };
    assert_eq!(vfs.keys().copied().collect::<Vec<_>>(), [0, 5], "numbers may have gaps");
    assert_eq!(vfs.get(&5), Some(&admin));
}

#[test]
fn minus_one_means_unsupported_and_not_off() {
    let vfs =
        decode(&message(vec![vec![mac(0), words(4, &[0, u32::MAX]), words(9, &[0, u32::MAX])]])).unwrap();
    let vf = vfs.get(&0).unwrap();
    assert!(vf.spoof_check.is_unsupported() && vf.trust.is_unsupported());
    assert!(vf.tx_rate.is_unknown(), "what the kernel does not mention is unknown");
}

#[test]
fn unknown_attributes_and_longer_structures_are_no_obstacle() {
    let vfs = decode(&message(vec![vec![mac(0), words(99, &[0, 7]), words(9, &[0, 1, 77])]])).unwrap();
    assert!(vfs.get(&0).unwrap().trust.is(&true));
}

#[test]
fn a_known_attribute_of_wrong_length_is_an_error_and_never_no_vfs() {
    for (kind, due) in [(1, 36), (2, 12), (4, 8), (5, 8), (6, 12), (9, 8)] {
        let mut vf = if kind == 1 { Vec::new() } else { vec![mac(0)] };
        vf.push(words(kind, &[0]));
        let error = decode(&message(vec![full(1), vf])).unwrap_err();
        assert!(error.0.contains(&format!("attribute {kind} has 4 bytes")), "{kind} (due {due}): {error:?}");
    }
    let error = decode(&message(vec![vec![words(9, &[0, 1])]])).unwrap_err();
    assert_eq!(error.0, "a VF without index");
}

#[test]
fn a_message_cut_anywhere_is_an_error_or_whole() {
    let whole = message(vec![full(0), full(1)]);
    let expected = decode(&whole).unwrap();
    for length in 0..whole.len() {
        match decode(whole.get(..length).unwrap()) {
            Err(_) => {}
            // Only cuts before the list begins look like a link without VFs, and the kernel's length field covers those.
            Ok(found) => assert!(found == expected || found == BTreeMap::new(), "cut at {length}"),
        }
    }
}

#[test]
fn two_hundred_and_fifty_six_vfs_fit() {
    let vfs = decode(&message((0..256).map(full).collect())).unwrap();
    assert_eq!(vfs.len(), 256);
}

#[test]
fn a_list_that_wraps_its_length_is_an_error() {
    // The kernel's u16 length wraps at 64 KiB: the entries behind it stand where attributes of the link should.
    let mut body = message(vec![full(0), full(1)]);
    let mut stray = message(vec![full(2)]);
    let info = stray.split_off(16 + 12 + 8 + 4);
    body.extend_from_slice(&info);
    let error = decode(&body).unwrap_err();
    assert!(error.0.contains("cut off"), "{error:?}");
}
