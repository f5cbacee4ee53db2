//! What no policy lists any more and carries the name of one that was given: bridges as a whole, and ports and mirrors
//! that we have on bridges of others.

use std::collections::{BTreeMap, BTreeSet};

use super::bind::Bindings;
use super::bridge::reached_over;
use super::{LEAVE_LISTED, Scene, mirror, remove_port};
use crate::blocked::Reason;
use crate::desired::DisruptionPolicy;
use crate::ovs::{Bridge, Change, Target};
use crate::plan::{Findings, Plan, Subject};
use crate::step::Disruption;

/// Plans what goes away.
pub(super) fn plan_leaving(
    scene: &Scene<'_>,
    bindings: &Bindings<'_>,
    plan: &mut Plan,
    findings: &mut Findings,
) {
    for bridge in scene.ovs.bridges.iter().filter(|bridge| !bindings.named.contains(&bridge.name)) {
        let before = findings.steps.len() + findings.blocked.len();
        let policy = match bridge.owner() {
            Some(owner) if scene.is_ours(Some(owner)) => {
                remove(scene, bridge, owner, findings);
                owner.to_owned()
            }
            Some(_) | None => {
                clear(scene, bindings, bridge, findings);
                // Several policies may have something on it; what only plans is not run.
                let owners = bridge.ports.iter().filter_map(|port| port.owner());
                owners
                    .chain(bridge.mirrors.iter().filter_map(|mirror| mirror.owner()))
                    .find(|owner| scene.is_ours(Some(owner)))
                    .unwrap_or_default()
                    .to_owned()
            }
        };
        if findings.steps.len() + findings.blocked.len() > before {
            plan.subjects.push(Subject {
                object: Target::bridge(&bridge.name).object(),
                heading: String::new(),
                policy,
                notes: Vec::new(),
            });
        }
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
    let document = scene.desired.documents.iter().find(|document| document.name == owner);
    if document.is_some_and(|document| document.disruption == DisruptionPolicy::Never) {
        let what = "removing it cuts its ports, and the policy says `disruption: Never`";
        let hint = "set `disruption: WhenIdle` for a time in which it may be done";
        findings.obstacle(&target, Reason::NeedsDisruption, what, hint);
        return;
    }
    let from: BTreeSet<String> = bridge.others().map(|port| port.name.clone()).collect();
    findings.disruptive_change(&target, owner, Change::RemoveBridge { from }, Disruption::Bridge);
}

/// Takes our ports and mirrors off a bridge of somebody else.
fn clear(scene: &Scene<'_>, bindings: &Bindings<'_>, bridge: &Bridge, findings: &mut Findings) {
    let homes: &BTreeMap<&str, &str> = &scene.homes;
    for port in bridge.others() {
        if let Some(owner) = port.owner().filter(|owner| scene.is_ours(Some(owner)))
            && !homes.contains_key(port.name.as_str())
        {
            remove_port(scene, &bridge.name, port, owner, findings);
        }
    }
    for one in &bridge.mirrors {
        if !bindings.named_mirrors.contains(&(bridge.name.clone(), one.name.clone())) {
            mirror::remove(scene, &bridge.name, one, findings);
        }
    }
}
