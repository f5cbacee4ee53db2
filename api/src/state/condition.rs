//! Conditions in the shape that Kubernetes tools know (`Condition` of `meta/v1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition that every object has: it is as it is wanted, and works.
pub const READY: &str = "Ready";

/// Whether something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    #[default]
    Unknown,
}

impl ConditionStatus {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

/// One condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which condition: `Ready`, or `Accepted` of a policy.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word; docs/errors.md has a chapter for each.
    pub reason: String,
    /// Why, as a sentence: what was found, with file and errno where a step failed.
    pub message: String,
    /// When status or reason changed last (RFC 3339, UTC).
    pub last_transition_time: String,
    /// `metadata.generation` of the policy that this is about, as it was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
