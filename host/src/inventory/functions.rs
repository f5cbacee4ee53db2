//! Puts PCI functions together: which are PFs, which of the others are their VFs, and which stand alone.
//!
//! One pass over `sys/bus/pci/devices` reads every function's folder once; everything after that works on what was read,
//! so the work grows with the number of functions and not with its square.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::drive::chain;
use portwright_core::observed::{Device, Holder, Pf, Problem, Sight, Vf, VfAdmin, primary_netdev};
use portwright_core::{Fact, Object, PciAddress, VfRef};

use super::ObserveError;
use super::representor::Representors;
use crate::root::{Dir, ReadError, Root};
use crate::sysfs::Reasons;
use crate::sysfs::function::{self, Locks, RawFunction};

/// Where PCI functions are listed.
pub(crate) const DEVICES: &str = "sys/bus/pci/devices";

/// All PCI functions by address.
pub(crate) type Functions = BTreeMap<PciAddress, RawFunction>;

/// Reads all PCI functions. One that cannot be read is a problem, not the end.
pub(crate) fn scan(
    root: &Root,
    locks: Locks,
    problems: &mut Vec<Problem>,
) -> Result<Functions, ObserveError> {
    let mut names = Vec::new();
    let mut devices = match root.dir(DEVICES) {
        Ok(devices) => devices,
        // A machine without a PCI bus has no functions; without sysfs nothing can be said.
        Err(error) if error.is_absent() => {
            root.dir("sys")
                .map_err(|source| ObserveError::NoSysfs { root: root.as_path().into(), source })?;
            return Ok(Functions::new());
        }
        Err(source) => return Err(ObserveError::Functions { source }),
    };
    let listed = devices.scan(|name, _| names.push(String::from_utf8_lossy(name).into_owned()));
    listed.map_err(|source| ObserveError::Functions { source })?;
    let mut addresses = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<PciAddress>() {
            Ok(address) => addresses.push((address, name)),
            Err(_) => {
                let reason = format!("{} is not a PCI address", devices.path().join(&name).display());
                problems.push(Problem { object: Object::Node, reason });
            }
        }
    }
    let mut functions = Functions::new();
    for (address, read) in read_all(&devices, &addresses, locks) {
        match read {
            Ok(function) => {
                functions.insert(address, function);
            }
            Err(error) => problems.push(Problem { object: Object::Pci(address), reason: chain(&error) }),
        }
    }
    settle_vfs(&devices, &mut functions);
    Ok(functions)
}

/// A function's address and the outcome of reading its folder.
type Read = (PciAddress, Result<RawFunction, ReadError>);

/// Reads the folders of all functions. Many are shared among a few threads: nearly all the time is spent in the kernel.
fn read_all(devices: &Dir<'_>, addresses: &[(PciAddress, String)], locks: Locks) -> Vec<Read> {
    /// Functions for which a thread of its own is worth while.
    const SHARE: usize = 128;
    const THREADS: usize = 4;
    let read = |part: &[(PciAddress, String)]| -> Vec<Read> {
        let one = |name: &str| devices.dir(name).map(|mut dir| function::read(&mut dir, locks));
        part.iter().map(|(address, name)| (*address, one(name))).collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let share = addresses.len().div_ceil(threads).max(SHARE);
    let Some((own, others)) = addresses.split_at_checked(share) else { return read(addresses) };
    std::thread::scope(|scope| {
        let others: Vec<_> = others.chunks(share).map(|part| scope.spawn(move || read(part))).collect();
        let mut all = read(own);
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Tells VFs from what only looks like one: what a PF has is a VF even without a `physfn`, and what no PF has is read whole.
fn settle_vfs(devices: &Dir<'_>, functions: &mut Functions) {
    let known: BTreeSet<PciAddress> =
        functions.values().flat_map(|function| &function.vfs).map(|(_, vf)| *vf).collect();
    for (address, function) in functions.iter_mut() {
        if known.contains(address) {
            function.is_vf = true;
        } else if function.is_vf {
            match devices.dir(&address.to_string()) {
                Ok(dir) => function::complete(&dir, function),
                Err(error) => function.reasons.add(&error),
            }
        }
    }
}

/// Puts PFs, VFs and other functions together.
pub(crate) fn assemble(
    functions: &Functions,
    representors: &Representors,
    problems: &mut Vec<Problem>,
) -> (Vec<Pf>, Vec<Device>) {
    let groups = iommu_groups(functions);
    let mut pfs = Vec::new();
    let mut claimed = BTreeSet::new();
    for (address, raw) in functions {
        let Some(total_vfs) = raw.total_vfs else { continue };
        tell(problems, &Object::Pci(*address), raw);
        let mut pf = physical(*address, raw, total_vfs);
        for (index, vf_address) in &raw.vfs {
            let vf = VfRef { pf: *address, index: *index };
            let Some(raw_vf) = functions.get(vf_address) else {
                let reason = format!("virtfn{index} points to {vf_address}, which is not there");
                problems.push(Problem { object: Object::Vf(vf), reason });
                continue;
            };
            claimed.insert(*vf_address);
            tell(problems, &Object::Vf(vf), raw_vf);
            let mut virtual_function = virtual_function(*index, *vf_address, raw_vf, &groups);
            virtual_function.representor = representors.of(*address, &pf, *index);
            pf.vfs.push(virtual_function);
        }
        pfs.push(pf);
    }
    (pfs, devices(functions, &claimed, problems))
}

/// Functions that are neither a PF nor a VF of a visible one.
fn devices(
    functions: &Functions,
    claimed: &BTreeSet<PciAddress>,
    problems: &mut Vec<Problem>,
) -> Vec<Device> {
    let mut devices = Vec::new();
    for (address, raw) in functions {
        if raw.total_vfs.is_some() || claimed.contains(address) {
            continue;
        }
        tell(problems, &Object::Pci(*address), raw);
        if !raw.is_network() && !raw.is_accelerator() {
            continue;
        }
        if let Some(pf) = raw.pf.filter(|pf| functions.contains_key(pf)) {
            let reason = format!("its physfn is {pf}, which has no virtfn link to it");
            problems.push(Problem { object: Object::Pci(*address), reason });
        }
        devices.push(Device {
            address: *address,
            vendor: raw.vendor,
            device: raw.device,
            class: raw.class.clone(),
            driver: raw.driver.clone(),
            numa_node: raw.numa_node,
            iommu_group: raw.iommu_group,
            acpi_index: raw.acpi_index,
            hidden_pf: raw.is_vf,
            netdevs: raw.values(),
            rdma: raw.rdma.clone(),
            vdpa: raw.vdpa.clone(),
        });
    }
    devices
}

fn physical(address: PciAddress, raw: &RawFunction, total_vfs: u16) -> Pf {
    // VF representors are children of the PF too, but they stand for the VFs.
    let netdevs: Vec<_> =
        raw.values().into_iter().filter(|netdev| !super::representor::is_representor(netdev)).collect();
    Pf {
        address,
        name: primary_netdev(&netdevs).map(|netdev| netdev.name.clone()),
        vendor: raw.vendor,
        device: raw.device,
        class: raw.class.clone(),
        driver: raw.driver.clone(),
        numa_node: raw.numa_node,
        iommu_group: raw.iommu_group,
        acpi_index: raw.acpi_index,
        total_vfs,
        vf_device: raw.vf_device,
        autoprobe: raw.autoprobe,
        saved_autoprobe: None,
        eswitch: Fact::UNKNOWN,
        made_by_us: false,
        stuck: None,
        netdevs,
        rdma: raw.rdma.clone(),
        subfunctions: raw.subfunctions.clone(),
        holders: Vec::new(),
        vfs: Vec::with_capacity(raw.vfs.len()),
    }
}

pub(crate) fn virtual_function(index: u16, address: PciAddress, raw: &RawFunction, groups: &Groups) -> Vf {
    let netdevs = raw.values();
    let peers = raw.iommu_group.and_then(|group| groups.get(&group));
    Vf {
        index,
        address,
        device: Some(raw.device),
        driver: raw.driver.clone(),
        driver_override: raw.driver_override.clone(),
        iommu_group: raw.iommu_group,
        group_peers: peers.into_iter().flatten().copied().filter(|peer| *peer != address).collect(),
        numa_node: raw.numa_node,
        netdev: primary_netdev(&netdevs).map(|netdev| netdev.name.clone()),
        netdevs,
        representor: None,
        rdma: raw.rdma.clone(),
        vdpa: raw.vdpa.clone(),
        admin: VfAdmin::default(),
        holders: Vec::new(),
        unseen: raw.unseen.clone(),
        remembered: None,
    }
}

/// Reads which driver each VF is pinned to, on a running host. That takes the VF's lock. A write that hangs because
/// somebody holds the VF keeps that lock, so VFs that are held, may be held or belong to a `locked` PF are left out.
pub(crate) fn read_overrides(
    root: &Root,
    pfs: &mut [Pf],
    locked: &BTreeSet<PciAddress>,
    sight: &Sight,
    problems: &mut Vec<Problem>,
) {
    let for_user_space = |driver: &str| driver.contains("vfio") || driver.contains("uio");
    for pf in pfs.iter_mut().filter(|pf| !locked.contains(&pf.address)) {
        for vf in &mut pf.vfs {
            let with_kernel = vf.driver.as_deref().is_some_and(|driver| !for_user_space(driver));
            let held = vf.holders.iter().any(|holder| matches!(holder, Holder::File { .. }));
            if held || (*sight != Sight::Complete && !with_kernel) {
                continue;
            }
            let read =
                root.dir(format!("{DEVICES}/{}", vf.address)).and_then(|dir| function::driver_override(&dir));
            let mut reasons = Reasons::default();
            vf.driver_override = reasons.take(read).flatten();
            let object = Object::Vf(VfRef { pf: pf.address, index: vf.index });
            problems.extend(reasons.0.into_iter().map(|reason| Problem { object: object.clone(), reason }));
        }
    }
}

/// Members of each IOMMU group, without bridges.
pub(crate) type Groups = BTreeMap<u32, Vec<PciAddress>>;

fn iommu_groups(functions: &Functions) -> Groups {
    let mut groups = Groups::new();
    for (address, raw) in functions.iter().filter(|(_, raw)| !raw.is_bridge()) {
        if let Some(group) = raw.iommu_group {
            groups.entry(group).or_default().push(*address);
        }
    }
    groups
}

/// Hands a function's reasons over as problems of the object that it turned out to be.
fn tell(problems: &mut Vec<Problem>, object: &Object, raw: &RawFunction) {
    let reasons = raw.reasons.0.iter().cloned();
    problems.extend(reasons.map(|reason| Problem { object: object.clone(), reason }));
}
