//! What is planned, what was done, and when the agent looked.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limit;

/// A round of the agent's loop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Round {
    /// Its number since the agent started, from 1.
    pub sequence: u32,
    /// When it ended (RFC 3339, UTC).
    pub at: String,
    /// Why it ran.
    #[schemars(length(max = limit::CAUSES))]
    pub causes: Vec<String>,
}

/// What is due or waits, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanState {
    /// Steps in order.
    #[schemars(length(max = limit::STEPS))]
    pub steps: Vec<PlannedStep>,
    /// What is in the way.
    #[schemars(length(max = limit::OBSTACLES))]
    pub blocked: Vec<BlockedState>,
    /// What is wanted and depends on something that nobody could read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::OBSTACLES))]
    pub unknown: Vec<UnknownState>,
    /// Objects whose steps wait, and for what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::WAITING))]
    pub waiting: Vec<Waiting>,
}

/// A step that is due or waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlannedStep {
    /// What is changed: `0000:3b:00.0`, `0000:3b:00.0/vf/3`, `bridge/br-data/port/mon0`.
    pub object: String,
    /// The sort of change: `set-num-vfs`.
    pub action: String,
    /// What is there now; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub from: Option<Value>,
    /// What it becomes; absent if nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub to: Option<Value>,
    /// What is disrupted: `none`, `vf`, `pf`, `bridge`, `node-path`.
    pub disruption: String,
}

/// The API server takes any value only where it is told to keep what it does not know.
fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Something that is in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockedState {
    /// What it is about.
    pub object: String,
    /// Which obstacle, in one word; docs/errors.md has a chapter for each.
    pub reason: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// A value that nobody could read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UnknownState {
    /// What it is about.
    pub object: String,
    /// Which value.
    pub what: String,
}

/// Something that waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// What waits.
    pub object: String,
    /// What it waits for.
    #[serde(rename = "for")]
    pub for_: String,
}

/// A run of steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RunState {
    /// When it ended (RFC 3339, UTC).
    pub at: String,
    /// Why it ran.
    #[schemars(length(max = limit::CAUSES))]
    pub causes: Vec<String>,
    /// Steps that were done.
    pub done: u32,
    /// Steps that failed.
    pub failed: u32,
    /// Steps that were not tried.
    pub skipped: u32,
    /// The steps in order; if not all are shown, those that failed are.
    #[schemars(length(max = limit::STEPS))]
    pub steps: Vec<ReportedStep>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Tried and failed.
    #[default]
    Failed,
    /// Not tried.
    Skipped,
    /// Done.
    Done,
}

/// A step that was run, or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedStep {
    /// What was changed.
    pub object: String,
    /// The sort of change.
    pub action: String,
    /// What was there; absent if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub from: Option<Value>,
    /// What was wanted; absent if nothing was to be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub to: Option<Value>,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why it failed or was not tried, with file and errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
