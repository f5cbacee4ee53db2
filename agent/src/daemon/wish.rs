//! What is wanted, as a source says it now: files, or the API server. A source sends a whole [`Wish`] whenever anything in it
//! has changed, through a `tokio::sync::watch` channel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use portwright_core::desired::Document;
use portwright_core::ovs::Pod;

/// Everything a source knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// Whether the source has been read completely at least once. Until then the last good policies of the state directory
    /// hold.
    pub synced: bool,
    /// Policies that select this node, by name.
    pub policies: BTreeMap<String, Policy>,
    /// What is wrong with the source as a whole (a file that cannot be read). The policies are then the last good ones.
    pub trouble: Option<String>,
    /// Pods of this node by UID; none without a cluster.
    pub pods: Option<BTreeMap<String, Pod>>,
    /// Addresses in the Node's `status.addresses`; empty without a cluster.
    pub node_addresses: BTreeSet<IpAddr>,
    /// Addresses and ports of the API server that we speak with; empty without a cluster.
    pub api_servers: BTreeSet<(IpAddr, u16)>,
    /// Why the cluster cannot be told how the node is; none if it can, or without a cluster.
    pub untold: Option<Untold>,
}

/// Why the NodeState cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// As a sentence.
    pub why: String,
    /// Whether the cluster's definitions are older than this agent: nothing but new definitions helps then.
    pub outdated: bool,
}

impl Wish {
    /// What each policy says, whatever else is known of it.
    pub fn documents(&self) -> BTreeMap<String, Option<Arc<Document>>> {
        let said = |policy: &Policy| policy.read.as_ref().ok().cloned();
        self.policies.iter().map(|(name, policy)| (name.clone(), said(policy))).collect()
    }
}

/// One NodePolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `metadata.uid`; none from a file.
    pub uid: Option<String>,
    /// `metadata.generation`; none from a file.
    pub generation: Option<i64>,
    /// The document, or what is wrong with it: one mistake a line, each with its field path.
    pub read: Result<Arc<Document>, String>,
    /// The document's text (YAML or JSON), so that the last good one can be kept.
    pub text: Arc<str>,
    /// How many nodes may be disrupted at once.
    pub max_unavailable: MaxUnavailable,
    /// Whether the node takes no new pods while it is disrupted.
    pub cordon: bool,
}

/// `spec.maxUnavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// So many nodes; at least 1.
    Nodes(u32),
    /// A part of the nodes that the policy matches (`status.matchedNodes`), rounded down, at least one node.
    Percent {
        /// 1–100.
        percent: u8,
        /// Matched nodes as the policy's status says; none if it does not.
        of: Option<u32>,
    },
}

impl Default for MaxUnavailable {
    fn default() -> MaxUnavailable {
        MaxUnavailable::Nodes(1)
    }
}

impl MaxUnavailable {
    /// The number of nodes, at least 1.
    pub fn nodes(self) -> u32 {
        match self {
            MaxUnavailable::Nodes(nodes) => nodes.max(1),
            MaxUnavailable::Percent { percent, of } => {
                let part = u64::from(of.unwrap_or_default()) * u64::from(percent);
                u32::try_from(part.checked_div(100).unwrap_or_default()).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}
