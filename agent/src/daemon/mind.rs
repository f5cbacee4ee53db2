//! What a round thinks: from the node, the wish and what was learned before to what may be done now, what waits and for what.
//! It does nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portwright_core::affected::{self, evictees, needs_turn, touched};
use portwright_core::desired::{Desired, Document};
use portwright_core::drive::StepReport;
use portwright_core::fallback::FallBack;
use portwright_core::lanes::{self, Course, Lane, Next};
use portwright_core::observed::Pf;
use portwright_core::patience::Patience;
use portwright_core::usage::uses;
use portwright_core::{Change, Object, Observed, PciAddress, Plan, Profiles, Reason, Step, VfRef, plan};
use portwright_host::deadline::Stopwatch;

use super::facts::PolicyFact;
use super::hands::Recalled;
use super::memory::{Followed, Memory};
use super::turn::{PodName, Request, Turn};
use super::wish::Wish;
use crate::apply::permit::permitted;

/// What follows from a look at the node.
#[derive(Debug, Default)]
pub struct Thought {
    /// Whether the source of policies had been read completely.
    pub synced: bool,
    /// What was planned for.
    pub desired: Arc<Desired>,
    /// All policies.
    pub policies: BTreeMap<String, PolicyFact>,
    /// Everything that is to be done or in the way.
    pub plan: Plan,
    /// What may be begun now.
    pub next: Next,
    /// What waits, and for what.
    pub waiting: BTreeMap<Object, String>,
    /// Functions that kubelet must not give away until they are as they should be.
    pub withheld: BTreeSet<PciAddress>,
    /// What is wanted of the cluster.
    pub request: Option<Request>,
    /// The policies that need the turn, each for the sake of these objects.
    pub needs: BTreeMap<String, BTreeSet<Object>>,
    /// What the policies said then.
    pub wished: BTreeMap<String, Option<Arc<Document>>>,
}

/// Steps that are being carried out.
#[derive(Debug)]
struct Begun {
    course: Course,
    /// What was planned on their ports and bridges when they began.
    part: Plan,
    /// The policies that need the turn for them, each for the sake of these objects.
    needs: BTreeMap<String, BTreeSet<Object>>,
}

/// What is learned from round to round.
#[derive(Debug)]
pub struct Mind {
    profiles: Profiles,
    memory: Memory,
    patience: Patience,
    fallback: FallBack,
    /// Without policies nothing is planned and nothing changed.
    acts: bool,
    clock: Stopwatch,
    /// What was planned for last.
    documents: Vec<Document>,
    /// PFs that an earlier process had put back into their last good state; none once that was taken up.
    resumes: Option<BTreeSet<PciAddress>>,
    /// What is under way.
    begun: BTreeMap<Lane, Begun>,
}

impl Mind {
    /// A mind that has learned nothing yet but what is in its memory.
    pub fn new(profiles: Profiles, memory: Memory, acts: bool) -> Mind {
        // What an earlier process had learned holds as long as the policies are the same.
        let documents = memory.documents();
        let resumes = Some(memory.fallen());
        Mind {
            profiles,
            memory,
            patience: Patience::default(),
            fallback: FallBack::default(),
            acts,
            clock: Stopwatch::start(),
            documents,
            resumes,
            begun: BTreeMap::new(),
        }
    }

    /// Thinks about the node as it is. `turn` is none without a cluster.
    pub fn think(
        &mut self,
        observed: &Observed,
        recalled: &Recalled,
        wish: &Wish,
        turn: Option<&Turn>,
    ) -> Thought {
        if !self.acts {
            return Thought::default();
        }
        let Followed { documents, policies, limits } = self.memory.follow(wish);
        if documents != self.documents {
            // Other policies: everything is tried anew, and what is done first for them is no correction.
            self.patience.forget(self.clock.elapsed());
            self.fallback.forget();
            self.resumes = None;
            self.documents.clone_from(&documents);
        }
        if let Some(fallen) = self.resumes.take() {
            self.fallback.resume(&fallen, observed, &recalled.last_good);
        }
        let mut desired = Desired {
            documents,
            bindings: self.memory.bindings(),
            pods: wish.pods.clone(),
            allow_disruption: false,
            cluster: turn.is_some(),
            former: self.memory.former(),
            ..Desired::default()
        };
        // Only who has read all policies knows that a port is in none.
        let all_read = desired.documents.len() == wish.policies.len();
        if wish.synced && wish.trouble.is_none() && all_read {
            desired.release = released(observed, recalled, &desired, &self.memory);
        }
        let (fallback, last_good) = (&mut self.fallback, &recalled.last_good);
        let busy = ports(self.begun.values());
        desired.fall_back = fallback.choose(observed, &desired, &self.profiles, last_good, &busy);
        self.memory.note_fallen(desired.fall_back.keys().copied().collect());
        let fresh = plan(observed, &desired, &self.profiles);
        self.memory.note(&fresh.subjects, observed);
        // Half-way through steps nothing is to be learned about what they are on.
        let mut planned = lanes::beside(fresh, self.begun.values().map(|begun| (&begun.course, &begun.part)));
        let (held, mut waiting) = self.patience.hold(planned.clone(), observed, self.clock.elapsed());
        planned.blocked.clone_from(&held.blocked);
        let mut due = permitted(&held, &desired);
        let wished = wish.documents();
        let mut thought = Thought { policies, wished, synced: wish.synced, ..Thought::default() };
        if let Some(turn) = turn {
            thought.needs = self.needs(&due, observed, &desired);
            // Not for what waits after failures: it would not be done then either.
            let evict = evictees(&held, observed, &desired);
            thought.request = request(&thought.needs, evict, &limits);
            if let Some(why) = not_granted(turn) {
                let guarded = |object: &Object| {
                    !self.covers(object) && thought.needs.values().flatten().any(|one| one.goes_with(object))
                };
                for step in due.steps.iter().filter(|step| guarded(&step.object)) {
                    waiting.entry(step.object.clone()).or_insert_with(|| why.clone());
                }
                due.steps.retain(|step| !guarded(&step.object));
                if due.steps.iter().all(|step| step.object == Object::Node) {
                    due.steps.clear();
                }
            }
        }
        let withheld = withheld(&planned, &due, observed);
        due.steps.retain(|step| !self.covers(&step.object));
        let under_way: Vec<&Course> = self.begun.values().map(|begun| &begun.course).collect();
        let next = lanes::next(&due.steps, &under_way, observed);
        for (object, why) in &next.wait {
            waiting.entry(object.clone()).or_insert_with(|| why.clone());
        }
        Thought { desired: Arc::new(desired), plan: planned, next, waiting, withheld, ..thought }
    }

    /// The policies that need the turn: for what is due, and for what is under way.
    fn needs(
        &self,
        due: &Plan,
        observed: &Observed,
        desired: &Desired,
    ) -> BTreeMap<String, BTreeSet<Object>> {
        let mut free = due.clone();
        free.steps.retain(|step| !self.covers(&step.object));
        free.held.retain(|held| !self.covers(&held.object));
        let mut needs = needs_turn(&free, observed, desired);
        for (policy, objects) in self.begun.values().flat_map(|begun| &begun.needs) {
            needs.entry(policy.clone()).or_default().extend(objects.iter().cloned());
        }
        needs
    }

    /// Whether steps that are under way are on the port or bridge of an object.
    fn covers(&self, object: &Object) -> bool {
        self.begun.values().any(|begun| begun.course.covers(object))
    }

    /// Notes that steps begin, as they were thought of.
    pub fn begin(&mut self, course: &Course, thought: &Thought) {
        let mut part = lanes::part(&thought.plan, course);
        // What is fought over is found each time.
        part.blocked.retain(|blocked| blocked.reason != Reason::Contended);
        let mine = |objects: &BTreeSet<Object>| -> BTreeSet<Object> {
            objects.iter().filter(|object| course.covers(object)).cloned().collect()
        };
        let needs = thought.needs.iter().map(|(policy, objects)| (policy.clone(), mine(objects)));
        let needs = needs.filter(|(_, objects)| !objects.is_empty()).collect();
        self.begun.insert(course.lane, Begun { course: course.clone(), part, needs });
    }

    /// Whether steps are under way.
    pub fn acts_now(&self) -> bool {
        !self.begun.is_empty()
    }

    /// The ports that steps are under way on.
    pub fn ports(&self) -> BTreeSet<PciAddress> {
        ports(self.begun.values())
    }

    /// The ports and bridges that steps are under way on.
    pub fn objects(&self) -> BTreeSet<Object> {
        let steps = self.begun.values().flat_map(|begun| &begun.course.steps);
        steps.map(|step| step.object.whole()).collect()
    }

    /// Forgets steps that did not begin after all.
    pub fn drop(&mut self, lane: Lane) {
        self.begun.remove(&lane);
    }

    /// Learns from steps that have ended. `jitter` is any random number.
    pub fn learn(&mut self, lane: Lane, reports: &[StepReport], jitter: u32) {
        self.begun.remove(&lane);
        self.patience.note(reports, self.clock.elapsed(), jitter);
        self.fallback.note(reports);
    }

    /// The operator asks: everything is tried anew.
    pub fn asked(&mut self) {
        self.patience.forget_all();
        self.fallback.forget();
        self.resumes = None;
    }

    /// When something that waits after a failure may be tried again.
    pub fn next(&self) -> Option<Duration> {
        self.patience.next(self.clock.elapsed())
    }
}

/// The ports that steps are on.
fn ports<'a>(begun: impl Iterator<Item = &'a Begun>) -> BTreeSet<PciAddress> {
    begun
        .filter_map(|begun| match begun.course.lane {
            Lane::Port(port) => Some(port),
            Lane::Node | Lane::Switch => None,
        })
        .collect()
}

/// PFs whose VFs we made and that no policy lists any more: because a policy has changed or gone, not because the PF has
/// another name for a moment.
fn released(
    observed: &Observed,
    recalled: &Recalled,
    desired: &Desired,
    memory: &Memory,
) -> BTreeSet<PciAddress> {
    let listed = |pf: &Pf| {
        desired.documents.iter().flat_map(|document| &document.nics).any(|entry| entry.select.matches(pf))
    };
    let ours = observed.pfs.iter().filter(|pf| recalled.made.contains(&pf.address));
    ours.filter(|pf| !pf.vfs.is_empty() && !listed(pf) && !memory.is_bound(pf.address))
        .map(|pf| pf.address)
        .collect()
}

/// VFs that are not as they should be, and all of a port that is about to be changed; while that change waits, its VFs are as
/// good as before. Without those that somebody has: kubelet would count these wrong.
fn withheld(plan: &Plan, due: &Plan, observed: &Observed) -> BTreeSet<PciAddress> {
    let of_vf = |step: &&Step| matches!(step.object, Object::Vf(_));
    let remade = |step: &&Step| {
        let makes = matches!(step.change, Change::SetNumVfs { .. } | Change::SetEswitch { .. });
        makes && !due.steps.contains(step)
    };
    // Steps on VFs that are to be made anew say nothing of the VFs that are there.
    let waiting: BTreeSet<PciAddress> =
        plan.steps.iter().filter(remade).filter_map(|step| step.object.pf()).collect();
    let settles = |step: &&Step| step.object.pf().is_none_or(|pf| !waiting.contains(&pf));
    let steps = plan.steps.iter().filter(of_vf).filter(settles).chain(&due.steps);
    let steps: Vec<Step> = steps.cloned().collect();
    let touched = touched(&steps, observed);
    let vfs = observed.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf.address, vf)));
    let used = vfs.filter(|(_, vf)| touched.contains(&vf.address)).filter(|(pf, vf)| {
        let vf = VfRef { pf: *pf, index: vf.index };
        !uses(observed, vf).is_empty()
    });
    let used: BTreeSet<PciAddress> = used.map(|(_, vf)| vf.address).collect();
    touched.difference(&used).copied().collect()
}

/// What is wanted of the cluster, if anything is.
fn request(
    needs: &BTreeMap<String, BTreeSet<Object>>,
    evict: BTreeSet<affected::PodName>,
    limits: &BTreeMap<String, (super::wish::MaxUnavailable, bool)>,
) -> Option<Request> {
    let names: BTreeSet<&String> = needs.keys().collect();
    if names.is_empty() {
        return None;
    }
    let limit = |name: &String| limits.get(name).copied().unwrap_or_default();
    let pod = |pod: affected::PodName| PodName { namespace: pod.0, name: pod.1 };
    Some(Request {
        policies: names.iter().map(|name| ((*name).clone(), limit(name).0)).collect(),
        evict: evict.into_iter().map(pod).collect(),
        cordon: names.iter().any(|name| limit(name).1),
    })
}

/// What is waited for before steps that need the turn may run.
fn not_granted(turn: &Turn) -> Option<String> {
    match turn {
        Turn::Granted { until, .. } if !until.expired() => None,
        Turn::Granted { .. } => {
            Some("the place among the nodes that may be disrupted has run out".to_owned())
        }
        Turn::Waiting { why } => Some(why.clone()),
        Turn::Idle => Some("waits for a place among the nodes that may be disrupted at once".to_owned()),
    }
}
