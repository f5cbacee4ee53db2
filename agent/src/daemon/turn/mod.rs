//! Whose turn it is to disrupt: in a cluster, a node whose steps take something away from pods first gets a place among the
//! nodes that may be disrupted at once, then the pods that hold what the steps touch are evicted.
//!
//! The loop says what it wants for as long as it wants it; whoever speaks with the cluster answers with a [`Turn`]. Without
//! a cluster nobody is asked.

use std::collections::{BTreeMap, BTreeSet};

use portwright_host::deadline::Deadline;
use tokio::sync::watch;

use super::wish::MaxUnavailable;

/// A pod by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the loop wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The policies whose steps would disrupt, with their limits. A place is needed for each.
    pub policies: BTreeMap<String, MaxUnavailable>,
    /// Pods to evict, and no others.
    pub evict: BTreeSet<PodName>,
    /// Whether the node takes no new pods meanwhile.
    pub cordon: bool,
}

/// The answer.
#[derive(Debug, Clone, Default)]
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
