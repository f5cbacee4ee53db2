//! What a round thinks: from the node, the wish and what was learned before to what may be done now, what waits and for what.
//! It does nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portwright_core::affected::{self, evictees, touched};
use portwright_core::desired::{Desired, Document};
use portwright_core::drive::StepReport;
use portwright_core::fallback::FallBack;
use portwright_core::lanes::{self, Course, Lane, Next};
use portwright_core::observed::Pf;
use portwright_core::patience::Patience;
use portwright_core::plan::Held;
use portwright_core::usage::uses;
use portwright_core::{Change, Object, Observed, PciAddress, Plan, Profiles, Step, VfRef, plan};
use portwright_host::deadline::Stopwatch;

use super::facts::PolicyFact;
use super::hands::Recalled;
use super::memory::{Followed, Memory};
use super::turn::{PodName, Request, Turn};
use super::under_way::{Needs, UnderWay};
use super::wish::{MaxUnavailable, Wish};
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
    pub needs: Needs,
    /// What the policies said then.
    pub wished: BTreeMap<String, Option<Arc<Document>>>,
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
    /// PFs that an earlier process had put back into their last good state, and that were not there since.
    resumes: BTreeSet<PciAddress>,
    /// What is under way.
    under_way: UnderWay,
    /// What was wanted of the cluster last.
    request: Option<Request>,
}

impl Mind {
    /// A mind that has learned nothing yet but what is in its memory.
    pub fn new(profiles: Profiles, memory: Memory, acts: bool) -> Mind {
        // What an earlier process had learned holds as long as the policies are the same.
        let documents = memory.documents();
        let resumes = memory.fallen();
        Mind {
            profiles,
            memory,
            patience: Patience::default(),
            fallback: FallBack::default(),
            acts,
            clock: Stopwatch::start(),
            documents,
            resumes,
            under_way: UnderWay::default(),
            request: None,
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
            self.resumes.clear();
            self.documents.clone_from(&documents);
        }
        if !self.resumes.is_empty() {
            // A port may come late, at boot.
            self.fallback.resume(&self.resumes, observed, &recalled.last_good);
            self.resumes.retain(|pf| observed.pf(*pf).is_none());
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
        // Half-way through steps nothing is to be learned about what they are on.
        let before = self.under_way.before(observed);
        // Only who has read all policies knows that a port is in none.
        let all_read = desired.documents.len() == wish.policies.len();
        if wish.synced && wish.trouble.is_none() && all_read {
            desired.release = released(&before, recalled, &desired, &self.memory);
        }
        let (fallback, last_good) = (&mut self.fallback, &recalled.last_good);
        let busy = self.under_way.ports();
        desired.fall_back = fallback.choose(&before, &desired, &self.profiles, last_good, &busy);
        self.memory.note_fallen(desired.fall_back.keys().chain(&self.resumes).copied().collect());
        let fresh = plan(&before, &desired, &self.profiles);
        let making = self.under_way.courses().iter().any(|course| course.lane == Lane::Switch);
        self.memory.note(&fresh.subjects, &before, making);
        let mut planned = self.under_way.beside(fresh);
        let (held, mut waiting) = self.patience.hold(planned.clone(), observed, self.clock.elapsed());
        planned.blocked.clone_from(&held.blocked);
        let mut due = permitted(&held, &desired);
        let wished = wish.documents();
        let mut thought = Thought { policies, wished, synced: wish.synced, ..Thought::default() };
        if let Some(turn) = turn {
            thought.needs = self.under_way.needs(&due, observed, &desired);
            self.await_turn(turn, &thought.needs, &mut due, &mut waiting);
        }
        let withheld = withheld(&planned, &due, observed);
        due.steps.retain(|step| !self.under_way.covers(&step.object));
        let next = lanes::next(&due.steps, &self.under_way.courses(), &before);
        for (object, why) in &next.wait {
            waiting.entry(object.clone()).or_insert_with(|| why.clone());
        }
        if let Some(turn) = turn {
            // Not for what waits after failures: it would not be done then either.
            let evict = |objects: &Needs| {
                let mut of_these = held.clone();
                let asked = |held: &Held| objects.values().flatten().any(|one| one.goes_with(&held.object));
                of_these.held.retain(asked);
                evictees(&of_these, observed, &desired)
            };
            let resting = self.resting(&next, &thought.needs);
            thought.request = self.request(turn, &resting, &thought.needs, &evict, &limits);
            self.tell_evictions(turn, &thought.needs, &held.held, &mut waiting);
        }
        Thought { desired: Arc::new(desired), plan: planned, next, waiting, withheld, ..thought }
    }

    /// The policies whose places steps rest on that are under way or begin now.
    fn resting(&self, next: &Next, needs: &Needs) -> BTreeSet<String> {
        let begins = |objects: &BTreeSet<Object>| {
            next.begin.iter().any(|course| objects.iter().any(|object| course.covers(object)))
        };
        let beginning = needs.iter().filter(|(_, objects)| begins(objects)).map(|(policy, _)| policy.clone());
        self.under_way.policies().into_iter().map(ToOwned::to_owned).chain(beginning).collect()
    }

    /// What is wanted of the cluster. While steps rest on places, nothing is wanted that was not wanted before: to ask for more
    /// would put at stake what is there, in the middle of what it is there for. What is there and still needed is kept, and
    /// nobody is evicted for any other policy.
    fn request(
        &mut self,
        turn: &Turn,
        resting: &BTreeSet<String>,
        needs: &Needs,
        evict: &dyn Fn(&Needs) -> BTreeSet<affected::PodName>,
        limits: &BTreeMap<String, (MaxUnavailable, bool)>,
    ) -> Option<Request> {
        let limit = |name: &String| limits.get(name).copied().unwrap_or_default();
        let pods = |(policy, objects): (&String, &BTreeSet<Object>)| {
            let pods = evict(&Needs::from([(policy.clone(), objects.clone())])).into_iter();
            let pods: BTreeSet<PodName> = pods.map(|pod| PodName { namespace: pod.0, name: pod.1 }).collect();
            (!pods.is_empty()).then(|| (policy.clone(), pods))
        };
        let now: BTreeMap<String, BTreeSet<PodName>> = needs.iter().filter_map(pods).collect();
        let request = match self.request.take().filter(|_| !resting.is_empty()) {
            Some(mut last) => {
                let held = |name: &String| needs.contains_key(name) && not_granted(turn, name).is_none();
                last.policies.retain(|name, _| resting.contains(name) || held(name));
                last.cordon.retain(|name| last.policies.contains_key(name));
                last.evict.retain(|name, _| last.policies.contains_key(name) && now.contains_key(name));
                for (name, pods) in &mut last.evict {
                    pods.retain(|pod| now.get(name).is_some_and(|now| now.contains(pod)));
                }
                last
            }
            None => Request {
                policies: needs.keys().map(|name| (name.clone(), limit(name).0)).collect(),
                evict: now,
                cordon: needs.keys().filter(|name| limit(name).1).cloned().collect(),
            },
        };
        self.request = (!request.policies.is_empty()).then_some(request);
        self.request.clone()
    }

    /// Says of what waits for evictions why these do not begin, or what holds them up.
    fn tell_evictions(
        &self,
        turn: &Turn,
        needs: &Needs,
        held: &[Held],
        waiting: &mut BTreeMap<Object, String>,
    ) {
        let evicting = match turn {
            Turn::Granted { evicting, .. } => evicting.clone(),
            Turn::Idle | Turn::Waiting { .. } => None,
        };
        let asked = self.request.iter().flat_map(|request| request.evict.keys());
        for (policy, objects) in asked.filter_map(|policy| needs.get_key_value(policy)) {
            let Some(why) = not_granted(turn, policy).or_else(|| evicting.clone()) else { continue };
            let of_these = |held: &&Held| objects.iter().any(|object| object.goes_with(&held.object));
            for held in held.iter().filter(of_these) {
                waiting.entry(held.object.clone()).or_insert_with(|| why.clone());
            }
        }
    }

    /// Lets wait what needs a turn that is not there.
    fn await_turn(&self, turn: &Turn, needs: &Needs, due: &mut Plan, waiting: &mut BTreeMap<Object, String>) {
        let in_use = self.under_way.policies();
        let missing = |object: &Object| {
            let mut needing =
                needs.iter().filter(|(_, objects)| objects.iter().any(|one| one.goes_with(object)));
            needing.find_map(|(policy, _)| {
                // A grant may have been told before it was given back.
                let asked = self.request.as_ref().is_some_and(|last| last.policies.contains_key(policy));
                match not_granted(turn, policy) {
                    None if asked => None,
                    _ if !in_use.is_empty() && !in_use.contains(policy.as_str()) => {
                        Some("waits for steps under way that hold this node's place".to_owned())
                    }
                    None => not_granted(&Turn::Idle, policy),
                    why => why,
                }
            })
        };
        due.steps.retain(|step| {
            let why = Some(&step.object).filter(|object| !self.under_way.covers(object)).and_then(missing);
            match why {
                Some(why) => {
                    waiting.entry(step.object.clone()).or_insert(why);
                    false
                }
                None => true,
            }
        });
        if due.steps.iter().all(|step| step.object == Object::Node) {
            due.steps.clear();
        }
    }

    /// Notes that steps begin, as they were thought of.
    pub fn begin(&mut self, course: &Course, thought: &Thought, observed: &Arc<Observed>) {
        self.under_way.begin(course, &thought.plan, &thought.needs, observed);
    }

    /// Forgets steps that did not begin after all.
    pub fn drop(&mut self, lane: Lane) {
        self.under_way.end(lane);
    }

    /// What is under way.
    pub fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Learns from steps that have ended. `jitter` is any random number.
    pub fn learn(&mut self, lane: Lane, reports: &[StepReport], jitter: u32) {
        self.under_way.end(lane);
        self.patience.note(reports, self.clock.elapsed(), jitter);
        self.fallback.note(reports);
    }

    /// The operator asks: everything is tried anew.
    pub fn asked(&mut self) {
        self.patience.forget_all();
        self.fallback.forget();
        self.resumes.clear();
    }

    /// When something that waits after a failure may be tried again.
    pub fn next(&self) -> Option<Duration> {
        self.patience.next(self.clock.elapsed())
    }
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

/// What is waited for before steps may run that need the turn for a policy.
pub(super) fn not_granted(turn: &Turn, policy: &str) -> Option<String> {
    match turn {
        Turn::Granted { until, policies, .. } if !until.expired() && policies.contains(policy) => None,
        Turn::Granted { until, .. } if until.expired() => {
            Some("the place among the nodes that may be disrupted has run out".to_owned())
        }
        Turn::Waiting { why } | Turn::Granted { missing: Some(why), .. } => Some(why.clone()),
        Turn::Granted { .. } | Turn::Idle => {
            Some("waits for a place among the nodes that may be disrupted at once".to_owned())
        }
    }
}
