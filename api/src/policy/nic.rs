//! `spec.nics`: which physical functions are meant, how many VFs they get, and how the VFs are set up.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One or more physical functions (PFs) and what is wanted of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "!has(self.mtu) || !has(self.vfGroups) || self.vfGroups.all(group, !has(group.mtu) || group.mtu <= self.mtu)"
).message("the mtu of a VF group cannot be above the PF's"))]
pub struct Nic {
    /// Which PFs are meant. At least one list must have a member.
    pub select: NicSelect,
    /// Wanted number of VFs. 0 removes them on purpose. Absent: the number is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vfs: Option<u16>,
    /// Wanted MTU of the PF in bytes. Absent: left as it is, unless a group's MTU needs more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
    /// Wanted mode of the NIC's embedded switch: `legacy` (by MAC and VLAN) or `switchdev` (each VF has a representor).
    /// Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eswitch: Option<Eswitch>,
    /// Somebody else creates and deletes the VFs: they are configured and advertised, their number is never changed.
    #[serde(default)]
    pub externally_managed: bool,
    /// Touch the PF even though the node's own connection (default route, API server, BGP, SSH) runs over it.
    #[serde(default)]
    pub allow_management_path: bool,
    /// Settings of the VFs, by VF number. VFs in no group keep the kernel's driver and are in no pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub vf_groups: Vec<VfGroup>,
}

/// Selects physical functions: given fields must all match, members of one list are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(has(self.vendors) && size(self.vendors) > 0) || (has(self.devices) && size(self.devices) > 0) \
     || (has(self.drivers) && size(self.drivers) > 0) || (has(self.names) && size(self.names) > 0) \
     || (has(self.addresses) && size(self.addresses) > 0) || (has(self.macs) && size(self.macs) > 0) \
     || (has(self.numaNodes) && size(self.numaNodes) > 0) || (has(self.switchIds) && size(self.switchIds) > 0)"
).message("an empty selector would select every NIC; name at least one thing"))]
pub struct NicSelect {
    /// PCI vendor IDs, four hexadecimal digits in quotes: `"8086"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^(0x)?[0-9a-fA-F]{1,4}$")))]
    pub vendors: Vec<String>,
    /// PCI device IDs of the PF, four hexadecimal digits in quotes: `"10c9"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^(0x)?[0-9a-fA-F]{1,4}$")))]
    pub devices: Vec<String>,
    /// PF drivers: `igb`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub drivers: Vec<String>,
    /// Names or alternative names of the PF's network interfaces; `*`, `?`, `[a-c]` and `{a,b}` work: `ens1f*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub names: Vec<String>,
    /// PCI addresses with the same patterns as names: `0000:3b:00.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub addresses: Vec<String>,
    /// MAC addresses of the PF: `52:54:00:12:34:56`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$")))]
    pub macs: Vec<String>,
    /// NUMA nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub numa_nodes: Vec<u16>,
    /// Switch IDs (`phys_switch_id`), hexadecimal digits in quotes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub switch_ids: Vec<String>,
}

/// Mode of a NIC's embedded switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Eswitch {
    /// VFs are switched by MAC and VLAN.
    Legacy,
    /// Each VF has a representor on the host.
    Switchdev,
}

/// Settings of some VFs of a PF. What is absent is left as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VfGroup {
    /// VF numbers, from 0: `"0-3"`, `"0-3,5"` or a single number.
    #[schemars(extend("minimum" = 0, "maximum" = 65535))]
    pub vfs: IntOrString,
    /// Pool that the VFs are advertised in, as `<prefix>/<pool>`. Absent: not advertised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,
    /// `kernel` for the kernel's own driver, `vfio-pci`, or the name of another driver. Absent: `kernel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub driver: Option<String>,
    /// MTU of the VFs' network interfaces in bytes; not above the PF's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
    /// Whether the VF may change its MAC address and enter promiscuous mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Whether the NIC drops frames whose source address is not the VF's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    /// VLAN that the NIC adds and removes for the VF. `{id: 0}` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanTag>,
    /// Transmit rates in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_rate: Option<TxRate>,
    /// Link that the VF sees: `auto` (the PF's), `enable` (always up) or `disable` (always down).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<LinkStateMode>,
    /// How MAC addresses are chosen: `stable` (derived from the node, the PF's address and the VF number, so the same
    /// after every reboot), `keep` (left as they are) or `random` (left to the driver). Absent: VFs that have none get
    /// a stable one, others keep theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<MacsMode>,
}

/// A VLAN tag of a VF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.id != 0 || !has(self.qos) || self.qos == 0")
    .message("a priority needs a VLAN: with id 0 qos must be 0"))]
#[x_kube(validation = Rule::new("self.id != 0 || !has(self.protocol) || self.protocol != '802.1ad'")
    .message("802.1ad needs a VLAN; id 0 clears it"))]
pub struct VlanTag {
    /// VLAN number; 0 clears the VLAN.
    #[schemars(range(max = 4094))]
    pub id: u16,
    /// Priority (802.1p) of the tag. Absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 7))]
    pub qos: Option<u8>,
    /// Tag protocol, `802.1q` or `802.1ad` (service tag). Absent: `802.1q`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<VlanTagProtocol>,
}

/// VLAN tag protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VlanTagProtocol {
    /// Ethertype 0x8100.
    #[serde(rename = "802.1q")]
    Dot1q,
    /// Ethertype 0x88a8 (service tag).
    #[serde(rename = "802.1ad")]
    Dot1ad,
}

/// Transmit rates of a VF in Mbit/s. An absent half is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "!has(self.min) || !has(self.max) || self.max == 0 || self.min <= self.max"
).message("min must not be above max"))]
pub struct TxRate {
    /// Guaranteed rate; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Upper limit; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// Link that a VF sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkStateMode {
    /// Follows the PF's link.
    Auto,
    /// Always up.
    Enable,
    /// Always down.
    Disable,
}

/// How MAC addresses of VFs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MacsMode {
    /// Derived from the node, the PF's address and the VF number: the same after every reboot.
    Stable,
    /// Left as they are.
    Keep,
    /// Left to the driver.
    Random,
}
