//! One round of the loop in parts: look, think, publish, begin, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portwright_core::drive::{Outcome, StepReport, chain};
use portwright_core::management::management_path;
use portwright_core::pools::{Health, Pools, assign, candidates};
use portwright_core::{Blocked, Disruption, Object, Observed, PciAddress, Reason};
use portwright_device_plugin::allocations::Allocations;
use portwright_device_plugin::{Paths, Plugin};
use portwright_host::deadline::unix_seconds;
use portwright_host::inventory::Observer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::facts::{Cause, Facts, Run};
use super::hands::{Actor, Hands, Recalled};
use super::mind::{Mind, Thought};
use super::turn::{self, Turn};
use super::wish::Wish;
use crate::apply::carry::verified;
use crate::apply::stop::Stop;
use crate::node::eye::{Eye, Look};
use crate::pools::PoolSource;
use crate::serve::wake::Heard;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The whole node.
    Whole,
    /// The functions that events named, in what was seen before.
    Functions,
    /// Devices only, beside steps that are being carried out: for the pools.
    Beside,
}

impl Sight {
    /// How much has to be looked at for these reasons.
    pub fn of(causes: &BTreeSet<Cause>) -> Sight {
        let all = causes.iter().all(|cause| matches!(cause, Cause::Device(_)));
        if all { Sight::Functions } else { Sight::Whole }
    }
}

/// What rounds are made of.
#[derive(Debug)]
pub struct Round<N> {
    /// The node.
    pub actor: Actor<N>,
    /// Looks at devices beside the node's other work; none if only the node itself can be looked at.
    pub observer: Option<Observer>,
    /// Looks at Open vSwitch.
    pub eye: Option<Eye>,
    /// Thinks.
    pub mind: Mind,
    /// Pools that are wanted besides those of policies.
    pub pools: PoolSource,
    /// kubelet's folder.
    pub kubelet: Paths,
    /// What pods have, as it was read with the last observation.
    pub allocations: watch::Receiver<Arc<Allocations>>,
    /// Serves pools.
    pub plugin: Plugin,
    /// What is wanted.
    pub wish: watch::Receiver<Wish>,
    /// The cluster, if there is one.
    pub turn: Option<turn::Handle>,
    /// Who is told.
    pub facts: watch::Sender<Arc<Facts>>,
    /// The round's own state.
    pub state: State,
}

/// What a round knows.
#[derive(Debug, Default)]
pub struct State {
    observed: Arc<Observed>,
    recalled: Recalled,
    seen: bool,
    thought: Thought,
    published: Arc<Pools>,
    run_causes: BTreeSet<Cause>,
    last_run: Option<Arc<Run>>,
    /// A run or a start was not verified yet.
    unverified: bool,
    /// Steps are being carried out, perhaps on these ports.
    acting: Option<BTreeSet<PciAddress>>,
    /// The cluster was told what is wanted of it at least once.
    decided: bool,
    /// The obstacles that were told last.
    obstacles: BTreeSet<Blocked>,
}

impl State {
    /// Nothing is known yet.
    pub fn new() -> State {
        State { unverified: true, ..State::default() }
    }
}

impl<N: Hands> Round<N> {
    /// Waits until the wish or the turn has changed, or something that failed may be tried again.
    pub async fn changed(&mut self) -> Cause {
        let patience = self.mind.next();
        tokio::select! {
            // A source that ended says nothing any more.
            Ok(()) = self.wish.changed() => Cause::Wish,
            () = turn_changed(&mut self.turn) => Cause::Turn,
            () = over(patience) => Cause::Again,
        }
    }

    /// What some reasons ask for before anything is looked at.
    pub fn prepare(&mut self, causes: &BTreeSet<Cause>) {
        if causes.contains(&Cause::Config) {
            self.pools.reload(&self.kubelet);
        }
        if causes.contains(&Cause::Asked) {
            self.mind.asked();
        }
        let by_time = causes.contains(&Cause::Timer) || causes.contains(&Cause::Asked);
        if let (Some(eye), true) = (&self.eye, by_time) {
            eye.look_again();
        }
    }

    /// Looks at the node.
    pub async fn look(&mut self, sight: Sight, causes: &BTreeSet<Cause>) -> Result<(), String> {
        if sight == Sight::Functions && self.refresh(causes) {
            return Ok(());
        }
        if sight == Sight::Beside {
            return self.look_beside().await;
        }
        let (observed, recalled) = self.actor.look().await?;
        self.state.observed = Arc::new(observed);
        self.state.recalled = recalled;
        self.state.seen = true;
        Ok(())
    }

    /// Brings what was seen before up to date where that can be done function by function.
    fn refresh(&mut self, causes: &BTreeSet<Cause>) -> bool {
        let Some(observer) = self.observer.as_ref().filter(|_| self.state.seen) else { return false };
        let mut functions = causes.iter().filter_map(|cause| match cause {
            Cause::Device(function) => Some(*function),
            Cause::Start
            | Cause::Devices
            | Cause::Network
            | Cause::Switch
            | Cause::Wish
            | Cause::Config
            | Cause::Kubelet
            | Cause::Allocate
            | Cause::Timer
            | Cause::Again
            | Cause::Turn
            | Cause::Asked => None,
        });
        let seen = Arc::make_mut(&mut self.state.observed);
        functions.all(|function| observer.refresh(seen, function))
    }

    async fn look_beside(&mut self) -> Result<(), String> {
        let Some(observer) = self.observer.clone() else { return Ok(()) };
        let looked = tokio::task::spawn_blocking(move || observer.observe()).await;
        let mut observed = looked.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        // What the node's own look adds: the switch, who has which device, and how the cluster knows the node.
        observed.ovs = match self.eye.as_ref().map(Eye::last) {
            Some(Look::There { ovs, .. }) => Some(*ovs),
            Some(Look::Absent | Look::Unreachable { .. }) => None,
            None => self.state.observed.ovs.clone(),
        };
        let mut allocations = (*self.allocations()).clone();
        allocations.list.extend(self.plugin.context().handed_out());
        allocations.give(&mut observed);
        let known = &self.state.observed.management;
        observed.management.node_addresses.extend(known.node_addresses.iter().copied());
        observed.management.api_servers.extend(known.api_servers.iter().copied());
        self.state.observed = Arc::new(observed);
        Ok(())
    }

    fn allocations(&self) -> Arc<Allocations> {
        Arc::clone(&self.allocations.borrow())
    }

    /// Thinks about what was seen.
    pub fn think(&mut self) {
        let turn = self.turn.as_ref().map(|handle| handle.turn.borrow().clone());
        let state = &mut self.state;
        let wish = self.wish.borrow().clone();
        state.thought = self.mind.think(&state.observed, &state.recalled, &wish, turn.as_ref());
        if let Some(handle) = &self.turn {
            let request = state.thought.request.clone();
            let first = !std::mem::replace(&mut state.decided, true);
            handle.request.send_if_modified(|known| {
                // The first decision is told also if nothing is wanted: a turn that a crash left is given back then.
                let differs = first || *known != request;
                *known = request;
                differs
            });
        }
    }

    /// Serves the pools as the node is now.
    pub async fn publish(&mut self) -> Result<(), String> {
        let observed = Arc::clone(&self.state.observed);
        let allocations = self.allocations();
        let specs =
            self.pools.specs(&observed, &self.state.thought.desired).map_err(|error| chain(&error))?;
        let candidates = candidates(&observed, &management_path(&observed));
        let there: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.id.as_str()).collect();
        let held = self.plugin.held(&allocations, |id| there.contains(id));
        self.plugin.note_used(&observed);
        let mut pools = assign(&candidates, &specs, &held);
        self.judge(&mut pools);
        let withheld = self.withheld(&observed);
        withhold(&mut pools, &withheld);
        self.state.published = Arc::new(pools.clone());
        self.plugin.publish_without(pools, withheld).await;
        match &allocations.unknown {
            None => self.plugin.settle(&held),
            Some(why) => tracing::warn!(why, "what pods have is not known; no file of theirs is removed"),
        }
        Ok(())
    }

    /// What kubelet must not give away: what is not as it should be, and while steps run every VF of a port that they are on,
    /// also those that they have just made.
    fn withheld(&self, observed: &Observed) -> BTreeSet<PciAddress> {
        let mut withheld = self.state.thought.withheld.clone();
        if let Some(ports) = &self.state.acting {
            let vfs = observed.pfs.iter().filter(|pf| ports.contains(&pf.address)).flat_map(|pf| &pf.vfs);
            withheld.extend(vfs.filter(|vf| vf.holders.is_empty()).map(|vf| vf.address));
        }
        withheld
    }

    /// A VF that cannot be made what the policy wants is not given away.
    fn judge(&self, pools: &mut Pools) {
        let thought = &self.state.thought;
        let in_the_way =
            |reason: Reason| !matches!(reason, Reason::VfInUse | Reason::NeedsCluster | Reason::Releasing);
        let wrong: BTreeMap<PciAddress, String> = (thought.plan.blocked.iter())
            .filter(|blocked| in_the_way(blocked.reason))
            .filter_map(|blocked| {
                let Object::Vf(vf) = blocked.object else { return None };
                let address = self.state.observed.vf(vf)?.address;
                Some((address, format!("it is not as the policy wants it: {}", blocked.message)))
            })
            .collect();
        for device in pools.pools.iter_mut().flat_map(|pool| &mut pool.devices) {
            let why = device.candidate.address.and_then(|address| wrong.get(&address));
            if let (Some(why), Health::Healthy) = (why, &device.health) {
                device.health = Health::Unhealthy { why: why.clone() };
            }
        }
    }

    /// Whether something may be done now.
    pub fn has_work(&self) -> bool {
        !self.state.thought.due.steps.is_empty()
    }

    /// Takes what is touched away from kubelet, and begins.
    pub async fn begin(
        &mut self,
        causes: &BTreeSet<Cause>,
        stop: &CancellationToken,
    ) -> Option<JoinHandle<Vec<StepReport>>> {
        let ports = self.state.thought.due.steps.iter().filter_map(|step| step.object.pf()).collect();
        self.state.acting = Some(ports);
        if self.publish().await.is_err() {
            self.state.acting = None;
            return None;
        }
        let thought = &self.state.thought;
        tracing::info!(steps = thought.due.steps.len(), "carries out the plan");
        self.state.run_causes.clone_from(causes);
        Some(self.actor.begin(thought.due.clone(), self.stop(stop)))
    }

    /// When no further step may begin: the agent stops, another wish has come, or the turn is over.
    fn stop(&self, stop: &CancellationToken) -> Stop {
        let (stop, wish) = (stop.clone(), self.wish.clone());
        let planned_for = self.state.thought.wished.clone();
        let turn = self.turn.as_ref().map(|handle| handle.turn.clone());
        let guarded = self.state.thought.guarded.clone();
        Stop::when(move |step| {
            if stop.is_cancelled() {
                return Some("the agent is stopping".to_owned());
            }
            if wish.borrow().documents() != planned_for {
                return Some("the policies have changed".to_owned());
            }
            let is_guarded = guarded.iter().any(|object| object.goes_with(&step.object));
            let needs_turn = is_guarded && step.disruption != Disruption::None;
            let turn = turn.as_ref().filter(|_| needs_turn)?;
            match &*turn.borrow() {
                Turn::Granted { until, .. } if !until.expired() => None,
                Turn::Granted { .. } | Turn::Waiting { .. } | Turn::Idle => {
                    Some("the place among the nodes that may be disrupted is lost".to_owned())
                }
            }
        })
    }

    /// A run has ended.
    pub fn ended(&mut self, reports: Vec<StepReport>) {
        let state = &mut self.state;
        state.acting = None;
        self.mind.learn(&reports, jitter());
        let failed = reports.iter().filter(|report| matches!(report.outcome, Outcome::Failed { .. })).count();
        tracing::info!(steps = reports.len(), failed, "the run has ended");
        let causes = std::mem::take(&mut state.run_causes);
        state.last_run = Some(Arc::new(Run { at: unix_seconds(), causes, steps: reports }));
        state.unverified = true;
    }

    /// Tells what is known now.
    pub async fn tell(&mut self, heard: Heard, trouble: Option<String>, running: bool) {
        if let Some(trouble) = &trouble {
            tracing::error!(error = trouble, "the pools are as they were");
        }
        let looked_at_all = trouble.is_none() && !running && Sight::of(&heard.causes) == Sight::Whole;
        if looked_at_all && std::mem::take(&mut self.state.unverified) {
            let verified = self.verified();
            self.actor.remember(Arc::clone(&self.state.observed), verified).await;
        }
        self.tell_obstacles();
        let (state, wish) = (&self.state, self.wish.borrow().clone());
        let (causes, left) = (Facts::list(&heard.causes), state.thought.plan.steps.len());
        tracing::debug!(causes, steps = left, blocked = state.obstacles.len(), "the round has ended");
        let thought = &state.thought;
        let sequence = self.facts.borrow().sequence.wrapping_add(1);
        self.facts.send_replace(Arc::new(Facts {
            sequence,
            heard: heard.ticket,
            at: unix_seconds(),
            took: heard.since.map(|since| since.elapsed()).unwrap_or_default(),
            causes: heard.causes,
            observed: Arc::clone(&state.observed),
            desired: Arc::clone(&thought.desired),
            policies: thought.policies.clone(),
            synced: thought.synced,
            source_trouble: wish.trouble,
            untold: wish.untold,
            plan: thought.plan.clone(),
            waiting: thought.waiting.clone(),
            running,
            acting: state.acting.clone().unwrap_or_default(),
            last_run: state.last_run.clone(),
            pools: Arc::clone(&state.published),
            unconnected: self.plugin.connections().missing(),
            allocations: self.allocations(),
            turn: self.turn.as_ref().map(|handle| handle.turn.borrow().clone()).unwrap_or_default(),
            trouble,
        }));
    }

    /// Logs what has come into the way and what is no more: when all is as before, nothing.
    fn tell_obstacles(&mut self) {
        let now: BTreeSet<Blocked> = self.state.thought.plan.blocked.iter().cloned().collect();
        for Blocked { object, reason, message, hint } in now.difference(&self.state.obstacles) {
            tracing::warn!(%object, %reason, hint, "{message}");
        }
        for Blocked { object, reason, .. } in self.state.obstacles.difference(&now) {
            tracing::info!(%object, %reason, "is not in the way any more");
        }
        self.state.obstacles = now;
    }

    /// PFs on which nothing is left to do, in the way or unknown.
    fn verified(&self) -> BTreeSet<PciAddress> {
        verified(&self.state.thought.plan)
    }

    /// Ends serving.
    pub async fn end(self) {
        if let Some(handle) = self.turn {
            handle.finish().await;
        }
        self.plugin.stop().await;
    }
}

/// Marks what kubelet must not give away.
fn withhold(pools: &mut Pools, withheld: &BTreeSet<PciAddress>) {
    for device in pools.pools.iter_mut().flat_map(|pool| &mut pool.devices) {
        if device.candidate.address.is_some_and(|address| withheld.contains(&address)) {
            device.health = Health::Withheld { why: "it is being put in order".to_owned() };
        }
    }
}

/// Waits for another answer of the cluster.
async fn turn_changed(turn: &mut Option<turn::Handle>) {
    let changed = match turn {
        Some(handle) => handle.turn.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// Waits so long, or for ever.
async fn over(wait: Option<Duration>) {
    match wait {
        Some(wait) => drop(tokio::time::timeout(wait, std::future::pending::<()>()).await),
        None => std::future::pending().await,
    }
}

/// Some number: spreads what many nodes try again.
fn jitter() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let hash = RandomState::new().build_hasher().finish();
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}
