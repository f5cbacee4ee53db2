//! Ports that are only leftovers: their netdev, or the network namespace of their pod, is gone. Ours are removed after a
//! time of grace; others' only if the policy lists who they name as their owner.

use super::{Scene, cut};
use crate::desired::Document;
use crate::ovs::{Change, Collect, FOREIGN_OWNER_KEY, Key, OWNER_KEY, Port, Target};
use crate::step::{self, Disruption, Step};

/// Whether a port is due, and whose it is.
fn due(scene: &Scene<'_>, port: &Port) -> Option<(Key, u64)> {
    let gone_for = port.gone_for?;
    let collect = wish(scene);
    let grace = collect.map_or_else(|| Collect::default().grace_seconds, |collect| collect.grace_seconds);
    // A representor outlives the pod that had the VF, and the next one may have it already.
    if gone_for < grace || !cut::users(scene, &[port]).is_empty() {
        return None;
    }
    let key = |key: &str, value: &str| Key { key: key.to_owned(), value: value.to_owned() };
    if let Some(owner) = port.owner() {
        return scene.is_ours(Some(owner)).then(|| (key(OWNER_KEY, owner), gone_for));
    }
    let owner = port.external_ids.get(FOREIGN_OWNER_KEY)?;
    let listed = collect.is_some_and(|collect| collect.owners.contains(owner));
    listed.then(|| (key(FOREIGN_OWNER_KEY, owner), gone_for))
}

/// What the document of highest priority says about it.
fn wish<'a>(scene: &Scene<'a>) -> Option<&'a Collect> {
    let documents = scene.desired.documents.iter();
    let of: fn(&&Document) -> i32 = |document| document.priority;
    documents.filter(|document| document.ovs.collect.is_some()).max_by_key(of)?.ovs.collect.as_ref()
}

/// The step that removes a port, if it is due.
pub(super) fn step(scene: &Scene<'_>, bridge: &str, port: &Port) -> Option<Step> {
    let (owner, gone_for) = due(scene, port)?;
    let change = Box::new(Change::CollectPort { owner, gone_for });
    let change = step::Change::Ovs { owner: wishing_policy(scene, port), change };
    let object = Target::port(bridge, &port.name).object();
    Some(Step { object, change, disruption: Disruption::None, force: false })
}

/// In whose name a port is collected.
fn wishing_policy(scene: &Scene<'_>, port: &Port) -> String {
    let with_wish = scene.desired.documents.iter().filter(|document| document.ovs.collect.is_some());
    let name = port
        .owner()
        .or(with_wish.max_by_key(|document| document.priority).map(|document| document.name.as_str()));
    name.unwrap_or_default().to_owned()
}
