//! What a policy may disrupt.

use std::collections::{BTreeMap, BTreeSet};

use super::pf::PfPlanner;
use super::{Findings, Held};
use crate::affected::evictable;
use crate::blocked::{Blocked, Reason};
use crate::desired::DisruptionPolicy;
use crate::id::{Object, VfRef};
use crate::ovs::{Pod, Target};
use crate::range::IndexSet;
use crate::step::Disruption;
use crate::usage::Use;

/// Who decides, and what can be done about users.
#[derive(Clone, Copy)]
pub(super) struct Permit<'a> {
    /// What the policy lets be disrupted.
    pub(super) policy: DisruptionPolicy,
    /// Whether pods can be evicted.
    pub(super) cluster: bool,
    /// The pods of this node, if anybody knows them.
    pub(super) pods: Option<&'a BTreeMap<String, Pod>>,
}

/// What a change that is let through costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    /// What it disrupts.
    pub(super) disruption: Disruption,
    /// Whether it takes VFs from their users by force.
    pub(super) force: bool,
}

impl Default for Leave {
    fn default() -> Self {
        Self { disruption: Disruption::None, force: false }
    }
}

/// Why a change is not let through.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The obstacles.
    pub(super) blocked: Vec<Blocked>,
    /// What they wait for, if it is for users of VFs.
    pub(super) held: Option<Held>,
}

impl Refusal {
    /// An obstacle that no user of a VF is to blame for.
    pub(super) fn of(blocked: Blocked) -> Refusal {
        Refusal { blocked: vec![blocked], held: None }
    }
}

impl Findings {
    /// Takes over what is in the way.
    pub(super) fn refused(&mut self, mut refusal: Refusal) {
        self.blocked.append(&mut refusal.blocked);
        self.held.extend(refusal.held);
    }
}

impl PfPlanner<'_> {
    /// Refuses what cuts the whole port off while a pod has the port itself, or one of its sub-functions, as a device. `Force`
    /// lets it through and says whom it hits; nobody is evicted for it.
    pub(super) fn port_is_free(&self, what: &str, notes: &mut Vec<String>) -> Result<(), Refusal> {
        let object = Object::Pci(self.pf.address);
        let uses = self.pf.holders.iter().cloned().map(Use::Held);
        if self.document.disruption == DisruptionPolicy::Force {
            notes.extend(uses.map(|used| format!("Force: the port itself {used}; {what} will cut it off")));
            return Ok(());
        }
        let told = |used: Use| {
            let message = format!("the port itself {used}; {what} would cut it off");
            let hint = used.hint().replace("this VF", "this port");
            Blocked::new(object.clone(), Reason::VfInUse, message, hint)
        };
        let blocked: Vec<Blocked> = uses.map(told).collect();
        if blocked.is_empty() { Ok(()) } else { Err(Refusal { blocked, held: None }) }
    }
}

/// A change that may disrupt somebody.
pub(super) struct Request<'a> {
    /// What the obstacle is reported on.
    pub(super) object: Object,
    /// What would be done, as a gerund clause: `resizing`.
    pub(super) what: &'a str,
    /// What happens to a VF in use: `remove it`.
    pub(super) consequence: &'a str,
    /// What else could be done, for the hint.
    pub(super) alternative: Option<String>,
    /// What it disrupts.
    pub(super) disruption: Disruption,
    /// The VFs in use that it would touch, with what uses them.
    pub(super) users: Vec<(VfRef, Vec<Use>)>,
}

/// Lets a change through (the answer says whether by force, and the notes from whom), or says what is in the way.
pub(super) fn gate(
    permit: Permit<'_>,
    request: Request<'_>,
    notes: &mut Vec<String>,
) -> Result<bool, Refusal> {
    let policy = permit.policy;
    let Request { object, what, consequence, alternative, disruption, users } = request;
    if policy == DisruptionPolicy::Never && disruption != Disruption::None {
        let who = match disruption {
            Disruption::None | Disruption::Vf => "this VF",
            Disruption::Pf => "this port and its VFs",
            Disruption::Bridge if object == Target::Switch.object() => "all bridges",
            Disruption::Bridge => "this bridge",
            Disruption::NodePath => "the node",
        };
        return Err(Refusal::of(Blocked::new(
            object,
            Reason::NeedsDisruption,
            format!("{what} disrupts traffic of {who}, and the policy says `disruption: Never`"),
            "set `disruption: WhenIdle` for a time in which it may be done",
        )));
    }
    if users.is_empty() {
        return Ok(false);
    }
    let forced = policy == DisruptionPolicy::Force;
    let held: Vec<&(VfRef, Vec<Use>)> =
        users.iter().filter(|(_, uses)| !forced || uses.iter().any(|held| !held.yields_to_force())).collect();
    if held.is_empty() {
        notes.extend(users.iter().map(|(vf, uses)| {
            format!("Force: {} {}; {what} will {consequence}", name(&object, &[*vf]), all_uses(uses))
        }));
        return Ok(true);
    }
    let waits_for = Held { object: object.clone(), vfs: held.iter().map(|(vf, _)| *vf).collect() };
    let unseen = |uses: &[Use]| uses.iter().all(|held| matches!(held, Use::Unseen { .. }));
    let evictable = |(_, uses): &&(VfRef, Vec<Use>)| evictable(uses, permit.pods).is_some();
    let users = match policy {
        DisruptionPolicy::Evict if !permit.cluster => Users::NeedCluster,
        // Pods go only where nobody else is left to keep it from being done.
        DisruptionPolicy::Evict if held.iter().all(evictable) => Users::Go,
        DisruptionPolicy::Evict
        | DisruptionPolicy::WhenIdle
        | DisruptionPolicy::Force
        | DisruptionPolicy::Never => Users::Stay,
    };
    let told = Told { object: &object, what, consequence, alternative, users, pods: permit.pods };
    let (hidden, seen): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, uses)| unseen(uses));
    let mut obstacles: Vec<Blocked> =
        seen.into_iter().map(|(vf, uses)| told.obstacle(&name(&object, &[*vf]), uses)).collect();
    // What hides one VF's users hides all: said once.
    if let Some((_, uses)) = hidden.first() {
        let vfs: Vec<VfRef> = hidden.iter().map(|(vf, _)| *vf).collect();
        obstacles.push(told.obstacle(&name(&object, &vfs), uses));
    }
    Err(Refusal { blocked: obstacles, held: Some(waits_for) })
}

/// VFs by index, and by port where the object does not say which.
fn name(object: &Object, vfs: &[VfRef]) -> String {
    let indexes = indexes(vfs);
    let ports: BTreeSet<String> = vfs.iter().map(|vf| vf.pf.to_string()).collect();
    match object {
        Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Vf(_) => indexes,
        Object::Named(_) => format!("{indexes} of {}", ports.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn indexes(vfs: &[VfRef]) -> String {
    match IndexSet::from_indexes(vfs.iter().map(|vf| vf.index)) {
        Some(set) if vfs.len() > 1 => format!("VFs {set}"),
        Some(set) => format!("VF {set}"),
        None => "no VF".to_owned(),
    }
}

fn all_uses(uses: &[Use]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// What becomes of the users.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    /// They are waited for.
    Stay,
    /// Pods could be evicted in a cluster.
    NeedCluster,
    /// They are pods, and are evicted.
    Go,
}

/// What is said of each user.
struct Told<'a> {
    object: &'a Object,
    what: &'a str,
    consequence: &'a str,
    alternative: Option<String>,
    users: Users,
    pods: Option<&'a BTreeMap<String, Pod>>,
}

impl Told<'_> {
    /// One VF in use, or several whose users are hidden.
    fn obstacle(&self, vf: &str, uses: &[Use]) -> Blocked {
        let mut hint = uses.first().map(Use::hint).unwrap_or_default();
        if let Some(alternative) = &self.alternative {
            hint = format!("{hint}, or {alternative}");
        }
        let found = format!("{vf} {}", all_uses(uses));
        let message = format!("{found}; {} would {}", self.what, self.consequence);
        let blocked = |reason, message, hint| Blocked::new(self.object.clone(), reason, message, hint);
        match self.users {
            Users::NeedCluster if uses.iter().all(Use::yields_to_force) => blocked(
                Reason::NeedsCluster,
                format!("{message}; eviction needs the cluster"),
                format!("run the daemon with --kube, or {hint}"),
            ),
            Users::Go => {
                let pods = evictable(uses, self.pods).unwrap_or_default();
                let names: Vec<String> =
                    pods.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
                let (noun, is) = if names.len() == 1 { ("pod", "is") } else { ("pods", "are") };
                blocked(
                    Reason::VfInUse,
                    format!("{found}; {} waits until {noun} {} {is} evicted", self.what, names.join(" and ")),
                    "eviction waits for this node's turn and for disruption budgets; the events of the pod say more"
                        .to_owned(),
                )
            }
            Users::NeedCluster | Users::Stay => blocked(Reason::VfInUse, message, hint),
        }
    }
}
