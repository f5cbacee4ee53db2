//! What the kernel's error numbers mean for each kind of write, in sentences.

use nix::errno::Errno;

use portwright_core::{PciAddress, VfRef};

use super::error::HostError;
use crate::child::ChildError;

/// Meaning of an error number: what it usually says, and what to do.
type Meaning = (&'static [Errno], &'static str, &'static str);

/// `sriov_numvfs`, number > 0.
const MAKING: [Meaning; 6] = [
    (
        &[Errno::EBUSY],
        "VFs exist already, and the kernel does not change one number into another",
        "something else makes VFs on this port, too: find out what and stop it",
    ),
    (
        &[Errno::ENOENT],
        "it has gone, has no driver, or its driver makes no VFs through sysfs",
        "bind the NIC's driver; for drivers that use a module parameter set `externallyManaged: true`",
    ),
    (
        &[Errno::ERANGE],
        "it cannot have that many VFs",
        "ask for at most sriov_totalvfs; the NIC's firmware may allow raising that",
    ),
    (
        &[Errno::ENOSPC],
        "the NIC has run out of interrupt vectors or queues",
        "ask for fewer VFs on this port or on the NIC's others",
    ),
    (
        &[Errno::ENOMEM],
        "there is no room for the VFs in the PCI address space, or no memory",
        "enable SR-IOV and `above 4G decoding` in the BIOS, or boot with pci=realloc",
    ),
    (
        &[Errno::EPERM, Errno::EINVAL],
        "its driver refuses",
        "the kernel log says why; SR-IOV may be off in the NIC's firmware",
    ),
];

/// `sriov_numvfs`, 0.
const REMOVING: [Meaning; 2] = [
    (
        &[Errno::EPERM, Errno::EINVAL, Errno::EBUSY],
        "its driver says that VFs are in use by virtual machines",
        "stop the virtual machines that have VFs of this port",
    ),
    (
        &[Errno::ENOENT],
        "it has gone, or has no driver any more",
        "the next reconcile starts from what is there then",
    ),
];

/// Writes on a VF's driver.
const BINDING: [Meaning; 3] = [
    (&[Errno::ENODEV], "the VF has gone, or the driver does not take it", "the kernel log says why"),
    (&[Errno::ENOENT], "the VF has gone", "the next reconcile starts from what is there then"),
    (
        &[Errno::EBUSY],
        "something else binds it at the same moment",
        "find out what else manages drivers of VFs",
    ),
];

/// E-switch mode.
const ESWITCH: [Meaning; 3] = [
    (&[Errno::EOPNOTSUPP], "its driver has no e-switch", "leave `eswitch` out of the policy"),
    (
        &[Errno::EBUSY],
        "the driver does not change it in the present state",
        "remove what hangs on the e-switch (rules, rate groups, VFs with a driver)",
    ),
    (&[Errno::EINVAL, Errno::EPERM], "the driver refuses", "the kernel's words above and its log say why"),
];

/// What is wrong wherever it happens.
const ANYWHERE: [Meaning; 3] = [
    (
        &[Errno::EACCES, Errno::EPERM],
        "it is not allowed",
        "run as root, privileged, and without kernel lockdown",
    ),
    (
        &[Errno::EROFS],
        "/sys is mounted read-only",
        "run the container privileged, or mount the host's /sys writable",
    ),
    (&[Errno::ENODEV, Errno::ENXIO, Errno::EIO], "the device does not answer", "the kernel log says more"),
];

/// A hint for an error number of which nothing else is known.
pub(super) fn of_errno(errno: Errno) -> Option<String> {
    find(&ANYWHERE, errno).map(|(_, _, hint)| (*hint).to_owned())
}

/// A refused write of `sriov_numvfs`.
pub(super) fn numvfs(pf: PciAddress, count: u16, source: ChildError) -> HostError {
    let (doing, table) = match count {
        0 => (format!("the VFs of {pf} cannot be removed"), &REMOVING[..]),
        _ => (format!("{count} VFs cannot be made on {pf}"), &MAKING[..]),
    };
    refused(doing, table, source)
}

/// A refused write about a VF's driver.
pub(super) fn binding(vf: VfRef, doing: &str, source: ChildError) -> HostError {
    refused(format!("{vf}: {doing} is not possible"), &BINDING, source)
}

/// A refused change of e-switch mode.
pub(super) fn eswitch(pf: PciAddress, source: ChildError) -> HostError {
    refused(format!("the e-switch of {pf} cannot be changed"), &ESWITCH, source)
}

/// A refused write of `sriov_drivers_autoprobe`.
pub(super) fn autoprobe(pf: PciAddress, source: ChildError) -> HostError {
    refused(format!("autoprobe of {pf} cannot be changed"), &[], source)
}

fn refused(doing: String, table: &[Meaning], source: ChildError) -> HostError {
    let meaning = source.errno().and_then(|errno| find(table, errno).or_else(|| find(&ANYWHERE, errno)));
    match meaning {
        Some((_, why, hint)) => HostError::Refused {
            sentence: format!("{doing}: {why}"),
            hint: Some(hint),
            source: Box::new(source),
        },
        None => HostError::Refused { sentence: doing, hint: None, source: Box::new(source) },
    }
}

fn find(table: &[Meaning], errno: Errno) -> Option<&Meaning> {
    table.iter().find(|(errnos, _, _)| errnos.contains(&errno))
}
