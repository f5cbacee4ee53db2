//! What a change of a bridge cuts off, and whether it may: users of VFs by the policy's word, as for NICs; ports of others
//! only where an operator has allowed it.
//!
//! A port that does not work carries nothing, so its repair asks nobody.

use std::collections::BTreeSet;

use super::{Scene, path};
use crate::blocked::Reason;
use crate::desired::DisruptionPolicy;
use crate::id::VfRef;
use crate::ovs::{Bridge, Change, Port, Target};
use crate::plan::Findings;
use crate::plan::gate::{Leave, Permit, Request, gate};
use crate::step::Disruption;
use crate::usage::{Use, connected, uses_beside};

/// A change that cuts ports.
pub(super) struct Cut<'a> {
    /// What the obstacle is reported on.
    pub(super) target: &'a Target,
    /// What would be done, as a gerund clause: `removing it`.
    pub(super) what: &'a str,
    /// What the policy lets be disrupted.
    pub(super) policy: DisruptionPolicy,
    /// The ports whose traffic is cut.
    pub(super) ports: Vec<&'a Port>,
    /// Names of those that are not ours.
    pub(super) others: Vec<&'a str>,
}

impl Findings {
    /// A step that was let through.
    pub(super) fn let_through(&mut self, target: &Target, owner: &str, change: Change, leave: Leave) {
        let change = crate::step::Change::Ovs { owner: owner.to_owned(), change: Box::new(change) };
        self.step(target.object(), change, leave.disruption, leave.force);
    }
}

/// What may be disrupted where several policies have rows: what all of them let be.
pub(super) fn strictest<'a>(
    scene: &Scene<'_>,
    owners: impl IntoIterator<Item = &'a str>,
) -> DisruptionPolicy {
    let rank = |policy: &DisruptionPolicy| match policy {
        DisruptionPolicy::Never => 0,
        DisruptionPolicy::WhenIdle => 1,
        DisruptionPolicy::Evict => 2,
        DisruptionPolicy::Force => 3,
    };
    let document = |owner: &str| scene.desired.documents.iter().find(|document| document.name == owner);
    let given = owners.into_iter().filter_map(document).map(|document| document.disruption);
    given.min_by_key(rank).unwrap_or(DisruptionPolicy::WhenIdle)
}

/// The ports of a bridge that carry something; its own does if it has an address.
pub(super) fn all_of<'a>(scene: &Scene<'_>, bridge: &'a Bridge) -> Vec<&'a Port> {
    let has_address = |port: &Port| {
        port.name != bridge.name
            || scene.observed().link(&port.name).is_some_and(|link| !link.addresses.is_empty())
    };
    bridge.ports.iter().filter(|port| carries(port) && has_address(port)).collect()
}

/// The ports that lose something with this one: all of them if the rest of the world may be behind it.
pub(super) fn with<'a>(scene: &Scene<'_>, bridge: &'a Bridge, port: &'a Port) -> Vec<&'a Port> {
    if !carries(port) {
        return Vec::new();
    }
    if path::is_nic(scene, port) { all_of(scene, bridge) } else { vec![port] }
}

/// Whether anything can pass it.
fn carries(port: &Port) -> bool {
    let works = |one: &crate::ovs::Interface| one.error.is_none() && one.ofport != Some(-1);
    port.gone_for.is_none() && port.interfaces.iter().any(works)
}

/// Those of the ports that the policies have no say in, but for one.
pub(super) fn others<'a>(
    scene: &Scene<'_>,
    bridge: &Bridge,
    adopts: bool,
    ports: &[&'a Port],
    but: Option<&str>,
) -> Vec<&'a str> {
    let is_listed = |port: &Port| {
        adopts && scene.claims.homes(&port.name).is_some_and(|homes| homes.contains(&bridge.name))
    };
    let foreign = |port: &&&Port| {
        port.name != bridge.name
            && Some(port.name.as_str()) != but
            && !scene.is_ours(port.owner())
            && !is_listed(port)
    };
    ports.iter().filter(foreign).map(|port| port.name.as_str()).collect()
}

/// The users of VFs that are connected by these ports.
pub(super) fn users(scene: &Scene<'_>, ports: &[&Port]) -> Vec<(VfRef, Vec<Use>)> {
    let interfaces: BTreeSet<&str> =
        ports.iter().flat_map(|port| &port.interfaces).map(|one| one.name.as_str()).collect();
    let vfs = connected(scene.observed(), &interfaces).into_iter();
    let used = vfs.map(|vf| (vf, uses_beside(scene.observed(), vf, &interfaces)));
    used.filter(|(_, uses)| !uses.is_empty()).collect()
}

/// Lets a change through, or says what is in the way. Where nothing is cut, it disrupts nobody.
pub(super) fn leave(scene: &Scene<'_>, cut: &Cut<'_>, findings: &mut Findings) -> Option<Leave> {
    if cut.ports.is_empty() {
        return Some(Leave::default());
    }
    ask(scene, cut, findings)
}

/// The same for what disrupts a bridge also where it has no ports.
pub(super) fn ask(scene: &Scene<'_>, cut: &Cut<'_>, findings: &mut Findings) -> Option<Leave> {
    let Cut { target, what, policy, ports, others } = cut;
    let permit = Permit { policy: *policy, cluster: scene.context.cluster, pods: scene.context.pods };
    let request = Request {
        object: target.object(),
        what,
        consequence: "cut it off",
        alternative: None,
        disruption: Disruption::Bridge,
        users: users(scene, ports),
    };
    let force = match gate(permit, request, &mut findings.notes) {
        Ok(force) => force,
        Err(refusal) => {
            findings.refused(refusal);
            return None;
        }
    };
    if !others.is_empty() && !scene.desired.allow_disruption {
        let list = others.join(", ");
        let what = format!("{what} cuts {list} off for a time, and that was not allowed");
        let hint = format!(
            "take {list} off the bridge first; or run `portwright apply --allow-disruption` when it may be done, with the daemon stopped"
        );
        findings.obstacle(target, Reason::NeedsDisruption, what, hint);
        return None;
    }
    Some(Leave { disruption: Disruption::Bridge, force })
}
