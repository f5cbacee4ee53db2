//! What a pool can be made of, seen from a pool's side: one entry per PCI function or sub-function, with the values that
//! selectors compare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::PciAddress;
use crate::management::ManagementPath;
use crate::observed::{Device, FunctionDetail, Netdev, Observed, Pf, Subfunction, Vf, primary_netdev};

/// One function that may become a device of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Device ID towards kubelet: the PCI address, or the auxiliary device's name.
    pub id: String,
    /// PCI address; the parent's for a sub-function.
    pub address: Option<PciAddress>,
    /// Vendor ID, four lower-case hexadecimal digits (of the parent for a sub-function).
    pub vendor: String,
    /// Device ID, likewise.
    pub device: String,
    /// PCI class, six hexadecimal digits.
    pub class: Option<String>,
    /// Bound driver (of the parent for a sub-function).
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
    pub pf: Option<PciAddress>,
    /// VF or SF number.
    pub index: Option<u32>,
    /// Link-layer encapsulation: its own netdev's, else its PF's.
    pub link_type: Option<String>,
    /// Carrier of its PF; absent where the kernel does not say.
    pub pf_carrier: Option<bool>,
    /// DDP package.
    pub ddp_profile: Option<String>,
    /// InfiniBand partition key.
    pub p_key: Option<String>,
    /// Its netdev in the host's network namespace.
    pub netdev: Option<String>,
    /// Its representor.
    pub representor: Option<String>,
    /// RDMA devices.
    pub rdma: Vec<String>,
    /// vDPA device.
    pub vdpa: Option<String>,
    /// vDPA type (`vhost`, `virtio`).
    pub vdpa_type: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u16>,
    /// It is a PF and its VFs are the devices.
    pub has_vfs: bool,
    /// Why the node's own traffic keeps it out of `netDevice` pools.
    pub management: Option<String>,
}

impl Candidate {
    /// Whether it is a network function.
    pub fn is_network(&self) -> bool {
        self.class.as_deref().is_none_or(|class| class.starts_with("02"))
    }
}

/// What all candidates are made with.
struct Maker<'a> {
    management: &'a ManagementPath,
    details: BTreeMap<PciAddress, &'a FunctionDetail>,
    vdpa: BTreeMap<PciAddress, (&'a str, Option<&'a str>)>,
    /// Names of PF netdevs by function, and their link types.
    uplinks: BTreeMap<PciAddress, &'a Netdev>,
}

/// All candidates of a node, in the order of their IDs. They are the most of a pool's memory, and there are several copies of the
/// pools at a time: these share them.
pub fn candidates(observed: &Observed, management: &ManagementPath) -> Vec<Arc<Candidate>> {
    let vdpa = observed.vdpa.iter().rev();
    let pfs = observed.pfs.iter().map(|pf| (pf.address, pf.netdevs.as_slice()));
    let others = observed.devices.iter().map(|device| (device.address, device.netdevs.as_slice()));
    let maker = Maker {
        management,
        details: observed.details.iter().map(|detail| (detail.address, detail)).collect(),
        vdpa: vdpa.map(|vdpa| (vdpa.parent, (vdpa.name.as_str(), vdpa.driver.as_deref()))).collect(),
        uplinks: pfs.chain(others).filter_map(|(at, all)| Some((at, primary_netdev(all)?))).collect(),
    };
    let mut all: Vec<Arc<Candidate>> = Vec::new();
    for pf in &observed.pfs {
        all.push(Arc::new(maker.pf(pf)));
        all.extend(pf.vfs.iter().map(|vf| Arc::new(maker.vf(pf, vf))));
    }
    all.extend(observed.devices.iter().map(|device| Arc::new(maker.device(device))));
    let parents: BTreeSet<PciAddress> = observed.subfunctions.iter().map(|sf| sf.parent).collect();
    let parents: BTreeMap<PciAddress, Arc<Candidate>> = all
        .iter()
        .filter_map(|candidate| {
            Some((candidate.address.filter(|at| parents.contains(at))?, Arc::clone(candidate)))
        })
        .collect();
    let of = |sf: &Subfunction| Some(Arc::new(maker.subfunction(sf, parents.get(&sf.parent)?)));
    all.extend(observed.subfunctions.iter().filter_map(of));
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all
}

impl Maker<'_> {
    /// What every PCI function has.
    fn function(&self, address: PciAddress, rdma: &[String]) -> Candidate {
        let detail = self.details.get(&address);
        let vdpa = self.vdpa.get(&address);
        Candidate {
            id: address.to_string(),
            address: Some(address),
            acpi_index: detail.and_then(|detail| detail.acpi_index).map(|index| index.to_string()),
            p_key: detail.and_then(|detail| detail.p_key.clone()),
            ddp_profile: detail.and_then(|detail| detail.ddp.clone()),
            rdma: rdma.to_vec(),
            vdpa: vdpa.map(|(name, _)| (*name).to_owned()),
            vdpa_type: vdpa
                .and_then(|(_, driver)| driver.and_then(|driver| driver.strip_suffix("_vdpa")))
                .map(str::to_owned),
            management: self.management.why(address).map(str::to_owned),
            ..Candidate::default()
        }
    }

    fn pf(&self, pf: &Pf) -> Candidate {
        let uplink = self.uplinks.get(&pf.address);
        Candidate {
            vendor: pf.vendor.to_string(),
            device: pf.device.to_string(),
            class: pf.class.clone(),
            driver: pf.driver.clone(),
            acpi_index: pf.acpi_index.map(|index| index.to_string()),
            accelerator: is_accelerator(pf.class.as_deref()),
            link_type: uplink.and_then(|netdev| encapsulation(netdev.link_type)),
            pf_carrier: uplink.and_then(|netdev| netdev.carrier),
            netdev: uplink.map(|netdev| netdev.name.clone()),
            numa_node: pf.numa_node,
            has_vfs: !pf.vfs.is_empty(),
            // An idle VF carries nothing; a PF may, as long as nobody can tell.
            management: self.management.why_pf(pf.address).map(str::to_owned),
            ..self.function(pf.address, &pf.rdma)
        }
    }

    fn vf(&self, pf: &Pf, vf: &Vf) -> Candidate {
        let own = vf.netdevs.first();
        let uplink = self.uplinks.get(&pf.address);
        let link_type = own.and_then(|netdev| encapsulation(netdev.link_type));
        Candidate {
            vendor: pf.vendor.to_string(),
            device: vf.device.or(pf.vf_device).map(|id| id.to_string()).unwrap_or_default(),
            class: pf.class.clone(),
            driver: vf.driver.clone(),
            accelerator: is_accelerator(pf.class.as_deref()),
            pf_name: pf.name.clone(),
            pf: Some(pf.address),
            index: Some(u32::from(vf.index)),
            link_type: link_type.or_else(|| uplink.and_then(|netdev| encapsulation(netdev.link_type))),
            pf_carrier: uplink.and_then(|netdev| netdev.carrier),
            netdev: vf.netdev.clone(),
            ddp_profile: self.details.get(&pf.address).and_then(|detail| detail.ddp.clone()),
            representor: vf.representor.clone(),
            numa_node: vf.numa_node.or(pf.numa_node),
            ..self.function(vf.address, &vf.rdma)
        }
    }

    fn device(&self, device: &Device) -> Candidate {
        let own = self.uplinks.get(&device.address);
        Candidate {
            vendor: device.vendor.to_string(),
            device: device.device.to_string(),
            class: device.class.clone(),
            driver: device.driver.clone(),
            acpi_index: device.acpi_index.map(|index| index.to_string()),
            accelerator: is_accelerator(device.class.as_deref()),
            link_type: own.and_then(|netdev| encapsulation(netdev.link_type)),
            pf_carrier: own.and_then(|netdev| netdev.carrier),
            netdev: own.map(|netdev| netdev.name.clone()),
            numa_node: device.numa_node,
            management: self.management.why_pf(device.address).map(str::to_owned),
            ..self.function(device.address, &device.rdma)
        }
    }

    fn subfunction(&self, sf: &Subfunction, parent: &Candidate) -> Candidate {
        let uplink = self.uplinks.get(&sf.parent);
        Candidate {
            id: sf.name.clone(),
            address: Some(sf.parent),
            vendor: parent.vendor.clone(),
            device: parent.device.clone(),
            class: parent.class.clone(),
            driver: parent.driver.clone(),
            aux: Some(sf.kind().unwrap_or_default().to_owned()),
            pf_name: uplink.map(|netdev| netdev.name.clone()).or_else(|| parent.pf_name.clone()),
            pf: Some(parent.pf.unwrap_or(sf.parent)),
            index: sf.number,
            link_type: encapsulation(sf.link_type).or_else(|| parent.link_type.clone()),
            pf_carrier: parent.pf_carrier,
            netdev: sf.netdev.clone(),
            rdma: sf.rdma.clone(),
            numa_node: parent.numa_node,
            ..Candidate::default()
        }
    }
}

/// Class 12: processing accelerators.
fn is_accelerator(class: Option<&str>) -> bool {
    class.is_some_and(|class| class.starts_with("12"))
}

/// `ARPHRD_*` link types (`linux/if_arp.h`) by the names that configurations use.
fn encapsulation(link_type: Option<u16>) -> Option<String> {
    link_type.map(|kind| match kind {
        1 => "ether".to_owned(),
        32 => "infiniband".to_owned(),
        772 => "loopback".to_owned(),
        other => format!("arphrd-{other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::selector::DeviceSelector;

    #[test]
    fn a_pf_is_no_device_while_nobody_can_tell_what_the_node_is_reached_over() {
        let text = r#"{"pfs": [
            {"address": "0000:3b:00.0", "vendor": "8086", "device": "1592", "driver": "ice", "totalVfs": 8,
             "vfs": [{"index": 0, "address": "0000:3b:01.0", "driver": "iavf"}]}]}"#;
        let observed: Observed = serde_json::from_str(text).unwrap();
        let unseen = Some("may carry the node's own traffic (no routes)".to_owned());
        let why = |path: &ManagementPath| -> Vec<Option<String>> {
            candidates(&observed, path).iter().map(|candidate| candidate.management.clone()).collect()
        };
        assert_eq!(why(&ManagementPath { unseen: unseen.clone(), ..Default::default() }), [unseen, None]);
        assert_eq!(why(&ManagementPath::default()), [None, None]);
    }

    #[test]
    fn a_vf_has_the_package_of_its_pf() {
        let text = r#"{"pfs": [
            {"address": "0000:3b:00.0", "vendor": "8086", "device": "1592", "driver": "ice", "totalVfs": 8,
             "vfs": [{"index": 0, "address": "0000:3b:01.0", "driver": "iavf"}]},
            {"address": "0000:3c:00.0", "vendor": "8086", "device": "1592", "driver": "ice", "totalVfs": 8,
             "vfs": [{"index": 0, "address": "0000:3c:01.0", "driver": "iavf"}]},
            {"address": "0000:3d:00.0", "vendor": "8086", "device": "1592", "driver": "ice", "totalVfs": 8,
             "vfs": [{"index": 0, "address": "0000:3d:01.0", "driver": "iavf"}]}],
            "details": [{"address": "0000:3b:00.0", "ddp": "GTP"}, {"address": "0000:3c:00.0", "ddp": "PPPoE"}]}"#;
        let observed: Observed = serde_json::from_str(text).unwrap();
        let selector = DeviceSelector { ddp_profiles: vec!["GTP".to_owned()], ..DeviceSelector::default() };
        let taken: Vec<String> = candidates(&observed, &ManagementPath::default())
            .into_iter()
            .filter(|candidate| candidate.index.is_some() && selector.take(candidate).is_ok())
            .map(|candidate| candidate.id.clone())
            .collect();
        assert_eq!(taken, ["0000:3b:01.0"]);
    }
}
