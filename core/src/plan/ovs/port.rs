//! Ports of one bridge: added, taken over, brought to their wanted settings, removed.

use std::collections::BTreeSet;

use super::bind::Bound;
use super::cut::{self, Cut};
use super::uplink::{self, Wanted};
use super::{Scene, Work, path};
use crate::blocked::Reason;
use crate::ovs::{Bridge, BridgeWish, Change, IFINDEX_KEY, NewPort, Port, Setting, Target, of_port_setting};
use crate::plan::Findings;

/// Plans the ports; gives the names of those that the bridge has afterwards.
pub(super) fn plan_ports(
    scene: &Scene<'_>,
    bound: &Bound<'_, BridgeWish>,
    found: Option<&Bridge>,
    wanted: &[Wanted<'_>],
    work: &mut Work,
) -> BTreeSet<String> {
    let bridge_name = bound.wish.name.as_str();
    let mut names = BTreeSet::from([bridge_name.to_owned()]);
    for one in wanted {
        if let Some(why) = scene.claims.refuses(bridge_name, one) {
            let hint = "give one of the policies a larger `priority`, or take the port out of the other";
            work.findings.obstacle(&Target::port(bridge_name, &one.name), Reason::PolicyConflict, why, hint);
            continue;
        }
        let there = found.and_then(|bridge| Some((bridge, bridge.port(&one.name)?)));
        let stays = match there {
            Some((bridge, port)) => keep(scene, bound, bridge, port, one, &mut work.findings),
            None => add(scene, bound, found, one, work),
        };
        if stays {
            names.insert(one.name.clone());
        }
    }
    let listed: BTreeSet<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    let others = found.into_iter().flat_map(Bridge::others).map(|port| &port.name);
    names.extend(others.filter(|name| !listed.contains(name.as_str())).cloned());
    names
}

/// A port that is there; false if it is about to go.
fn keep(
    scene: &Scene<'_>,
    bound: &Bound<'_, BridgeWish>,
    bridge: &Bridge,
    port: &Port,
    one: &Wanted<'_>,
    findings: &mut Findings,
) -> bool {
    let owner = bound.document.name.as_str();
    let target = Target::port(&bridge.name, &port.name);
    let adopts = bound.wish.adopt || scene.is_ours(port.owner());
    if port.owner() != Some(owner) && (!adopts || port.fake_bridge) {
        let (what, hint) = match port.owner() {
            Some(other) => (format!("it belongs to policy {other}"), "apply both policies together"),
            None => (
                "there is a port of this name that portwright did not make".to_owned(),
                "remove it, or say `adopt: true` on the bridge to take it over",
            ),
        };
        findings.obstacle(&target, Reason::NameConflict, what, hint);
        return true;
    }
    if port.gone_for.is_some() {
        let what =
            format!("its network interface is gone, and the port is left over on bridge {}", bridge.name);
        let hint = if one.kind == "internal" { REMADE } else { GONE };
        findings.obstacle(&target, Reason::InterfaceMissing, what, hint);
        // What is set meanwhile would be set on a leftover.
        return true;
    }
    let before = findings.steps.len();
    let from = Setting::Owner(port.owner().map(ToOwned::to_owned));
    findings.set(&target, owner, from, Setting::Owner(Some(owner.to_owned())));
    for to in settings(port, one) {
        let Some(from) = of_port_setting(port, &to) else { continue };
        if let Some(why) = blocks(scene, bound.wish, bridge, port, one, &to) {
            findings.obstacle(&target, Reason::ManagementPath, why, path::ALLOW);
            continue;
        }
        if let (Setting::Members(have), Setting::Members(want)) = (&from, &to)
            && let Some(uplink) = one.uplink
        {
            let fresh = want.difference(have).cloned().collect();
            let fresh = Wanted { interfaces: fresh, ..one.clone() };
            if !uplink::is_free(scene, &bridge.name, &fresh, uplink, findings) {
                continue;
            }
        }
        if !stops_traffic(&to) {
            findings.set(&target, owner, from, to);
            continue;
        }
        let ports = cut::with(scene, bridge, port);
        let others = cut::others(scene, bridge, bound.wish.adopt, &ports, Some(&port.name));
        let what = format!("changing the {} of port {}", noun(&to), port.name);
        let cut = Cut { target: &target, what: &what, policy: bound.document.disruption, ports, others };
        if let Some(leave) = cut::leave(scene, &cut, findings) {
            findings.let_through(&target, owner, Change::Set { from, to }, leave);
        }
    }
    replug(scene, bridge, port, one, owner, findings);
    if findings.steps.len() == before {
        does_it_work(scene, port, &target, findings);
    }
    true
}

const REMADE: &str =
    "wait: it is removed and made again after its grace time (`spec.ovs.collect.graceSeconds`)";
const GONE: &str = "make the interface again, or take it out of the policy";

/// The settings that are wanted and not there.
fn settings(port: &Port, one: &Wanted<'_>) -> Vec<Setting> {
    let mut wanted = Vec::new();
    if port.interfaces.len() <= 1 && one.interfaces.len() <= 1 {
        wanted.push(Setting::Kind(one.kind.to_owned()));
    }
    let options = one.options.iter();
    wanted.extend(options.map(|(key, value)| Setting::InterfaceOption(key.clone(), Some(value.clone()))));
    if let Some(vlan) = one.vlan.filter(|vlan| !port.vlan.means(vlan)) {
        wanted.push(Setting::Vlan(vlan.clone()));
    }
    wanted.extend(one.qos.map(|qos| Setting::Qos(Some(qos.clone()))));
    wanted.extend(one.policing.map(Setting::Policing));
    if let Some(bond) = one.bond {
        wanted.push(Setting::Members(one.interfaces.clone()));
        // Absent is what Open vSwitch takes by default.
        let mode = bond
            .mode
            .map(|mode| mode.as_str())
            .filter(|mode| port.bond_mode.as_deref().unwrap_or("active-backup") != *mode);
        wanted.extend(mode.map(|mode| Setting::BondMode(Some(mode.to_owned()))));
        let lacp = bond.lacp.map(|lacp| lacp.as_str());
        let lacp = lacp.filter(|lacp| port.lacp.as_deref().unwrap_or("off") != *lacp);
        wanted.extend(lacp.map(|lacp| Setting::Lacp(Some(lacp.to_owned()))));
    }
    wanted.retain(|to| of_port_setting(port, to).is_some_and(|from| from != *to));
    wanted
}

/// Whether a setting stops the traffic of an existing port, and not only disturbs it.
fn stops_traffic(to: &Setting) -> bool {
    match to {
        Setting::BondMode(_) | Setting::Lacp(_) | Setting::Members(_) | Setting::Kind(_) => true,
        Setting::Vlan(_)
        | Setting::Owner(_)
        | Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::FailMode(_)
        | Setting::Stp(_)
        | Setting::Rstp(_)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_)
        | Setting::InterfaceOption(..)
        | Setting::Qos(_)
        | Setting::Policing(_) => false,
    }
}

/// Why a setting of a port on the management path must not be changed. Limits and options of a port matter only if the node
/// is reached over this very port.
fn blocks(
    scene: &Scene<'_>,
    wish: &BridgeWish,
    bridge: &Bridge,
    port: &Port,
    one: &Wanted<'_>,
    to: &Setting,
) -> Option<String> {
    let of_this = || {
        let allowed = path::is_allowed(wish);
        path::reached_through(scene, None, bridge, port).filter(|_| !allowed)
    };
    let of_any = || {
        let found = port
            .interfaces
            .iter()
            .find_map(|one| Some(format!("{} {}", one.name, scene.carries_the_node(one)?)));
        found.filter(|_| !one.uplink.is_some_and(|uplink| uplink.allow_management_path))
    };
    let why = match to {
        Setting::Vlan(_)
        | Setting::BondMode(_)
        | Setting::Lacp(_)
        | Setting::Members(_)
        | Setting::Kind(_) => of_any()?,
        Setting::InterfaceOption(..) | Setting::Qos(_) | Setting::Policing(_) => of_this()?,
        Setting::Owner(_)
        | Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::FailMode(_)
        | Setting::Stp(_)
        | Setting::Rstp(_)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_) => return None,
    };
    Some(format!("{why}; changing its {} could cut the node off", noun(to)))
}

fn noun(setting: &Setting) -> &'static str {
    setting.words().trim_start_matches("set ")
}

/// The userspace datapath goes on with a dead device when a netdev of the same name was made anew.
fn replug(
    scene: &Scene<'_>,
    bridge: &Bridge,
    port: &Port,
    one: &Wanted<'_>,
    owner: &str,
    findings: &mut Findings,
) {
    let becomes = findings
        .steps
        .iter()
        .any(|step| step.change.action() == "set-datapath" && step.object.bridge() == Some(&bridge.name));
    let userspace = (bridge.datapath == "netdev") != becomes;
    if !userspace || one.kind != "system" || one.bond.is_some() {
        return;
    }
    let Some(recorded) = port.external_ids.get(IFINDEX_KEY).and_then(|text| text.parse::<u32>().ok()) else {
        return;
    };
    let Some(link) = scene.observed().link(&one.name).filter(|link| link.ifindex != recorded) else { return };
    let change = Change::ReplugPort { from: Some(recorded), to: link.ifindex };
    findings.change(&Target::port(&bridge.name, &port.name), owner, change);
}

/// A port that is as wanted and does not work all the same.
fn does_it_work(scene: &Scene<'_>, port: &Port, target: &Target, findings: &mut Findings) {
    if !scene.ovs.settled {
        return;
    }
    for interface in &port.interfaces {
        let error = match (&interface.error, interface.ofport) {
            (Some(error), _) => error.clone(),
            (None, Some(-1)) => "no reason given".to_owned(),
            (None, Some(_) | None) => continue,
        };
        let what = format!("ovs-vswitchd could not open interface {}: {error}", interface.name);
        let hint = "look into the log of ovs-vswitchd, and check that the interface is there and its options are right";
        findings.obstacle(target, Reason::NotApplied, what, hint);
    }
}

/// A port that is not on the bridge; false if it cannot be added.
fn add(
    scene: &Scene<'_>,
    bound: &Bound<'_, BridgeWish>,
    found: Option<&Bridge>,
    one: &Wanted<'_>,
    work: &mut Work,
) -> bool {
    let (bridge, owner) = (bound.wish.name.as_str(), bound.document.name.as_str());
    let target = Target::port(bridge, &one.name);
    if let Some((other, _)) = scene.ovs.port(&one.name) {
        let what = format!("bridge {} has a port of this name", other.name);
        let reason = if one.uplink.is_some() { Reason::UplinkInUse } else { Reason::NameConflict };
        work.findings.obstacle(&target, reason, what, "remove it there, or choose another name");
        return false;
    }
    let free = match (one.uplink, one.kind) {
        (Some(uplink), _) => uplink::is_free(scene, bridge, one, uplink, &mut work.findings),
        (None, "system") => {
            let plain = crate::ovs::Uplink {
                path: String::new(),
                to: crate::ovs::UplinkTo::Interface(one.name.clone()),
                allow_management_path: false,
            };
            uplink::is_free(scene, bridge, one, &plain, &mut work.findings)
        }
        (None, _) => name_is_free(scene, one, &target, &mut work.findings),
    };
    if !free {
        return false;
    }
    if let Some(why) = found.and_then(|found| second_way_out(scene, bound.wish, found, one)) {
        work.findings.obstacle(&target, Reason::ManagementPath, why, path::ALLOW);
        return false;
    }
    if one.uplink.is_some() {
        uplink::set_up(scene, one, &mut work.set_up);
    }
    work.findings.change(&target, owner, Change::AddPort { to: new_port(scene, one) });
    true
}

/// Why an uplink must not join the one by which the node is reached: without a spanning tree, both may make a loop. Uplinks
/// that the policy lists are looked at together elsewhere.
fn second_way_out(scene: &Scene<'_>, wish: &BridgeWish, bridge: &Bridge, one: &Wanted<'_>) -> Option<String> {
    if one.uplink.is_none() || bridge.stp || bridge.rstp {
        return None;
    }
    let listed = |port: &Port| wish.ports.iter().any(|listed| listed.name == port.name);
    let other = bridge.others().find(|port| path::is_nic(scene, port) && !listed(port))?;
    let why = path::on_path(scene, wish, bridge)?;
    Some(format!(
        "{why}, and port {} is on the bridge; a second uplink could make a loop and cut the node off",
        other.name
    ))
}

fn name_is_free(scene: &Scene<'_>, one: &Wanted<'_>, target: &Target, findings: &mut Findings) -> bool {
    if let Some((bridge, port, _)) =
        scene.ovs.interface(&one.name).filter(|(_, port, _)| port.name != one.name)
    {
        let what = format!("port {} of bridge {} has an interface of this name", port.name, bridge.name);
        findings.obstacle(target, Reason::NameConflict, what, "choose another name");
        return false;
    }
    let ours = |kind: Option<&str>| matches!(kind, Some("openvswitch" | "tun"));
    let link = scene.observed().link(&one.name).filter(|link| !ours(link.kind.as_deref()));
    if let Some(link) = link.filter(|_| one.kind == "internal") {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        let what = format!("there is a network interface of this name ({kind}) that is not of Open vSwitch");
        findings.obstacle(target, Reason::NameConflict, what, "choose another name, or say `type: system`");
        return false;
    }
    true
}

fn new_port(scene: &Scene<'_>, one: &Wanted<'_>) -> NewPort {
    let link =
        (one.kind == "system" && one.bond.is_none()).then(|| scene.observed().link(&one.name)).flatten();
    NewPort {
        kind: one.kind.to_owned(),
        interfaces: one.interfaces.clone(),
        options: one.options.clone(),
        vlan: one.vlan.cloned(),
        bond_mode: one.bond.and_then(|bond| bond.mode).map(|mode| mode.as_str().to_owned()),
        lacp: one.bond.and_then(|bond| bond.lacp).map(|lacp| lacp.as_str().to_owned()),
        qos: one.qos.cloned(),
        policing: one.policing,
        ifindex: link.map(|link| link.ifindex).filter(|number| *number != 0),
    }
}
