//! What the switch looks like after a change: what the simulator does, what the planner builds upon when ports go first, and
//! what steps of one transaction expect of each other.

use super::change::{Change, NewBridge, NewPort};
use super::observed::{Bridge, Interface, Map, Mirror, Ovs, Port};
use super::setting::Setting;
use super::target::{Part, Target};
use super::{IFINDEX_KEY, OWNER_KEY};

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
            let mirror = Mirror {
                name: name.to_owned(),
                copies: to.clone(),
                external_ids: owner_ids(owner),
                counts: None,
                judged: None,
            };
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
