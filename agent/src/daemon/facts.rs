//! What the loop knows after a round. Everything that is told (NodeState, conditions, events, metrics, node resources, labels,
//! the local socket) is made from this and from nothing else, by tasks that receive it through a `tokio::sync::watch`
//! channel; they compare and write only what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portwright_core::desired::Desired;
use portwright_core::drive::StepReport;
use portwright_core::pools::{Pools, ResourceName};
use portwright_core::{Object, Observed, PciAddress, Plan};
use portwright_device_plugin::allocations::Allocations;
use tokio::time::Instant;

use super::turn::Turn;
use super::wish::Untold;

/// Why a round ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The agent started.
    Start,
    /// The kernel told of a function.
    Device(PciAddress),
    /// The kernel told of devices in general, or of more than can be looked at one by one.
    Devices,
    /// A link, an address or a route of the host has changed.
    Network,
    /// OVSDB has changed, or was lost or found.
    Switch,
    /// Policies, pods or the node object have changed.
    Wish,
    /// config.json has changed.
    Config,
    /// Something in kubelet's folders has changed.
    Kubelet,
    /// kubelet asks for a device that has to be put in order first.
    Allocate,
    /// The slow timer.
    Timer,
    /// A run of steps has ended, or the wait after a failure is over.
    Again,
    /// The cluster has given or taken the turn.
    Turn,
    /// `portwright reconcile`.
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Start => f.write_str("start"),
            Cause::Device(address) => write!(f, "event of {address}"),
            Cause::Devices => f.write_str("device events"),
            Cause::Network => f.write_str("network change"),
            Cause::Switch => f.write_str("Open vSwitch change"),
            Cause::Wish => f.write_str("policy change"),
            Cause::Config => f.write_str("configuration change"),
            Cause::Kubelet => f.write_str("kubelet change"),
            Cause::Allocate => f.write_str("allocation"),
            Cause::Timer => f.write_str("timer"),
            Cause::Again => f.write_str("verification"),
            Cause::Turn => f.write_str("turn"),
            Cause::Asked => f.write_str("asked by the operator"),
        }
    }
}

/// What is known after a round.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Grows with each round; 0 before the first.
    pub sequence: u64,
    /// Number of the last wake that was heard before the node was looked at.
    pub heard: u64,
    /// When the round ended, in Unix seconds.
    pub at: u64,
    /// The same on the clock that nobody sets; none before the first round.
    pub ended: Option<Instant>,
    /// How long it took, from being woken to these facts.
    pub took: Duration,
    /// Why it ran.
    pub causes: BTreeSet<Cause>,
    /// The node.
    pub observed: Arc<Observed>,
    /// What was planned for. Only the documents that can be used, with the last good ones in place of bad ones.
    pub desired: Arc<Desired>,
    /// All policies that select this node, by name.
    pub policies: BTreeMap<String, PolicyFact>,
    /// Whether the source of policies had been read completely at least once. Until then the last good ones hold.
    pub synced: bool,
    /// What is wrong with the source of policies as a whole.
    pub source_trouble: Option<String>,
    /// Why the cluster cannot be told how the node is.
    pub untold: Option<Untold>,
    /// The plan: steps that are due or wait, and everything that is in the way.
    pub plan: Plan,
    /// Objects whose steps wait, and for what (a back-off, a turn, pods that are being evicted).
    pub waiting: BTreeMap<Object, String>,
    /// Whether steps are being carried out at the moment.
    pub running: bool,
    /// The ports and bridges that these steps are on. The plan says of them what it said when the steps began.
    pub acting: BTreeSet<Object>,
    /// The last run of steps, also one that is not over: steps on different ports that overlap in time are one run.
    pub last_run: Option<Arc<Run>>,
    /// The pools as they are published.
    pub pools: Arc<Pools>,
    /// Served pools that kubelet does not listen to.
    pub unconnected: Vec<ResourceName>,
    /// Who has which device.
    pub allocations: Arc<Allocations>,
    /// Whether the cluster lets us disrupt.
    pub turn: Turn,
    /// Why the round could not be completed; everything else is then as it was.
    pub trouble: Option<String>,
}

impl Facts {
    /// Whether steps are being carried out on the port or bridge of an object.
    pub fn is_worked_on(&self, object: &Object) -> bool {
        self.acting.iter().any(|acting| acting.goes_with(object))
    }

    /// Reasons, joined by commas.
    pub fn list(causes: &BTreeSet<Cause>) -> String {
        causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// A policy as far as the loop is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFact {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.generation` that was read last.
    pub generation: Option<i64>,
    /// What is wrong with it: the last good one holds, if there was one.
    pub problem: Option<String>,
    /// Whether a document of this name is followed (this one, or the last good one).
    pub followed: bool,
}

/// A run of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Grows with each run of this process. Steps are only ever added to a run.
    pub number: u64,
    /// When the last of its steps ended, in Unix seconds.
    pub at: u64,
    /// Why it ran.
    pub causes: BTreeSet<Cause>,
    /// The steps that have ended, port by port as they did.
    pub steps: Vec<StepReport>,
}
