//! Mirrors of one bridge. Names become the ports that the bridge has after the plan, so that a mirror and the ports it
//! speaks of are changed in one transaction.

use std::collections::BTreeSet;

use super::Scene;
use super::bind::{Bindings, Bound};
use super::path;
use crate::blocked::Reason;
use crate::ovs::{
    Bridge, BridgeWish, Change, Copies, Direction, MOST_MIRRORS, Mirror, MirrorWish, OVS_CNI_POD_UID_KEY,
    Output, POD_UID_KEY, Pod, Port, Setting, Target,
};
use crate::plan::Findings;
use crate::step;

/// Plans the mirrors of a bridge whose ports will have these names; gives the VLANs that copies are sent in.
pub(super) fn plan_mirrors(
    scene: &Scene<'_>,
    wish: &BridgeWish,
    found: Option<&Bridge>,
    names: &BTreeSet<String>,
    mirrors: &[&Bound<'_, MirrorWish>],
    findings: &mut Findings,
) -> BTreeSet<u16> {
    let mut sent = BTreeSet::new();
    let there = found.map(|bridge| bridge.mirrors.as_slice()).unwrap_or_default();
    let listed = |mirror: &Mirror| mirrors.iter().any(|bound| bound.wish.name == mirror.name);
    for mirror in there.iter().filter(|mirror| !listed(mirror)) {
        remove(scene, &wish.name, mirror, findings);
    }
    let others = there.iter().filter(|mirror| !listed(mirror) && !scene.is_ours(mirror.owner())).count();
    let room = MOST_MIRRORS.saturating_sub(others);
    for (number, bound) in mirrors.iter().enumerate() {
        let target = Target::mirror(&wish.name, &bound.wish.name);
        if number >= room {
            let what = format!(
                "bridge {} would have {} mirrors, and Open vSwitch carries out {MOST_MIRRORS} of one bridge",
                wish.name,
                mirrors.len() + others
            );
            findings.obstacle(
                &target,
                Reason::TooManyMirrors,
                what,
                "join mirrors that have the same output",
            );
            continue;
        }
        let Some(copies) = resolve(scene, bound.wish, found, names, &target, findings) else { continue };
        if cuts_the_node_off(scene, wish, found, &copies, &target, findings) {
            continue;
        }
        let output_vlan = copies.output_vlan;
        if plan_mirror(scene, wish, bound, there, copies, &target, findings) {
            sent.extend(output_vlan);
        }
    }
    sent
}

/// Plans one mirror; false if it cannot be.
fn plan_mirror(
    scene: &Scene<'_>,
    wish: &BridgeWish,
    bound: &Bound<'_, MirrorWish>,
    there: &[Mirror],
    copies: Copies,
    target: &Target,
    findings: &mut Findings,
) -> bool {
    let owner = bound.document.name.as_str();
    let named: Vec<&Mirror> = there.iter().filter(|mirror| mirror.name == bound.wish.name).collect();
    match named.as_slice() {
        [] => findings.change(target, owner, Change::AddMirror { to: copies }),
        [mirror] => {
            let ours = mirror.owner() == Some(owner);
            let other_policy = scene.is_ours(mirror.owner());
            if !ours && !other_policy && !wish.adopt {
                let what = match mirror.owner() {
                    Some(other) => format!("it belongs to policy {other}"),
                    None => "there is a mirror of this name that portwright did not make".to_owned(),
                };
                let hint = "choose another name, or say `adopt: true` on the bridge";
                findings.obstacle(target, Reason::NameConflict, what, hint);
                return false;
            }
            let from = Setting::Owner(mirror.owner().map(ToOwned::to_owned));
            findings.set(target, owner, from, Setting::Owner(Some(owner.to_owned())));
            if mirror.copies != copies {
                findings.change(target, owner, Change::SetMirror { from: mirror.copies.clone(), to: copies });
            }
        }
        // Nobody but a race makes two of one name.
        [..] if named.iter().all(|mirror| scene.is_ours(mirror.owner())) => {
            for mirror in named {
                remove(scene, &wish.name, mirror, findings);
            }
            findings.change(target, owner, Change::AddMirror { to: copies });
        }
        [..] => {
            let what = format!("bridge {} has several mirrors of this name, not all of them ours", wish.name);
            findings.obstacle(target, Reason::NameConflict, what, "choose another name");
            return false;
        }
    }
    true
}

/// Removes a mirror that is ours and no longer listed.
pub(super) fn remove(scene: &Scene<'_>, bridge: &str, mirror: &Mirror, findings: &mut Findings) {
    if let Some(owner) = mirror.owner().filter(|owner| scene.is_ours(Some(owner))) {
        let target = Target::mirror(bridge, &mirror.name);
        // All of one name and owner go with the first.
        let gone = findings.steps.iter().any(|step| {
            let by = if let step::Change::Ovs { owner, .. } = &step.change { owner } else { "" };
            step.object == target.object() && by == owner && step.change.action() == "remove-mirror"
        });
        if !gone {
            findings.change(&target, owner, Change::RemoveMirror { from: mirror.copies.clone() });
        }
    }
}

/// What a mirror copies, in terms of the ports that there will be.
fn resolve(
    scene: &Scene<'_>,
    wish: &MirrorWish,
    found: Option<&Bridge>,
    names: &BTreeSet<String>,
    target: &Target,
    findings: &mut Findings,
) -> Option<Copies> {
    let (output_port, output_vlan) = match &wish.output {
        Output::Port(port) => {
            output_is_there(scene, wish, port, names, target, findings)?;
            (Some(port.clone()), None)
        }
        Output::Vlan(vlan) => (None, Some(*vlan)),
    };
    let is_output = |name: &str| output_port.as_deref() == Some(name);
    let everything = wish.all || (wish.ports.is_empty() && wish.pods.is_none());
    let mut ports: BTreeSet<String> = BTreeSet::new();
    if everything {
        ports.extend(names.iter().filter(|name| !is_output(name)).cloned());
    }
    let named = |name: &&String| wish.ports.iter().any(|pattern| pattern.matches(name));
    ports.extend(names.iter().filter(named).filter(|name| !is_output(name)).cloned());
    if let Some(select) = &wish.pods {
        let Some(pods) = &scene.desired.pods else {
            let what = format!("pods of namespace {} are known to the API server only", select.namespace);
            let hint = "run the daemon with `--kube`, or name the ports";
            findings.obstacle(target, Reason::NeedsCluster, what, hint);
            return None;
        };
        let meant = |pod: &Pod| {
            pod.namespace == select.namespace
                && select.match_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        let of_pod = |port: &&Port| {
            [POD_UID_KEY, OVS_CNI_POD_UID_KEY]
                .iter()
                .filter_map(|key| port.external_ids.get(*key))
                .any(|uid| pods.get(uid).is_some_and(meant))
        };
        let there = found.into_iter().flat_map(|bridge| &bridge.ports).filter(of_pod);
        ports.extend(
            there.map(|port| port.name.clone()).filter(|name| names.contains(name) && !is_output(name)),
        );
    }
    let all = everything && wish.direction == Direction::Both;
    let (sources, destinations) = match wish.direction {
        _ if all => (BTreeSet::new(), BTreeSet::new()),
        Direction::Both => (ports.clone(), ports),
        Direction::Ingress => (ports, BTreeSet::new()),
        Direction::Egress => (BTreeSet::new(), ports),
    };
    let vlans = wish.vlans.clone();
    Some(Copies { all, sources, destinations, vlans, output_port, output_vlan, snaplen: wish.snaplen })
}

fn output_is_there(
    scene: &Scene<'_>,
    wish: &MirrorWish,
    port: &str,
    names: &BTreeSet<String>,
    target: &Target,
    findings: &mut Findings,
) -> Option<()> {
    if names.contains(port) {
        return Some(());
    }
    let what = match scene.ovs.port(port) {
        Some((other, _)) if other.name != wish.bridge => {
            format!("its output port {port} is on bridge {}, and a mirror stays on its bridge", other.name)
        }
        Some(_) | None => format!("bridge {} has no port {port}, so the mirror copies nothing", wish.bridge),
    };
    let hint = "add the port, or choose another output; the mirror is linked again when the port is there";
    findings.obstacle(target, Reason::MirrorOutputMissing, what, hint);
    None
}

/// Open vSwitch keeps the port that gets copies for them alone and drops its own traffic, so the node must not be reached
/// over it. A port that gets copies already has lost its traffic.
fn cuts_the_node_off(
    scene: &Scene<'_>,
    wish: &BridgeWish,
    found: Option<&Bridge>,
    copies: &Copies,
    target: &Target,
    findings: &mut Findings,
) -> bool {
    let Some(output) = copies.output_port.as_ref().filter(|_| !path::is_allowed(wish)) else { return false };
    let Some((bridge, port)) = found.and_then(|bridge| Some((bridge, bridge.port(output)?))) else {
        return false;
    };
    if bridge.mirrors.iter().any(|mirror| mirror.copies.output_port.as_ref() == Some(output)) {
        return false;
    }
    let Some(why) = path::reached_through(scene, Some(wish), bridge, port) else { return false };
    let what = format!(
        "{why}; Open vSwitch drops the own traffic of a mirror's output port, so copies to {output} would cut the node off"
    );
    findings.obstacle(target, Reason::ManagementPath, what, OTHER_OUTPUT);
    true
}

const OTHER_OUTPUT: &str = "choose another output: an internal port, a pod's port, or a spare NIC listed in `ports` of a bridge of which the uplink is listed in `uplinks`";

/// VLANs in which mirrors of a bridge send copies: they are flooded, because learning would send the copies astray.
pub(super) fn rspan_vlans<'a>(mirrors: impl IntoIterator<Item = &'a MirrorWish>) -> BTreeSet<u16> {
    let vlan = |mirror: &MirrorWish| match mirror.output {
        Output::Vlan(vlan) => Some(vlan),
        Output::Port(_) => None,
    };
    mirrors.into_iter().filter_map(vlan).collect()
}

/// The VLANs that a bridge shall flood: those it does, without those that only our former mirrors needed.
pub(super) fn flooded(scene: &Scene<'_>, bridge: &Bridge, sent: BTreeSet<u16>) -> BTreeSet<u16> {
    let ours = bridge.mirrors.iter().filter(|mirror| scene.is_ours(mirror.owner()));
    let former: BTreeSet<u16> = ours.filter_map(|mirror| mirror.copies.output_vlan).collect();
    let mut flooded: BTreeSet<u16> = bridge.flood_vlans.difference(&former).copied().collect();
    flooded.extend(sent);
    flooded
}

/// Mirrors on bridges that no policy binds.
pub(super) fn on_other_bridges(scene: &Scene<'_>, bindings: &Bindings<'_>, findings: &mut Findings) {
    for bound in &bindings.mirrors {
        let wish = bound.wish;
        if bindings.named.contains(&wish.bridge) {
            continue;
        }
        let target = Target::mirror(&wish.bridge, &wish.name);
        let (reason, what, hint) = match scene.ovs.bridge(&wish.bridge).map(Bridge::owner) {
            None => (
                Reason::BridgeMissing,
                format!("there is no bridge {}", wish.bridge),
                "describe it in `spec.bridges`, or correct the name",
            ),
            Some(Some(other)) => (
                Reason::NameConflict,
                format!("bridge {} belongs to policy {other}", wish.bridge),
                "apply both policies together",
            ),
            Some(None) => (
                Reason::NameConflict,
                format!("portwright did not make bridge {}", wish.bridge),
                "describe it in `spec.bridges` with `adopt: true`",
            ),
        };
        findings.obstacle(&target, reason, what, hint);
    }
}
