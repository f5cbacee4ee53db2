//! Patience: when a step that is due is not run yet.
//!
//! Two sorts of trouble need it. Somebody else may change what we put right, again and again: after two corrections of one
//! thing within ten minutes the third is an obstacle ([`Reason::Contended`]) instead of a step, until the value is as wanted,
//! the wish changes or an operator asks. And a PF or bridge whose steps fail is left alone for a while, longer after each
//! failure.
//!
//! What is not a fight: the first application of a changed wish; what is put back after a pod had the VF; autoprobe, which
//! one run switches off and on again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::blocked::{Blocked, Reason};
use crate::drive::{Outcome, StepReport};
use crate::id::{Object, VfRef};
use crate::observed::Observed;
use crate::ovs;
use crate::plan::Plan;
use crate::step::{Change, Step};
use crate::usage::uses;

/// Corrections of one thing within this time make a fight.
pub const WINDOW: Duration = Duration::from_secs(600);
/// So many corrections are made; the next would be one too many.
const CORRECTIONS: usize = 2;
/// So many runs in a row on which the node is not as it was seen right before count as a failure: then it is not somebody
/// who was faster, and planning again at once helps nobody.
const OUTRUN: u32 = 3;
/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// More things than a node has to correct within ten minutes; the oldest are forgotten beyond.
const MOST: usize = 16_384;

/// What is remembered between rounds. Times are durations since the caller's start.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    corrections: BTreeMap<Thing, Corrections>,
    contended: BTreeSet<Thing>,
    failures: BTreeMap<Object, Failure>,
    /// How many runs in a row had a step that was out of date.
    outrun: BTreeMap<Object, u32>,
    /// When the wish changed last, at first the start: what is done for the first time after that is no correction.
    changed: Duration,
}

/// One value: an object, and a hash of the action and of the value that it is given.
type Thing = (Object, u64);

/// When a thing was put right; at most [`CORRECTIONS`] times are kept.
#[derive(Debug, Clone, Default)]
struct Corrections {
    times: Vec<Duration>,
    touched: Duration,
}

#[derive(Debug, Clone)]
struct Failure {
    count: u32,
    until: Duration,
    /// The longest that this wait may take. It is told in place of what is left of it: what is told must not change while
    /// nothing happens.
    longest: Duration,
    why: String,
}

/// What a run came to on one PF or bridge.
#[derive(Debug, Default)]
struct End<'a> {
    all_done: bool,
    stale: Option<&'a str>,
    failed: Option<&'a str>,
}

impl Patience {
    /// Takes out of the plan what may not run now, with the later steps that depend on it. What is fought over becomes an
    /// obstacle; what waits after failures is in the map, with for how long at most and why.
    pub fn hold(
        &mut self,
        mut plan: Plan,
        observed: &Observed,
        now: Duration,
    ) -> (Plan, BTreeMap<Object, String>) {
        self.forget_old(now);
        self.forget_users(observed);
        let due: BTreeSet<Thing> = plan.steps.iter().map(thing).collect();
        self.contended.retain(|thing| due.contains(thing));
        let waiting = self.in_back_off(&plan, now);
        let waits = |object: &Object| waiting.keys().any(|failed| depends(object, failed));
        plan.steps.retain(|step| !waits(&step.object));
        // Nobody is evicted for what would not be done then either.
        plan.held.retain(|held| !waits(&held.object));
        let mut held: Vec<Step> = Vec::new();
        let mut left = Vec::with_capacity(plan.steps.len());
        let remakes: BTreeSet<Object> = plan.steps.iter().filter(|step| remakes(step)).map(group).collect();
        for step in plan.steps {
            let obstacle = self.contention(&step, now);
            let behind = held.iter().any(|earlier| reaches(earlier, &step, &remakes));
            if let Some(obstacle) = obstacle {
                self.contended.insert(thing(&step));
                plan.blocked.push(obstacle);
                held.push(step);
            } else if behind {
                held.push(step);
            } else {
                left.push(step);
            }
        }
        plan.steps = without_half_pairs(left, held);
        (plan, waiting)
    }

    /// Counts what a run has done: corrections, and per PF or bridge failures and their end. `jitter` is any random number.
    pub fn note(&mut self, reports: &[StepReport], now: Duration, jitter: u32) {
        self.forget_old(now);
        for report in reports.iter().filter(|report| report.outcome == Outcome::Done) {
            if !is_pair(reports, &report.step) {
                self.count(thing(&report.step), now);
            }
        }
        self.forget_oldest();
        let mut ends: BTreeMap<Object, End<'_>> = BTreeMap::new();
        for report in reports {
            let end = ends.entry(group(&report.step)).or_insert(End { all_done: true, ..End::default() });
            end.all_done &= report.outcome == Outcome::Done;
            match &report.outcome {
                Outcome::Done | Outcome::Skipped { .. } => {}
                Outcome::Stale { found } => end.stale = end.stale.or(Some(found)),
                Outcome::Failed { why } => end.failed = end.failed.or(Some(why)),
            }
        }
        for (object, end) in ends {
            let outrun = self.is_outrun(&object, &end);
            match end.failed.or(end.stale.filter(|_| outrun)) {
                Some(why) => self.fail(object, why, now, jitter),
                None if end.all_done => drop(self.failures.remove(&object)),
                None => {}
            }
        }
    }

    /// Counts runs that were out of date; whether they are too many. Whatever else a run comes to begins anew.
    fn is_outrun(&mut self, object: &Object, end: &End<'_>) -> bool {
        if end.stale.is_none() {
            self.outrun.remove(object);
            return false;
        }
        let runs = self.outrun.entry(object.clone()).or_default();
        *runs = runs.saturating_add(1);
        *runs >= OUTRUN
    }

    /// When to look again because a wait after a failure is over: how long from now.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let waits = self.failures.values().map(|failure| failure.until.saturating_sub(now));
        waits.filter(|wait| !wait.is_zero()).min()
    }

    /// The wish has changed: everything is tried anew, and what is done first for it is no correction.
    pub fn forget(&mut self, now: Duration) {
        self.forget_all();
        self.changed = now;
    }

    /// An operator asks: everything is tried anew.
    pub fn forget_all(&mut self) {
        *self = Patience { changed: self.changed, ..Patience::default() };
    }

    fn count(&mut self, thing: Thing, now: Duration) {
        let applies = now.saturating_sub(self.changed) < WINDOW;
        let first = !self.corrections.contains_key(&thing);
        let corrections = self.corrections.entry(thing).or_default();
        corrections.touched = now;
        if !(first && applies) {
            corrections.times.push(now);
            let more = corrections.times.len().saturating_sub(CORRECTIONS);
            corrections.times.drain(..more);
        }
    }

    /// Corrections that no fight is made of any more.
    fn forget_old(&mut self, now: Duration) {
        let old = now.saturating_sub(WINDOW);
        self.corrections.retain(|_, corrections| corrections.touched >= old);
    }

    fn forget_oldest(&mut self) {
        let too_many = self.corrections.len().saturating_sub(MOST);
        if too_many > 0 {
            let mut by_age: Vec<(Duration, Thing)> =
                self.corrections.iter().map(|(thing, made)| (made.touched, thing.clone())).collect();
            by_age.sort();
            for (_, thing) in by_age.iter().take(too_many) {
                self.corrections.remove(thing);
            }
        }
    }

    fn fail(&mut self, object: Object, why: &str, now: Duration, jitter: u32) {
        let count = self.failures.get(&object).map_or(0, |failure| failure.count).saturating_add(1);
        let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(count.min(16) - 1).unwrap_or(u32::MAX));
        let longest = doubled.min(LONGEST_WAIT);
        // Between half and the whole of it, so that nodes that failed together do not come back together.
        let part = 0.5 + f64::from(jitter) / f64::from(u32::MAX) * 0.5;
        let until = now.saturating_add(longest.mul_f64(part));
        self.failures.insert(object, Failure { count, until, longest, why: why.to_owned() });
    }

    /// What was changed on a VF that somebody has, or has had since it was last in order, is its user's doing.
    fn forget_users(&mut self, observed: &Observed) {
        let changed = |vf: VfRef| {
            let remembered = observed.vf(vf).and_then(|vf| vf.remembered.as_ref());
            remembered.is_some_and(|remembered| remembered.away) || !uses(observed, vf).is_empty()
        };
        let counted: BTreeSet<&Object> = self.corrections.keys().map(|(object, _)| object).collect();
        let of_user = |object: &&Object| matches!(object, Object::Vf(vf) if changed(*vf));
        let of_users: BTreeSet<Object> = counted.into_iter().filter(of_user).cloned().collect();
        let theirs = |object: &Object| of_users.contains(object);
        self.corrections.retain(|(object, _), _| !theirs(object));
        self.contended.retain(|(object, _)| !theirs(object));
    }

    /// The PFs and bridges that steps are due on and that have failed too recently.
    fn in_back_off(&self, plan: &Plan, now: Duration) -> BTreeMap<Object, String> {
        let of_held = plan.held.iter().map(|held| held.object.clone());
        let due: BTreeSet<Object> = plan.steps.iter().map(group).chain(of_held).collect();
        let waiting = self
            .failures
            .iter()
            .filter(|(object, failure)| failure.until > now && due.iter().any(|due| depends(due, object)));
        let words = |(object, failure): (&Object, &Failure)| {
            let seconds = failure.longest.as_secs();
            let times = if failure.count == 1 {
                "a failure".to_owned()
            } else {
                format!("{} failures", failure.count)
            };
            (object.clone(), format!("waits up to {seconds} s after {times}: {}", failure.why))
        };
        waiting.map(words).collect()
    }

    /// The obstacle, if the step would be one correction too many.
    fn contention(&self, step: &Step, now: Duration) -> Option<Blocked> {
        let thing = thing(step);
        let old = now.saturating_sub(WINDOW);
        let corrections = self.corrections.get(&thing);
        let recent = corrections.map_or(0, |made| made.times.iter().filter(|time| **time >= old).count());
        if recent < CORRECTIONS && !self.contended.contains(&thing) {
            return None;
        }
        let (found, wanted) = step.change.texts();
        let what = format!(
            "`{}` to {wanted} was done {CORRECTIONS} times within 10 minutes and it is {found} again: somebody else changes it",
            step.change.words()
        );
        let hint = "find who else changes it, or take it out of the policy; then run `portwright reconcile`";
        Some(Blocked::new(step.object.clone(), Reason::Contended, what, hint))
    }
}

fn thing(step: &Step) -> Thing {
    let mut hasher = DefaultHasher::new();
    step.change.action().hash(&mut hasher);
    let (_, to) = step.change.values();
    to.to_string().hash(&mut hasher);
    (step.object.clone(), hasher.finish())
}

/// The PF, the bridge, or the thing itself: what a failure stops.
fn group(step: &Step) -> Object {
    step.object.whole()
}

/// Whether a failure of one keeps steps on the other from being run. What is done for the node is done for the sake of its
/// PFs; a bridge does not need it.
fn depends(object: &Object, failed: &Object) -> bool {
    failed.goes_with(object) || (*failed == Object::Node && object.bridge().is_none())
}

/// Whether a step concerns all VFs of its PF.
fn remakes(step: &Step) -> bool {
    matches!(step.change, Change::SetNumVfs { .. } | Change::SetEswitch { .. })
}

/// Whether a later step cannot go without an earlier one that is held. A setting that is fought over concerns its VF (and
/// what the PF does after its VFs) or its port only; anything else stops its PF or bridge.
fn reaches(earlier: &Step, later: &Step, remakes: &BTreeSet<Object>) -> bool {
    if !depends(&later.object, &earlier.object) {
        return false;
    }
    match (&earlier.object, &earlier.change) {
        (Object::Vf(vf), _) if !remakes.contains(&group(earlier)) => {
            later.object == earlier.object || later.object == Object::Pci(vf.pf)
        }
        (_, Change::Ovs { change, .. }) if sets(change) => later.object == earlier.object,
        (Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Vf(_) | Object::Named(_), _) => true,
    }
}

/// Whether a change sets something that nothing else is built on.
fn sets(change: &ovs::Change) -> bool {
    match change {
        ovs::Change::Set { .. }
        | ovs::Change::SetHwOffload { .. }
        | ovs::Change::AddMirror { .. }
        | ovs::Change::SetMirror { .. }
        | ovs::Change::RemoveMirror { .. } => true,
        ovs::Change::CreateBridge { .. }
        | ovs::Change::SetDatapath { .. }
        | ovs::Change::RemoveBridge { .. }
        | ovs::Change::AddPort { .. }
        | ovs::Change::ReplugPort { .. }
        | ovs::Change::RemovePort { .. }
        | ovs::Change::CollectPort { .. } => false,
    }
}

/// Whether two steps switch autoprobe there and back.
fn undoes(one: &Step, other: &Step) -> bool {
    match (&one.change, &other.change) {
        (Change::SetAutoprobe { from, to }, Change::SetAutoprobe { from: back, to: again }) => {
            one.object == other.object && from == again && to == back
        }
        _ => false,
    }
}

/// Whether the step is half of a pair that one run has done for its own sake.
fn is_pair(reports: &[StepReport], step: &Step) -> bool {
    matches!(step.change, Change::SetAutoprobe { .. })
        && reports.iter().any(|other| undoes(step, &other.step))
}

/// What is left when autoprobe is not switched off for something that is not run, and is put back where that is owed from an
/// earlier run.
fn without_half_pairs(left: Vec<Step>, mut held: Vec<Step>) -> Vec<Step> {
    let half = |step: &Step| held.iter().any(|later| undoes(step, later));
    let (mut halves, mut left): (Vec<Step>, Vec<Step>) = left.into_iter().partition(half);
    held.append(&mut halves);
    let owed = |step: &&Step| {
        matches!(step.change, Change::SetAutoprobe { .. }) && !held.iter().any(|other| undoes(step, other))
    };
    left.extend(held.iter().filter(owed).cloned());
    left
}

#[cfg(test)]
mod tests;
