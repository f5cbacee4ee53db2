//! The netlink readers and setters on links as the kernel makes them; `ip` is the independent witness.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::{fresh_netns, sh};
use nix::errno::Errno;
use portwright_core::MacAddress;
use portwright_core::desired::{LinkState, TxRate, Vlan, VlanProtocol};
use portwright_host::deadline::Deadline;
use portwright_host::netlink::{self, NetlinkError, Port, RawLink};
use portwright_host::uevent::Uevents;
use serde_json::Value;

fn by_name() -> BTreeMap<String, RawLink> {
    netlink::links().unwrap().into_iter().map(|link| (link.name.clone(), link)).collect()
}

fn port<'a>(links: &BTreeMap<String, RawLink>, name: &'a str) -> Port<'a> {
    Port { ifindex: links[name].ifindex, name }
}

/// Waits until the kernel has settled the state of links that came up: `ip` and we are to see the same moment.
fn settle() {
    let mut events = Uevents::open().unwrap();
    let agree = || {
        let shown: Vec<Value> = serde_json::from_str(&sh("ip -j -d link")).unwrap();
        let links = by_name();
        let same = |entry: &Value| {
            let link = &links[entry["ifname"].as_str().unwrap()];
            let down = entry["flags"].as_array().unwrap().iter().any(|flag| flag == "NO-CARRIER");
            !link.up || link.carrier == Some(!down)
        };
        shown.iter().all(same).then_some(())
    };
    events.wait_until(Deadline::after(Duration::from_secs(10)), agree).unwrap();
}

/// Everything that `ip -j -d link` says about a link must be what we read.
fn agrees_with_ip(links: &BTreeMap<String, RawLink>) {
    let shown: Vec<Value> = serde_json::from_str(&sh("ip -j -d link")).unwrap();
    assert_eq!(shown.len(), links.len());
    let index_of = |name: &Value| name.as_str().map(|name| links[name].ifindex);
    for entry in shown {
        let link = &links[entry["ifname"].as_str().unwrap()];
        assert_eq!(entry["ifindex"], link.ifindex);
        assert_eq!(entry["mtu"], link.mtu.unwrap());
        assert_eq!(index_of(&entry["master"]), link.master, "{link:?}");
        assert_eq!(entry["linkinfo"]["info_kind"].as_str(), link.kind.as_deref());
        let flags: Vec<&str> =
            entry["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()).collect();
        assert_eq!(flags.contains(&"UP"), link.up);
        assert_eq!(link.carrier, link.up.then(|| !flags.contains(&"NO-CARRIER")), "{link:?} {flags:?}");
        let mac = link.mac.unwrap().to_string();
        assert_eq!(entry["address"], mac);
        let alt: Vec<String> = entry["altnames"].as_array().map_or_else(Vec::new, |names| {
            names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        });
        assert_eq!(alt, link.alt_names);
        if link.kind.as_deref() != Some("veth") {
            assert_eq!(index_of(&entry["link"]), link.lower, "{link:?}");
        }
    }
}

#[test]
fn links_are_what_ip_shows() {
    fresh_netns();
    sh("ip link add va type veth peer name vb
        ip link add br0 type bridge
        ip link set va master br0
        ip link set va up; ip link set vb up; ip link set vb mtu 1400 address 02:00:00:00:00:07
        ip link property add dev vb altname second-name
        ip link add mv0 link vb type macvlan
        ip link add ib0 type ifb");
    settle();
    let links = by_name();
    agrees_with_ip(&links);
    assert_eq!(links["va"].lower, None, "a veth's peer is not below it");
    assert_eq!(links["mv0"].lower, Some(links["vb"].ifindex));
    assert_eq!(links["vb"].alt_names, ["second-name"]);
    assert_eq!(netlink::link(links["vb"].ifindex).unwrap(), links["vb"]);
}

#[test]
#[ignore = "needs a kernel with 8021q and bonding"]
fn bonds_and_vlans_are_what_ip_shows() {
    fresh_netns();
    sh("ip link add va type veth peer name vb
        ip link add v5 link vb type vlan id 5
        ip link add bo0 type bond; ip link set va down; ip link set va master bo0");
    settle();
    agrees_with_ip(&by_name());
}

#[test]
fn addresses_and_default_routes_of_both_families_and_all_tables() {
    fresh_netns();
    sh("ip link add va type veth peer name vb
        ip link set va up; ip link set vb up
        ip addr add 192.0.2.1/24 dev va
        ip addr add 198.51.100.1 peer 198.51.100.2 dev vb
        ip addr add 2001:db8::1/64 dev va nodad
        ip route add default via 192.0.2.254
        ip route add default dev vb table 77
        ip route add blackhole default table 78
        ip route add 10.0.0.0/8 dev vb
        ip -6 route add default via 2001:db8::ff");
    let links = by_name();
    let (va, vb) = (links["va"].ifindex, links["vb"].ifindex);
    let found: Vec<String> = netlink::addresses()
        .unwrap()
        .into_iter()
        .filter(|address| !address.address.to_string().starts_with("fe80"))
        .map(|a| format!("{} {}/{}", if a.ifindex == va { "va" } else { "other" }, a.address, a.prefix))
        .collect();
    assert!(found.contains(&"va 192.0.2.1/24".to_owned()), "{found:?}");
    assert!(found.contains(&"va 2001:db8::1/64".to_owned()), "{found:?}");
    assert!(found.contains(&"other 198.51.100.1/32".to_owned()), "own end, not the peer's: {found:?}");
    let routes: BTreeSet<(u32, u8)> =
        netlink::default_routes().unwrap().into_iter().map(|r| (r.ifindex, r.family)).collect();
    assert_eq!(routes, BTreeSet::from([(va, 4), (va, 6), (vb, 4)]));
}

#[test]
fn default_routes_through_next_hop_objects_count_on_hosts_that_tell_only_the_object() {
    fresh_netns();
    sh("echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode
        ip link add va type veth peer name vb
        ip link set va up; ip link set vb up
        ip addr add 192.0.2.1/24 dev va; ip addr add 198.51.100.1/24 dev vb
        ip addr add 2001:db8::1/64 dev va nodad
        ip nexthop add id 1 via 192.0.2.254 dev va
        ip nexthop add id 2 via 198.51.100.254 dev vb
        ip nexthop add id 3 group 1/2
        ip nexthop add id 4 via 2001:db8::ff dev va
        ip route add default nhid 3
        ip route add default nhid 1 table 77
        ip -6 route add default nhid 4");
    let links = by_name();
    let (va, vb) = (links["va"].ifindex, links["vb"].ifindex);
    let routes: BTreeSet<(u32, u8)> =
        netlink::default_routes().unwrap().into_iter().map(|r| (r.ifindex, r.family)).collect();
    assert_eq!(routes, BTreeSet::from([(va, 4), (va, 6), (vb, 4)]));
}

#[test]
fn every_way_out_of_a_multipath_default_route_counts() {
    fresh_netns();
    sh("ip link add va type veth peer name vb
        ip link set va up; ip link set vb up
        ip addr add 192.0.2.1/24 dev va; ip addr add 198.51.100.1/24 dev vb
        ip route add default nexthop via 192.0.2.254 nexthop via 198.51.100.254");
    let links = by_name();
    let routes: BTreeSet<u32> = netlink::default_routes().unwrap().into_iter().map(|r| r.ifindex).collect();
    assert_eq!(routes, BTreeSet::from([links["va"].ifindex, links["vb"].ifindex]));
}

#[test]
fn links_of_another_namespace_are_read_without_leaving_ours() {
    fresh_netns();
    let holder = sh("ip link add here type ifb; echo $$");
    let before = by_name();
    let name = format!("pw-test-{}", holder.trim());
    let _cleaner = Netns::new(&name);
    sh(&format!("ip -n {name} link add there type ifb"));
    let there: Vec<String> = netlink::links_in_netns(Path::new(&format!("/run/netns/{name}")))
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(there, ["lo", "there"]);
    assert_eq!(by_name(), before);
    let error = netlink::links_in_netns(Path::new("/run/netns/pw-not-there")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
}

struct Netns(String);

impl Netns {
    fn new(name: &str) -> Netns {
        sh(&format!("ip netns add {name}"));
        Netns(name.to_owned())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.0));
    }
}

#[test]
fn what_is_set_is_what_ip_shows() {
    fresh_netns();
    sh("ip link add va type veth peer name vb; ip link set va up");
    let links = by_name();
    netlink::set_mtu(port(&links, "va"), 9000).unwrap();
    netlink::set_up(port(&links, "vb"), true).unwrap();
    netlink::set_address(port(&links, "vb"), MacAddress([2, 0, 0, 0, 0, 9])).unwrap();
    netlink::rename(port(&links, "va"), "web0").unwrap();
    settle();
    let after = by_name();
    agrees_with_ip(&after);
    let renamed = &after["web0"];
    assert_eq!((renamed.ifindex, renamed.mtu, renamed.up), (links["va"].ifindex, Some(9000), true));
    assert_eq!((after["vb"].up, after["vb"].mac), (true, Some(MacAddress([2, 0, 0, 0, 0, 9]))));
    netlink::set_up(port(&links, "vb"), false).unwrap();
    assert!(!by_name()["vb"].up);
}

#[test]
fn a_refusal_carries_operation_object_errno_and_the_kernels_own_words() {
    fresh_netns();
    sh("ip link add va type veth peer name vb");
    let links = by_name();
    let error = netlink::set_mtu(port(&links, "va"), 1_000_000).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    let text = error.to_string();
    for part in ["set MTU of va to 1000000", "EINVAL", "mtu greater than device maximum"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let error = netlink::rename(port(&links, "va"), "vb").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    let gone = Port { ifindex: 4_000_000, name: "gone0" };
    assert!(netlink::set_up(gone, true).unwrap_err().is_gone());
    assert!(netlink::vf_attributes(gone.ifindex).unwrap_err().is_gone(), "an error, never `no VFs`");
}

/// Each VF request must reach the driver: the kernel checks the form of all of them before it says that this driver has no
/// VFs, and a request of wrong form would be EINVAL.
#[test]
fn vf_requests_have_the_form_that_the_kernel_expects() {
    fresh_netns();
    sh("ip link add ib0 type ifb");
    let links = by_name();
    let pf = port(&links, "ib0");
    let dot1ad = Vlan { id: 7, qos: 3, protocol: VlanProtocol::Dot1ad };
    type Attempt<'a> = (&'a str, Result<(), NetlinkError>);
    let attempts: [Attempt<'_>; 7] = [
        ("mac", netlink::set_vf_mac(pf, 0, MacAddress([2, 0, 0, 0, 0, 1]))),
        ("vlan", netlink::set_vf_vlan(pf, 0, Vlan { protocol: VlanProtocol::Dot1q, ..dot1ad })),
        ("802.1ad", netlink::set_vf_vlan(pf, 0, dot1ad)),
        ("spoof", netlink::set_vf_spoof_check(pf, 0, true)),
        ("trust", netlink::set_vf_trust(pf, 0, true)),
        ("rate", netlink::set_vf_rate(pf, 0, TxRate { min: 0, max: 100 })),
        ("state", netlink::set_vf_link_state(pf, 0, LinkState::Enable)),
    ];
    for (name, attempt) in attempts {
        let error = attempt.unwrap_err();
        assert!(error.is_unsupported(), "{name}: {error}");
        assert!(error.to_string().contains("VF 0 of ib0"), "{error}");
    }
    assert_eq!(netlink::vf_attributes(pf.ifindex).unwrap(), BTreeMap::new(), "no VFs is no error");
}
