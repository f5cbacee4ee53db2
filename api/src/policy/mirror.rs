//! `spec.mirrors`: copies of a bridge's traffic.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mirror on an Open vSwitch bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Name of the mirror, unique on its bridge.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Bridge that it is on.
    #[schemars(length(min = 1, max = 15))]
    pub bridge: String,
    /// What is copied.
    pub select: MirrorSelect,
    /// Where the copies go.
    pub output: MirrorOutput,
    /// Bytes of each frame that are copied, 14 to 65535. Absent: whole frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 14, max = 65535))]
    pub snaplen: Option<u32>,
}

/// What a mirror copies: frames of the named ports and pods, in the named VLANs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "self.all || has(self.pods) || (has(self.ports) && size(self.ports) > 0) || (has(self.vlans) && size(self.vlans) > 0)"
).message("selects nothing: name ports, pods or VLANs, or write all: true"))]
#[x_kube(validation = Rule::new("!self.all || !(has(self.pods) || (has(self.ports) && size(self.ports) > 0))")
    .message("all means every port; remove it, or remove ports and pods"))]
pub struct MirrorSelect {
    /// Ports by name; patterns work. If nothing matches, nothing is copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ports: Vec<String>,
    /// Ports of pods, followed as pods come and go. If nothing matches, nothing is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodSelect>,
    /// VLANs; alone they mean these VLANs of every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), inner(range(max = 4094)))]
    pub vlans: Vec<u16>,
    /// Every port; not together with `ports` or `pods`.
    #[serde(default)]
    pub all: bool,
    /// `both`, `ingress` or `egress`, seen from the bridge: `ingress` is what enters it from the port.
    #[serde(default)]
    pub direction: Direction,
}

/// Pods whose ports are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSelect {
    /// Namespace of the pods.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Labels of the pods. Absent: every pod of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// Direction of mirrored frames, seen from the bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// Frames that enter the bridge from the port.
    Ingress,
    /// Frames that leave the bridge through the port.
    Egress,
}

/// Where a mirror sends its copies: exactly one of `port` and `vlan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.port) != has(self.vlan)")
    .message("name exactly one of port and vlan"))]
pub struct MirrorOutput {
    /// Port that gets the copies and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub port: Option<String>,
    /// VLAN that the copies are sent in (RSPAN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
}
