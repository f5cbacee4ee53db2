//! Looks at one function again after an event about it: the work does not depend on how many others there are.
//!
//! Only what can be told from the function's own folder is done this way; for everything else the answer is that a whole
//! look is due.

use portwright_core::PciAddress;
use portwright_core::observed::{Observed, Pf, Vf};

use super::Observer;
use super::functions::{DEVICES, virtual_function};
use crate::sysfs::function::{self, RawFunction};
use crate::sysfs::parse;

impl Observer {
    /// Brings a VF up to date in what was observed before, also one that is new or has gone. False if only
    /// [`Observer::observe`] can do it. Holders, links and problems stay as they were.
    pub fn refresh(&self, observed: &mut Observed, address: PciAddress) -> bool {
        let is_vf = |vf: &Vf| vf.address == address;
        let extra = observed.vdpa.iter().any(|vdpa| vdpa.parent == address)
            || observed.details.iter().any(|detail| detail.address == address);
        let others = observed.pfs.iter().any(|pf| pf.address == address)
            || observed.devices.iter().any(|device| device.address == address);
        if extra || others {
            return false;
        }
        let mut dir = match self.root.dir(format!("{DEVICES}/{address}")) {
            Ok(dir) => dir,
            Err(error) if error.is_absent() => {
                let Some(pf) = observed.pfs.iter_mut().find(|pf| pf.vfs.iter().any(is_vf)) else {
                    return false;
                };
                pf.vfs.retain(|vf| !is_vf(vf));
                return true;
            }
            Err(_) => return false,
        };
        let raw = function::read(&mut dir, self.locks());
        let plain =
            raw.is_vf && raw.reasons.0.is_empty() && raw.vdpa.is_empty() && raw.subfunctions.is_empty();
        if !plain || raw.acpi_index.is_some() || !raw.rdma.is_empty() {
            return false;
        }
        let pf: Option<PciAddress> = dir.link_name("physfn").ok().and_then(|name| name.parse().ok());
        let Some(pf) = pf.and_then(|pf| observed.pfs.iter_mut().find(|known| known.address == pf)) else {
            return false;
        };
        match pf.vfs.iter_mut().find(|vf| is_vf(vf)) {
            Some(known) => {
                *known = renewed(known, address, &raw);
                true
            }
            None => self.add(pf, address, &raw),
        }
    }

    /// A VF that is new. Its number follows from where it is on the bus, and the PF's link says whether that is right.
    fn add(&self, pf: &mut Pf, address: PciAddress, raw: &RawFunction) -> bool {
        let Ok(dir) = self.root.dir(format!("{DEVICES}/{}", pf.address)) else { return false };
        let number = |name: &str| dir.parsed(name, "a number", parse::decimal::<u32>).ok();
        let (Some(offset), Some(stride)) = (number("sriov_offset"), number("sriov_stride")) else {
            return false;
        };
        let place =
            |at: PciAddress| (u32::from(at.bus) << 8) | (u32::from(at.device) << 3) | u32::from(at.function);
        let distance = place(address).checked_sub(place(pf.address)).and_then(|far| far.checked_sub(offset));
        let index =
            distance.and_then(|far| far.checked_div(stride)).and_then(|index| u16::try_from(index).ok());
        let Some(index) = index else { return false };
        let linked = dir.link_name(&format!("virtfn{index}")).ok().and_then(|name| name.parse().ok());
        if linked != Some(address) || pf.vf(index).is_some() {
            return false;
        }
        let at = pf.vfs.partition_point(|vf| vf.index < index);
        pf.vfs.insert(at, virtual_function(index, address, raw, &Default::default()));
        true
    }
}

/// The VF as it is now, with what its folder does not tell as it was.
fn renewed(known: &Vf, address: PciAddress, raw: &RawFunction) -> Vf {
    let fresh = virtual_function(known.index, address, raw, &Default::default());
    let same_group = fresh.iommu_group == known.iommu_group;
    Vf {
        group_peers: if same_group { known.group_peers.clone() } else { Vec::new() },
        representor: known.representor.clone(),
        admin: known.admin.clone(),
        holders: known.holders.clone(),
        remembered: known.remembered.clone(),
        ..fresh
    }
}
