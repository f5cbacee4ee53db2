//! What a pool can be made of, seen from a pool's side: one entry per PCI function or sub-function, with the values that
//! selectors compare.

use crate::id::PciAddress;
use crate::management::ManagementPath;
use crate::observed::{Device, Netdev, Observed, Pf, Vf, primary_netdev};

/// One function that may become a device of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Device ID towards kubelet: the PCI address, or the auxiliary device's name.
    pub id: String,
    /// Vendor ID, four lower-case hexadecimal digits (of the parent for a sub-function).
    pub vendor: String,
    /// Device ID, likewise.
    pub device: String,
    /// PCI class, six hexadecimal digits.
    pub class: Option<String>,
    /// Bound driver.
    pub driver: Option<String>,
    /// `acpi_index`.
    pub acpi_index: Option<String>,
    /// Type of an auxiliary device (`sf`); absent for PCI functions.
    pub aux: Option<String>,
    /// Whether its class is 12.
    pub accelerator: bool,
    /// Netdev name of its PF; absent for a PF itself.
    pub pf_name: Option<String>,
    /// PCI address of its PF; absent for a PF itself.
    pub pf_address: Option<String>,
    /// VF or SF number.
    pub index: Option<u32>,
    /// Link-layer encapsulation: its own netdev's, else its PF's.
    pub link_type: Option<String>,
    /// DDP package.
    pub ddp_profile: Option<String>,
    /// InfiniBand partition key.
    pub p_key: Option<String>,
    /// RDMA devices.
    pub rdma: Vec<String>,
    /// vDPA type.
    pub vdpa_type: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u16>,
    /// Why it can be in no pool at all, whatever a selector says.
    pub unfit: Option<String>,
}

/// All candidates of a node, in the order of their IDs.
pub fn candidates(observed: &Observed, management: &ManagementPath) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for pf in &observed.pfs {
        all.push(pf_candidate(pf, management));
        all.extend(pf.vfs.iter().map(|vf| vf_candidate(pf, vf, management)));
    }
    all.extend(observed.devices.iter().map(|device| device_candidate(device, management)));
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all
}

/// Why a function is kept out of every pool.
fn unfit(driver: Option<&String>, address: PciAddress, management: &ManagementPath) -> Option<String> {
    if driver.is_none() {
        return Some("no driver is bound to it".to_owned());
    }
    management.why(address).map(|why| format!("the node is reached over it: it {why}"))
}

fn pf_candidate(pf: &Pf, management: &ManagementPath) -> Candidate {
    let has_vfs = (!pf.vfs.is_empty()).then(|| format!("it is a PF with {} VFs; its VFs are the devices", pf.vfs.len()));
    Candidate {
        id: pf.address.to_string(),
        vendor: pf.vendor.to_string(),
        device: pf.device.to_string(),
        class: pf.class.clone(),
        driver: pf.driver.clone(),
        acpi_index: pf.acpi_index.map(|index| index.to_string()),
        accelerator: is_accelerator(pf.class.as_deref()),
        link_type: primary_netdev(&pf.netdevs).and_then(encapsulation),
        rdma: pf.rdma.clone(),
        numa_node: pf.numa_node,
        unfit: has_vfs.or_else(|| unfit(pf.driver.as_ref(), pf.address, management)),
        ..Candidate::default()
    }
}

fn vf_candidate(pf: &Pf, vf: &Vf, management: &ManagementPath) -> Candidate {
    let own = vf.netdevs.first().and_then(encapsulation);
    Candidate {
        id: vf.address.to_string(),
        vendor: pf.vendor.to_string(),
        device: vf.device.or(pf.vf_device).map(|id| id.to_string()).unwrap_or_default(),
        class: pf.class.clone(),
        driver: vf.driver.clone(),
        accelerator: is_accelerator(pf.class.as_deref()),
        pf_name: pf.name.clone(),
        pf_address: Some(pf.address.to_string()),
        index: Some(u32::from(vf.index)),
        link_type: own.or_else(|| primary_netdev(&pf.netdevs).and_then(encapsulation)),
        rdma: vf.rdma.clone(),
        numa_node: vf.numa_node.or(pf.numa_node),
        unfit: unfit(vf.driver.as_ref(), vf.address, management),
        ..Candidate::default()
    }
}

fn device_candidate(device: &Device, management: &ManagementPath) -> Candidate {
    Candidate {
        id: device.address.to_string(),
        vendor: device.vendor.to_string(),
        device: device.device.to_string(),
        class: device.class.clone(),
        driver: device.driver.clone(),
        acpi_index: device.acpi_index.map(|index| index.to_string()),
        accelerator: is_accelerator(device.class.as_deref()),
        link_type: device.netdevs.first().and_then(encapsulation),
        rdma: device.rdma.clone(),
        numa_node: device.numa_node,
        unfit: unfit(device.driver.as_ref(), device.address, management),
        ..Candidate::default()
    }
}

/// Class 12: processing accelerators.
fn is_accelerator(class: Option<&str>) -> bool {
    class.is_some_and(|class| class.starts_with("12"))
}

/// Names of `ARPHRD_*` link types as netlink libraries write them.
fn encapsulation(netdev: &Netdev) -> Option<String> {
    netdev.link_type.map(|kind| match kind {
        1 => "ether".to_owned(),
        32 => "infiniband".to_owned(),
        other => format!("arphrd-{other}"),
    })
}
