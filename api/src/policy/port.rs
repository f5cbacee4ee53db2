//! `spec.bridges[].ports`: ports of Open vSwitch bridges other than uplinks.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.type == 'patch') == has(self.peer)")
    .message("a port of type patch has a peer, and no other has"))]
#[x_kube(validation = Rule::new("!(self.type in ['system', 'internal']) || size(self.name) <= 15")
    .message("the name of a network interface has at most 15 bytes"))]
pub struct Port {
    /// Name of the port and its interface: at most 15 bytes for types `system` and `internal`, else at most 63.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Kind of the interface: `system` (an existing one), `internal` (made by the bridge), `patch` (with `peer`), `vxlan`
    /// and `geneve` (with `options`), `dpdk`.
    #[serde(default, rename = "type")]
    pub type_: PortType,
    /// Name of the other end; for type `patch` only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub peer: Option<String>,
    /// VLAN settings. Absent: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<PortVlan>,
    /// Queueing discipline for what the port sends. Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<PortQos>,
    /// Limit for what the port receives. Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policing: Option<Policing>,
    /// Keys of the interface's `options` column: `remote_ip` of tunnels, `dpdk-devargs` of DPDK ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Kind of a port's interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// An existing network interface.
    #[default]
    System,
    /// An interface of the host that the bridge makes.
    Internal,
    /// One end of a link between two bridges.
    Patch,
    /// A VXLAN tunnel.
    Vxlan,
    /// A Geneve tunnel.
    Geneve,
    /// A DPDK device; needs datapath `netdev`.
    Dpdk,
}

/// VLAN settings of a port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.mode == 'trunk') != has(self.tag)")
    .message("every mode but trunk needs tag, and trunk has none"))]
#[x_kube(validation = Rule::new(
    "!has(self.trunks) || size(self.trunks) == 0 || (self.mode != 'access' && self.mode != 'dot1q-tunnel')"
).message("trunks has no meaning in this mode"))]
#[x_kube(validation = Rule::new("!has(self.cvlans) || size(self.cvlans) == 0 || self.mode == 'dot1q-tunnel'")
    .message("cvlans has a meaning in mode dot1q-tunnel only"))]
pub struct PortVlan {
    /// How VLANs are treated: `access` (untagged, needs `tag`), `trunk` (tagged, may have `trunks`), `native-tagged` and
    /// `native-untagged` (a trunk with a VLAN of its own, need `tag`), `dot1q-tunnel` (one more tag around
    /// everything, needs `tag`, may have `cvlans`).
    pub mode: PortVlanMode,
    /// VLAN of the port: for `access`, the native modes and `dot1q-tunnel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub tag: Option<u16>,
    /// VLANs that a trunk carries: numbers and ranges such as `"20-29"`. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), schema_with = "vlan_list")]
    pub trunks: Vec<IntOrString>,
    /// Customer VLANs that a `dot1q-tunnel` carries. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), schema_with = "vlan_list")]
    pub cvlans: Vec<IntOrString>,
}

/// Whole numbers need bounds: the API server takes those of 64 bits, which the type does not hold.
fn vlan_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"x-kubernetes-int-or-string": true, "minimum": 0, "maximum": 4094},
    })
}

/// How a port treats VLANs (`vlan_mode` of Open vSwitch).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortVlanMode {
    /// Untagged frames of one VLAN.
    Access,
    /// Tagged frames of many VLANs.
    #[default]
    Trunk,
    /// A trunk whose own VLAN is sent tagged.
    NativeTagged,
    /// A trunk whose own VLAN is sent untagged.
    NativeUntagged,
    /// Everything is wrapped in one more tag.
    Dot1qTunnel,
}

/// Queueing discipline of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortQos {
    /// Type as Open vSwitch names it: `linux-htb`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Keys of the discipline's `other_config`, such as `max-rate` in bit/s.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
}

/// Limit for what a port receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.rate > 0 || self.burst == 0").message("burst has no effect without a rate"))]
pub struct Policing {
    /// Rate in kbit/s; 0 for no limit.
    #[serde(default)]
    pub rate: u32,
    /// Burst in kbit; 0 lets Open vSwitch choose.
    #[serde(default)]
    pub burst: u32,
}
