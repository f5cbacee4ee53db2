//! What Prometheus is told of the loop: numbers made from [`Facts`] and from nothing else.
//!
//! Gauges say how it is after the last round and leave nothing behind of what is over; counters grow with each round and
//! each run of steps, once, however often the same facts are shown.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use portwright_core::drive::Outcome;
use portwright_core::{Disruption, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::daemon::facts::{Cause, Facts, PolicyFact};
use crate::daemon::turn::Turn;
use crate::serve::conditions::Conditions;

/// Bounds of a round's duration in seconds: a look at a small node takes milliseconds, one at 1,024 VFs some tens.
const ROUND_BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct OfDisruption {
    disruption: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;
type Gauges<L> = Family<L, Gauge>;

/// Metrics of the loop. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct DaemonMetrics {
    rounds: Counters<OfCause>,
    round_duration: Histogram,
    round_failing: Gauge,
    last_round: Gauge,
    steps: Counters<OfStep>,
    last_run: Gauge,
    running: Gauge,
    plan_steps: Gauges<OfDisruption>,
    plan_blocked: Gauges<OfReason>,
    plan_unknown: Gauge,
    in_sync: Gauge,
    waiting: Gauge,
    turn: Gauges<OfState>,
    policies: Gauges<OfState>,
    policy_source_failing: Gauge,
    publishing_failing: Gauge,
    ovs_reachable: Gauge,
    ovs_needed: Gauge,
    pfs: Gauge,
    stuck_pfs: Gauge,
    vfs: Gauge,
    vfs_in_use: Gauge,
    unreadable: Gauge,
    unconnected: Gauge,
    allocations_unknown: Gauge,
    seen: Arc<Mutex<Seen>>,
}

/// What was counted already.
#[derive(Debug, Default)]
struct Seen {
    sequence: u64,
    /// The run, and how many of its steps.
    run: u64,
    steps: usize,
}

/// Puts everything that is told of a node on which policies are followed into a registry that prefixes `portwright_`.
pub fn register(registry: &mut Registry, facts: &watch::Receiver<Arc<Facts>>) -> DaemonMetrics {
    registry.register_collector(Box::new(Conditions::new(facts.clone())));
    DaemonMetrics::new(registry)
}

impl DaemonMetrics {
    /// Puts them into a registry that prefixes `portwright_`.
    pub fn new(registry: &mut Registry) -> DaemonMetrics {
        let metrics = DaemonMetrics {
            rounds: Family::default(),
            round_duration: Histogram::new(ROUND_BUCKETS),
            round_failing: Gauge::default(),
            last_round: Gauge::default(),
            steps: Family::default(),
            last_run: Gauge::default(),
            running: Gauge::default(),
            plan_steps: Family::default(),
            plan_blocked: Family::default(),
            plan_unknown: Gauge::default(),
            in_sync: Gauge::default(),
            waiting: Gauge::default(),
            turn: Family::default(),
            policies: Family::default(),
            policy_source_failing: Gauge::default(),
            publishing_failing: Gauge::default(),
            ovs_reachable: Gauge::default(),
            ovs_needed: Gauge::default(),
            pfs: Gauge::default(),
            stuck_pfs: Gauge::default(),
            vfs: Gauge::default(),
            vfs_in_use: Gauge::default(),
            unreadable: Gauge::default(),
            unconnected: Gauge::default(),
            allocations_unknown: Gauge::default(),
            seen: Arc::default(),
        };
        metrics.register(registry);
        // Every reason and state is shown from the beginning, so that an alert has something to compare with.
        metrics.observe(&Facts::default());
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("rounds", "Rounds of the loop by what woke it", self.rounds.clone());
        let help = "Time of a round, in seconds";
        registry.register("round_duration_seconds", help, self.round_duration.clone());
        registry.register("steps", "Steps that were run, by how they ended", self.steps.clone());
        let help = "Steps that are due or wait, by what they disrupt";
        registry.register("plan_steps", help, self.plan_steps.clone());
        registry.register("plan_blocked", "Obstacles by reason", self.plan_blocked.clone());
        registry.register("turn", "1 for the state of this node's turn to disrupt", self.turn.clone());
        registry.register("policies", "Policies that select this node, by state", self.policies.clone());
        for (name, help, gauge) in self.gauges() {
            registry.register(name, help, gauge.clone());
        }
        let build = Info::new(Build { version: env!("CARGO_PKG_VERSION") });
        registry.register("build", "The version that runs", build);
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 18] {
        [
            ("round_failing", "1 while rounds cannot be completed", &self.round_failing),
            ("last_round_time_seconds", "When the last round ended, in Unix time", &self.last_round),
            ("last_run_time_seconds", "When steps were last run, in Unix time", &self.last_run),
            ("running", "1 while steps are being run", &self.running),
            ("plan_unknown", "Wishes whose present value cannot be read", &self.plan_unknown),
            ("in_sync", "1 if there is nothing to do and nothing in the way", &self.in_sync),
            ("waiting_objects", "Objects whose steps wait for something", &self.waiting),
            (
                "policy_source_failing",
                "1 while policies cannot be read and the last good ones hold",
                &self.policy_source_failing,
            ),
            ("publishing_failing", "1 while the NodeState cannot be written", &self.publishing_failing),
            ("ovs_reachable", "1 if Open vSwitch could be read", &self.ovs_reachable),
            ("ovs_needed", "1 if a policy wants something of Open vSwitch", &self.ovs_needed),
            ("pfs", "PFs of the node", &self.pfs),
            ("stuck_pfs", "PFs that are left alone because a write has not returned", &self.stuck_pfs),
            ("vfs", "VFs of the node", &self.vfs),
            ("vfs_in_use", "VFs that somebody holds", &self.vfs_in_use),
            ("unreadable_objects", "Objects that could not be read in full", &self.unreadable),
            ("pools_unconnected", "Pools that kubelet does not listen to", &self.unconnected),
            (
                "allocations_unknown",
                "1 while it cannot be told which pods have which devices",
                &self.allocations_unknown,
            ),
        ]
    }

    /// Takes in the facts after a round. Cheap, and to be called by the loop itself: facts that nobody was shown are not
    /// counted.
    pub fn observe(&self, facts: &Facts) {
        self.count(facts);
        self.last_round.set(signed(facts.at));
        self.round_failing.set(facts.trouble.is_some().into());
        self.running.set(facts.running.into());
        self.plan(facts);
        self.node(facts);
        set(&self.turn, STATES_OF_A_TURN, [(OfState { state: state_of_turn(&facts.turn) }, 1)]);
        let states = tally(facts.policies.values().map(|policy| OfState { state: state_of_policy(policy) }));
        set(&self.policies, STATES_OF_A_POLICY, states);
        self.policy_source_failing.set(facts.source_trouble.is_some().into());
        self.publishing_failing.set(facts.untold.is_some().into());
    }

    /// Counts what was not counted yet.
    fn count(&self, facts: &Facts) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if facts.sequence > seen.sequence {
            seen.sequence = facts.sequence;
            self.round_duration.observe(facts.took.as_secs_f64());
            for cause in &facts.causes {
                self.rounds.get_or_create(&OfCause { cause: name_of_cause(cause) }).inc();
            }
        }
        let Some(run) = &facts.last_run else { return };
        if seen.run != run.number {
            (seen.run, seen.steps) = (run.number, 0);
        }
        self.last_run.set(signed(run.at));
        for report in run.steps.iter().skip(seen.steps) {
            let outcome = name_of_outcome(&report.outcome);
            let action = report.step.change.action();
            self.steps.get_or_create(&OfStep { action, outcome }).inc();
        }
        seen.steps = run.steps.len();
    }

    fn plan(&self, facts: &Facts) {
        let plan = &facts.plan;
        let steps =
            plan.steps.iter().map(|step| OfDisruption { disruption: name_of_disruption(step.disruption) });
        set(
            &self.plan_steps,
            DISRUPTIONS.map(|of| OfDisruption { disruption: name_of_disruption(of) }),
            tally(steps),
        );
        let reasons = Reason::ALL.iter().map(|reason| OfReason { reason: reason.as_str() });
        let blocked = plan.blocked.iter().map(|blocked| OfReason { reason: blocked.reason.as_str() });
        set(&self.plan_blocked, reasons, tally(blocked));
        self.plan_unknown.set(count(plan.unknown.len()));
        self.in_sync.set((facts.sequence > 0 && facts.trouble.is_none() && plan.in_sync()).into());
        self.waiting.set(count(facts.waiting.len()));
    }

    fn node(&self, facts: &Facts) {
        let observed = &facts.observed;
        self.ovs_reachable.set(observed.ovs.is_some().into());
        let needed = facts.desired.documents.iter().any(|document| !document.ovs.is_empty());
        self.ovs_needed.set(needed.into());
        self.pfs.set(count(observed.pfs.len()));
        self.stuck_pfs.set(count(observed.pfs.iter().filter(|pf| pf.stuck.is_some()).count()));
        let vfs = || observed.pfs.iter().flat_map(|pf| &pf.vfs);
        self.vfs.set(count(vfs().count()));
        self.vfs_in_use.set(count(vfs().filter(|vf| !vf.holders.is_empty()).count()));
        self.unreadable.set(count(observed.problems.len()));
        self.unconnected.set(count(facts.unconnected.len()));
        self.allocations_unknown.set(facts.allocations.unknown.is_some().into());
    }
}

const STATES_OF_A_TURN: [OfState; 3] =
    [OfState { state: "idle" }, OfState { state: "waiting" }, OfState { state: "granted" }];

const STATES_OF_A_POLICY: [OfState; 4] = [
    OfState { state: "followed" },
    OfState { state: "last-good" },
    OfState { state: "refused" },
    OfState { state: "ignored" },
];

const DISRUPTIONS: [Disruption; 5] =
    [Disruption::None, Disruption::Vf, Disruption::Pf, Disruption::Bridge, Disruption::NodePath];

fn name_of_cause(cause: &Cause) -> &'static str {
    match cause {
        Cause::Start => "start",
        Cause::Device(_) => "device",
        Cause::Devices => "devices",
        Cause::Network => "network",
        Cause::Switch => "switch",
        Cause::Wish => "policy",
        Cause::Config => "config",
        Cause::Kubelet => "kubelet",
        Cause::Allocate => "allocate",
        Cause::Timer => "timer",
        Cause::Again => "again",
        Cause::Turn => "turn",
        Cause::Asked => "asked",
    }
}

fn name_of_outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed { .. } => "failed",
        Outcome::Skipped { .. } | Outcome::Stale { .. } => "skipped",
    }
}

fn name_of_disruption(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::None => "none",
        Disruption::Vf => "vf",
        Disruption::Pf => "pf",
        Disruption::Bridge => "bridge",
        Disruption::NodePath => "node-path",
    }
}

fn state_of_turn(turn: &Turn) -> &'static str {
    match turn {
        Turn::Idle => "idle",
        Turn::Waiting { .. } => "waiting",
        Turn::Granted { .. } => "granted",
    }
}

/// A policy that is well and not followed is one that others override whole, or that nothing was read of yet.
fn state_of_policy(policy: &PolicyFact) -> &'static str {
    match (policy.problem.is_some(), policy.followed) {
        (false, true) => "followed",
        (true, true) => "last-good",
        (true, false) => "refused",
        (false, false) => "ignored",
    }
}

fn tally<L: Ord>(labels: impl Iterator<Item = L>) -> BTreeMap<L, i64> {
    let mut counted = BTreeMap::new();
    for label in labels {
        let number = counted.entry(label).or_insert(0_i64);
        *number = number.saturating_add(1);
    }
    counted
}

/// Sets every member of a family: what is not given is zero, so that an alert sees it end.
fn set<L>(family: &Gauges<L>, all: impl IntoIterator<Item = L>, found: impl IntoIterator<Item = (L, i64)>)
where
    L: Clone + Hash + Eq,
{
    for label in all {
        family.get_or_create(&label).set(0);
    }
    for (label, number) in found {
        family.get_or_create(&label).set(number);
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
