//! Random switches and policies over a few names, so that everything meets.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::desired::{Desired, DisruptionPolicy, Document, Mode};
use portwright_core::observed::{DefaultRoute, Link, Observed, Pf};
use portwright_core::ovs::{
    Bond, BondMode, Bridge, BridgeOptions, BridgeWish, Collect, Copies, Datapath, Direction, FailMode,
    IFINDEX_KEY, Interface, Map, Mirror, MirrorWish, OWNER_KEY, Output, Ovs, Pod, PodSelect, Policing, Port,
    PortKind, PortWish, QosSetting, Uplink, UplinkTo, VlanSetting, Wishes,
};
use portwright_core::select::Pattern;

use crate::choices::Choices;

const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
const PORTS: [&str; 7] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6"];
const POLICIES: [&str; 3] = ["one", "two", "other"];
const MIRRORS: [&str; 2] = ["m0", "m1"];

pub fn case(choices: &mut Choices<'_>) -> (Observed, Desired) {
    let observed = observed(choices);
    let desired = desired(choices);
    (observed, desired)
}

fn owner(choices: &mut Choices<'_>) -> Map {
    let mut ids = Map::new();
    match choices.below(4) {
        0 | 1 => {
            drop(ids.insert(OWNER_KEY.to_owned(), choices.of(&["one", "one", "two", "other"]).to_owned()))
        }
        2 => drop(ids.insert("owner".to_owned(), "cni".to_owned())),
        _ => {}
    }
    ids
}

fn vlan(choices: &mut Choices<'_>) -> VlanSetting {
    match choices.below(4) {
        0 => VlanSetting::default(),
        1 => VlanSetting { tag: Some(10), ..VlanSetting::default() },
        2 => VlanSetting { mode: Some("access".to_owned()), tag: Some(10), ..VlanSetting::default() },
        _ => {
            VlanSetting { mode: Some("trunk".to_owned()), trunks: [10, 20].into(), ..VlanSetting::default() }
        }
    }
}

fn observed(choices: &mut Choices<'_>) -> Observed {
    let mut observed = Observed::default();
    for (name, ifindex) in PORTS.iter().zip(10..) {
        if choices.chance(20) {
            continue;
        }
        let addresses = if choices.chance(10) { vec!["192.0.2.7".parse().unwrap()] } else { Vec::new() };
        let kind = choices.of(&[None, None, None, Some("openvswitch")]).map(ToOwned::to_owned);
        let link = Link { name: (*name).to_owned(), ifindex, addresses, kind, ..Link::default() };
        observed.links.push(link);
    }
    if choices.chance(15) {
        let interface = choices.of(&["br0", "p0", "br1"]).to_owned();
        observed.management.default_routes.push(DefaultRoute { interface, family: 4 });
    }
    let mut free: Vec<&str> = PORTS.to_vec();
    let mut bridges = Vec::new();
    for name in BRIDGES {
        if choices.chance(60) {
            bridges.push(bridge(choices, name, &mut free));
        }
    }
    // What is there is not gone.
    for port in bridges.iter_mut().flat_map(|bridge: &mut Bridge| &mut bridge.ports) {
        port.gone_for.take_if(|_| observed.links.iter().any(|link| link.name == port.name));
    }
    observed.ovs = Some(Ovs { settled: true, bridges, ..Ovs::default() });
    observed.pfs.push(represented(choices));
    observed
}

/// A PF whose VFs are connected by two of the ports. Somebody may have them.
fn represented(choices: &mut Choices<'_>) -> Pf {
    let vf = |choices: &mut Choices<'_>, index: u16| {
        let holder = serde_json::json!([{"kind": "pod", "namespace": "web", "name": "a", "container": "c", "resource": "x/y"}]);
        let holders = if choices.chance(30) { holder } else { serde_json::json!([]) };
        let representor = PORTS[5 + usize::from(index)];
        serde_json::json!({"index": index, "address": format!("0000:01:10.{index}"), "device": "1018", "representor": representor, "holders": holders})
    };
    let vfs = [vf(choices, 0), vf(choices, 1)];
    let pf = serde_json::json!({"address": "0000:01:00.0", "vendor": "15b3", "device": "1017", "class": "020000", "totalVfs": 2, "vfs": vfs});
    serde_json::from_value(pf).unwrap()
}

fn bridge(choices: &mut Choices<'_>, name: &str, free: &mut Vec<&str>) -> Bridge {
    let local = Interface { name: name.to_owned(), kind: "internal".to_owned(), ..Interface::default() };
    let mut ports = vec![Port { name: name.to_owned(), interfaces: vec![local], ..Port::default() }];
    for _ in 0..choices.below(4) {
        if free.is_empty() {
            break;
        }
        let port = free.remove(choices.below(free.len()));
        ports.push(self::port(choices, port));
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    let mut mirrors: Vec<Mirror> = (0..choices.below(3)).map(|_| mirror(choices, &names)).collect();
    mirrors.sort_by(|a, b| a.name.cmp(&b.name));
    Bridge {
        name: name.to_owned(),
        datapath: choices.of(&["system", "netdev"]).to_owned(),
        works: true,
        fail_mode: choices.of(&[None, Some("secure"), Some("standalone")]).map(ToOwned::to_owned),
        stp: choices.chance(20),
        flood_vlans: if choices.chance(20) { [9].into() } else { BTreeSet::new() },
        external_ids: owner(choices),
        ports,
        mirrors,
        ..Bridge::default()
    }
}

fn port(choices: &mut Choices<'_>, name: &str) -> Port {
    let kind = choices.of(&["system", "system", "internal"]).to_owned();
    let mut external_ids = owner(choices);
    if choices.chance(30) {
        external_ids.insert(IFINDEX_KEY.to_owned(), choices.of(&["10", "11", "99"]).to_owned());
    }
    let interface = Interface { name: name.to_owned(), kind, ..Interface::default() };
    Port {
        name: name.to_owned(),
        interfaces: vec![interface],
        vlan: vlan(choices),
        external_ids,
        gone_for: choices.chance(15).then(|| if choices.chance(50) { 400 } else { 5 }),
        ..Port::default()
    }
}

fn mirror(choices: &mut Choices<'_>, names: &[String]) -> Mirror {
    let some = |choices: &mut Choices<'_>| (0..choices.below(3)).map(|_| choices.of(names)).collect();
    Mirror {
        name: choices.of(&MIRRORS).to_owned(),
        copies: Copies {
            all: choices.chance(20),
            sources: some(choices),
            destinations: some(choices),
            output_port: choices.chance(50).then(|| choices.of(names)),
            output_vlan: choices.chance(20).then_some(9),
            ..Copies::default()
        },
        external_ids: owner(choices),
        counts: None,
        judged: None,
    }
}

fn desired(choices: &mut Choices<'_>) -> Desired {
    let count = 1 + choices.below(2);
    let documents = POLICIES.iter().take(count).map(|name| document(choices, name)).collect();
    let pod = Pod { namespace: "web".to_owned(), ..Pod::default() };
    Desired {
        documents,
        pods: choices.chance(50).then(|| BTreeMap::from([("u1".to_owned(), pod)])),
        allow_disruption: choices.chance(50),
        ..Desired::default()
    }
}

fn document(choices: &mut Choices<'_>, name: &str) -> Document {
    let mut bridges = Vec::new();
    let mut free: Vec<&str> = PORTS.to_vec();
    for bridge in BRIDGES {
        if choices.chance(60) {
            bridges.push(bridge_wish(choices, bridge, &mut free));
        }
    }
    let mut mirrors = Vec::new();
    for bridge in BRIDGES {
        for name in MIRRORS {
            if choices.chance(30) {
                mirrors.push(mirror_wish(choices, bridge, name));
            }
        }
    }
    let collect = choices.chance(50).then(|| Collect { owners: vec!["cni".to_owned()], grace_seconds: 300 });
    Document {
        name: name.to_owned(),
        priority: choices.of(&[0, 0, 5]),
        mode: Mode::Apply,
        disruption: choices.of(&[
            DisruptionPolicy::WhenIdle,
            DisruptionPolicy::WhenIdle,
            DisruptionPolicy::Never,
            DisruptionPolicy::Force,
        ]),
        nics: Vec::new(),
        pools: Vec::new(),
        ovs: Wishes { hw_offload: choices.of(&[None, Some(true), Some(false)]), collect, bridges, mirrors },
    }
}

fn bridge_wish(choices: &mut Choices<'_>, name: &str, free: &mut Vec<&str>) -> BridgeWish {
    let mut uplinks = Vec::new();
    for _ in 0..choices.below(3) {
        if free.len() > 2 {
            uplinks.push(uplink(choices, free));
        }
    }
    let mut ports = Vec::new();
    for _ in 0..choices.below(4) {
        if !free.is_empty() {
            let name = free.remove(choices.below(free.len()));
            ports.push(port_wish(choices, name));
        }
    }
    BridgeWish {
        path: "spec.bridges[0]".to_owned(),
        name: name.to_owned(),
        datapath: choices.of(&[None, Some(Datapath::System), Some(Datapath::Netdev)]),
        fail_mode: choices.of(&[None, Some(FailMode::Standalone), Some(FailMode::Secure)]),
        uplinks,
        ports,
        options: BridgeOptions {
            stp: choices.of(&[None, Some(true), Some(false)]),
            mtu_request: choices.of(&[None, Some(9000)]),
            ..BridgeOptions::default()
        },
        adopt: choices.chance(40),
        advertise: None,
    }
}

fn uplink(choices: &mut Choices<'_>, free: &mut Vec<&str>) -> Uplink {
    let mut take = |choices: &mut Choices<'_>| free.remove(choices.below(free.len())).to_owned();
    let to = if choices.chance(25) {
        let interfaces = BTreeSet::from([take(choices), take(choices)]);
        let mode = choices.of(&[None, Some(BondMode::BalanceSlb)]);
        UplinkTo::Bond(Bond {
            name: format!("b{}", interfaces.first().unwrap()),
            mode,
            lacp: None,
            interfaces,
        })
    } else {
        UplinkTo::Interface(take(choices))
    };
    Uplink { path: "spec.bridges[0].uplinks[0]".to_owned(), to, allow_management_path: choices.chance(20) }
}

fn port_wish(choices: &mut Choices<'_>, name: &str) -> PortWish {
    let qos = QosSetting { kind: "linux-htb".to_owned(), other_config: Map::new() };
    PortWish {
        path: "spec.bridges[0].ports[0]".to_owned(),
        name: name.to_owned(),
        kind: choices.of(&[PortKind::System, PortKind::Internal]),
        options: Map::new(),
        vlan: choices.chance(60).then(|| vlan(choices)),
        qos: choices.chance(20).then_some(qos),
        policing: choices.chance(20).then_some(Policing { rate: 5, burst: 1 }),
    }
}

fn mirror_wish(choices: &mut Choices<'_>, bridge: &str, name: &str) -> MirrorWish {
    let pods = PodSelect { namespace: "web".to_owned(), match_labels: BTreeMap::new() };
    MirrorWish {
        path: "spec.mirrors[0]".to_owned(),
        name: name.to_owned(),
        bridge: bridge.to_owned(),
        ports: choices
            .of(&[vec![], vec!["p*"], vec!["p1", "p2"]])
            .iter()
            .map(|text| Pattern::new(text).unwrap())
            .collect(),
        pods: choices.chance(10).then_some(pods),
        vlans: choices.of(&[BTreeSet::new(), BTreeSet::from([10])]),
        all: choices.chance(20),
        direction: choices.of(&[Direction::Both, Direction::Ingress, Direction::Egress]),
        output: if choices.chance(70) {
            Output::Port(choices.of(&PORTS).to_owned())
        } else {
            Output::Vlan(choices.of(&[9, 8]))
        },
        snaplen: choices.of(&[None, Some(64)]),
    }
}
