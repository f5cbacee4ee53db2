//! One round of the loop in parts: look, think, publish, begin, tell.

mod look;
mod pools;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portwright_core::drive::{Outcome, StepReport};
use portwright_core::lanes::{Course, Lane};
use portwright_core::pools::Pools;
use portwright_core::{Blocked, Disruption, Object, Observed, PciAddress};
use portwright_device_plugin::allocations::Allocations;
use portwright_device_plugin::{Paths, Plugin};
use portwright_host::deadline::unix_seconds;
use portwright_host::inventory::Observer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::look::Sight;
use super::cluster::pace::lot;
use super::facts::{Cause, Facts, Run};
use super::hands::{Actor, Hands, Recalled};
use super::mind::{Mind, Thought, not_granted};
use super::turn;
use super::wish::Wish;
use crate::apply::carry::verified;
use crate::apply::stop::Stop;
use crate::node::eye::Eye;
use crate::pools::PoolSource;
use crate::serve::wake::Heard;

/// What rounds are made of.
#[derive(Debug)]
pub struct Round<N> {
    /// The node.
    pub actor: Actor<N>,
    /// Looks at single functions; none if only the whole node can be looked at.
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
    /// The run that is under way or was last: lanes that overlap are one run.
    run: Arc<Run>,
    last_run: Option<Arc<Run>>,
    /// A run or a start was not verified yet.
    unverified: bool,
    /// The cluster was told what is wanted of it at least once.
    decided: bool,
    /// The obstacles that were told last.
    obstacles: BTreeSet<Blocked>,
}

/// The lanes that are under way.
pub type Running = JoinSet<(Lane, Vec<StepReport>)>;

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

    /// Whether something may be begun now.
    pub fn has_work(&self) -> bool {
        !self.state.thought.next.begin.is_empty()
    }

    /// Takes what is touched away from kubelet, and begins.
    pub async fn begin(&mut self, causes: &BTreeSet<Cause>, stop: &CancellationToken, running: &mut Running) {
        let courses: Vec<Course> = self.state.thought.next.begin.clone();
        let before = !self.mind.under_way().is_empty();
        for course in &courses {
            self.mind.begin(course, &self.state.thought, &self.state.observed);
        }
        if let Err(why) = self.publish().await {
            tracing::error!(error = why, "the pools are as they were, and no step begins");
            courses.iter().for_each(|course| self.mind.drop(course.lane));
            return;
        }
        let run = &mut self.state.run;
        if !before {
            *run = Arc::new(Run { number: run.number.wrapping_add(1), ..Run::default() });
        }
        Arc::make_mut(run).causes.extend(causes.iter().cloned());
        for course in courses {
            tracing::info!(lane = %course.lane, steps = course.steps.len(), "carries out the plan");
            running.spawn(self.actor.carry_out(course, self.stop(stop)));
        }
    }

    /// When no further step may begin: the agent stops, another wish has come, or the turn is over.
    fn stop(&self, stop: &CancellationToken) -> Stop {
        let (stop, wish) = (stop.clone(), self.wish.clone());
        let planned_for = self.state.thought.wished.clone();
        let turn = self.turn.as_ref().map(|handle| handle.turn.clone());
        let needs = self.state.thought.needs.clone();
        Stop::when(move |step| {
            if stop.is_cancelled() {
                return Some("the agent is stopping".to_owned());
            }
            if wish.borrow().documents() != planned_for {
                return Some("the policies have changed".to_owned());
            }
            let turn = turn.as_ref().filter(|_| step.disruption != Disruption::None)?.borrow();
            let guards = |(policy, objects): (&String, &BTreeSet<Object>)| {
                let is_guarded = objects.iter().any(|object| object.goes_with(&step.object));
                is_guarded && not_granted(&turn, policy).is_some()
            };
            needs
                .iter()
                .any(guards)
                .then(|| "the place among the nodes that may be disrupted is lost".to_owned())
        })
    }

    /// A lane's steps have ended.
    pub fn ended(&mut self, (lane, reports): (Lane, Vec<StepReport>)) {
        // Spreads what many nodes try again.
        let jitter = u32::try_from(lot(u64::from(u32::MAX))).unwrap_or_default();
        self.mind.learn(lane, &reports, jitter);
        let failed = reports.iter().filter(|report| matches!(report.outcome, Outcome::Failed { .. })).count();
        tracing::info!(%lane, steps = reports.len(), failed, "the run has ended");
        let state = &mut self.state;
        let run = Arc::make_mut(&mut state.run);
        run.at = unix_seconds();
        run.steps.reserve_exact(reports.len());
        run.steps.extend(reports);
        state.last_run = Some(Arc::clone(&state.run));
        state.unverified = true;
    }

    /// Tells what is known now.
    pub async fn tell(&mut self, heard: Heard, trouble: Option<String>) {
        if let Some(trouble) = &trouble {
            tracing::error!(error = trouble, "the pools are as they were");
        }
        let looked_at_all = trouble.is_none() && Sight::of(&heard.causes) == Sight::Whole;
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
            ended: Some(Instant::now()),
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
            running: !self.mind.under_way().is_empty(),
            acting: self.mind.under_way().objects(),
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
