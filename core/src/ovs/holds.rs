//! Whether what a change expects is still so: asked before it is made, by the simulator and for real.

use std::collections::BTreeSet;

use super::change::Change;
use super::observed::{Bridge, Ovs, Port};
use super::setting::Setting;
use super::target::{Part, Target};

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
