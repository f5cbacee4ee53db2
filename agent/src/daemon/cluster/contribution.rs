//! What one node adds to the status of policies. It stands in an annotation of its NodeState, so that whoever counts needs
//! only the metadata of all NodeStates.

use std::collections::BTreeMap;

use portwright_api::state::{Condition, ConditionStatus, PolicyState, READY};
use serde::{Deserialize, Serialize};

/// The annotation of a NodeState: a JSON object of [`Contribution`]s by the policy's name.
pub const ANNOTATION: &str = "portwright.dev/policies";

/// What a node says about one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Contribution {
    /// `metadata.uid` of the policy: one that was made anew under the same name is another one.
    pub uid: String,
    /// `metadata.generation` that the node has read.
    pub generation: i64,
    /// Functions with SR-IOV that follow it.
    pub pfs: u32,
    /// Whether the document can be used.
    pub accepted: bool,
    /// Whether everything that it wants is in place.
    pub ready: bool,
}

/// What is said about policies. Those that came from files are nobody else's business.
pub fn contributions(policies: &[PolicyState]) -> BTreeMap<String, Contribution> {
    let holds = |conditions: &[Condition], kind: &str| {
        let condition = conditions.iter().find(|condition| condition.type_ == kind);
        condition.is_some_and(|condition| condition.status == ConditionStatus::True)
    };
    let of = |policy: &PolicyState| {
        let contribution = Contribution {
            uid: policy.uid.clone()?,
            generation: policy.observed_generation.unwrap_or_default(),
            pfs: policy.pfs,
            accepted: holds(&policy.conditions, "Accepted"),
            ready: holds(&policy.conditions, READY),
        };
        Some((policy.name.clone(), contribution))
    };
    policies.iter().filter_map(of).collect()
}

/// The annotation's text.
pub fn text(contributions: &BTreeMap<String, Contribution>) -> String {
    // Keys are strings and values plain: this cannot fail.
    serde_json::to_string(contributions).unwrap_or_default()
}

/// Reads an annotation; what another version wrote that cannot be understood counts for nothing.
pub fn read(text: &str) -> BTreeMap<String, Contribution> {
    serde_json::from_str(text).unwrap_or_default()
}
