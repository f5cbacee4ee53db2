//! Changes of a VF.

use portwright_core::step::DriverTarget;
use portwright_core::{Change, Object, PciAddress, VfRef};

use super::look::folder;
use super::pf::{netdev as pf_netdev, netdev_with_carrier, port};
use super::{Done, HostError, hint};
use crate::child::Command;
use crate::deadline::Deadline;
use crate::netlink::{self, NetlinkError, RawLink};
use crate::node::{HostNode, unless_stale};
use crate::uevent::Uevents;

/// Unbinds the VF from its driver. Its netdev goes, and with it what is remembered of that.
pub(super) fn unbind(node: &mut HostNode, vf: VfRef) -> Done {
    let address = address(node, vf)?;
    node.journal().forget_vf(vf).map_err(|source| HostError::Journal { source })?;
    let command = Command::Write {
        path: node.root().join(folder(address)).join("driver/unbind"),
        text: address.to_string(),
    };
    node.in_child(vf.pf, &command, |source| hint::binding(vf, "unbinding", source))
}

/// Binds the VF, unbinding it first if it has another driver.
pub(super) fn rebind(node: &mut HostNode, vf: VfRef, to: &DriverTarget) -> Done {
    let address = address(node, vf)?;
    let bound = unless_stale(Object::Vf(vf), node.look().driver(address))?;
    match (bound, to) {
        (Some(bound), DriverTarget::Named { driver, .. }) if bound == *driver => return Ok(()),
        (Some(_), _) => unbind(node, vf)?,
        (None, _) => {}
    }
    bind(node, vf, to)
}

/// Unbinds the VF and binds it to the same driver. It is the kernel's own for the device, which needs no override to stay:
/// one that is set is not asked for, because reading it waits for whoever holds the VF's lock.
pub(super) fn reprobe(node: &mut HostNode, vf: VfRef, driver: &str) -> Done {
    unbind(node, vf)?;
    bind(node, vf, &DriverTarget::Named { driver: driver.to_owned(), keep_override: false })
}

/// Override, probe, read back; the override goes where it is not to stay, so that other tools can bind the VF, too.
///
/// A probe through an override works whatever autoprobe says. It ends before the write returns, so that the driver link
/// is there then or not at all; only the netdev may come later.
fn bind(node: &mut HostNode, vf: VfRef, to: &DriverTarget) -> Done {
    let address = address(node, vf)?;
    let (wanted, keep) = match to {
        DriverTarget::Named { driver, keep_override } => (Some(driver.as_str()), *keep_override),
        DriverTarget::Default => (None, false),
    };
    // Listening begins before the probe, so that no event is missed.
    let events = wanted.is_none_or(|driver| has_netdevs(driver, keep)).then(Uevents::open).transpose();
    let events = events.map_err(|source| HostError::netlink(Object::Vf(vf), source))?;
    set_override(node, vf, address, wanted)?;
    let probe =
        Command::Write { path: node.root().join("sys/bus/pci/drivers_probe"), text: address.to_string() };
    node.in_child(vf.pf, &probe, |source| hint::binding(vf, "probing its driver", source))?;
    let found = unless_stale(Object::Vf(vf), node.look().driver(address))?;
    let right = wanted.is_none() || wanted == found.as_deref();
    let Some(driver) = found.clone().filter(|_| right) else {
        return Err(HostError::NotReadBack {
            object: Object::Vf(vf),
            what: "probing its driver",
            wanted: to.to_string(),
            found: found.unwrap_or_else(|| "no driver".to_owned()),
        });
    };
    if wanted.is_some() && !keep {
        set_override(node, vf, address, None)?;
    }
    match events {
        Some(mut events) if has_netdevs(&driver, keep) && pf_netdev(node, vf.pf).is_ok() => {
            wait_for_netdev(node, &mut events, vf, address, driver)
        }
        Some(_) | None => Ok(()),
    }
}

fn set_override(node: &mut HostNode, vf: VfRef, address: PciAddress, driver: Option<&str>) -> Done {
    // A line break alone clears it.
    let text = format!("{}\n", driver.unwrap_or_default());
    let command = Command::Write { path: node.root().join(folder(address)).join("driver_override"), text };
    node.in_child(vf.pf, &command, |source| hint::binding(vf, "setting driver_override", source))
}

/// Whether a driver makes network interfaces. One that needs an override to stay is not the kernel's own for the device:
/// it is for user space.
fn has_netdevs(driver: &str, keep_override: bool) -> bool {
    let for_user_space = ["vfio", "uio", "pci-stub"].iter().any(|word| driver.contains(word));
    !keep_override && !for_user_space
}

fn wait_for_netdev(
    node: &HostNode,
    events: &mut Uevents,
    vf: VfRef,
    address: PciAddress,
    driver: String,
) -> Done {
    let within = node.netdev_deadline(vf.pf);
    let look = node.look();
    let found = events.wait_until(Deadline::after(within), || look.netdev(address).ok().flatten());
    match found {
        Some(_) => Ok(()),
        None => {
            let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            Err(HostError::NoNetdev { vf, driver, millis })
        }
    }
}

/// Sets what belongs to the PF's driver, through the PF's netdev.
pub(super) fn set_attribute(node: &mut HostNode, vf: VfRef, change: &Change) -> Done {
    let link = if let Change::SetVfRate { .. } = change {
        netdev_with_carrier(node, vf.pf, node.rate_deadline(vf.pf))?
    } else {
        pf_netdev(node, vf.pf)?
    };
    let (pf, index) = (port(&link), vf.index);
    let set = match change {
        Change::SetVfMac { to, .. } => netlink::set_vf_mac(pf, index, *to),
        Change::SetVfVlan { to, .. } => netlink::set_vf_vlan(pf, index, *to),
        Change::SetVfSpoofCheck { to, .. } => netlink::set_vf_spoof_check(pf, index, *to),
        Change::SetVfTrust { to, .. } => netlink::set_vf_trust(pf, index, *to),
        Change::SetVfRate { to, .. } => netlink::set_vf_rate(pf, index, *to),
        Change::SetVfLinkState { to, .. } => netlink::set_vf_link_state(pf, index, *to),
        Change::WriteUdevRule { .. }
        | Change::LoadModule { .. }
        | Change::SetPfUp { .. }
        | Change::SetPfMtu { .. }
        | Change::SetAutoprobe { .. }
        | Change::SetNumVfs { .. }
        | Change::SetEswitch { .. }
        | Change::UnbindVf { .. }
        | Change::BindVf { .. }
        | Change::ReprobeVf { .. }
        | Change::RenameVf { .. }
        | Change::SetVfMtu { .. }
        | Change::Ovs { .. } => return super::misplaced(Object::Vf(vf), change),
    };
    set.map_err(|source| failed(vf, source))
}

/// Gives the VF's netdev another name.
pub(super) fn rename(node: &mut HostNode, vf: VfRef, to: &str) -> Done {
    let link = netdev(node, vf)?;
    netlink::rename(port(&link), to).map_err(|source| failed(vf, source))
}

/// Sets the MTU of the VF's netdev.
pub(super) fn set_mtu(node: &mut HostNode, vf: VfRef, mtu: u32) -> Done {
    let link = netdev(node, vf)?;
    netlink::set_mtu(port(&link), mtu).map_err(|source| failed(vf, source))
}

fn address(node: &HostNode, vf: VfRef) -> Result<PciAddress, HostError> {
    unless_stale(Object::Vf(vf), node.look().vf(vf))
}

fn netdev(node: &HostNode, vf: VfRef) -> Result<RawLink, HostError> {
    let object = Object::Vf(vf);
    let address = address(node, vf)?;
    unless_stale(object.clone(), node.look().netdev(address))?.ok_or(HostError::NetdevGone { object })
}

fn failed(vf: VfRef, source: NetlinkError) -> HostError {
    HostError::netlink(Object::Vf(vf), source)
}
