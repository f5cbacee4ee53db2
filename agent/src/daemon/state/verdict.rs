//! How an object is: what the plan, the last run and the waits say of it, as one condition.

use std::collections::{BTreeMap, BTreeSet};

use portwright_api::state::{Condition, ConditionStatus, READY};
use portwright_core::desired::Mode;
use portwright_core::drive::Outcome;
use portwright_core::observed::Holder;
use portwright_core::{Blocked, Object, Reason, VfRef};

use super::Scene;
use super::word::Word;

/// Pods that a message names.
const NAMED: usize = 5;

/// A condition without type and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: ConditionStatus,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn yes(word: Word, message: impl Into<String>) -> Verdict {
        Verdict { status: ConditionStatus::True, reason: word.to_string(), message: message.into() }
    }

    pub(super) fn no(reason: impl ToString, message: impl Into<String>) -> Verdict {
        Verdict { status: ConditionStatus::False, reason: reason.to_string(), message: message.into() }
    }

    pub(super) fn unknown(word: Word, message: impl Into<String>) -> Verdict {
        Verdict { status: ConditionStatus::Unknown, reason: word.to_string(), message: message.into() }
    }

    pub(super) fn holds(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// The `Ready` condition.
    pub(super) fn ready(self, scene: &Scene<'_>) -> Condition {
        self.condition(scene, READY, None)
    }

    pub(super) fn condition(self, scene: &Scene<'_>, type_: &str, generation: Option<i64>) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: self.status,
            reason: self.reason,
            message: scene.room.text(&self.message),
            last_transition_time: scene.now.clone(),
            observed_generation: generation,
        }
    }
}

/// What holds of the objects that are `mine`. Obstacles count before failures, failures before waits, waits before what is
/// simply due: so the word is about what has to happen first.
pub(super) fn judge(scene: &Scene<'_>, mode: Mode, mine: &dyn Fn(&Object) -> bool) -> Verdict {
    let plan = &scene.facts.plan;
    let blocked: Vec<&Blocked> = plan.blocked.iter().filter(|blocked| mine(&blocked.object)).collect();
    let waits = scene.facts.waiting.iter().find(|(object, _)| mine(object)).map(|(_, why)| why.as_str());
    if !blocked.is_empty() {
        return of_blocked(scene, &blocked, waits);
    }
    let due = plan.steps.iter().filter(|step| mine(&step.object)).count();
    if mode == Mode::Plan && due > 0 {
        return Verdict::no(Word::PlanOnly, format!("{} due; the policy says `mode: Plan`", steps(due)));
    }
    if due > 0 || waits.is_some() {
        if let Some(failed) = failure(scene, mine) {
            let and = waits.map(|why| format!("; {why}")).unwrap_or_default();
            return Verdict::no(Word::Failed, format!("{failed}{and}"));
        }
        return match waits {
            Some(why) => Verdict::no(Word::Waiting, why),
            None if scene.facts.acting.iter().any(mine) => {
                Verdict::no(Word::Pending, format!("{} due and being carried out", steps(due)))
            }
            None => Verdict::no(Word::Pending, format!("{} due", steps(due))),
        };
    }
    match plan.unknown.iter().find(|unknown| mine(&unknown.object)) {
        Some(unknown) => Verdict::unknown(
            Word::Unreadable,
            format!("{} of {} cannot be read here", unknown.what, unknown.object),
        ),
        None => Verdict::yes(Word::InSync, "as wanted"),
    }
}

fn steps(count: usize) -> String {
    if count == 1 { "1 step is".to_owned() } else { format!("{count} steps are") }
}

/// How the last run failed on it, with the step. What was done on the same thing afterwards, in a later part of the run, makes
/// up for it.
pub(super) fn failure(scene: &Scene<'_>, mine: &dyn Fn(&Object) -> bool) -> Option<String> {
    let run = scene.facts.last_run.as_ref()?;
    let reports = || run.steps.iter().enumerate().filter(|(_, report)| mine(&report.step.object));
    let done = reports().filter(|(_, report)| report.outcome == Outcome::Done);
    let done: BTreeMap<&Object, usize> = done.map(|(at, report)| (&report.step.object, at)).collect();
    reports().find_map(|(at, report)| match &report.outcome {
        Outcome::Failed { why } if done.get(&report.step.object).is_none_or(|done| *done < at) => {
            Some(format!("`{}`: {why}", report.step))
        }
        Outcome::Failed { .. } | Outcome::Done | Outcome::Skipped { .. } | Outcome::Stale { .. } => None,
    })
}

/// What needs somebody's hand comes first; users of VFs go away by themselves.
fn of_blocked(scene: &Scene<'_>, blocked: &[&Blocked], waits: Option<&str>) -> Verdict {
    let (in_use, others): (Vec<&Blocked>, Vec<&Blocked>) =
        blocked.iter().partition(|blocked| blocked.reason == Reason::VfInUse);
    let Some(first) = others.first() else {
        let and = waits.map(|why| format!("; {why}")).unwrap_or_default();
        return Verdict::no(Reason::VfInUse, format!("{}{and}", users(scene, &in_use)));
    };
    let more = match blocked.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more in the way)", count - 1),
    };
    Verdict::no(first.reason, format!("{}{more}", first.message))
}

/// `waiting for 2 pods: web/a, web/b`, and what else uses VFs.
fn users(scene: &Scene<'_>, blocked: &[&Blocked]) -> String {
    let mut pods: BTreeSet<String> = BTreeSet::new();
    let mut else_used = Vec::new();
    for obstacle in blocked {
        let found = pods_of(scene, &obstacle.object);
        // An obstacle that is about a pod names it.
        if !found.iter().any(|pod| obstacle.message.contains(pod.as_str())) {
            else_used.push(obstacle.message.as_str());
        }
        pods.extend(found);
    }
    let waits = (!pods.is_empty()).then(|| {
        let named: Vec<&str> = pods.iter().take(NAMED).map(String::as_str).collect();
        let more = match pods.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let word = if pods.len() == 1 { "pod" } else { "pods" };
        format!("waiting for {} {word}: {}{more}", pods.len(), named.join(", "))
    });
    let other = else_used.first().map(|first| match else_used.len() {
        1 => (*first).to_owned(),
        count => format!("{first} (and {} more in the way)", count - 1),
    });
    waits.into_iter().chain(other).collect::<Vec<_>>().join("; ")
}

/// Pods that hold a VF, or any VF of a PF.
fn pods_of(scene: &Scene<'_>, object: &Object) -> BTreeSet<String> {
    let observed = &scene.facts.observed;
    let vfs: Vec<_> = match object {
        Object::Vf(VfRef { pf, index }) => {
            observed.vf(VfRef { pf: *pf, index: *index }).into_iter().collect()
        }
        Object::Pci(pf) => observed.pf(*pf).map(|pf| pf.vfs.iter().collect()).unwrap_or_default(),
        Object::Node | Object::Policy(..) | Object::Named(_) => Vec::new(),
    };
    vfs.into_iter().flat_map(|vf| pods(&vf.holders)).collect()
}

/// Pods among holders, as `namespace/name`.
pub(super) fn pods(holders: &[Holder]) -> impl Iterator<Item = String> + '_ {
    holders.iter().filter_map(|holder| match holder {
        Holder::Pod { namespace, name, .. } => Some(format!("{namespace}/{name}")),
        Holder::Namespace { .. } | Holder::File { .. } => None,
    })
}
