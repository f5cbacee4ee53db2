//! Ports that go, before anything else is planned: leftovers, ports that no policy lists where they are, and ports that
//! move to another bridge. What is planned then, is planned on the switch as it will be without them: a mirror that
//! copied a port that goes has lost it by then.

use std::collections::BTreeMap;

use super::bind::{Bindings, Bound};
use super::{Scene, bridge, remove_port, stale};
use crate::ovs::{self, Bridge, BridgeWish, Ovs, Target};
use crate::plan::Findings;
use crate::step::{Change, Step};

/// What goes.
#[derive(Default)]
pub(super) struct Departures {
    /// Leftovers, and ports that move: they go before anything else.
    pub(super) first: Findings,
    /// Ports that are no longer listed, by bridge.
    pub(super) unlisted: BTreeMap<String, Findings>,
}

/// Plans what goes, and gives the switch without it.
pub(super) fn depart(scene: &Scene<'_>, bindings: &Bindings<'_>) -> (Departures, Ovs) {
    let mut departures = Departures::default();
    for found in &scene.ovs.bridges {
        let bound = bindings.bridges.iter().find(|bound| bound.wish.name == found.name);
        if bound.is_some_and(|bound| !bridge::is_taken(scene, found, bound)) {
            // It is a conflict: nothing of it is touched.
            continue;
        }
        from_bridge(scene, bindings, found, bound, &mut departures);
    }
    let mut left = scene.ovs.clone();
    let unlisted = departures.unlisted.values().flat_map(|findings| &findings.steps);
    for step in departures.first.steps.iter().chain(unlisted) {
        perform(&mut left, step);
    }
    (departures, left)
}

fn perform(ovs: &mut Ovs, step: &Step) {
    if let (Some(target), Change::Ovs { owner, change }) = (Target::of(&step.object), &step.change) {
        ovs::perform(ovs, &target, owner, change);
    }
}

fn from_bridge(
    scene: &Scene<'_>,
    bindings: &Bindings<'_>,
    found: &Bridge,
    bound: Option<&Bound<'_, BridgeWish>>,
    departures: &mut Departures,
) {
    let name = &found.name;
    let in_conflict = bound.is_none() && bindings.named.contains(name);
    let is_leaving = bound.is_none() && scene.is_ours(found.owner());
    for port in found.others() {
        if let Some(step) = stale::step(scene, name, port) {
            departures.first.steps.push(step);
            continue;
        }
        let Some(owner) = port.owner().filter(|owner| scene.is_ours(Some(owner))) else { continue };
        let home = scene.claims.homes(&port.name);
        let stays = home.is_some_and(|bridges| bridges.contains(name));
        let moves = home.is_some_and(|bridges| !bridges.is_empty());
        if stays || in_conflict {
            continue;
        }
        if moves {
            remove_port(scene, found, port, owner, bound, &mut departures.first);
            let mut notes = std::mem::take(&mut departures.first.notes);
            departures.unlisted.entry(name.clone()).or_default().notes.append(&mut notes);
        } else if !is_leaving {
            let unlisted = departures.unlisted.entry(name.clone()).or_default();
            remove_port(scene, found, port, owner, bound, unlisted);
        }
    }
}
