//! What is on the node, with the conditions of each thing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::limit;

/// A policy that selects this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyState {
    /// Name.
    pub name: String,
    /// `metadata.uid`; absent for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `metadata.generation` that was read last; absent for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether it is followed: this generation, or the last one that was right.
    pub followed: bool,
    /// Functions with SR-IOV that follow it.
    pub pfs: u32,
    /// Bridges that follow it.
    pub bridges: u32,
    /// Mirrors that follow it.
    pub mirrors: u32,
    /// `Accepted`: the document can be used. `Ready`: everything that it wants is in place.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}

/// A function with SR-IOV.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PfState {
    /// PCI address.
    pub address: String,
    /// Network interface; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// PCI IDs, `vendor:device`.
    pub id: String,
    /// Driver; absent if none is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many VFs it can have.
    pub total_vfs: u32,
    /// How many VFs it has.
    pub num_vfs: u32,
    /// How many of them somebody uses.
    pub in_use: u32,
    /// Pods that use them, `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::PODS))]
    pub pods: Vec<String>,
    /// Its VFs: those of the same driver, pool and health together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::RANGES))]
    pub vfs: Vec<VfRange>,
    /// Policy that it follows; absent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Remarks that are no obstacles: what is overridden, what keeps its settings because it is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::NOTES))]
    pub notes: Vec<String>,
    /// `Ready`.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}

/// VFs of one function that are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VfRange {
    /// VF numbers: `0-3,6`.
    pub vfs: String,
    /// Driver; absent if none is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Pool, as pods ask for it; absent if they are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Why the pool cannot give them out; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
}

/// A resource pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolState {
    /// Resource, as pods ask for it: `<prefix>/<name>`.
    pub resource: String,
    /// Where it is written.
    pub origin: String,
    /// Devices.
    pub devices: u32,
    /// Devices that can be given out or are.
    pub healthy: u32,
    /// Devices that pods have.
    pub allocated: u32,
    /// `Ready`: it has devices, all of them healthy, and kubelet listens.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}

/// An Open vSwitch bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BridgeState {
    /// Name.
    pub name: String,
    /// Policy that it follows; absent if it is in no policy any more, or if policies conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether it is there.
    pub exists: bool,
    /// Ports that it has, its own not counted.
    pub ports: u32,
    /// Resource that it is advertised as; absent if it is not to be advertised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Mirrors that policies want on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::MIRRORS))]
    pub mirrors: Vec<MirrorState>,
    /// Remarks that are no obstacles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::NOTES))]
    pub notes: Vec<String>,
    /// `Ready`: the bridge and its ports.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}

/// A mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorState {
    /// Name.
    pub name: String,
    /// Policy that it follows; absent if policies conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Ports that it copies from at the moment.
    pub sources: u32,
    /// `Ready`.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
}

/// Something that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// What it is about.
    pub object: String,
    /// What was attempted and why it failed.
    pub reason: String,
}
