//! What only pools ask for: sub-functions, vDPA drivers, partition keys. A node without any costs no read.

use std::collections::BTreeMap;

use portwright_core::observed::{FunctionDetail, Problem, Subfunction, VdpaDevice};
use portwright_core::{Object, PciAddress};

use super::children::Children;
use super::functions::Functions;
use crate::root::Root;
use crate::sysfs::function::RawFunction;
use crate::sysfs::{Reasons, parse};

/// `ARPHRD_INFINIBAND` (`linux/if_arp.h`).
const INFINIBAND: u16 = 32;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) subfunctions: Vec<Subfunction>,
    pub(crate) vdpa: Vec<VdpaDevice>,
    pub(crate) details: Vec<FunctionDetail>,
}

impl Extra {
    /// Adds the DDP packages of PFs.
    pub(crate) fn add_ddp(&mut self, packages: BTreeMap<PciAddress, String>) {
        for (address, package) in packages {
            match self.details.iter_mut().find(|detail| detail.address == address) {
                Some(detail) => detail.ddp = Some(package),
                None => self.details.push(FunctionDetail {
                    address,
                    acpi_index: None,
                    p_key: None,
                    ddp: Some(package),
                }),
            }
        }
    }
}

/// Reads it.
pub(crate) fn read(
    root: &Root,
    functions: &Functions,
    children: &Children,
    problems: &mut Vec<Problem>,
) -> Extra {
    let mut extra = Extra::default();
    for (address, raw) in functions {
        let mut reasons = Reasons::default();
        for name in &raw.subfunctions {
            extra.subfunctions.extend(subfunction(root, *address, name, &mut reasons));
        }
        extra.details.extend(detail(root, *address, raw, &mut reasons));
        let object = Object::Pci(*address);
        problems.extend(reasons.0.into_iter().map(|reason| Problem { object: object.clone(), reason }));
    }
    for (name, parent) in &children.vdpa {
        let dir = root.dir(format!("sys/bus/vdpa/devices/{name}"));
        let driver = dir.and_then(|dir| dir.link_name("driver")).ok();
        extra.vdpa.push(VdpaDevice { name: name.clone(), parent: *parent, driver });
    }
    extra
}

fn subfunction(root: &Root, parent: PciAddress, name: &str, reasons: &mut Reasons) -> Option<Subfunction> {
    let folder = format!("sys/bus/pci/devices/{parent}/{name}");
    let dir = reasons.take(root.dir(&folder))?;
    let number = reasons.take(dir.parsed("sfnum", "a number", parse::decimal));
    let netdev = root.names(format!("{folder}/net")).ok().and_then(|names| names.into_iter().next());
    let link_type = netdev.as_ref().and_then(|netdev| {
        let dir = reasons.take(root.dir(format!("{folder}/net/{netdev}")))?;
        reasons.take(dir.parsed("type", "a number", parse::decimal))
    });
    let rdma = root.names(format!("{folder}/infiniband")).unwrap_or_default();
    Some(Subfunction { name: name.to_owned(), parent, number, netdev, link_type, rdma })
}

fn detail(
    root: &Root,
    address: PciAddress,
    raw: &RawFunction,
    reasons: &mut Reasons,
) -> Option<FunctionDetail> {
    let infiniband = raw.netdevs.iter().any(|netdev| netdev.netdev.link_type == Some(INFINIBAND));
    let first = raw.rdma.first().filter(|_| infiniband);
    let p_key = first.and_then(|rdma| {
        let folder = format!("sys/bus/pci/devices/{address}/infiniband/{rdma}/ports/1/pkeys");
        // A VF whose RDMA device is in a pod has no such folder here.
        reasons.take(root.dir(folder).ok()?.attribute("0"))
    });
    let acpi_index = raw.acpi_index.filter(|_| raw.is_vf);
    let any = acpi_index.is_some() || p_key.is_some();
    any.then_some(FunctionDetail { address, acpi_index, p_key, ddp: None })
}
