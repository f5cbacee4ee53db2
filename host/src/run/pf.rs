//! Changes of a PF.

use std::time::Duration;

use portwright_core::desired::EswitchMode;
use portwright_core::{Object, PciAddress};

use super::look::folder;
use super::{Done, HostError, hint};
use crate::child::Command;
use crate::deadline::Deadline;
use crate::devlink::Handle;
use crate::netlink::{self, NetlinkError, Port, RawLink};
use crate::node::{HostNode, unless_stale};
use crate::uevent::Uevents;

/// Sets the PF's netdev up and, if asked, waits for carrier. A port without carrier is set up all the same.
pub(super) fn set_up(node: &mut HostNode, pf: PciAddress, wait_carrier_ms: u64) -> Done {
    let link = netdev(node, pf)?;
    let failed = |source| failed(pf, source);
    let mut events = Uevents::open().map_err(failed)?;
    netlink::set_up(port(&link), true).map_err(failed)?;
    await_carrier(&mut events, link.ifindex, Duration::from_millis(wait_carrier_ms));
    Ok(())
}

/// Waits for carrier on an interface that is up.
fn await_carrier(events: &mut Uevents, ifindex: u32, within: Duration) {
    if !within.is_zero() {
        let has_carrier =
            || netlink::link(ifindex).ok().filter(|link| link.carrier == Some(true) || !link.up);
        events.wait_until(Deadline::after(within), has_carrier);
    }
}

/// The PF's netdev, with carrier if it is up and gets it in time: making VFs or changing the MTU resets some ports, and
/// their carrier takes a moment to come back.
pub(super) fn netdev_with_carrier(
    node: &HostNode,
    pf: PciAddress,
    within: Duration,
) -> Result<RawLink, HostError> {
    let link = netdev(node, pf)?;
    let mut events = Uevents::open().map_err(|source| failed(pf, source))?;
    await_carrier(&mut events, link.ifindex, within);
    Ok(link)
}

/// Sets the PF's MTU.
pub(super) fn set_mtu(node: &mut HostNode, pf: PciAddress, mtu: u32) -> Done {
    let link = netdev(node, pf)?;
    netlink::set_mtu(port(&link), mtu).map_err(|source| failed(pf, source))
}

/// Sets `sriov_drivers_autoprobe`. The value found first is journalled before, and forgotten once it is back.
pub(super) fn set_autoprobe(node: &mut HostNode, pf: PciAddress, from: bool, to: bool) -> Done {
    let journalled = |source| HostError::Journal { source };
    let due = node.journal().save_autoprobe(pf, from).map_err(journalled)?;
    let text = if to { "1" } else { "0" };
    let command = write(node, pf, "sriov_drivers_autoprobe", text);
    node.in_child(pf, &command, |source| hint::autoprobe(pf, source))?;
    if due != to {
        return Ok(());
    }
    node.journal().autoprobe_restored(pf).map_err(|source| HostError::NotJournalled { source })
}

/// Sets the number of VFs, through 0 as the kernel demands, and counts what is there.
pub(super) fn set_num_vfs(node: &mut HostNode, pf: PciAddress, from: u16, to: u16) -> Done {
    let noted = |source| HostError::NotJournalled { source };
    let within = node.numvfs_deadline(pf);
    let attempt = |node: &mut HostNode, count: u16| {
        let command = write(node, pf, "sriov_numvfs", &count.to_string());
        node.in_child_within(pf, &command, within, |source| hint::numvfs(pf, count, source))
    };
    node.journal().forget_vfs(pf).map_err(|source| HostError::Journal { source })?;
    if from != 0 {
        attempt(node, 0)?;
        expect_count(node, pf, 0)?;
    }
    if to == 0 {
        return node.journal().set_made_by_us(pf, false).map_err(noted);
    }
    // Only now: VFs that somebody else made and that could not be removed are not ours.
    let ours = node.journal().set_made_by_us(pf, true);
    ours.map_err(|source| if from == 0 { HostError::Journal { source } } else { noted(source) })?;
    attempt(node, to)?;
    expect_count(node, pf, to)
}

/// The kernel accepts a driver that makes fewer VFs, with a line in its log only.
fn expect_count(node: &HostNode, pf: PciAddress, wanted: u16) -> Done {
    let made = unless_stale(Object::Pci(pf), node.look().vf_count(pf))?;
    match (made, wanted) {
        _ if made == wanted => Ok(()),
        (_, 0) => Err(HostError::NotReadBack {
            object: Object::Pci(pf),
            what: "removing its VFs",
            wanted: "0".to_owned(),
            found: format!("{made} VFs"),
        }),
        _ => Err(HostError::PartialEnable { pf, wanted, made }),
    }
}

/// Sets the e-switch mode and reads it back.
pub(super) fn set_eswitch(node: &mut HostNode, pf: PciAddress, to: EswitchMode) -> Done {
    let command = Command::Eswitch { device: Handle::from(pf).to_string(), mode: to };
    node.in_child(pf, &command, |source| hint::eswitch(pf, source))?;
    let found = unless_stale(Object::Pci(pf), node.look().eswitch(pf))?;
    if found.is(&to) {
        return Ok(());
    }
    Err(HostError::NotReadBack {
        object: Object::Pci(pf),
        what: "changing the e-switch mode",
        wanted: to.to_string(),
        found: found.known().map_or_else(|| "no mode".to_owned(), ToString::to_string),
    })
}

fn write(node: &HostNode, pf: PciAddress, file: &str, text: &str) -> Command {
    Command::Write { path: node.root().join(folder(pf)).join(file), text: text.to_owned() }
}

/// The PF's netdev.
pub(super) fn netdev(node: &HostNode, pf: PciAddress) -> Result<RawLink, HostError> {
    let object = Object::Pci(pf);
    unless_stale(object.clone(), node.look().netdev(pf))?.ok_or(HostError::NetdevGone { object })
}

pub(super) fn port(link: &RawLink) -> Port<'_> {
    Port { ifindex: link.ifindex, name: &link.name }
}

fn failed(pf: PciAddress, source: NetlinkError) -> HostError {
    HostError::netlink(Object::Pci(pf), source)
}
