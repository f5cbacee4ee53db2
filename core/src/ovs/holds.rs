//! Whether what a change expects is still so, and what the switch looks like after it. The first is asked before a change
//! is made for real; the second is what the simulator does and what steps of one transaction build upon.

use std::collections::BTreeSet;

use super::change::{Change, NewBridge, NewPort};
use super::observed::{Bridge, Interface, Map, Mirror, Ovs, Port};
use super::setting::Setting;
use super::target::{Part, Target};
use super::{IFINDEX_KEY, OWNER_KEY};

/// What was found that the change does not expect; none if it may be made.
pub fn conflict(ovs: &Ovs, target: &Target, owner: &str, change: &Change) -> Option<String> {
    let (bridge, part) = match target {
        Target::Switch => return of_switch(ovs, change),
        Target::Bridge(bridge, part) => (bridge, part),
    };
    if let Change::CreateBridge { .. } = change {
        return match (ovs.bridge(bridge), ovs.interface(bridge)) {
            (Some(_), _) => Some(format!("there is a bridge {bridge}")),
            (None, Some((other, ..))) => Some(format!("bridge {} has a port {bridge}", other.name)),
            (None, None) => None,
        };
    }
    let Some(found) = ovs.bridge(bridge) else { return Some(format!("there is no bridge {bridge}")) };
    match part {
        Part::Itself => of_bridge(found, owner, change),
        Part::Port(port) => of_port(ovs, found, port, owner, change),
        Part::Mirror(mirror) => of_mirror(found, mirror, owner, change),
    }
}

fn of_switch(ovs: &Ovs, change: &Change) -> Option<String> {
    let Change::SetHwOffload { from, .. } = change else { return misplaced(change) };
    differs("hw-offload", &hw_offload(ovs), from)
}

/// `other_config:hw-offload`.
pub(crate) fn hw_offload(ovs: &Ovs) -> Option<bool> {
    ovs.other_config.get("hw-offload").map(|text| text == "true")
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Option<String> {
    (found != expected).then(|| format!("{what} is {found:?}"))
}

fn misplaced(change: &Change) -> Option<String> {
    Some(format!("`{}` means nothing here", change.words()))
}

/// What a row says of its owner that the change does not expect.
fn owned(what: &str, found: Option<&str>, owner: &str) -> Option<String> {
    match found {
        Some(found) if found == owner => None,
        Some(found) => Some(format!("{what} belongs to policy {found}")),
        None => Some(format!("{what} is not ours")),
    }
}

fn of_bridge(bridge: &Bridge, owner: &str, change: &Change) -> Option<String> {
    let what = format!("bridge {}", bridge.name);
    if let Change::Set { from: Setting::Owner(from), .. } = change {
        return differs("the owner", &bridge.owner().map(ToOwned::to_owned), from);
    }
    if let Some(found) = owned(&what, bridge.owner(), owner) {
        return Some(found);
    }
    match change {
        Change::SetDatapath { from, .. } => differs("the datapath", &bridge.datapath, from),
        Change::Set { from, .. } => match of_bridge_setting(bridge, from) {
            Some(found) => differs(from.words().trim_start_matches("set "), &found, from),
            None => misplaced(change),
        },
        Change::RemoveBridge { from } => {
            let ports: BTreeSet<String> = bridge.others().map(|port| port.name.clone()).collect();
            let more: Vec<&String> = ports.difference(from).collect();
            more.first().map(|port| format!("{what} has a port {port}"))
        }
        Change::SetHwOffload { .. }
        | Change::CreateBridge { .. }
        | Change::AddPort { .. }
        | Change::ReplugPort { .. }
        | Change::RemovePort { .. }
        | Change::CollectPort { .. }
        | Change::AddMirror { .. }
        | Change::SetMirror { .. }
        | Change::RemoveMirror { .. } => misplaced(change),
    }
}

/// The same setting as it is on the bridge.
pub(crate) fn of_bridge_setting(bridge: &Bridge, like: &Setting) -> Option<Setting> {
    Some(match like {
        Setting::Owner(_) => Setting::Owner(bridge.owner().map(ToOwned::to_owned)),
        Setting::OtherConfig(key, _) => {
            Setting::OtherConfig(key.clone(), bridge.other_config.get(key).cloned())
        }
        Setting::ExternalId(key, _) => {
            Setting::ExternalId(key.clone(), bridge.external_ids.get(key).cloned())
        }
        Setting::FailMode(_) => Setting::FailMode(bridge.fail_mode.clone()),
        Setting::Stp(_) => Setting::Stp(bridge.stp),
        Setting::Rstp(_) => Setting::Rstp(bridge.rstp),
        Setting::McastSnooping(_) => Setting::McastSnooping(bridge.mcast_snooping),
        Setting::FloodVlans(_) => Setting::FloodVlans(bridge.flood_vlans.clone()),
        Setting::MtuRequest(_) => Setting::MtuRequest(bridge.mtu_request()),
        Setting::Kind(_)
        | Setting::InterfaceOption(..)
        | Setting::Vlan(_)
        | Setting::BondMode(_)
        | Setting::Lacp(_)
        | Setting::Members(_)
        | Setting::Qos(_)
        | Setting::Policing(_) => return None,
    })
}

/// The same setting as it is on the port.
pub(crate) fn of_port_setting(port: &Port, like: &Setting) -> Option<Setting> {
    let interface = port.interfaces.first();
    Some(match like {
        Setting::Owner(_) => Setting::Owner(port.owner().map(ToOwned::to_owned)),
        Setting::Kind(_) => Setting::Kind(interface?.kind.clone()),
        Setting::InterfaceOption(key, _) => {
            Setting::InterfaceOption(key.clone(), interface?.options.get(key).cloned())
        }
        Setting::Vlan(_) => Setting::Vlan(port.vlan.clone()),
        Setting::BondMode(_) => Setting::BondMode(port.bond_mode.clone()),
        Setting::Lacp(_) => Setting::Lacp(port.lacp.clone()),
        Setting::Members(_) => Setting::Members(port.members()),
        Setting::Qos(_) => Setting::Qos(port.qos.clone()),
        Setting::Policing(_) => Setting::Policing(interface?.policing),
        Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::FailMode(_)
        | Setting::Stp(_)
        | Setting::Rstp(_)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_) => return None,
    })
}

fn of_port(ovs: &Ovs, bridge: &Bridge, name: &str, owner: &str, change: &Change) -> Option<String> {
    if let Change::AddPort { to } = change {
        let taken = ovs.port(name).map(|(bridge, _)| bridge);
        let taken = taken.or_else(|| to.interfaces.iter().find_map(|one| Some(ovs.interface(one)?.0)));
        return taken.map(|bridge| format!("bridge {} has it already", bridge.name));
    }
    let what = format!("port {name}");
    let Some(port) = bridge.port(name) else { return Some(format!("bridge {} has no {what}", bridge.name)) };
    match change {
        Change::Set { from: Setting::Owner(from), .. } => {
            differs("the owner", &port.owner().map(ToOwned::to_owned), from)
        }
        Change::CollectPort { owner, .. } => match port.gone_for {
            None => Some(format!("the interface of {what} is there")),
            Some(_) if port.external_ids.get(&owner.key) != Some(&owner.value) => {
                Some(format!("{what} does not belong to {}", owner.value))
            }
            Some(_) => None,
        },
        Change::Set { from, .. } => {
            owned(&what, port.owner(), owner).or_else(|| match of_port_setting(port, from) {
                Some(found) => differs(from.words().trim_start_matches("set "), &found, from),
                None => misplaced(change),
            })
        }
        Change::ReplugPort { .. } => owned(&what, port.owner(), owner),
        Change::RemovePort { from } => owned(&what, port.owner(), owner).or_else(|| {
            let kind = port.interfaces.first().map(|interface| &interface.kind);
            kind.filter(|kind| *kind != from).map(|kind| format!("{what} is of type {kind}"))
        }),
        Change::AddPort { .. }
        | Change::SetHwOffload { .. }
        | Change::CreateBridge { .. }
        | Change::SetDatapath { .. }
        | Change::RemoveBridge { .. }
        | Change::AddMirror { .. }
        | Change::SetMirror { .. }
        | Change::RemoveMirror { .. } => misplaced(change),
    }
}

fn of_mirror(bridge: &Bridge, name: &str, owner: &str, change: &Change) -> Option<String> {
    let mut named = bridge.mirrors.iter().filter(|mirror| mirror.name == name);
    let ours = named.clone().find(|mirror| mirror.owner() == Some(owner));
    let gone = || format!("there is no mirror {name} of ours on bridge {}", bridge.name);
    match change {
        Change::AddMirror { .. } => named.next().map(|_| format!("there is a mirror {name}")),
        Change::Set { from: Setting::Owner(from), .. } => {
            let found = named.any(|mirror| mirror.owner() == from.as_deref());
            (!found).then(gone)
        }
        Change::SetMirror { from, .. } => match ours {
            Some(mirror) if mirror.copies == *from => None,
            Some(_) => Some(format!("mirror {name} copies something else")),
            None => Some(gone()),
        },
        Change::RemoveMirror { .. } => ours.is_none().then(gone),
        Change::Set { .. }
        | Change::SetHwOffload { .. }
        | Change::CreateBridge { .. }
        | Change::SetDatapath { .. }
        | Change::RemoveBridge { .. }
        | Change::AddPort { .. }
        | Change::ReplugPort { .. }
        | Change::RemovePort { .. }
        | Change::CollectPort { .. } => misplaced(change),
    }
}

/// Makes a change on the model. What the change does not fit is left as it is.
pub fn perform(ovs: &mut Ovs, target: &Target, owner: &str, change: &Change) {
    let (bridge_name, part) = match target {
        Target::Switch => {
            if let Change::SetHwOffload { to, .. } = change {
                ovs.other_config.insert("hw-offload".to_owned(), to.to_string());
            }
            return;
        }
        Target::Bridge(bridge, part) => (bridge, part),
    };
    match change {
        Change::CreateBridge { to } => {
            ovs.bridges.push(new_bridge(bridge_name, owner, to));
            ovs.bridges.sort_by(|a, b| a.name.cmp(&b.name));
            return;
        }
        Change::RemoveBridge { .. } => {
            ovs.bridges.retain(|bridge| bridge.name != *bridge_name);
            return;
        }
        Change::SetHwOffload { .. }
        | Change::SetDatapath { .. }
        | Change::Set { .. }
        | Change::AddPort { .. }
        | Change::ReplugPort { .. }
        | Change::RemovePort { .. }
        | Change::CollectPort { .. }
        | Change::AddMirror { .. }
        | Change::SetMirror { .. }
        | Change::RemoveMirror { .. } => {}
    }
    let Some(bridge) = ovs.bridges.iter_mut().find(|bridge| bridge.name == *bridge_name) else { return };
    match part {
        Part::Itself => perform_on_bridge(bridge, change),
        Part::Port(port) => perform_on_port(bridge, port, owner, change),
        Part::Mirror(mirror) => perform_on_mirror(bridge, mirror, owner, change),
    }
}

fn owner_ids(owner: &str) -> Map {
    Map::from([(OWNER_KEY.to_owned(), owner.to_owned())])
}

fn new_bridge(name: &str, owner: &str, to: &NewBridge) -> Bridge {
    let NewBridge {
        datapath,
        fail_mode,
        stp,
        rstp,
        mcast_snooping,
        flood_vlans,
        mtu_request,
        other_config,
        external_ids,
    } = to;
    let local = Interface {
        name: name.to_owned(),
        kind: "internal".to_owned(),
        ofport: Some(65534),
        mtu_request: *mtu_request,
        ..Interface::default()
    };
    let mut ids = external_ids.clone();
    ids.extend(owner_ids(owner));
    Bridge {
        name: name.to_owned(),
        datapath: datapath.clone(),
        works: true,
        fail_mode: fail_mode.clone(),
        stp: *stp,
        rstp: *rstp,
        mcast_snooping: *mcast_snooping,
        flood_vlans: flood_vlans.clone(),
        other_config: other_config.clone(),
        external_ids: ids,
        ports: vec![Port { name: name.to_owned(), interfaces: vec![local], ..Port::default() }],
        mirrors: Vec::new(),
    }
}

fn new_port(name: &str, owner: &str, to: &NewPort) -> Port {
    let NewPort { kind, interfaces, options, vlan, bond_mode, lacp, qos, policing, ifindex } = to;
    let interface = |interface: &String| Interface {
        name: interface.clone(),
        kind: kind.clone(),
        options: options.clone(),
        ofport: Some(1),
        policing: policing.unwrap_or_default(),
        ..Interface::default()
    };
    let mut external_ids = owner_ids(owner);
    external_ids.extend(ifindex.map(|number| (IFINDEX_KEY.to_owned(), number.to_string())));
    Port {
        name: name.to_owned(),
        interfaces: interfaces.iter().map(interface).collect(),
        vlan: vlan.clone().unwrap_or_default(),
        bond_mode: bond_mode.clone(),
        lacp: lacp.clone(),
        qos: qos.clone(),
        external_ids,
        ..Port::default()
    }
}

fn put(map: &mut Map, key: &str, value: Option<&String>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

fn perform_on_bridge(bridge: &mut Bridge, change: &Change) {
    if let Change::SetDatapath { to, .. } = change {
        bridge.datapath.clone_from(to);
    }
    let Change::Set { to, .. } = change else { return };
    match to {
        Setting::Owner(owner) => put(&mut bridge.external_ids, OWNER_KEY, owner.as_ref()),
        Setting::OtherConfig(key, value) => put(&mut bridge.other_config, key, value.as_ref()),
        Setting::ExternalId(key, value) => put(&mut bridge.external_ids, key, value.as_ref()),
        Setting::FailMode(mode) => bridge.fail_mode.clone_from(mode),
        Setting::Stp(on) => bridge.stp = *on,
        Setting::Rstp(on) => bridge.rstp = *on,
        Setting::McastSnooping(on) => bridge.mcast_snooping = *on,
        Setting::FloodVlans(vlans) => bridge.flood_vlans.clone_from(vlans),
        Setting::MtuRequest(mtu) => {
            let name = bridge.name.clone();
            let local = bridge.ports.iter_mut().find(|port| port.name == name);
            if let Some(local) = local.and_then(|port| port.interfaces.first_mut()) {
                local.mtu_request = *mtu;
            }
        }
        Setting::Kind(_)
        | Setting::InterfaceOption(..)
        | Setting::Vlan(_)
        | Setting::BondMode(_)
        | Setting::Lacp(_)
        | Setting::Members(_)
        | Setting::Qos(_)
        | Setting::Policing(_) => {}
    }
}

fn perform_on_port(bridge: &mut Bridge, name: &str, owner: &str, change: &Change) {
    match change {
        Change::AddPort { to } => {
            bridge.ports.push(new_port(name, owner, to));
            bridge.ports.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Change::RemovePort { .. } | Change::CollectPort { .. } => {
            bridge.ports.retain(|port| port.name != name);
            for mirror in &mut bridge.mirrors {
                mirror.copies.sources.remove(name);
                mirror.copies.destinations.remove(name);
                mirror.copies.output_port.take_if(|output| output == name);
            }
        }
        Change::ReplugPort { to, .. } => {
            if let Some(port) = bridge.ports.iter_mut().find(|port| port.name == name) {
                port.external_ids.insert(IFINDEX_KEY.to_owned(), to.to_string());
            }
        }
        Change::Set { to, .. } => {
            if let Some(port) = bridge.ports.iter_mut().find(|port| port.name == name) {
                set_port(port, to);
            }
        }
        Change::SetHwOffload { .. }
        | Change::CreateBridge { .. }
        | Change::SetDatapath { .. }
        | Change::RemoveBridge { .. }
        | Change::AddMirror { .. }
        | Change::SetMirror { .. }
        | Change::RemoveMirror { .. } => {}
    }
}

fn set_port(port: &mut Port, to: &Setting) {
    let first = port.interfaces.first_mut();
    match to {
        Setting::Owner(owner) => put(&mut port.external_ids, OWNER_KEY, owner.as_ref()),
        Setting::Vlan(vlan) => port.vlan.clone_from(vlan),
        Setting::BondMode(mode) => port.bond_mode.clone_from(mode),
        Setting::Lacp(lacp) => port.lacp.clone_from(lacp),
        Setting::Qos(qos) => port.qos.clone_from(qos),
        Setting::Members(members) => {
            let interface = |name: &String| Interface {
                name: name.clone(),
                kind: "system".to_owned(),
                ..Interface::default()
            };
            port.interfaces = members.iter().map(interface).collect();
        }
        Setting::Kind(kind) => {
            if let Some(interface) = first {
                interface.kind.clone_from(kind);
            }
        }
        Setting::InterfaceOption(key, value) => {
            if let Some(interface) = first {
                put(&mut interface.options, key, value.as_ref());
            }
        }
        Setting::Policing(policing) => {
            if let Some(interface) = first {
                interface.policing = *policing;
            }
        }
        Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::FailMode(_)
        | Setting::Stp(_)
        | Setting::Rstp(_)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_) => {}
    }
}

fn perform_on_mirror(bridge: &mut Bridge, name: &str, owner: &str, change: &Change) {
    match change {
        Change::AddMirror { to } => {
            let mirror = Mirror { name: name.to_owned(), copies: to.clone(), external_ids: owner_ids(owner) };
            bridge.mirrors.push(mirror);
            bridge.mirrors.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Change::RemoveMirror { .. } => {
            bridge.mirrors.retain(|mirror| mirror.name != name || mirror.owner() != Some(owner));
        }
        Change::SetMirror { to, .. } => {
            let ours = |mirror: &&mut Mirror| mirror.name == name && mirror.owner() == Some(owner);
            if let Some(mirror) = bridge.mirrors.iter_mut().find(ours) {
                mirror.copies = to.clone();
            }
        }
        Change::Set { from: Setting::Owner(from), to: Setting::Owner(to) } => {
            for mirror in bridge.mirrors.iter_mut().filter(|mirror| mirror.name == name) {
                if mirror.owner() == from.as_deref() {
                    put(&mut mirror.external_ids, OWNER_KEY, to.as_ref());
                }
            }
        }
        Change::Set { .. }
        | Change::SetHwOffload { .. }
        | Change::CreateBridge { .. }
        | Change::SetDatapath { .. }
        | Change::RemoveBridge { .. }
        | Change::AddPort { .. }
        | Change::ReplugPort { .. }
        | Change::RemovePort { .. }
        | Change::CollectPort { .. } => {}
    }
}
