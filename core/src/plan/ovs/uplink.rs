//! Uplinks: which interfaces they are, whether those are free, and whether several of them would make a loop.

use std::collections::BTreeSet;

use super::Scene;
use crate::blocked::{Blocked, Reason};
use crate::id::Object;
use crate::observed::Pf;
use crate::ovs::{
    Bond, Bridge, BridgeWish, Map, Policing, PortWish, QosSetting, Target, Uplink, UplinkTo, VlanSetting,
};
use crate::plan::Findings;
use crate::step::{self, Disruption};

/// A port that a bridge shall have, from `uplinks` or `ports`.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) interfaces: BTreeSet<String>,
    pub(super) options: Map,
    pub(super) vlan: Option<&'a VlanSetting>,
    pub(super) qos: Option<&'a QosSetting>,
    pub(super) policing: Option<Policing>,
    pub(super) bond: Option<&'a Bond>,
    /// The uplink that it is.
    pub(super) uplink: Option<&'a Uplink>,
    /// Whether a loop keeps it from being added.
    pub(super) loops: bool,
}

impl<'a> Wanted<'a> {
    /// A port of `ports`.
    pub(super) fn of_port(port: &'a PortWish) -> Wanted<'a> {
        Wanted {
            name: port.name.clone(),
            kind: port.kind.as_str(),
            interfaces: BTreeSet::from([port.name.clone()]),
            options: port.options.clone(),
            vlan: port.vlan.as_ref(),
            qos: port.qos.as_ref(),
            policing: port.policing,
            bond: None,
            uplink: None,
            loops: false,
        }
    }

    fn of_netdev(name: &str, uplink: &'a Uplink) -> Wanted<'a> {
        Wanted {
            name: name.to_owned(),
            kind: "system",
            interfaces: BTreeSet::from([name.to_owned()]),
            options: Map::new(),
            vlan: None,
            qos: None,
            policing: None,
            bond: None,
            uplink: Some(uplink),
            loops: false,
        }
    }

    fn of_bond(bond: &'a Bond, uplink: &'a Uplink) -> Wanted<'a> {
        let interfaces = bond.interfaces.clone();
        Wanted { name: bond.name.clone(), interfaces, bond: Some(bond), ..Wanted::of_netdev("", uplink) }
    }
}

/// The ports that the uplinks of a bridge are.
pub(super) fn wanted<'a>(
    scene: &Scene<'a>,
    wish: &'a BridgeWish,
    found: Option<&Bridge>,
    findings: &mut Findings,
) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for uplink in &wish.uplinks {
        let resolved = match &uplink.to {
            UplinkTo::Interface(name) => vec![Wanted::of_netdev(name, uplink)],
            UplinkTo::Bond(bond) => vec![Wanted::of_bond(bond, uplink)],
            UplinkTo::Select(_) => selected(scene, wish, uplink, findings),
        };
        // A selector may find what is named beside it.
        for one in resolved {
            if wanted.iter().all(|other| other.name != one.name) {
                wanted.push(one);
            }
        }
    }
    if wanted.len() > 1 && !has_spanning_tree(wish, found) {
        let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
        let what = format!(
            "uplinks {} are not one bond and there is no spanning tree: they would make a loop",
            names.join(", ")
        );
        let hint = "bond them (`bond: {name, interfaces}`), or set `stp: true` or `rstp: true` in `options`";
        findings.obstacle(&Target::bridge(&wish.name), Reason::UplinkLoop, what, hint);
        for one in &mut wanted {
            one.loops = true;
        }
    }
    wanted
}

fn has_spanning_tree(wish: &BridgeWish, found: Option<&Bridge>) -> bool {
    let stp = wish.options.stp.or(found.map(|bridge| bridge.stp)).unwrap_or(false);
    let rstp = wish.options.rstp.or(found.map(|bridge| bridge.rstp)).unwrap_or(false);
    stp || rstp
}

/// The netdevs of the PFs that an uplink selects.
fn selected<'a>(
    scene: &Scene<'a>,
    wish: &BridgeWish,
    uplink: &'a Uplink,
    findings: &mut Findings,
) -> Vec<Wanted<'a>> {
    let UplinkTo::Select(select) = &uplink.to else { return Vec::new() };
    let pfs: Vec<&Pf> = scene.observed().pfs.iter().filter(|pf| select.matches(pf)).collect();
    let target = Target::bridge(&wish.name);
    if pfs.is_empty() {
        let what = format!("no PF matches {} of {}", select.describe(), uplink.path);
        findings.obstacle(&target, Reason::PfMissing, what, "compare the selector with `portwright observe`");
    }
    let mut wanted = Vec::new();
    for pf in pfs {
        match pf.netdev().map(|netdev| netdev.name.as_str()).or(pf.name.as_deref()) {
            Some(name) => wanted.push(Wanted::of_netdev(name, uplink)),
            None => {
                let what = format!("{} that {} selects has no network interface", pf.address, uplink.path);
                findings.obstacle(
                    &target,
                    Reason::InterfaceMissing,
                    what,
                    "bind the PF to its kernel driver",
                );
            }
        }
    }
    wanted
}

/// Whether the interfaces of an uplink may be taken; what is in the way is reported.
pub(super) fn is_free(
    scene: &Scene<'_>,
    bridge: &str,
    one: &Wanted<'_>,
    uplink: &Uplink,
    findings: &mut Findings,
) -> bool {
    if one.loops {
        return false;
    }
    let target = Target::port(bridge, &one.name);
    let mut free = true;
    for interface in &one.interfaces {
        if let Some(obstacle) = in_the_way(scene, bridge, one, interface, uplink, &target) {
            findings.blocked.push(obstacle);
            free = false;
        }
    }
    free
}

fn in_the_way(
    scene: &Scene<'_>,
    bridge: &str,
    one: &Wanted<'_>,
    name: &str,
    uplink: &Uplink,
    target: &Target,
) -> Option<Blocked> {
    let in_use =
        |what: String, hint: &str| Some(Blocked::new(target.object(), Reason::UplinkInUse, what, hint));
    let Some(link) = scene.observed().link(name) else {
        return Some(Blocked::new(
            target.object(),
            Reason::InterfaceMissing,
            format!("there is no network interface {name}"),
            "compare the name with `portwright observe`; an interface in a pod's network namespace cannot be plugged",
        ));
    };
    let allowed = uplink.allow_management_path;
    let why = scene.management.netdevs.get(name);
    if let Some(why) = why.filter(|_| !allowed) {
        let what = format!("{name} {why}; taking it as uplink could cut the node off");
        return Some(Blocked::new(target.object(), Reason::ManagementPath, what, super::path::ALLOW));
    }
    if let Some((other, port, _)) = scene.ovs.interface(name)
        && (other.name != bridge || port.name != one.name)
    {
        let hint = "remove it there, or choose another interface";
        return in_use(format!("{name} is in port {} of bridge {}", port.name, other.name), hint);
    }
    match link.master.as_deref() {
        Some("ovs-system") | None => {}
        Some(master) => {
            let what = format!("{name} belongs to {master}");
            return in_use(what, "take it out of the bond or bridge of the kernel first");
        }
    }
    let upper = scene.observed().links.iter().find(|upper| upper.lowers.iter().any(|lower| lower == name));
    if let Some(upper) = upper.filter(|_| !allowed) {
        let what = format!("{} is built on {name}", upper.name);
        return in_use(what, "move it to an internal port of the bridge, or choose another interface");
    }
    // An address that makes it the management path was allowed together with that.
    if let Some(address) = link.addresses.first().filter(|_| why.is_none()) {
        let what = format!("{name} has the address {address}");
        return in_use(
            what,
            "move the address to an internal port of the bridge, or choose another interface",
        );
    }
    None
}

/// Sets the PFs of an uplink administratively up: a bridge does not.
pub(super) fn set_up(scene: &Scene<'_>, one: &Wanted<'_>, findings: &mut Findings) {
    for name in &one.interfaces {
        let of_name = |pf: &&Pf| pf.netdev().is_some_and(|netdev| netdev.name == *name);
        let Some(pf) = scene.observed().pfs.iter().find(of_name) else { continue };
        // An entry of `spec.nics` brings it up itself.
        let bound = scene.desired.documents.iter().flat_map(|document| &document.nics);
        let down = pf.netdev().is_some_and(|netdev| netdev.up.is(&false));
        if down && pf.stuck.is_none() && !bound.into_iter().any(|entry| entry.select.matches(pf)) {
            let change = step::Change::SetPfUp { wait_carrier_ms: 0 };
            findings.step(Object::Pci(pf.address), change, Disruption::None, false);
        }
    }
}
