//! The NodePolicy resource as operators write it: one type per object of the document, names and nesting exactly as in
//! the YAML. These types say what may be written where; what a document *means* is decided once, in [`crate::convert`].
//!
//! Everything optional that describes a device is absent by default, and absent means "leave it as it is". The
//! comments here become the descriptions that `kubectl explain nodepolicy` and docs/schema/nodepolicy.json show.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

mod bridge;
mod labels;
mod mirror;
mod nic;
mod pool;
mod port;
mod status;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use bridge::{Advertise, Bond, BondMode, Bridge, BridgeOptions, Datapath, FailMode, Lacp, Uplink};
pub use labels::{LabelExpression, LabelOperator, NodeSelector};
pub use mirror::{Direction, Mirror, MirrorOutput, MirrorSelect, PodSelect};
pub use nic::{Eswitch, LinkStateMode, MacsMode, Nic, NicSelect, TxRate, VfGroup, VlanTag, VlanTagProtocol};
pub use pool::{Pool, Prefer};
pub use port::{Policing, Port, PortQos, PortType, PortVlan, PortVlanMode};
pub use status::NodePolicyStatus;

/// API group of every portwright resource.
pub const GROUP: &str = "portwright.dev";
/// Version of the resources in this crate.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of a policy document.
pub const API_VERSION: &str = "portwright.dev/v1alpha1";
/// `kind` of a policy document.
pub const KIND: &str = "NodePolicy";

/// What is wanted of the NICs, resource pools, bridges and mirrors of the nodes that it selects. The same document works
/// as a file on one node.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "portwright.dev",
    version = "v1alpha1",
    kind = "NodePolicy",
    plural = "nodepolicies",
    singular = "nodepolicy",
    shortname = "npol",
    category = "portwright",
    status = "NodePolicyStatus",
    derive = "PartialEq",
    doc = "What is wanted of the NICs, resource pools, bridges and mirrors of the nodes that it selects.",
    printcolumn = r#"{"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"}"#,
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Disruption", "type": "string", "jsonPath": ".spec.disruption"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.matchedNodes"}"#,
    printcolumn = r#"{"name": "Ready", "type": "integer", "jsonPath": ".status.readyNodes"}"#,
    printcolumn = r#"{"name": "PFs", "type": "integer", "jsonPath": ".status.matchedPfs"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePolicySpec {
    /// Nodes that the policy is for. Absent or empty: every node. Ignored when the policy is read from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// When several policies name the same PF, bridge, pool or mirror, the one with the larger number decides all of
    /// it. Equal numbers are a conflict, shown on both policies.
    #[serde(default)]
    pub priority: i32,
    /// `Apply`: plan and carry the plan out. `Plan`: publish the plan, change nothing.
    #[serde(default)]
    pub mode: PolicyMode,
    /// What may be disrupted to reach the wanted state. `WhenIdle`: what is in use is left alone and reported. `Evict`:
    /// pods that hold affected VFs are evicted first, and no others (cluster mode only). `Force`: VFs are taken from pods
    /// and network namespaces, never from a process that has a VFIO device open. `Never`: nothing that disrupts
    /// anything is done.
    #[serde(default)]
    pub disruption: DisruptionMode,
    /// How many nodes may be disrupted at once: a number, or a part of the selected nodes such as `10%`. Absent: 1.
    /// Cluster mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = i32::MAX, "pattern" = "^([1-9][0-9]?|100)%$"))]
    pub max_unavailable: Option<IntOrString>,
    /// Whether a node takes no new pods while it is disrupted. Cluster mode only.
    #[serde(default)]
    pub cordon: bool,
    /// Settings of Open vSwitch as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovs: Option<OvsSettings>,
    /// NICs: physical functions, their VFs and the VFs' settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub nics: Vec<Nic>,
    /// Settings of resource pools that VF groups name. A pool needs no entry here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<Pool>,
    /// Open vSwitch bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bridges: Vec<Bridge>,
    /// Mirrors on Open vSwitch bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["bridge", "name"])
    )]
    pub mirrors: Vec<Mirror>,
}

/// Whether to act.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyMode {
    /// Plan and carry the plan out.
    #[default]
    Apply,
    /// Publish the plan, change nothing.
    Plan,
}

/// What may be disrupted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DisruptionMode {
    /// Steps on idle objects run; what is in use is left alone and reported.
    #[default]
    WhenIdle,
    /// Pods that hold affected VFs are evicted first, and no others. Cluster mode only.
    Evict,
    /// VFs are taken from pods and network namespaces; a VFIO device that a process has open is never touched.
    Force,
    /// Nothing that disrupts anything is done.
    Never,
}

/// Settings of Open vSwitch as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OvsSettings {
    /// Offload flows to hardware (`other_config:hw-offload`). Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hw_offload: Option<bool>,
    /// Removal of ports whose interface is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<OvsCollect>,
}

/// Removal of ports whose interface is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OvsCollect {
    /// Further owner keys (in a port's `external_ids`) whose stale ports may be collected besides our own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub owners: Vec<String>,
    /// How long a port must be stale, in seconds.
    #[serde(default = "default_grace_seconds")]
    pub grace_seconds: u32,
}

fn default_grace_seconds() -> u32 {
    300
}
