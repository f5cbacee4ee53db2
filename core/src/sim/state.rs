//! What the simulated node is made of: plain values, one per kernel file or netlink attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::family::Family;
use super::violation::Violation;
use crate::desired::{EswitchMode, LinkState, TxRate, Vlan, VlanProtocol};
use crate::fact::Fact;
use crate::id::{MacAddress, PciAddress, VfRef};
use crate::observed::{Device, Holder, Link, ManagementEvidence, NodeFacts, Pf, RememberedVf, Sight};

/// Everything that the kernel knows. Survives a crash of the agent.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// IOMMU, registered drivers, loadable modules, our udev rule.
    pub node: NodeFacts,
    /// PFs by address, also those that have vanished.
    pub pfs: BTreeMap<PciAddress, SimPf>,
    /// Other network functions.
    pub devices: Vec<Device>,
    /// Netdevs that belong to no PF or VF: bonds, bridges, VLANs, OVS internal ports. A hardware netdev's own place in
    /// the stack is kept with it.
    pub links: Vec<Link>,
    /// Routes, addresses, sessions.
    pub management: ManagementEvidence,
    /// OVS bridges.
    pub ovs: Option<crate::ovs::Ovs>,
    /// VFs that kubelet has given to pods. They stay given while VFs are made again: kubelet knows addresses only.
    pub kubelet: BTreeMap<VfRef, Holder>,
    /// Functions that the node is reached over: the truth, which the planner has to find out.
    pub protected: BTreeSet<PciAddress>,
    /// Functions that were on that path until their netdev went away. Whether they still count may be seen either way.
    pub left_path: BTreeSet<PciAddress>,
    /// Protected functions that the policy allows to touch by name.
    pub allowed: BTreeSet<PciAddress>,
    /// VFs that count as in use for a reason outside of PF, VF and kubelet.
    pub sight: Sight,
    /// What was refused and should never have been asked.
    pub faults: Vec<Violation>,
    /// Next interface index.
    pub next_ifindex: u32,
}

/// A physical function.
#[derive(Debug, Clone)]
pub struct SimPf {
    /// What never changes: IDs, NUMA node, number of VFs at most. Its changing fields are ignored.
    pub shown: Pf,
    /// How its driver behaves.
    pub family: Family,
    /// Whether it is there.
    pub present: bool,
    /// Bound driver.
    pub driver: Option<String>,
    /// `sriov_drivers_autoprobe`.
    pub autoprobe: bool,
    /// E-switch mode.
    pub eswitch: EswitchMode,
    /// Its netdev, while it has one.
    pub netdev: Option<SimNetdev>,
    /// Whether the cable is plugged in: carrier while the netdev is up.
    pub cable: bool,
    /// VFs by index.
    pub vfs: BTreeMap<u16, SimVf>,
    /// The next writes of a number enable at most as many; one entry per write.
    pub enables: Vec<u16>,
    /// The next write of a number fails so.
    pub refuses: Option<super::Errno>,
    /// A write does not return.
    pub stuck: Option<String>,
    /// Whether somebody else set it down while we worked.
    pub set_down: bool,
    /// The next so many netdevs of VFs come late (after the next observation).
    pub late_netdevs: u16,
}

/// A virtual function.
#[derive(Debug, Clone)]
pub struct SimVf {
    /// PCI address.
    pub address: PciAddress,
    /// Bound driver.
    pub driver: Option<String>,
    /// `driver_override`.
    pub driver_override: Option<String>,
    /// Its netdev.
    pub netdev: Option<SimNetdev>,
    /// The netdev exists soon: it is seen from the observation after next.
    pub late: bool,
    /// What the PF's driver keeps of it.
    pub admin: Admin,
    /// Open files.
    pub files: Vec<Holder>,
    /// IOMMU group number.
    pub iommu_group: Option<u32>,
    /// Other functions in that group.
    pub group_peers: Vec<PciAddress>,
    /// Representor, in switchdev mode.
    pub representor: Option<String>,
}

/// VF attributes that the PF's driver keeps. The default is what a fresh VF has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// Administrative MAC.
    pub mac: MacAddress,
    /// VLAN.
    pub vlan: Vlan,
    /// Source address check.
    pub spoof_check: bool,
    /// Trust.
    pub trust: bool,
    /// Transmit rates.
    pub tx_rate: TxRate,
    /// Link state control.
    pub link_state: LinkState,
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            mac: MacAddress::ZERO,
            vlan: Vlan { id: 0, qos: 0, protocol: VlanProtocol::Dot1q },
            spoof_check: true,
            trust: false,
            tx_rate: TxRate { min: 0, max: 0 },
            link_state: LinkState::Auto,
        }
    }
}

/// A netdev of a PF or VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimNetdev {
    /// Interface name.
    pub name: String,
    /// Interface index; a netdev that is made again has another.
    pub ifindex: u32,
    /// Hardware address.
    pub mac: MacAddress,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Bond, bridge or `ovs-system`.
    pub master: Option<String>,
    /// Addresses that are not link-local.
    pub addresses: Vec<IpAddr>,
    /// The network namespace it is in, if not the host's.
    pub away: Option<Away>,
}

/// Where a netdev is that is not in the host's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Namespace name.
    pub netns: String,
    /// A process there.
    pub pid: u32,
    /// Its command.
    pub command: String,
    /// The container that it is in.
    pub container: Option<String>,
}

impl SimNetdev {
    /// Whether it is in the host's network namespace.
    pub fn in_host(&self) -> bool {
        self.away.is_none()
    }
}

/// What the agent keeps on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDir {
    /// Autoprobe values found before the first change.
    pub saved_autoprobe: BTreeMap<PciAddress, bool>,
    /// PFs whose VFs were made by us.
    pub made_by_us: BTreeSet<PciAddress>,
    /// What idle VFs looked like when last verified.
    pub remembered: BTreeMap<VfRef, RememberedVf>,
}

impl SimPf {
    /// A PF as after boot: driver bound, netdev down, no VFs.
    pub fn new(address: PciAddress, family: Family, total: u16, name: &str) -> SimPf {
        let traits = family.traits();
        let (vendor, device, vf_device) = traits.ids;
        let shown = Pf {
            address,
            name: None,
            vendor,
            device,
            class: Some("020000".to_owned()),
            driver: None,
            numa_node: Some(0),
            iommu_group: None,
            acpi_index: None,
            total_vfs: total,
            vf_device: Some(vf_device),
            autoprobe: Fact::UNKNOWN,
            saved_autoprobe: None,
            eswitch: Fact::UNKNOWN,
            made_by_us: false,
            stuck: None,
            netdevs: Vec::new(),
            rdma: Vec::new(),
            subfunctions: Vec::new(),
            holders: Vec::new(),
            vfs: Vec::new(),
        };
        let netdev = traits.netdev.then(|| SimNetdev {
            name: name.to_owned(),
            ifindex: u32::from(address.bus).saturating_add(1),
            mac: MacAddress([0x52, 0x54, 0, address.bus, address.device, address.function]),
            mtu: 1500,
            up: false,
            master: None,
            addresses: Vec::new(),
            away: None,
        });
        SimPf {
            shown,
            family,
            present: true,
            driver: Some(traits.pf_driver.to_owned()),
            autoprobe: true,
            eswitch: EswitchMode::Legacy,
            netdev,
            cable: true,
            vfs: BTreeMap::new(),
            enables: Vec::new(),
            refuses: None,
            stuck: None,
            set_down: false,
            late_netdevs: 0,
        }
    }

    /// Whether its netdev is there and up.
    pub fn up(&self) -> bool {
        self.netdev.as_ref().is_some_and(|netdev| netdev.up)
    }
}

impl Kernel {
    /// The PF of an address, if it is there.
    pub fn pf(&self, address: PciAddress) -> Option<&SimPf> {
        self.pfs.get(&address).filter(|pf| pf.present)
    }

    /// The VF of a reference, if it is there.
    pub fn vf(&self, vf: VfRef) -> Option<&SimVf> {
        self.pf(vf.pf)?.vfs.get(&vf.index)
    }

    /// All VFs that are there.
    pub fn vfs(&self) -> impl Iterator<Item = VfRef> + '_ {
        self.pfs
            .iter()
            .filter(|(_, pf)| pf.present)
            .flat_map(|(address, pf)| pf.vfs.keys().map(|index| VfRef { pf: *address, index: *index }))
    }

    /// Whether somebody uses the VF in a way that even `Force` respects: an open file, a place in a bond or bridge, an
    /// address, or nobody knows.
    pub fn in_hard_use(&self, reference: VfRef) -> bool {
        let Some(vf) = self.vf(reference) else { return false };
        let stacked =
            |name: &str| self.links.iter().any(|link| link.lowers.iter().any(|lower| lower == name));
        let in_host = vf.netdev.as_ref().filter(|netdev| netdev.in_host());
        let busy = in_host.is_some_and(|netdev| {
            netdev.master.is_some() || !netdev.addresses.is_empty() || stacked(&netdev.name)
        });
        !vf.files.is_empty() || busy || vf.representor.as_deref().is_some_and(stacked)
    }

    /// Whether somebody uses the VF: a pod or another network namespace, or in a way that even `Force` respects. What the
    /// agent cannot see counts as used.
    pub fn in_use(&self, reference: VfRef) -> bool {
        let Some(vf) = self.vf(reference) else { return false };
        self.kubelet.contains_key(&reference)
            || vf.netdev.as_ref().is_some_and(|netdev| !netdev.in_host())
            || self.in_hard_use(reference)
            || self.sight != Sight::Complete
    }

    /// Whether `Force` may take the VF from whoever has it. Behind a pod that is seen there may be an open file that is not.
    pub fn yields_to_force(&self, reference: VfRef) -> bool {
        !self.in_hard_use(reference) && self.sight == Sight::Complete
    }

    /// A fresh interface index.
    pub fn take_ifindex(&mut self) -> u32 {
        self.next_ifindex = self.next_ifindex.max(1000).saturating_add(1);
        self.next_ifindex
    }
}
