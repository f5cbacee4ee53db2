//! What no policy lists any more and carries the name of one that was given: bridges as a whole, and ports and mirrors
//! that we have on bridges of others.

use std::collections::{BTreeMap, BTreeSet};

use super::bind::Bindings;
use super::cut::{self, Cut};
use super::path::reached_over;
use super::{LEAVE_LISTED, Scene, append, mirror};
use crate::blocked::Reason;
use crate::ovs::{Bridge, Change, Port, Target};
use crate::plan::{Findings, Plan, Subject};
use crate::step;

/// Plans what goes away.
pub(super) fn plan_leaving(
    scene: &Scene<'_>,
    bindings: &Bindings<'_>,
    unlisted: &mut BTreeMap<String, Findings>,
    first: &Findings,
    plan: &mut Plan,
    findings: &mut Findings,
) {
    for bridge in scene.ovs.bridges.iter().filter(|bridge| !bindings.named.contains(&bridge.name)) {
        let mut found = unlisted.remove(&bridge.name).unwrap_or_default();
        match bridge.owner() {
            Some(owner) if scene.is_ours(Some(owner)) => remove(scene, bridge, owner, &mut found),
            Some(_) | None => clear(scene, bindings, bridge, &mut found),
        }
        let moved = || first.steps.iter().filter(|step| step.object.bridge() == Some(&bridge.name));
        let waits = first.blocked.iter().any(|blocked| blocked.object.bridge() == Some(&bridge.name));
        if found.steps.is_empty() && found.blocked.is_empty() && moved().next().is_none() && !waits {
            continue;
        }
        // On a bridge of somebody else several policies may have something: the first stands for all.
        let of_step = found.steps.iter().chain(moved()).find_map(|step| {
            if let step::Change::Ovs { owner, .. } = &step.change { Some(owner.clone()) } else { None }
        });
        let policy =
            bridge.owner().filter(|owner| scene.is_ours(Some(owner))).map(ToOwned::to_owned).or(of_step);
        plan.subjects.push(Subject {
            object: Target::bridge(&bridge.name).object(),
            heading: String::new(),
            policy: policy.unwrap_or_default(),
            notes: std::mem::take(&mut found.notes),
        });
        append(findings, &mut found);
    }
}

fn remove(scene: &Scene<'_>, bridge: &Bridge, owner: &str, findings: &mut Findings) {
    let target = Target::bridge(&bridge.name);
    let foreign =
        bridge.others().filter(|port| !scene.is_ours(port.owner())).map(|port| format!("port {}", port.name));
    let mirrors = bridge.mirrors.iter().filter(|mirror| !scene.is_ours(mirror.owner()));
    let foreign: Vec<String> =
        foreign.chain(mirrors.map(|mirror| format!("mirror {}", mirror.name))).collect();
    if !foreign.is_empty() {
        let what = format!("no policy lists it any more, but it carries {} of others", foreign.join(", "));
        findings.obstacle(
            &target,
            Reason::ForeignPorts,
            what,
            "remove those first, or list the bridge again",
        );
        return;
    }
    if let Some(why) = reached_over(scene, bridge) {
        let what = format!("{why}; removing the bridge could cut the node off");
        findings.obstacle(&target, Reason::ManagementPath, what, LEAVE_LISTED);
        return;
    }
    let policy = cut::strictest(scene, bridge.others().filter_map(Port::owner).chain([owner]));
    let ports = cut::all_of(scene, bridge);
    let cut = Cut { target: &target, what: "removing the bridge", policy, ports, others: Vec::new() };
    let Some(leave) = cut::ask(scene, &cut, findings) else { return };
    let from: BTreeSet<String> = bridge.others().map(|port| port.name.clone()).collect();
    findings.let_through(&target, owner, Change::RemoveBridge { from }, leave);
}

/// Takes our mirrors off a bridge of somebody else.
fn clear(scene: &Scene<'_>, bindings: &Bindings<'_>, bridge: &Bridge, findings: &mut Findings) {
    for one in &bridge.mirrors {
        if !bindings.named_mirrors.contains(&(bridge.name.clone(), one.name.clone())) {
            mirror::remove(scene, &bridge.name, one, findings);
        }
    }
}
