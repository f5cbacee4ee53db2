//! PCI functions: PFs, their VFs, and network functions that are neither.

use serde::{Deserialize, Serialize};

use super::holder::Holder;
use crate::desired::{EswitchMode, LinkState, TxRate, Vlan};
use crate::fact::Fact;
use crate::id::{MacAddress, PciAddress, PciId};

/// A physical function: a PCI function with `sriov_totalvfs` in sysfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pf {
    /// PCI address.
    pub address: PciAddress,
    /// Name of its primary netdev, if it has one (some PFs have none).
    #[serde(default)]
    pub name: Option<String>,
    /// PCI vendor ID.
    pub vendor: PciId,
    /// PCI device ID.
    pub device: PciId,
    /// PCI class, six hexadecimal digits (`020000` is Ethernet).
    #[serde(default)]
    pub class: Option<String>,
    /// Bound driver.
    #[serde(default)]
    pub driver: Option<String>,
    /// NUMA node; absent if the platform does not say (−1 in sysfs).
    #[serde(default)]
    pub numa_node: Option<u16>,
    /// IOMMU group number.
    #[serde(default)]
    pub iommu_group: Option<u32>,
    /// ACPI or SMBIOS index of an on-board device (`acpi_index`).
    #[serde(default)]
    pub acpi_index: Option<u32>,
    /// `sriov_totalvfs`: how many VFs the function can have at most.
    pub total_vfs: u16,
    /// `sriov_vf_device`: device ID that its VFs have.
    #[serde(default)]
    pub vf_device: Option<PciId>,
    /// `sriov_drivers_autoprobe`.
    #[serde(default)]
    pub autoprobe: Fact<bool>,
    /// Value of `autoprobe` that the intent journal says was there before we changed it; absent when nothing is due.
    #[serde(default)]
    pub saved_autoprobe: Option<bool>,
    /// E-switch mode by devlink; `unsupported` where the driver has none.
    #[serde(default)]
    pub eswitch: Fact<EswitchMode>,
    /// Whether the journal says that its VFs were made by us.
    #[serde(default)]
    pub made_by_us: bool,
    /// Why a write on this PF has not returned (text names the file, pid and time); nothing is written meanwhile.
    #[serde(default)]
    pub stuck: Option<String>,
    /// Netdevs whose device it is, representors of VFs not included.
    #[serde(default)]
    pub netdevs: Vec<Netdev>,
    /// RDMA devices (`infiniband/`).
    #[serde(default)]
    pub rdma: Vec<String>,
    /// Auxiliary sub-functions (`mlx5_core.sf.2`).
    #[serde(default)]
    pub subfunctions: Vec<String>,
    /// Who has the port itself, or one of its sub-functions, as a device (pods, by kubelet's word).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// Its VFs by index; numbers may have gaps.
    #[serde(default)]
    pub vfs: Vec<Vf>,
}

impl Pf {
    /// The VF of an index.
    pub fn vf(&self, index: u16) -> Option<&Vf> {
        self.vfs.iter().find(|vf| vf.index == index)
    }

    /// The primary netdev, through which VF attributes are set.
    pub fn netdev(&self) -> Option<&Netdev> {
        primary_netdev(&self.netdevs)
    }

    /// How many VFs exist (`virtfn*` links, never `sriov_numvfs`, whose read blocks under a write).
    pub fn num_vfs(&self) -> u16 {
        u16::try_from(self.vfs.len()).unwrap_or(u16::MAX)
    }
}

/// The netdev that stands for the PF itself: in switchdev mode the uplink (`phys_port_name` of the form `pN`), else the
/// first that has no port name or any.
pub fn primary_netdev(netdevs: &[Netdev]) -> Option<&Netdev> {
    let is_uplink = |netdev: &&Netdev| {
        netdev.phys_port_name.as_deref().is_none_or(|port| {
            port.strip_prefix('p').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    netdevs.iter().find(is_uplink).or_else(|| netdevs.first())
}

/// A virtual function of a visible PF.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vf {
    /// Number in the PF's `virtfn*` links, from 0.
    pub index: u16,
    /// PCI address.
    pub address: PciAddress,
    /// PCI device ID.
    #[serde(default)]
    pub device: Option<PciId>,
    /// Bound driver.
    #[serde(default)]
    pub driver: Option<String>,
    /// `driver_override`, if one is set.
    #[serde(default)]
    pub driver_override: Option<String>,
    /// IOMMU group number.
    #[serde(default)]
    pub iommu_group: Option<u32>,
    /// Other functions in the same IOMMU group, bridges left out.
    #[serde(default)]
    pub group_peers: Vec<PciAddress>,
    /// NUMA node.
    #[serde(default)]
    pub numa_node: Option<u16>,
    /// Name of its netdev in the host's network namespace.
    #[serde(default)]
    pub netdev: Option<String>,
    /// Netdevs in the host's network namespace, with their values.
    #[serde(default)]
    pub netdevs: Vec<Netdev>,
    /// Name of its representor, found by switch ID and port name.
    #[serde(default)]
    pub representor: Option<String>,
    /// RDMA devices.
    #[serde(default)]
    pub rdma: Vec<String>,
    /// vDPA devices.
    #[serde(default)]
    pub vdpa: Vec<String>,
    /// What the PF's driver says of it by netlink.
    #[serde(default)]
    pub admin: VfAdmin,
    /// Who holds it.
    #[serde(default)]
    pub holders: Vec<Holder>,
    /// Why somebody may hold it unseen, although users of the node's other VFs are seen: part of its folder cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<String>,
    /// What the state directory remembers of its netdev from the last good run in this boot.
    #[serde(default)]
    pub remembered: Option<RememberedVf>,
}

/// What a VF's netdev looked like when it was last verified: what is put back after a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RememberedVf {
    /// Netdev name.
    pub name: String,
    /// Netdev MAC.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// Netdev MTU in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Since then somebody was seen to hold the VF, or its netdev was seen to be away. Only then is anything put back: what
    /// differs on a VF that nobody had is udevd's or the administrator's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

/// VF attributes that belong to the PF's driver (`ip link show dev PF` prints them).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfAdmin {
    /// Administrative MAC; all zero means that none is set.
    #[serde(default)]
    pub mac: Fact<MacAddress>,
    /// VLAN with priority and protocol; id 0 means none.
    #[serde(default)]
    pub vlan: Fact<Vlan>,
    /// Source address check.
    #[serde(default)]
    pub spoof_check: Fact<bool>,
    /// Trust.
    #[serde(default)]
    pub trust: Fact<bool>,
    /// Transmit rates in Mbit/s; 0 means no limit.
    #[serde(default)]
    pub tx_rate: Fact<TxRate>,
    /// Link state control.
    #[serde(default)]
    pub link_state: Fact<LinkState>,
}

/// A network interface of a PCI function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Netdev {
    /// Interface name.
    pub name: String,
    /// Alternative names.
    #[serde(default)]
    pub alt_names: Vec<String>,
    /// Interface index.
    #[serde(default)]
    pub ifindex: u32,
    /// Hardware address, if it is an Ethernet one.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// MTU in bytes.
    #[serde(default)]
    pub mtu: Fact<u32>,
    /// Administratively up (`IFF_UP`).
    #[serde(default)]
    pub up: Fact<bool>,
    /// Carrier; the kernel does not say while the interface is down.
    #[serde(default)]
    pub carrier: Option<bool>,
    /// Speed in Mbit/s; absent while the link is down.
    #[serde(default)]
    pub speed: Option<u32>,
    /// Link type (`ARPHRD_*`: 1 is Ethernet, 32 InfiniBand).
    #[serde(default)]
    pub link_type: Option<u16>,
    /// Switch that the port belongs to.
    #[serde(default)]
    pub phys_switch_id: Option<String>,
    /// Name of the port on that switch (`p0`, `pf0vf3`).
    #[serde(default)]
    pub phys_port_name: Option<String>,
}

/// A network function that is neither a PF nor a VF of a visible PF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// PCI address.
    pub address: PciAddress,
    /// PCI vendor ID.
    pub vendor: PciId,
    /// PCI device ID.
    pub device: PciId,
    /// PCI class, six hexadecimal digits.
    #[serde(default)]
    pub class: Option<String>,
    /// Bound driver.
    #[serde(default)]
    pub driver: Option<String>,
    /// NUMA node.
    #[serde(default)]
    pub numa_node: Option<u16>,
    /// IOMMU group number.
    #[serde(default)]
    pub iommu_group: Option<u32>,
    /// ACPI or SMBIOS index.
    #[serde(default)]
    pub acpi_index: Option<u32>,
    /// Whether it is the VF of a PF that cannot be seen from here.
    #[serde(default)]
    pub hidden_pf: bool,
    /// Netdevs.
    #[serde(default)]
    pub netdevs: Vec<Netdev>,
    /// RDMA devices.
    #[serde(default)]
    pub rdma: Vec<String>,
    /// vDPA devices.
    #[serde(default)]
    pub vdpa: Vec<String>,
}
