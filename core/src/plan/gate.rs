//! What a policy may disrupt.

use crate::blocked::{Blocked, Reason};
use crate::desired::DisruptionPolicy;
use crate::id::{Object, VfRef};
use crate::range::IndexSet;
use crate::step::Disruption;
use crate::usage::Use;

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
    policy: DisruptionPolicy,
    request: Request<'_>,
    notes: &mut Vec<String>,
) -> Result<bool, Vec<Blocked>> {
    let Request { object, what, consequence, alternative, disruption, users } = request;
    if policy == DisruptionPolicy::Never && disruption != Disruption::None {
        let who = match disruption {
            Disruption::None | Disruption::Vf => "this VF",
            Disruption::Pf => "this port and its VFs",
            Disruption::Bridge => "this bridge",
            Disruption::NodePath => "the node",
        };
        return Err(vec![Blocked::new(
            object,
            Reason::NeedsDisruption,
            format!("{what} disrupts traffic of {who}, and the policy says `disruption: Never`"),
            "set `disruption: WhenIdle` for a time in which it may be done",
        )]);
    }
    if users.is_empty() {
        return Ok(false);
    }
    let forced = policy == DisruptionPolicy::Force;
    let held: Vec<&(VfRef, Vec<Use>)> =
        users.iter().filter(|(_, uses)| !forced || uses.iter().any(|held| !held.yields_to_force())).collect();
    if held.is_empty() {
        notes.extend(users.iter().map(|(vf, uses)| {
            format!("Force: VF {} {}; {what} will {consequence}", vf.index, all_uses(uses))
        }));
        return Ok(true);
    }
    let unseen = |uses: &[Use]| uses.iter().all(|held| matches!(held, Use::Unseen { .. }));
    let (hidden, seen): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, uses)| unseen(uses));
    let mut obstacles: Vec<Blocked> = seen
        .into_iter()
        .map(|(vf, uses)| obstacle(policy, &object, what, consequence, &alternative, &name(&[*vf]), uses))
        .collect();
    // What hides one VF's users hides all: said once.
    if let Some((_, uses)) = hidden.first() {
        let vfs: Vec<VfRef> = hidden.iter().map(|(vf, _)| *vf).collect();
        obstacles.push(obstacle(policy, &object, what, consequence, &alternative, &name(&vfs), uses));
    }
    Err(obstacles)
}

fn name(vfs: &[VfRef]) -> String {
    match IndexSet::from_indexes(vfs.iter().map(|vf| vf.index)) {
        Some(set) if vfs.len() > 1 => format!("VFs {set}"),
        Some(set) => format!("VF {set}"),
        None => "no VF".to_owned(),
    }
}

fn all_uses(uses: &[Use]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// One VF in use, or several whose users are hidden.
fn obstacle(
    policy: DisruptionPolicy,
    object: &Object,
    what: &str,
    consequence: &str,
    alternative: &Option<String>,
    vf: &str,
    uses: &[Use],
) -> Blocked {
    let evictable = uses.iter().all(Use::yields_to_force);
    let found = all_uses(uses);
    let mut hint = uses.first().map(Use::hint).unwrap_or_default();
    if let Some(alternative) = alternative {
        hint = format!("{hint}, or {alternative}");
    }
    let message = format!("{vf} {found}; {what} would {consequence}");
    if policy == DisruptionPolicy::Evict && evictable {
        let hint = format!("run the daemon with --kube, or {hint}");
        return Blocked::new(
            object.clone(),
            Reason::NeedsCluster,
            format!("{message}; eviction needs the cluster"),
            hint,
        );
    }
    Blocked::new(object.clone(), Reason::VfInUse, message, hint)
}
