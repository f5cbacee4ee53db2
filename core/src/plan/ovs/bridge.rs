//! One bridge: made, taken over or brought to its wanted settings, in place.

use std::collections::BTreeSet;

use super::bind::Bound;
use super::cut::{self, Cut};
use super::path::{ALLOW, on_path};
use super::uplink::{self, Wanted};
use super::{Scene, Work, mirror, port};
use crate::blocked::Reason;
use crate::ovs::{Bridge, BridgeWish, Change, MirrorWish, NewBridge, Setting, Target, of_bridge_setting};

/// Plans a bridge with its ports and mirrors.
pub(super) fn plan_bridge(
    scene: &Scene<'_>,
    bound: &Bound<'_, BridgeWish>,
    mirrors: &[&Bound<'_, MirrorWish>],
    work: &mut Work,
) {
    let wish = bound.wish;
    let owner = bound.document.name.as_str();
    let target = Target::bridge(&wish.name);
    let found = scene.ovs.bridge(&wish.name);
    let goes_on = match found {
        None => create(scene, wish, owner, mirrors, work),
        Some(bridge) => take_over(scene, bridge, bound, work) && datapath_works(scene, bridge, work),
    };
    if !goes_on {
        return;
    }
    if let Some(bridge) = found {
        settings(scene, bound, bridge, work);
    }
    let mut wanted: Vec<Wanted<'_>> = uplink::wanted(scene, wish, found, &mut work.findings);
    wanted.extend(wish.ports.iter().map(Wanted::of_port));
    let names = port::plan_ports(scene, bound, found, &wanted, work);
    let sent = mirror::plan_mirrors(scene, wish, found, &names, mirrors, &mut work.findings);
    if let Some(bridge) = found {
        let from = Setting::FloodVlans(bridge.flood_vlans.clone());
        let flooded = mirror::flooded(scene, bridge, sent);
        work.findings.set(&target, owner, from, Setting::FloodVlans(flooded));
    }
}

/// Makes a bridge that is not there; false if it cannot be.
fn create(
    scene: &Scene<'_>,
    wish: &BridgeWish,
    owner: &str,
    mirrors: &[&Bound<'_, MirrorWish>],
    work: &mut Work,
) -> bool {
    let target = Target::bridge(&wish.name);
    let name = &wish.name;
    if let Some((bridge, ..)) = scene.ovs.interface(name) {
        let what = format!("bridge {} has a port of the name {name}", bridge.name);
        work.findings.obstacle(
            &target,
            Reason::NameConflict,
            what,
            "choose another name, or remove that port",
        );
        return false;
    }
    // A bridge that was removed without its daemon leaves its tap behind, and that is used again.
    let reusable = |kind: Option<&str>| matches!(kind, Some("openvswitch" | "tun"));
    if let Some(link) = scene.observed().link(name).filter(|link| !reusable(link.kind.as_deref())) {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        let what = format!("there is a network interface {name} ({kind}) that is not of Open vSwitch");
        work.findings.obstacle(
            &target,
            Reason::NameConflict,
            what,
            "choose another name, or remove that interface",
        );
        return false;
    }
    let datapath = wish.datapath.map_or("system", |datapath| datapath.as_str());
    if !has_datapath(scene, datapath, &target, work) {
        return false;
    }
    let options = &wish.options;
    let to = NewBridge {
        datapath: datapath.to_owned(),
        fail_mode: wish.fail_mode.map(|mode| mode.as_str().to_owned()),
        stp: options.stp.unwrap_or(false),
        rstp: options.rstp.unwrap_or(false),
        mcast_snooping: options.mcast_snooping.unwrap_or(false),
        flood_vlans: mirror::rspan_vlans(mirrors.iter().map(|bound| bound.wish)),
        mtu_request: options.mtu_request,
        other_config: options.other_config.clone(),
        external_ids: options.external_ids.clone(),
    };
    work.findings.change(&target, owner, Change::CreateBridge { to });
    true
}

fn has_datapath(scene: &Scene<'_>, datapath: &str, target: &Target, work: &mut Work) -> bool {
    let types = &scene.ovs.datapath_types;
    if types.is_empty() || types.contains(datapath) {
        return true;
    }
    let there: Vec<&str> = types.iter().map(String::as_str).collect();
    work.findings.obstacle(
        target,
        Reason::DatapathMissing,
        format!("this Open vSwitch has no datapath {datapath}, only {}", there.join(", ")),
        "choose one of them, or install an Open vSwitch that has it",
    );
    false
}

/// Whether a bridge that is there is ours, or becomes ours.
pub(super) fn is_taken(scene: &Scene<'_>, bridge: &Bridge, bound: &Bound<'_, BridgeWish>) -> bool {
    bound.wish.adopt || scene.is_ours(bridge.owner())
}

/// Takes the bridge over, or says whose it is.
fn take_over(scene: &Scene<'_>, bridge: &Bridge, bound: &Bound<'_, BridgeWish>, work: &mut Work) -> bool {
    let owner = bound.document.name.as_str();
    if is_taken(scene, bridge, bound) {
        let from = Setting::Owner(bridge.owner().map(ToOwned::to_owned));
        let to = Setting::Owner(Some(owner.to_owned()));
        work.findings.set(&Target::bridge(&bridge.name), owner, from, to);
        return true;
    }
    let (what, hint) = match bridge.owner() {
        Some(other) => (
            format!("it belongs to policy {other}"),
            "apply both policies together, or say `adopt: true` to take it over",
        ),
        None => (
            "there is a bridge of this name that portwright did not make".to_owned(),
            "choose another name, or say `adopt: true` to take it over with those of its ports that are listed",
        ),
    };
    work.findings.obstacle(&Target::bridge(&bridge.name), Reason::NameConflict, what, hint);
    false
}

/// A bridge whose datapath could not be made shows only that it is not there.
fn datapath_works(scene: &Scene<'_>, bridge: &Bridge, work: &mut Work) -> bool {
    if bridge.works || !scene.ovs.settled {
        return true;
    }
    let (what, hint) = if bridge.datapath == "system" {
        (
            "its datapath `system` could not be made",
            "load the kernel's module (`modprobe openvswitch`), or use `datapath: netdev`; the log of ovs-vswitchd has the reason",
        )
    } else {
        ("its datapath could not be made", "the log of ovs-vswitchd has the reason")
    };
    work.findings.obstacle(&Target::bridge(&bridge.name), Reason::DatapathMissing, what, hint);
    // Its settings may be the cure.
    true
}

fn settings(scene: &Scene<'_>, bound: &Bound<'_, BridgeWish>, bridge: &Bridge, work: &mut Work) {
    let wish = bound.wish;
    let owner = bound.document.name.as_str();
    let target = Target::bridge(&wish.name);
    if let Some(wanted) = wish.datapath.map(|datapath| datapath.as_str())
        && wanted != bridge.datapath
    {
        set_datapath(scene, bound, bridge, wanted, work);
    }
    let options = &wish.options;
    let mut wanted: Vec<Setting> = Vec::new();
    wanted.extend(wish.fail_mode.map(|mode| Setting::FailMode(Some(mode.as_str().to_owned()))));
    wanted.extend(options.stp.map(Setting::Stp));
    wanted.extend(options.rstp.map(Setting::Rstp));
    wanted.extend(options.mcast_snooping.map(Setting::McastSnooping));
    wanted.extend(options.mtu_request.map(|mtu| Setting::MtuRequest(Some(mtu))));
    let pair = |(key, value): (&String, &String)| (key.clone(), Some(value.clone()));
    wanted.extend(options.other_config.iter().map(pair).map(|(key, value)| Setting::OtherConfig(key, value)));
    wanted.extend(options.external_ids.iter().map(pair).map(|(key, value)| Setting::ExternalId(key, value)));
    for to in wanted {
        let Some(from) = of_bridge_setting(bridge, &to) else { continue };
        if same(&from, &to) {
            continue;
        }
        if let Some(what) = may_cut_off(&to)
            && let Some(why) = on_path(scene, wish, bridge)
        {
            let what = format!("{why}; {what} could cut the node off");
            work.findings.obstacle(&target, Reason::ManagementPath, what, ALLOW);
            continue;
        }
        match stops_traffic(bridge, &to) {
            None => work.findings.set(&target, owner, from, to),
            Some(what) => {
                let ports = cut::all_of(scene, bridge);
                let others = cut::others(scene, bridge, wish.adopt, &ports, None);
                let policy = bound.document.disruption;
                let cut = Cut { target: &target, what, policy, ports, others };
                if let Some(leave) = cut::leave(scene, &cut, &mut work.findings) {
                    work.findings.let_through(&target, owner, Change::Set { from, to }, leave);
                }
            }
        }
    }
}

/// Whether two values of one setting mean the same: a bridge without fail mode is standalone.
fn same(from: &Setting, to: &Setting) -> bool {
    match (from, to) {
        (Setting::FailMode(from), Setting::FailMode(to)) => {
            from.as_deref().unwrap_or("standalone") == to.as_deref().unwrap_or("standalone")
        }
        (from, to) => from == to,
    }
}

/// What a setting does that may cut off a node that is reached over the bridge: all but what is known to do no harm.
fn may_cut_off(to: &Setting) -> Option<String> {
    match to {
        Setting::FailMode(Some(mode)) if mode == "secure" => {
            Some("forwarding only what flows say".to_owned())
        }
        Setting::FailMode(_) => Some("dropping its flows for another fail mode".to_owned()),
        Setting::Stp(true) | Setting::Rstp(true) => Some("a spanning tree".to_owned()),
        Setting::Stp(false) | Setting::Rstp(false) => Some("taking its spanning tree away".to_owned()),
        Setting::OtherConfig(key, _) => {
            (!HARMLESS.contains(&key.as_str())).then(|| format!("changing other_config:{key}"))
        }
        Setting::MtuRequest(_) => Some("changing its MTU".to_owned()),
        Setting::Owner(_) | Setting::ExternalId(..) | Setting::McastSnooping(_) | Setting::FloodVlans(_) => {
            None
        }
        Setting::Kind(_)
        | Setting::InterfaceOption(..)
        | Setting::Vlan(_)
        | Setting::BondMode(_)
        | Setting::Lacp(_)
        | Setting::Members(_)
        | Setting::Qos(_)
        | Setting::Policing(_) => None,
    }
}

/// Keys of `other_config` that say how much is remembered and for how long.
const HARMLESS: [&str; 4] =
    ["mac-aging-time", "mac-table-size", "mcast-snooping-aging-time", "mcast-snooping-table-size"];

/// What stops the traffic of a whole bridge for a time: flows are dropped, or ports wait in a spanning tree.
fn stops_traffic(bridge: &Bridge, to: &Setting) -> Option<&'static str> {
    match to {
        Setting::FailMode(_) => Some("changing the fail mode"),
        Setting::Stp(_) => Some("switching STP"),
        Setting::Rstp(_) => Some("switching RSTP"),
        Setting::OtherConfig(key, _) if bridge.stp && key.starts_with("stp-") => Some("changing STP"),
        Setting::OtherConfig(key, _) if bridge.rstp && key.starts_with("rstp-") => Some("changing RSTP"),
        Setting::Owner(_)
        | Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_)
        | Setting::Kind(_)
        | Setting::InterfaceOption(..)
        | Setting::Vlan(_)
        | Setting::BondMode(_)
        | Setting::Lacp(_)
        | Setting::Members(_)
        | Setting::Qos(_)
        | Setting::Policing(_) => None,
    }
}

fn set_datapath(
    scene: &Scene<'_>,
    bound: &Bound<'_, BridgeWish>,
    bridge: &Bridge,
    wanted: &str,
    work: &mut Work,
) {
    let target = Target::bridge(&bridge.name);
    if !has_datapath(scene, wanted, &target, work) {
        return;
    }
    if let Some(why) = on_path(scene, bound.wish, bridge) {
        let what = format!("{why}; making the bridge anew would cut the node off");
        work.findings.obstacle(&target, Reason::ManagementPath, what, ALLOW);
        return;
    }
    let cuts: BTreeSet<String> = bridge.others().map(|port| port.name.clone()).collect();
    let what = format!("changing the datapath to {wanted}, which makes the bridge anew,");
    let ports = cut::all_of(scene, bridge);
    let others = cut::others(scene, bridge, bound.wish.adopt, &ports, None);
    let cut = Cut { target: &target, what: &what, policy: bound.document.disruption, ports, others };
    if let Some(leave) = cut::ask(scene, &cut, &mut work.findings) {
        let change = Change::SetDatapath { from: bridge.datapath.clone(), to: wanted.to_owned(), cuts };
        work.findings.let_through(&target, &bound.document.name, change, leave);
    }
}
