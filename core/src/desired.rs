//! What is wanted: policy documents, already parsed into types that cannot be wrong. `portwright-api` makes them from
//! YAML or from the API server and refuses what the document alone shows to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::PciAddress;
use crate::observed::Pf;
use crate::ovs::{Pod, Wishes};
use crate::range::IndexSet;
use crate::select::Selector;

/// Everything that is wanted of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The documents, in the order given.
    pub documents: Vec<Document>,
    /// Bindings recorded earlier: which policy a PF followed. It keeps the PF when another of equal priority wants it.
    pub bindings: BTreeMap<PciAddress, String>,
    /// Pods of this node by UID; none while nobody asked the API server.
    pub pods: Option<BTreeMap<String, Pod>>,
    /// Whether steps may cut foreign or unlisted ports off a bridge (`--allow-disruption`).
    pub allow_disruption: bool,
    /// Whether pods can be evicted: the daemon runs in a cluster.
    pub cluster: bool,
    /// PFs whose VFs we made, as the journal says, and that no document selects any more: their VFs are removed as soon as
    /// nobody uses them. A PF that a document selects is not released, whatever stands here.
    pub release: BTreeSet<PciAddress>,
    /// Policies that were followed once and are gone. What carries their names is removed as if each were given without
    /// content.
    pub former: BTreeSet<String>,
    /// PFs that did not reach what their policy wants and go back to how they were when last verified.
    pub fall_back: BTreeMap<PciAddress, Pf>,
}

/// One NodePolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `metadata.name`.
    pub name: String,
    /// Larger wins.
    pub priority: i32,
    /// Whether to act at all.
    pub mode: Mode,
    /// What may be disrupted.
    pub disruption: DisruptionPolicy,
    /// `spec.nics`.
    pub nics: Vec<NicEntry>,
    /// `spec.ovs`, `spec.bridges` and `spec.mirrors`.
    pub ovs: Wishes,
    /// `spec.pools`.
    pub pools: Vec<PoolWish>,
}

/// One entry of `spec.pools`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolWish {
    /// Name, as VF groups write it.
    pub name: String,
    /// Resource prefix; absent means the agent's.
    pub prefix: Option<String>,
    /// Do not tell kubelet NUMA nodes.
    pub exclude_topology: bool,
    /// Give containers `/dev/vhost-net` and `/dev/net/tun`.
    pub vhost_net: bool,
    /// Only with an RDMA device, and containers are given it.
    pub rdma: bool,
    /// Which of the free devices to prefer.
    pub prefer: Prefer,
    /// iommufd's device file in place of the VFIO group.
    pub iommufd: bool,
    /// A PF without link makes its VFs unhealthy.
    pub carrier: bool,
}

/// `prefer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Fill one PF before the next.
    #[default]
    Pack,
    /// Spread over PFs.
    Spread,
    /// No preference.
    None,
}

/// `spec.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plan and apply.
    #[default]
    Apply,
    /// Publish the plan, change nothing.
    Plan,
}

/// `spec.disruption`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DisruptionPolicy {
    /// Steps on idle objects run; others are `VfInUse`.
    #[default]
    WhenIdle,
    /// Pods that hold affected VFs are evicted first (cluster mode).
    Evict,
    /// Pods and namespaces lose their VFs; open VFIO and iommufd files are still respected.
    Force,
    /// Every step whose disruption is not none is `NeedsDisruption`.
    Never,
}

/// One entry of `spec.nics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicEntry {
    /// Field path in its document, such as `spec.nics[0]`.
    pub path: String,
    /// Which PFs.
    pub select: Selector,
    /// Wanted number of VFs; absent leaves the number alone.
    pub vfs: Option<u16>,
    /// Wanted MTU of the PF in bytes; absent leaves it, unless a group's MTU needs more.
    pub mtu: Option<u32>,
    /// Wanted e-switch mode; absent leaves it.
    pub eswitch: Option<EswitchMode>,
    /// Never create or delete VFs, still configure them.
    pub externally_managed: bool,
    /// Touch it although the management path runs over it.
    pub allow_management_path: bool,
    /// VF groups; ranges do not overlap.
    pub groups: Vec<VfGroup>,
}

impl NicEntry {
    /// The group that a VF index belongs to.
    pub fn group(&self, index: u16) -> Option<&VfGroup> {
        self.groups.iter().find(|group| group.vfs.contains(index))
    }

    /// The largest MTU that a group asks for.
    pub fn largest_group_mtu(&self) -> Option<u32> {
        self.groups.iter().filter_map(|group| group.mtu).max()
    }
}

/// One entry of `vfGroups`. What is absent is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfGroup {
    /// VF indexes.
    pub vfs: IndexSet,
    /// Pool that the VFs are advertised in.
    pub pool: Option<String>,
    /// Wanted driver.
    pub driver: DriverWish,
    /// VF netdev MTU in bytes.
    pub mtu: Option<u32>,
    /// Trust.
    pub trust: Option<bool>,
    /// Source address check.
    pub spoof_check: Option<bool>,
    /// VLAN; id 0 clears it.
    pub vlan: Option<Vlan>,
    /// Transmit rates; an absent half is left as it is.
    pub tx_rate: Option<TxRateWish>,
    /// Link state control.
    pub link_state: Option<LinkState>,
    /// How MAC addresses are chosen. Absent: stable for VFs that have none (new ones, or all zero), others keep theirs.
    pub macs: Option<MacPolicy>,
}

/// Which driver a VF should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DriverWish {
    /// The kernel's own driver for the device.
    #[default]
    Kernel,
    /// A driver by name (`vfio-pci`).
    Named(String),
}

/// `macs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacPolicy {
    /// Derived from node, PF and index.
    Stable,
    /// Left as it is.
    Keep,
    /// Left to the driver: an administrative MAC is not set.
    Random,
}

/// E-switch mode (devlink).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EswitchMode {
    /// VFs are switched by MAC and VLAN.
    Legacy,
    /// Each VF has a representor.
    Switchdev,
}

impl fmt::Display for EswitchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EswitchMode::Legacy => "legacy",
            EswitchMode::Switchdev => "switchdev",
        })
    }
}

/// Link state control of a VF (`IFLA_VF_LINK_STATE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Follows the PF's link.
    Auto,
    /// Always up.
    Enable,
    /// Always down.
    Disable,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkState::Auto => "auto",
            LinkState::Enable => "enable",
            LinkState::Disable => "disable",
        })
    }
}

/// VLAN of a VF: VST mode of the PF's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// 0–4094; 0 means none.
    pub id: u16,
    /// Priority, 0–7.
    #[serde(default)]
    pub qos: u8,
    /// Tag protocol.
    #[serde(default)]
    pub protocol: VlanProtocol,
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id == 0 && self.qos == 0 {
            return f.write_str("none");
        }
        write!(f, "{}", self.id)?;
        if self.qos != 0 {
            write!(f, " qos {}", self.qos)?;
        }
        match self.protocol {
            VlanProtocol::Dot1q => Ok(()),
            VlanProtocol::Dot1ad => f.write_str(" 802.1ad"),
        }
    }
}

/// VLAN tag protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VlanProtocol {
    /// 0x8100.
    #[default]
    #[serde(rename = "802.1q")]
    Dot1q,
    /// 0x88a8.
    #[serde(rename = "802.1ad")]
    Dot1ad,
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VlanProtocol::Dot1q => "802.1q",
            VlanProtocol::Dot1ad => "802.1ad",
        })
    }
}

/// Transmit rates in Mbit/s; 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TxRate {
    /// Guaranteed rate.
    #[serde(default)]
    pub min: u32,
    /// Upper limit.
    #[serde(default)]
    pub max: u32,
}

impl fmt::Display for TxRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} Mbit/s", self.min, self.max)
    }
}

/// Wanted transmit rates; an absent half is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxRateWish {
    /// Guaranteed rate in Mbit/s.
    pub min: Option<u32>,
    /// Upper limit in Mbit/s, 0 for none.
    pub max: Option<u32>,
}

impl TxRateWish {
    /// The rates that result from the wish over what is there.
    pub fn over(&self, there: TxRate) -> TxRate {
        TxRate { min: self.min.unwrap_or(there.min), max: self.max.unwrap_or(there.max) }
    }
}
