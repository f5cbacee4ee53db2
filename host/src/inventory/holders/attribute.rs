//! Which VFs a process holds through its open files.

use std::collections::BTreeSet;

use portwright_core::PciAddress;
use portwright_core::observed::{FileKind, Holder};

use super::opened::Opened;
use super::process::Process;
use crate::inventory::children::Children;
use crate::inventory::functions::Functions;
use crate::sysfs::function::RawFunction;

/// What files are attributed by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribution<'a> {
    pub(crate) functions: &'a Functions,
    pub(crate) children: &'a Children,
}

/// Functions that a file may stand for.
struct Candidates {
    functions: BTreeSet<PciAddress>,
    shared: bool,
}

impl Attribution<'_> {
    /// The VFs that the process holds, with a holder each.
    pub(crate) fn holders(&self, process: &Process) -> Vec<(PciAddress, Holder)> {
        let mut holders = Vec::new();
        for (path, opened) in &process.files {
            let candidates = self.candidates(process, opened);
            for function in candidates.functions {
                let is_vf = self.functions.get(&function).is_some_and(|raw| raw.is_vf);
                if is_vf {
                    holders.push((function, holder(process, path, opened, candidates.shared)));
                }
            }
        }
        holders
    }

    fn candidates(&self, process: &Process, opened: &Opened) -> Candidates {
        match opened {
            Opened::Group(group) => self.group(*group),
            Opened::VfioDevice(name) => self.one_of(self.children.vfio.get(name), is_vfio),
            Opened::AnonymousVfio(Some(function)) => exactly(*function),
            Opened::AnonymousVfio(None) => self.anonymous(process),
            Opened::Iommufd => self.iommufd(process),
            Opened::Uverbs(name) => self.one_of(self.children.verbs.get(name), |raw| !raw.rdma.is_empty()),
            Opened::VhostVdpa(name) => {
                self.one_of(self.children.vhost_vdpa.get(name), |raw| !raw.vdpa.is_empty())
            }
            Opened::Uio(name) => self.one_of(self.children.uio.get(name), is_uio),
        }
    }

    /// The known owner, or every function that could be it.
    fn one_of(&self, owner: Option<&PciAddress>, could_be: fn(&RawFunction) -> bool) -> Candidates {
        match owner {
            Some(owner) => exactly(*owner),
            None => self.every(could_be),
        }
    }

    fn every(&self, could_be: fn(&RawFunction) -> bool) -> Candidates {
        let all = self.functions.iter().filter(|(_, raw)| could_be(raw)).map(|(address, _)| *address);
        Candidates { functions: all.collect(), shared: true }
    }

    /// Functions of an IOMMU group, bridges left out, and those with VFIO whose group could not be read.
    fn group(&self, group: u32) -> Candidates {
        let could_be = |raw: &RawFunction| match raw.iommu_group {
            Some(own) => own == group && !raw.is_bridge(),
            None => is_vfio(raw),
        };
        let inside = self.functions.iter().filter(|(_, raw)| could_be(raw));
        let functions: BTreeSet<PciAddress> = inside.map(|(address, _)| *address).collect();
        let shared = functions.len() > 1;
        Candidates { functions, shared }
    }

    /// A device of unknown function is one of the groups that its process has open, if these come out even: a group of one
    /// function for each device. Otherwise a group file may be closed by now, or the device may come from somebody who passed
    /// it on, and it could be any.
    fn anonymous(&self, process: &Process) -> Candidates {
        let unknown = |opened: &Opened| matches!(opened, Opened::AnonymousVfio(None));
        let devices = process.files.iter().filter(|(_, opened)| unknown(opened)).count();
        let groups = process.files.iter().filter_map(|(_, opened)| match opened {
            Opened::Group(group) => Some(*group),
            Opened::VfioDevice(_)
            | Opened::AnonymousVfio(_)
            | Opened::Iommufd
            | Opened::Uverbs(_)
            | Opened::VhostVdpa(_)
            | Opened::Uio(_) => None,
        });
        let groups: BTreeSet<u32> = groups.collect();
        let functions = self.functions_of(process, false);
        if groups.len() != devices || functions.len() != devices {
            return self.every(is_vfio);
        }
        let shared = functions.len() > 1;
        Candidates { functions, shared }
    }

    /// An iommufd holds the devices that its process has open, else it could have been handed any.
    fn iommufd(&self, process: &Process) -> Candidates {
        let functions = self.functions_of(process, true);
        if functions.is_empty() {
            return self.every(is_vfio);
        }
        let shared = functions.len() > 1;
        Candidates { functions, shared }
    }

    /// Functions whose group the process has open for certain, and those of device files if they are asked for.
    fn functions_of(&self, process: &Process, with_devices: bool) -> BTreeSet<PciAddress> {
        let mut functions = BTreeSet::new();
        for (_, opened) in &process.files {
            match opened {
                Opened::Group(group) => functions.extend(self.group(*group).functions),
                Opened::VfioDevice(name) if with_devices => functions.extend(self.children.vfio.get(name)),
                Opened::AnonymousVfio(Some(function)) if with_devices => {
                    functions.insert(*function);
                }
                Opened::VfioDevice(_)
                | Opened::AnonymousVfio(_)
                | Opened::Iommufd
                | Opened::Uverbs(_)
                | Opened::VhostVdpa(_)
                | Opened::Uio(_) => {}
            }
        }
        functions
    }
}

fn exactly(function: PciAddress) -> Candidates {
    Candidates { functions: BTreeSet::from([function]), shared: false }
}

/// A driver that hands the function to a user through VFIO (`vfio-pci`, `mlx5_vfio_pci`, …).
fn is_vfio(raw: &RawFunction) -> bool {
    raw.driver.as_deref().is_some_and(|driver| driver.contains("vfio"))
}

/// The same through UIO (`uio_pci_generic`, `igb_uio`).
fn is_uio(raw: &RawFunction) -> bool {
    raw.driver.as_deref().is_some_and(|driver| driver.contains("uio"))
}

fn holder(process: &Process, path: &str, opened: &Opened, shared: bool) -> Holder {
    let file = match opened {
        Opened::Group(_) => FileKind::VfioGroup,
        Opened::VfioDevice(_) | Opened::AnonymousVfio(_) => FileKind::VfioDevice,
        Opened::Iommufd => FileKind::Iommufd,
        Opened::Uverbs(_) => FileKind::Uverbs,
        Opened::VhostVdpa(_) => FileKind::VhostVdpa,
        Opened::Uio(_) => FileKind::Uio,
    };
    Holder::File {
        file,
        path: path.to_owned(),
        pid: process.pid,
        command: process.command.clone(),
        container: process.container.clone(),
        shared,
    }
}
