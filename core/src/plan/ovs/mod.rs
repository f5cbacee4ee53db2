//! Plans Open vSwitch: which policy each bridge and mirror follows ([`bind`]), then each bridge ([`bridge`]) with its
//! uplinks ([`uplink`]), ports ([`port`]) and mirrors ([`mirror`]), what of it the node is reached over ([`path`]) and what
//! would be cut ([`cut`]), what no policy lists any more ([`leave`]), and ports
//! that are only leftovers ([`stale`]).
//!
//! Ports that go come first ([`depart`]), and the rest is planned without them. Steps of one bridge stand together, so that
//! they are carried out in one transaction.

pub(crate) mod bind;
mod bridge;
mod claim;
mod cut;
mod depart;
mod leave;
mod mirror;
mod path;
mod port;
mod stale;
mod switch;
mod uplink;

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Context, Findings, Plan, Subject};
use crate::blocked::{Blocked, Reason};
use crate::desired::Desired;
use crate::management::{ManagementPath, management_path};
use crate::observed::Observed;
use crate::ovs::{Bridge, BridgeWish, Change, Interface, Ovs, Port, Setting, Target};
use crate::step::{self, Disruption};
use claim::Claims;

/// What all bridges are planned with.
struct Scene<'a> {
    context: &'a Context<'a>,
    desired: &'a Desired,
    ovs: &'a Ovs,
    /// Names of the policies that were given, or were followed before: rows that carry one of them may be touched.
    names: BTreeSet<&'a str>,
    /// Which bridge each port belongs to.
    claims: Claims,
    /// What the node is reached over, without the ports that go.
    management: Cow<'a, ManagementPath>,
}

impl Scene<'_> {
    fn observed(&self) -> &Observed {
        self.context.observed
    }

    /// Why an interface is on the management path. Below a bridge all ports count, because nobody can tell which leads out;
    /// an internal one never does.
    fn carries_the_node(&self, interface: &Interface) -> Option<&str> {
        let why = self.management.netdevs.get(&interface.name)?;
        (interface.kind != "internal" || !why.contains(" through ")).then_some(why)
    }

    /// Whether a row belongs to one of the policies that were given.
    fn is_ours(&self, owner: Option<&str>) -> bool {
        owner.is_some_and(|owner| self.names.contains(owner))
    }
}

/// What is found of one bridge.
#[derive(Default)]
struct Work {
    findings: Findings,
    /// PFs that are set up; that goes before everything of bridges.
    set_up: Findings,
}

impl Findings {
    fn change(&mut self, target: &Target, owner: &str, change: Change) {
        let change = step::Change::Ovs { owner: owner.to_owned(), change: Box::new(change) };
        self.step(target.object(), change, Disruption::None, false);
    }

    fn set(&mut self, target: &Target, owner: &str, from: Setting, to: Setting) {
        if from != to {
            self.change(target, owner, Change::Set { from, to });
        }
    }

    fn obstacle(
        &mut self,
        target: &Target,
        reason: Reason,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.blocked.push(Blocked::new(target.object(), reason, what, hint));
    }
}

/// Adds what Open vSwitch needs to the plan.
pub(super) fn plan_ovs(context: &Context<'_>, desired: &Desired, plan: &mut Plan) {
    if desired.documents.iter().all(|document| document.ovs.is_empty()) && context.observed.ovs.is_none() {
        return;
    }
    let Some(ovs) = &context.observed.ovs else {
        unreachable(context, desired, plan);
        return;
    };
    let given = desired.documents.iter().map(|document| document.name.as_str());
    let names: BTreeSet<&str> = given.chain(desired.former.iter().map(String::as_str)).collect();
    let management = Cow::Borrowed(&context.management);
    let mut now = Scene { context, desired, ovs, names, claims: Claims::default(), management };
    let bindings = bind::bind(&now);
    now.claims = Claims::of(&now, &bindings);
    plan.blocked.extend(bindings.blocked.iter().cloned());
    let (mut departures, without) = depart::depart(&now, &bindings);
    let mut scene = Scene { ovs: &without, ..now };
    if without != *ovs {
        let later = Observed { ovs: Some(without.clone()), ..context.observed.clone() };
        scene.management = Cow::Owned(management_path(&later));
    }
    let mut first = departures.first;
    let mut rest = Findings::default();
    switch::plan_switch(&scene, &bindings, plan, &mut rest);
    for bound in &bindings.bridges {
        let mut work = Work::default();
        if let Some(mut unlisted) = departures.unlisted.remove(&bound.wish.name) {
            append(&mut work.findings, &mut unlisted);
        }
        let mirrors: Vec<_> =
            bindings.mirrors.iter().filter(|mirror| mirror.wish.bridge == bound.wish.name).collect();
        bridge::plan_bridge(&scene, bound, &mirrors, &mut work);
        let mut notes = bound.notes.clone();
        notes.append(&mut work.findings.notes);
        plan.subjects.push(Subject {
            object: Target::bridge(&bound.wish.name).object(),
            heading: String::new(),
            policy: bound.document.name.clone(),
            notes,
        });
        append(&mut first, &mut work.set_up);
        append(&mut rest, &mut work.findings);
    }
    mirror::on_other_bridges(&scene, &bindings, &mut rest);
    leave::plan_leaving(&scene, &bindings, &mut departures.unlisted, &first, plan, &mut rest);
    name_ports_that_come_up(&scene, &first, plan);
    append(&mut first, &mut rest);
    plan.steps.append(&mut first.steps);
    plan.blocked.append(&mut first.blocked);
    plan.unknown.append(&mut first.unknown);
    plan.held.append(&mut first.held);
}

/// PFs that are set up as uplinks have a heading of their own.
fn name_ports_that_come_up(scene: &Scene<'_>, first: &Findings, plan: &mut Plan) {
    for step in &first.steps {
        let Some(pf) = step.object.pf().and_then(|address| scene.observed().pf(address)) else { continue };
        if plan.subjects.iter().all(|subject| subject.object != step.object) {
            let policy = scene.desired.documents.iter().find(|document| !document.ovs.bridges.is_empty());
            plan.subjects.push(Subject {
                object: step.object.clone(),
                heading: pf.name.clone().unwrap_or_default(),
                policy: policy.map(|document| document.name.clone()).unwrap_or_default(),
                notes: Vec::new(),
            });
        }
    }
}

fn append(to: &mut Findings, from: &mut Findings) {
    to.steps.append(&mut from.steps);
    to.blocked.append(&mut from.blocked);
    to.unknown.append(&mut from.unknown);
    to.notes.append(&mut from.notes);
    to.held.append(&mut from.held);
}

/// OVSDB was not read: an obstacle for each thing that is wanted of it.
fn unreachable(context: &Context<'_>, desired: &Desired, plan: &mut Plan) {
    let problem = context.observed.problems.iter().find(|problem| problem.object == Target::Switch.object());
    let why = problem
        .map_or_else(|| "Open vSwitch is not on this node".to_owned(), |problem| problem.reason.clone());
    let hint =
        "start ovsdb-server, or name its socket with `--ovsdb`; `portwright ovs ping` tells what answers";
    let mut blocked = BTreeSet::new();
    for document in &desired.documents {
        let wishes = &document.ovs;
        let bridges = wishes.bridges.iter().map(|bridge| Target::bridge(&bridge.name));
        let mirrors = wishes.mirrors.iter().map(|mirror| Target::mirror(&mirror.bridge, &mirror.name));
        let switch = wishes.hw_offload.map(|_| Target::Switch);
        blocked.extend(bridges.chain(mirrors).chain(switch));
    }
    for target in blocked {
        let what = format!("{why}, and the policy wants {target}");
        plan.blocked.push(Blocked::new(target.object(), Reason::OvsUnreachable, what, hint));
    }
}

/// Removes a port that is ours, with its reason why not if the management path runs over it or somebody would be cut off.
fn remove_port(
    scene: &Scene<'_>,
    bridge: &Bridge,
    port: &Port,
    owner: &str,
    bound: Option<&bind::Bound<'_, BridgeWish>>,
    findings: &mut Findings,
) {
    let target = Target::port(&bridge.name, &port.name);
    let on_path =
        port.interfaces.iter().find_map(|interface| Some((interface, scene.carries_the_node(interface)?)));
    if let Some((interface, why)) = on_path {
        let what = format!(
            "{} {why}; removing it from bridge {} could cut the node off",
            interface.name, bridge.name
        );
        findings.obstacle(&target, Reason::ManagementPath, what, LEAVE_LISTED);
        return;
    }
    let of_bridge = bound.map(|bound| bound.document.name.as_str());
    let policy = cut::strictest(scene, of_bridge.into_iter().chain([owner]));
    let ports = cut::with(scene, bridge, port);
    let adopts = bound.is_some_and(|bound| bound.wish.adopt);
    let others = cut::others(scene, bridge, adopts, &ports, Some(&port.name));
    let what = format!("removing port {}", port.name);
    let cut = cut::Cut { target: &target, what: &what, policy, ports, others };
    let Some(leave) = cut::leave(scene, &cut, findings) else { return };
    let kind = port.interfaces.first().map(|interface| interface.kind.clone()).unwrap_or_default();
    findings.let_through(&target, owner, Change::RemovePort { from: kind }, leave);
}

/// What to do when something on the management path is no longer listed.
const LEAVE_LISTED: &str = "list it again, or move the node's own traffic to another port first";
