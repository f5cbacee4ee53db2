//! `spec.bridges`: Open vSwitch bridges and their uplinks.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nic::NicSelect;
use super::port::Port;

/// An Open vSwitch bridge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bridge {
    /// Name of the bridge, at most 15 bytes.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[^/:\s]+$"))]
    pub name: String,
    /// Datapath: `system` (the kernel's) or `netdev` (userspace, for DPDK). Absent: `system` for a new bridge, else left
    /// as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<Datapath>,
    /// What the bridge does without a controller: `standalone` (it learns addresses and forwards) or `secure` (only what
    /// flows say). Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_mode: Option<FailMode>,
    /// Connections to the outside. Two that are not one bond need `stp` or `rstp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub uplinks: Vec<Uplink>,
    /// Further ports of the bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// Options of the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BridgeOptions>,
    /// Take over an existing bridge of this name and those of its ports that are listed here.
    #[serde(default)]
    pub adopt: bool,
    /// Advertise the bridge as a node resource. Absent: not advertised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<Advertise>,
}

/// Datapath of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// The kernel's datapath.
    System,
    /// The userspace datapath, needed for DPDK ports.
    Netdev,
}

/// What a bridge does when no controller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailMode {
    /// It learns addresses and forwards like a switch.
    Standalone,
    /// It forwards only what flows say.
    Secure,
}

/// A connection of a bridge to the outside: exactly one of `interface`, `select` and `bond`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(has(self.interface) ? 1 : 0) + (has(self.select) ? 1 : 0) + (has(self.bond) ? 1 : 0) == 1"
).message("name exactly one of interface, select and bond"))]
pub struct Uplink {
    /// Name of a network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub interface: Option<String>,
    /// Selects the interface of a physical function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<NicSelect>,
    /// Several interfaces as one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// Take the interface even though the node's own connection runs over it.
    #[serde(default)]
    pub allow_management_path: bool,
}

/// Several interfaces as one port of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "!has(self.mode) || self.mode != 'balance-tcp' || (has(self.lacp) && self.lacp != 'off')"
).message("balance-tcp needs LACP: without it Open vSwitch drops the bond's traffic"))]
pub struct Bond {
    /// Name of the bond's port, at most 15 bytes.
    #[schemars(length(min = 1, max = 15))]
    pub name: String,
    /// How traffic is spread: `active-backup`, `balance-slb` (by source MAC and VLAN) or `balance-tcp` (by flow; needs
    /// LACP). Absent: `active-backup` for a new bond, else left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BondMode>,
    /// Link aggregation protocol: `active`, `passive` or `"off"` (in quotes, or YAML takes it for a truth value). Absent:
    /// `off` for a new bond, else left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp: Option<Lacp>,
    /// Names of the bonded network interfaces, two or more.
    #[schemars(length(min = 2, max = 64), inner(length(min = 1, max = 15)), extend("x-kubernetes-list-type" = "set"))]
    pub interfaces: Vec<String>,
}

/// How a bond spreads traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One interface carries everything.
    ActiveBackup,
    /// By source MAC and VLAN, rebalanced.
    BalanceSlb,
    /// By flow (addresses and ports); needs LACP.
    BalanceTcp,
}

/// Link aggregation control protocol (IEEE 802.1AX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lacp {
    /// Sends first.
    Active,
    /// Answers only.
    Passive,
    /// Not used.
    Off,
}

/// Options of a bridge. What is absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!(has(self.stp) && self.stp && has(self.rstp) && self.rstp)")
    .message("stp and rstp cannot be on together"))]
pub struct BridgeOptions {
    /// Spanning tree (IEEE 802.1D).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stp: Option<bool>,
    /// Rapid spanning tree; not together with `stp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rstp: Option<bool>,
    /// Multicast snooping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcast_snooping: Option<bool>,
    /// MTU in bytes of the bridge's local interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu_request: Option<u32>,
    /// Keys of the bridge's `other_config` column; other keys are left as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
    /// Keys of the bridge's `external_ids` column; other keys are left as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
}

/// A node resource that stands for the bridge, so that the scheduler finds nodes that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Advertise {
    /// Resource prefix: the resource is `<prefix>/<bridge>`.
    #[serde(default = "default_advertise_prefix")]
    #[schemars(length(min = 1, max = 244))]
    pub prefix: String,
    /// How many of it the node offers.
    #[serde(default = "default_capacity")]
    #[schemars(range(min = 1))]
    pub capacity: u32,
}

fn default_advertise_prefix() -> String {
    "ovs-cni.network.kubevirt.io".to_owned()
}

fn default_capacity() -> u32 {
    1000
}
