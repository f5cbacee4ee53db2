//! Whether what a step expects is still so. `from: None` on a VF attribute means that the VF did not exist when the plan
//! was made: whatever a fresh VF has is as expected.

use std::fmt::Debug;

use portwright_core::drive::RunError;
use portwright_core::observed::VfAdmin;
use portwright_core::step::DriverTarget;
use portwright_core::{Change, Fact, Object, PciAddress, Step, VfRef, udev_rule};

use super::error::HostError;
use super::{Checked, Look, stale};
use crate::netlink::{self, RawLink};
use crate::root::Root;

/// Checks a step against the node.
pub(crate) fn still_holds(root: &Root, step: &Step) -> Checked<()> {
    let look = Look::new(root);
    match &step.object {
        Object::Node => node_holds(look, &step.change),
        Object::Pci(pf) => pf_holds(look, *pf, &step.change),
        Object::Vf(vf) => vf_holds(look, *vf, &step.change),
        // Nothing to compare with; carrying it out says that it is misplaced.
        Object::Policy(..) | Object::Named(_) => Ok(()),
    }
}

fn equal<T: PartialEq + Debug>(what: &str, found: &T, from: &T) -> Checked<()> {
    if found == from { Ok(()) } else { stale(format!("{what} is {found:?}, not {from:?}")) }
}

fn node_holds(look: Look<'_>, change: &Change) -> Checked<()> {
    if let Change::WriteUdevRule { from, .. } = change {
        let found = look.text(udev_rule::PATH)?;
        return if found == *from { Ok(()) } else { stale(format!("{} is another one", udev_rule::PATH)) };
    }
    Ok(())
}

fn pf_holds(look: Look<'_>, pf: PciAddress, change: &Change) -> Checked<()> {
    let netdev = || {
        let found = look.netdev(pf)?;
        found.map_or_else(|| stale(format!("{pf} has no netdev")), Ok)
    };
    match change {
        Change::SetPfUp { .. } => equal("the link's `up`", &netdev()?.up, &false),
        Change::SetPfMtu { from, .. } => equal("the MTU", &netdev()?.mtu, &Some(*from)),
        Change::SetAutoprobe { from, .. } => equal("autoprobe", &look.autoprobe(pf)?, from),
        Change::SetNumVfs { from, .. } => equal("the number of VFs", &look.vf_count(pf)?, from),
        Change::SetEswitch { from, .. } => {
            equal("the e-switch mode", &look.eswitch(pf)?, &Fact::Known(*from))
        }
        // Loading what is loaded, because another PF wanted it as well, is no harm.
        Change::LoadModule { .. }
        | Change::WriteUdevRule { .. }
        | Change::UnbindVf { .. }
        | Change::BindVf { .. }
        | Change::ReprobeVf { .. }
        | Change::SetVfMac { .. }
        | Change::SetVfVlan { .. }
        | Change::SetVfSpoofCheck { .. }
        | Change::SetVfTrust { .. }
        | Change::SetVfRate { .. }
        | Change::SetVfLinkState { .. }
        | Change::RenameVf { .. }
        | Change::SetVfMtu { .. }
        | Change::Ovs { .. } => Ok(()),
    }
}

fn vf_holds(look: Look<'_>, vf: VfRef, change: &Change) -> Checked<()> {
    let address = look.vf(vf)?;
    let netdev = || vf_netdev(look, vf, address);
    match change {
        Change::UnbindVf { from } | Change::ReprobeVf { driver: from } => {
            equal("the driver", &look.driver(address)?.as_ref(), &Some(from))
        }
        Change::BindVf { from, to } => match (look.driver(address)?, to) {
            // A module that was loaded before may have bound it already, as is wanted.
            (Some(found), DriverTarget::Named { driver, .. }) if found == *driver => Ok(()),
            (found, _) => equal("the driver", &found, from),
        },
        Change::SetVfMac { from, .. } => attribute(look, vf, *from, "MAC", |admin| admin.mac),
        Change::SetVfVlan { from, .. } => attribute(look, vf, *from, "VLAN", |admin| admin.vlan),
        Change::SetVfSpoofCheck { from, .. } => {
            attribute(look, vf, *from, "spoof check", |admin| admin.spoof_check)
        }
        Change::SetVfTrust { from, .. } => attribute(look, vf, *from, "trust", |admin| admin.trust),
        Change::SetVfRate { from, .. } => attribute(look, vf, *from, "rate", |admin| admin.tx_rate),
        Change::SetVfLinkState { from, .. } => {
            attribute(look, vf, *from, "link state", |admin| admin.link_state)
        }
        Change::RenameVf { from, .. } => equal("the netdev's name", &netdev()?.name, from),
        Change::SetVfMtu { from: Some(from), .. } => equal("the MTU", &netdev()?.mtu, &Some(*from)),
        Change::SetVfMtu { from: None, .. } => netdev().map(drop),
        Change::WriteUdevRule { .. }
        | Change::LoadModule { .. }
        | Change::SetPfUp { .. }
        | Change::SetPfMtu { .. }
        | Change::SetAutoprobe { .. }
        | Change::SetNumVfs { .. }
        | Change::SetEswitch { .. }
        | Change::Ovs { .. } => Ok(()),
    }
}

fn vf_netdev(look: Look<'_>, vf: VfRef, address: PciAddress) -> Checked<RawLink> {
    look.netdev(address)?.map_or_else(|| stale(format!("{vf} has no netdev here")), Ok)
}

fn attribute<T: PartialEq + Debug + Copy>(
    look: Look<'_>,
    vf: VfRef,
    from: Option<T>,
    what: &str,
    of: impl Fn(&VfAdmin) -> Fact<T>,
) -> Checked<()> {
    let Some(from) = from else { return Ok(()) };
    let Some(netdev) = look.netdev(vf.pf)? else { return stale(format!("{} has no netdev", vf.pf)) };
    let failed = |source| RunError::Failed(HostError::netlink(Object::Vf(vf), source));
    let vfs = netlink::vf_attributes(netdev.ifindex).map_err(failed)?;
    match vfs.get(&vf.index) {
        Some(admin) => equal(&format!("its {what}"), &of(admin), &Fact::Known(from)),
        None => stale(format!("{} does not list {vf}", netdev.name)),
    }
}
