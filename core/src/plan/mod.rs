//! The plan: what would be done to the node, in order, and everything that is in the way.
//!
//! [`plan`] is pure and total. It first binds policies to PFs ([`bind`]), then plans each PF: what concerns the PF itself
//! ([`pf`], [`link`], [`remake`]), whether its VFs can be made at all ([`preflight`]), and each VF ([`vf`], [`attributes`], [`netdev`]). What a policy may disrupt is decided
//! in one place ([`gate`]). Every prefix of the steps is a safe place to stop.

mod attributes;
mod bind;
mod gate;
pub mod json;
mod link;
mod netdev;
mod ovs;
mod pf;
mod preflight;
mod release;
mod remake;
pub mod text;
mod vf;

pub(crate) use ovs::bind::bridges as followed_bridges;

use std::collections::{BTreeMap, BTreeSet};

use crate::blocked::{Blocked, Reason};
use crate::desired::{Desired, Document, NicEntry};
use crate::fallback;
use crate::id::{Object, PciAddress, VfRef};
use crate::management::{ManagementPath, management_path};
use crate::observed::{Observed, Pf};
use crate::ovs::Pod;
use crate::pools;
use crate::profile::Profiles;
use crate::step::{Change, Disruption, Step};
use crate::udev_rule;

/// What would be done, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in the order in which they would be run.
    pub steps: Vec<Step>,
    /// What is in the way; all of it.
    pub blocked: Vec<Blocked>,
    /// Wishes that depend on something nobody could read: whether there is something to do cannot be told.
    pub unknown: Vec<Unknown>,
    /// What the plan looked at, with how it is called in text.
    pub subjects: Vec<Subject>,
    /// What obstacles wait for.
    pub held: Vec<Held>,
}

impl Plan {
    /// Whether there is nothing to do, nothing in the way and nothing that could not be told.
    pub fn in_sync(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty() && self.unknown.is_empty()
    }
}

/// VFs whose users keep something from being done. The obstacles on the same object say it in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// What would be changed: a PF, or a VF.
    pub object: Object,
    /// The VFs in use that it would touch, those left out that the policy takes by force.
    pub vfs: BTreeSet<VfRef>,
}

/// A wish whose present value is unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// What it is about.
    pub object: Object,
    /// Which value (`VLAN`).
    pub what: String,
}

/// A PF or bridge that a policy speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The object.
    pub object: Object,
    /// What stands beside it in a heading: netdev name and profile.
    pub heading: String,
    /// Policy that binds it.
    pub policy: String,
    /// Remarks that are neither step nor obstacle (overridden policies, VFs in use that keep their settings).
    pub notes: Vec<String>,
}

/// What planning one PF yields.
#[derive(Debug, Default)]
struct Findings {
    steps: Vec<Step>,
    blocked: Vec<Blocked>,
    unknown: Vec<Unknown>,
    notes: Vec<String>,
    held: Vec<Held>,
}

impl Findings {
    fn step(&mut self, object: Object, change: Change, disruption: Disruption, force: bool) {
        self.steps.push(Step { object, change, disruption, force });
    }

    fn unknown(&mut self, object: Object, what: &str) {
        self.unknown.push(Unknown { object, what: what.to_owned() });
    }
}

/// What all PFs are planned with.
struct Context<'a> {
    observed: &'a Observed,
    management: ManagementPath,
    profiles: &'a Profiles,
    /// A PF on which a write has not returned: it holds a lock that all SR-IOV writes of the node need.
    stuck: Option<PciAddress>,
    /// Whether pods can be evicted.
    cluster: bool,
    /// The pods of this node, if anybody knows them.
    pods: Option<&'a BTreeMap<String, Pod>>,
}

/// Plans what leads from the observed node to the wanted one.
pub fn plan(observed: &Observed, desired: &Desired, profiles: &Profiles) -> Plan {
    let context = Context {
        observed,
        management: management_path(observed),
        profiles,
        stuck: observed.pfs.iter().find(|pf| pf.stuck.is_some()).map(|pf| pf.address),
        cluster: desired.cluster,
        pods: desired.pods.as_ref(),
    };
    let bindings = bind::bind(observed, desired);
    let mut plan = Plan { blocked: bindings.blocked, ..Plan::default() };
    for (pf, bound) in &bindings.bound {
        let (profile, matched) = profiles.find(pf);
        let back =
            desired.fall_back.get(&pf.address).map(|good| fallback::entry(bound.entry, good, observed));
        let entry = back.as_ref().unwrap_or(bound.entry);
        let mut findings = pf::plan_pf(&context, pf, bound.document, entry, profile);
        let name = pf.name.as_deref().unwrap_or("no netdev");
        let profile = profile.map_or(crate::profile::GENERIC, |profile| profile.name.as_str());
        let mut notes = bound.notes.clone();
        notes.append(&mut findings.notes);
        if back.is_some() {
            notes.push(format!(
                "fell back to the last good state: `{}` could not be reached",
                bound.document.name
            ));
            plan.blocked.push(fell_back(pf, bound.document));
        }
        plan.subjects.push(Subject {
            object: Object::Pci(pf.address),
            heading: format!("{name}  (profile {profile}, {matched})"),
            policy: bound.document.name.clone(),
            notes,
        });
        plan.steps.append(&mut findings.steps);
        plan.blocked.append(&mut findings.blocked);
        plan.unknown.append(&mut findings.unknown);
        plan.held.append(&mut findings.held);
    }
    let bound: Vec<PciAddress> = bindings.bound.iter().map(|(pf, _)| pf.address).collect();
    for pf in observed.pfs.iter().filter(|pf| !bound.contains(&pf.address)) {
        put_back(pf, &mut plan);
        if desired.release.contains(&pf.address) && !bindings.selected.contains(&pf.address) {
            release::release(&context, pf, profiles, &mut plan);
        }
    }
    plan.blocked.append(&mut pools::conflicts(desired));
    add_udev_rule(&context, desired, &bindings.selected, &mut plan);
    ovs::plan_ovs(&context, desired, &mut plan);
    plan
}

/// The entry that each PF follows, for whoever else acts on policies. PFs whose policies conflict are left out.
pub(crate) fn bound<'a>(
    observed: &'a Observed,
    desired: &'a Desired,
) -> impl Iterator<Item = (&'a Pf, &'a Document, &'a NicEntry)> {
    bind::bind(observed, desired).bound.into_iter().map(|(pf, bound)| (pf, bound.document, bound.entry))
}

/// Says that a policy is not applied, although nothing is left to do.
fn fell_back(pf: &Pf, document: &Document) -> Blocked {
    Blocked::new(
        Object::Pci(pf.address),
        Reason::FellBack,
        format!(
            "what policy `{}` wants failed {} times; the port is kept in its last good state",
            document.name,
            fallback::RUNS
        ),
        "`portwright status` has the failures; correct the node or the policy, then run `portwright reconcile`",
    )
}

/// Plans what an interrupted run owes to a PF that no policy speaks of any more.
fn put_back(pf: &Pf, plan: &mut Plan) {
    if let (Some(to), Some(from), None) = (pf.saved_autoprobe, pf.autoprobe.known().copied(), &pf.stuck)
        && from != to
    {
        let (object, change) = (Object::Pci(pf.address), Change::SetAutoprobe { from, to });
        plan.steps.push(Step { object, change, disruption: Disruption::None, force: false });
        let note = "an earlier run was interrupted before it had put this back".to_owned();
        plan.subjects.push(in_no_policy(pf, note));
    }
}

/// The heading of a PF that no policy speaks of.
fn in_no_policy(pf: &Pf, note: String) -> Subject {
    Subject {
        object: Object::Pci(pf.address),
        heading: format!("{}  (in no policy)", pf.name.as_deref().unwrap_or("no netdev")),
        policy: String::new(),
        notes: vec![note],
    }
}

/// Puts the udev rule before the first creation of VFs. VFs of a port that no policy selects, and that were not made by us, are
/// whoever's made them.
fn add_udev_rule(context: &Context<'_>, desired: &Desired, selected: &BTreeSet<PciAddress>, plan: &mut Plan) {
    let creates = |step: &Step| matches!(step.change, Change::SetNumVfs { to, .. } if to > 0);
    if !plan.steps.iter().any(creates) {
        return;
    }
    let is_ours =
        |pf: &Pf| selected.contains(&pf.address) || desired.release.contains(&pf.address) || pf.made_by_us;
    let vfs = context.observed.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf.address)));
    let spared = |(pf, vf): &(&Pf, PciAddress)| !is_ours(pf) || context.management.why(*vf).is_some();
    let keep = vfs.filter(spared).map(|(_, vf)| vf).collect();
    let wanted = udev_rule::content(&keep);
    if context.observed.node.udev_rule.as_ref() != Some(&wanted) {
        let change = Change::WriteUdevRule { from: context.observed.node.udev_rule.clone(), to: wanted };
        plan.steps
            .insert(0, Step { object: Object::Node, change, disruption: Disruption::None, force: false });
    }
}

/// An obstacle on the management path.
fn on_management_path(object: Object, name: &str, why: &str, what: &str) -> Blocked {
    Blocked::new(
        object,
        Reason::ManagementPath,
        format!("{name} {why}; {what} could cut the node off"),
        "move the node's own traffic to another port, or set `allowManagementPath: true` on this NIC entry",
    )
}
