//! `status` of a NodePolicy: how many nodes and PFs follow it, and how far they are. Agents write it; in a file it is
//! ignored.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::state::{Condition, limit};

/// How far the policy has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePolicyStatus {
    /// Nodes that the policy selects and that have an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_nodes: Option<u32>,
    /// Nodes on which everything that the policy wants is in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_nodes: Option<u32>,
    /// Functions with SR-IOV that follow the policy, over all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_pfs: Option<u32>,
    /// `metadata.generation` that the numbers are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the nodes were counted last (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_census: Option<String>,
    /// Resource version of the list of NodeStates that was counted: a NodeState of a later version is not in the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census_version: Option<String>,
    /// When an agent last began to count, and on which node it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census_started: Option<String>,
    /// `Ready`: on all matched nodes. `Accepted`: the document can be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}
