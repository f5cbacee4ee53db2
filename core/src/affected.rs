//! Whom a plan affects: the VFs that are withheld from kubelet while steps run, the policies that need a turn among the nodes
//! that may be disrupted at once, and the pods that are evicted first.
//!
//! A turn is needed where somebody may notice, and only there: VFs on a port that has none and that nobody uses are made on
//! all nodes at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{Desired, DisruptionPolicy, Mode};
use crate::id::{Object, PciAddress};
use crate::observed::{Holder, Observed, Pf};
use crate::ovs::{self, Part, Pod, Target};
use crate::plan::{Held, Plan};
use crate::step::{Change, Disruption, Step};
use crate::usage::{self, Use, uses};

/// Stands where a pod's namespace would, if only its UID is known (kubelet's checkpoint has no names).
pub const BY_UID: &str = "uid";

/// A pod: namespace and name.
pub type PodName = (String, String);

/// The functions of VFs that the steps change, disturb or remove: kubelet must not hand them out meanwhile.
pub fn touched(steps: &[Step], observed: &Observed) -> BTreeSet<PciAddress> {
    let mut touched = BTreeSet::new();
    for step in steps {
        match (&step.object, step.disruption) {
            (Object::Vf(vf), _) => touched.extend(observed.vf(*vf).map(|vf| vf.address)),
            (
                Object::Pci(pf),
                Disruption::Vf | Disruption::Pf | Disruption::Bridge | Disruption::NodePath,
            ) => {
                touched.extend(observed.pf(*pf).into_iter().flat_map(|pf| &pf.vfs).map(|vf| vf.address));
                // A port without VFs may be a device itself.
                touched.extend(observed.pf(*pf).filter(|pf| pf.vfs.is_empty()).map(|pf| pf.address));
            }
            (Object::Named(_), Disruption::Bridge) => {
                let vfs = usage::connected(observed, &interfaces(step, observed));
                touched.extend(vfs.into_iter().filter_map(|vf| observed.vf(vf)).map(|vf| vf.address));
            }
            (Object::Pci(_), Disruption::None)
            | (Object::Node | Object::Policy(..) | Object::Named(_), _) => {}
        }
    }
    touched
}

/// The interfaces of Open vSwitch that a step is about: of one port, of a bridge, of all bridges.
fn interfaces<'a>(step: &Step, observed: &'a Observed) -> BTreeSet<&'a str> {
    let target = Target::of(&step.object);
    let bridges = observed.ovs.iter().flat_map(|ovs| &ovs.bridges);
    let ports = bridges.flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port)));
    let is_meant = |(bridge, port): &(&ovs::Bridge, &ovs::Port)| match &target {
        Some(Target::Switch) => true,
        Some(Target::Bridge(name, Part::Itself)) => bridge.name == *name,
        Some(Target::Bridge(name, Part::Port(one))) => bridge.name == *name && port.name == *one,
        Some(Target::Bridge(_, Part::Mirror(_))) | None => false,
    };
    let meant = ports.filter(is_meant).flat_map(|(_, port)| &port.interfaces);
    meant.map(|interface| interface.name.as_str()).collect()
}

/// The policies that need a turn, each with the PFs and bridges that must wait for it: where steps disrupt somebody, and
/// where pods are to be evicted for steps that come after.
pub fn needs_turn(plan: &Plan, observed: &Observed, desired: &Desired) -> BTreeMap<String, BTreeSet<Object>> {
    let mut needed: BTreeMap<String, BTreeSet<Object>> = BTreeMap::new();
    let steps = plan.steps.iter().filter(|step| disrupts(step, observed)).map(|step| &step.object);
    let evicting = evictions(plan, observed, desired).into_iter().map(|(held, _)| &held.object);
    for object in steps.chain(evicting) {
        if let Some(policy) = policy_of(plan, object) {
            needed.entry(policy.to_owned()).or_default().insert(object.whole());
        }
    }
    needed
}

/// The pods to evict, and no others: those that have VFs for whose sake a policy with `disruption: Evict` waits, and only
/// where nothing but these pods is in the way.
pub fn evictees(plan: &Plan, observed: &Observed, desired: &Desired) -> BTreeSet<PodName> {
    evictions(plan, observed, desired).into_iter().flat_map(|(_, pods)| pods).collect()
}

/// What waits for pods to end, in words: `waiting for 2 pods`. What else is in the way the obstacles say.
pub fn waiting_for_pods(plan: &Plan, observed: &Observed) -> BTreeMap<Object, String> {
    let mut pods: BTreeMap<Object, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for held in &plan.held {
        let holders = held.vfs.iter().filter_map(|vf| observed.vf(*vf)).flat_map(|vf| &vf.holders);
        let names = holders.filter_map(|holder| match holder {
            Holder::Pod { namespace, name, .. } => Some((namespace.as_str(), name.as_str())),
            Holder::Namespace { .. } | Holder::File { .. } => None,
        });
        pods.entry(held.object.clone()).or_default().extend(names);
    }
    let words = |(object, pods): (Object, BTreeSet<(&str, &str)>)| match pods.len() {
        0 => None,
        1 => Some((object, "waiting for 1 pod".to_owned())),
        several => Some((object, format!("waiting for {several} pods"))),
    };
    pods.into_iter().filter_map(words).collect()
}

/// The pods that would free a VF by going away; none if it is in use by anybody else, or if a pod's name is not known.
///
/// A pod's network namespace and the device files that its processes have open go with it. A process in no container, or in
/// a container of somebody else, stays.
pub(crate) fn evictable(uses: &[Use], pods: Option<&BTreeMap<String, Pod>>) -> Option<BTreeSet<PodName>> {
    let mut names = BTreeSet::new();
    for held in uses {
        if let Use::Held(Holder::Pod { namespace, name, .. }) = held {
            names.insert(name_of(namespace, name, pods)?);
        }
    }
    let goes_along = |held: &Use| match held {
        Use::Held(Holder::Pod { .. }) => true,
        Use::Held(Holder::Namespace { pid: None, .. }) => true,
        Use::Held(Holder::Namespace { container, .. }) => {
            container.as_deref().is_some_and(|id| belongs(id, &names, pods, true))
        }
        Use::Held(Holder::File { container, .. }) => {
            container.as_deref().is_some_and(|id| belongs(id, &names, pods, false))
        }
        Use::Netdev { .. } | Use::Unseen { .. } => false,
    };
    (!names.is_empty() && uses.iter().all(goes_along)).then_some(names)
}

/// The name of a pod, also of one that only its UID is known of.
fn name_of(namespace: &str, name: &str, pods: Option<&BTreeMap<String, Pod>>) -> Option<PodName> {
    if namespace != BY_UID {
        return Some((namespace.to_owned(), name.to_owned()));
    }
    let pod = pods?.get(name).filter(|pod| !pod.name.is_empty())?;
    Some((pod.namespace.clone(), pod.name.clone()))
}

/// Whether a container is one of these pods', as far as can be told: no pod's status lists its sandbox, which lives in the
/// pod's network namespace and opens no device files. A container that was listed nowhere may be one of a pod that was
/// deleted by force, whose device has been handed out again.
fn belongs(
    container: &str,
    names: &BTreeSet<PodName>,
    pods: Option<&BTreeMap<String, Pod>>,
    may_be_sandbox: bool,
) -> bool {
    let listed = || pods.into_iter().flat_map(BTreeMap::values);
    let name = |pod: &Pod| (pod.namespace.clone(), pod.name.clone());
    if let Some(owner) = listed().find(|pod| pod.containers.contains(container)) {
        return names.contains(&name(owner));
    }
    let all_listed = listed().any(|pod| names.contains(&name(pod)) && !pod.containers.is_empty());
    names.len() == 1 && (may_be_sandbox || !all_listed)
}

/// What waits for nothing but pods that may be evicted, with these pods.
fn evictions<'a>(
    plan: &'a Plan,
    observed: &Observed,
    desired: &Desired,
) -> Vec<(&'a Held, BTreeSet<PodName>)> {
    if !desired.cluster {
        return Vec::new();
    }
    let evicts = |held: &&Held| {
        let policy = policy_of(plan, &held.object);
        let document = desired.documents.iter().find(|document| Some(document.name.as_str()) == policy);
        document.is_some_and(|document| {
            document.disruption == DisruptionPolicy::Evict && document.mode == Mode::Apply
        })
    };
    let pods = |held: &'a Held| {
        let mut names = BTreeSet::new();
        for vf in &held.vfs {
            names.append(&mut evictable(&uses(observed, *vf), desired.pods.as_ref())?);
        }
        (!names.is_empty()).then_some((held, names))
    };
    plan.held.iter().filter(evicts).filter(|held| nothing_else(plan, held)).filter_map(pods).collect()
}

/// Whether nothing but users of VFs is in the way: nobody is evicted for what could not be done then either.
fn nothing_else(plan: &Plan, held: &Held) -> bool {
    let concerns = |object: &Object| match held.object {
        Object::Vf(vf) => *object == held.object || *object == Object::Pci(vf.pf),
        Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Named(_) => {
            held.object.goes_with(object)
        }
    };
    let told = |object: &Object| plan.held.iter().any(|other| other.object == *object);
    let hinders = |blocked: &crate::Blocked| {
        let for_users = blocked.reason == crate::Reason::VfInUse && told(&blocked.object);
        // A rate that waits for the cable stops nothing else.
        concerns(&blocked.object) && !for_users && blocked.reason != crate::Reason::NoCarrier
    };
    !plan.blocked.iter().any(hinders)
}

/// Whether a step takes something from somebody, or may.
fn disrupts(step: &Step, observed: &Observed) -> bool {
    match (&step.object, step.disruption) {
        (_, Disruption::None) => false,
        // A step on a VF in use is there only by force; on an idle one it disturbs nobody.
        (Object::Vf(vf), Disruption::Vf) => !uses(observed, *vf).is_empty(),
        (Object::Pci(pf), Disruption::Pf) => observed.pf(*pf).is_none_or(|pf| may_be_in_use(pf, observed)),
        (Object::Named(_), Disruption::Bridge) => cuts_ports(&step.change),
        (
            Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Vf(_) | Object::Named(_),
            Disruption::Vf | Disruption::Pf | Disruption::Bridge | Disruption::NodePath,
        ) => true,
    }
}

/// Whether anything could notice that the PF is reset: it has VFs, or its netdev is a part of something or has an address.
pub(crate) fn may_be_in_use(pf: &Pf, observed: &Observed) -> bool {
    let switch = observed.ovs.as_ref();
    let used = |netdev: &str| {
        let link = observed.link(netdev);
        let linked = link.is_none_or(|link| link.master.is_some() || !link.addresses.is_empty());
        let upper = observed.links.iter().any(|link| link.lowers.iter().any(|lower| lower == netdev));
        // The userspace datapath shows no master.
        linked || upper || switch.is_some_and(|switch| switch.interface(netdev).is_some())
    };
    !pf.vfs.is_empty()
        || !pf.subfunctions.is_empty()
        || !pf.holders.is_empty()
        || pf.netdevs.iter().any(|netdev| used(&netdev.name))
}

/// Whether a change of a bridge cuts any port but the bridge's own.
fn cuts_ports(change: &Change) -> bool {
    let Change::Ovs { change, .. } = change else { return true };
    match change.as_ref() {
        ovs::Change::RemoveBridge { from } => !from.is_empty(),
        ovs::Change::SetDatapath { cuts, .. } => !cuts.is_empty(),
        ovs::Change::SetHwOffload { .. }
        | ovs::Change::CreateBridge { .. }
        | ovs::Change::Set { .. }
        | ovs::Change::AddPort { .. }
        | ovs::Change::ReplugPort { .. }
        | ovs::Change::RemovePort { .. }
        | ovs::Change::CollectPort { .. }
        | ovs::Change::AddMirror { .. }
        | ovs::Change::SetMirror { .. }
        | ovs::Change::RemoveMirror { .. } => true,
    }
}

/// The policy that an object follows.
fn policy_of<'a>(plan: &'a Plan, object: &Object) -> Option<&'a str> {
    let subject = plan.subjects.iter().find(|subject| object.goes_with(&subject.object))?;
    (!subject.policy.is_empty()).then_some(subject.policy.as_str())
}
