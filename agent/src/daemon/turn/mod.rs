//! Whose turn it is to disrupt: in a cluster, a node whose steps take something away from pods first gets a place among the
//! nodes that may be disrupted at once, then the pods that hold what the steps touch are evicted.
//!
//! The loop says what it wants for as long as it wants it; whoever speaks with the cluster answers with a [`Turn`]. Without
//! a cluster nobody is asked.
//!
//! [`start`] is the one that speaks with the cluster, a task without a controller or leader beside it: places are Leases
//! ([`pool`]), the order in which they are got keeps nodes from waiting for one another ([`seeking`]), and a grant ends by
//! itself, by this node's monotonic clock, well before anybody else may take its place. docs/disruption.md is the operator's
//! view of it.

mod calls;
mod drained;
mod error;
mod evict;
mod node;
mod pool;
mod seeking;
mod serving;
mod streams;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portwright_host::deadline::Deadline;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::wish::MaxUnavailable;

pub use node::{CORDONED, DRAINER, Disruption, GRANTED, REQUESTED};
pub use pool::lease_name;

/// How long the end of the agent waits for what is given back.
const FINISH: Duration = Duration::from_secs(15);

/// A pod by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the loop wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The policies whose steps would disrupt, with their limits. A place is needed for each.
    pub policies: BTreeMap<String, MaxUnavailable>,
    /// Pods to evict, and no others: those of a policy when it has its place.
    pub evict: BTreeMap<String, BTreeSet<PodName>>,
    /// The policies that let the node take no new pods while they have their place.
    pub cordon: BTreeSet<String>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nothing was asked, or it is over.
    #[default]
    Idle,
    /// Others come first, or the cluster cannot be reached.
    Waiting {
        /// What is waited for, as a clause.
        why: String,
    },
    /// Steps may begin until the deadline, which moves on while the cluster confirms the place. Evictions may still go on:
    /// what is left of them is said in `evicting`.
    Granted {
        /// No step begins later than this.
        until: Deadline,
        /// For these policies, and for no others that were asked for.
        policies: BTreeSet<String>,
        /// What the others wait for.
        missing: Option<String>,
        /// What is still waited for (`2 pods are being evicted; web/a-0 is protected by a budget`).
        evicting: Option<String>,
    },
}

/// Both ends of the conversation, as the loop has them.
#[derive(Debug)]
pub struct Handle {
    /// What is wanted; none when it is over: the place is given back and the node uncordoned.
    pub request: watch::Sender<Option<Request>>,
    /// The answer.
    pub turn: watch::Receiver<Turn>,
}

/// How fast. The default is for clusters; tests shorten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A Lease that has not changed for so long has expired. Written into Leases in whole seconds, rounded up.
    pub lease: Duration,
    /// How often a Lease is renewed.
    pub renew: Duration,
    /// How long after its last confirmation a grant holds. What is left of the Lease then is for the step that has begun.
    pub fence: Duration,
    /// The first pause after a failed request; it doubles up to `renew`.
    pub retry: Duration,
    /// How long a request may take.
    pub limit: Duration,
    /// Nodes that wait for the same place try it at moments that are spread over this span.
    pub spread: Duration,
    /// The least span between two lists of a pool that is too large to be followed.
    pub list: Duration,
    /// The pause after an eviction was refused for the first time; it doubles up to `evict_most`.
    pub evict: Duration,
    /// The longest pause between two attempts to evict a pod.
    pub evict_most: Duration,
    /// How long a pod that came back under its name must have been named until it is evicted again.
    pub again: Duration,
    /// If the loop has decided nothing for so long after the start, nothing is wanted.
    pub settle: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        let seconds = Duration::from_secs;
        Settings {
            lease: seconds(60),
            renew: seconds(10),
            fence: seconds(40),
            retry: seconds(1),
            limit: seconds(5),
            spread: seconds(2),
            list: seconds(30),
            evict: seconds(5),
            evict_most: seconds(60),
            again: seconds(30),
            settle: seconds(120),
        }
    }
}

/// Starts the task that speaks with the cluster for `node`; its Leases are in `namespace`. It ends when `stop` is cancelled or
/// the handle's request end is dropped, and then gives back what it has.
///
/// The client must not repeat requests by itself ([`super::cluster`]'s does not): a budget's refusal is an answer.
/// The loop must send its first decision even if that is none (`send_replace(None)`): what a crash has left is removed then.
pub fn start(
    client: kube::Client,
    node: &str,
    namespace: &str,
    settings: Settings,
    stop: CancellationToken,
) -> Handle {
    let (handle, task) = prepare(client, node, namespace, settings, stop);
    // Its end is seen by the closing of the answer's channel.
    drop(tokio::spawn(task));
    handle
}

/// The same as a future, for whoever wants to end it at once.
pub fn prepare(
    client: kube::Client,
    node: &str,
    namespace: &str,
    settings: Settings,
    stop: CancellationToken,
) -> (Handle, impl Future<Output = ()> + Send + use<>) {
    let (request, wanted) = watch::channel(None);
    let (answer, turn) = watch::channel(Turn::Idle);
    let calls = calls::Calls::new(client, node, namespace, settings.lease, settings.limit);
    let task = task::Task { calls, settings: Arc::new(settings), request: wanted, turn: answer, stop };
    (Handle { request, turn }, task.run())
}

impl Handle {
    /// Waits until the task has given everything back and ended, after it was told to stop.
    pub async fn ended(&mut self) {
        while self.turn.changed().await.is_ok() {}
    }

    /// Ends the conversation: waits until everything is given back, but not longer than [`FINISH`]. Only for a loop that has
    /// nothing under way any more: somebody else may begin at once.
    pub async fn finish(self) {
        let Handle { request, mut turn } = self;
        drop(request);
        let ended = async { while turn.changed().await.is_ok() {} };
        if tokio::time::timeout(FINISH, ended).await.is_err() {
            tracing::warn!("this node's turn could not be given back; it expires");
        }
    }
}
