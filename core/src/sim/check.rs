//! What is looked at before a step: whether its `from` still holds and whether somebody uses what it touches. A step that
//! should never have been planned is recorded as a violation and not carried out.

use super::state::{Admin, Kernel, SimNetdev, SimVf};
use super::{SimError, SimNode, Violation};
use crate::drive::RunError;
use crate::id::{Object, PciAddress, VfRef};
use crate::ovs::{self, Target};
use crate::step::{Change, Disruption, DriverTarget, Step};

type Checked = Result<(), RunError<SimError>>;

fn stale(found: impl Into<String>) -> RunError<SimError> {
    RunError::Stale { found: found.into() }
}

impl SimNode {
    pub(super) fn check(&mut self, step: &Step) -> Checked {
        still_holds(&self.kernel, step)?;
        self.check_management(step)?;
        self.check_holders(step)
    }

    /// A VF in use belongs to its user. One that came into use after the last observation is only stale, and is looked at
    /// before disruptive steps only, as on a real node.
    fn check_holders(&mut self, step: &Step) -> Checked {
        for vf in touched_vfs(&self.kernel, step) {
            if !self.kernel.in_use(vf) {
                continue;
            }
            if step.force && self.kernel.yields_to_force(vf) {
                // It is taken from its user now; the steps that follow find nobody.
                self.known_in_use.remove(&vf);
            } else if self.known_in_use.get(&vf).is_some_and(|hard| *hard || !step.force) {
                self.violate(Violation::VfInUse { vf, step: step.to_string() });
                return Err(stale(format!("{vf} is in use")));
            } else if step.disruption != Disruption::None {
                return Err(stale(format!("{vf} is in use")));
            }
        }
        Ok(())
    }

    fn check_management(&mut self, step: &Step) -> Checked {
        for function in touched_functions(&self.kernel, step) {
            if self.kernel.protected.contains(&function) && !self.kernel.allowed.contains(&function) {
                self.violate(Violation::ManagementPath { function, step: step.to_string() });
                return Err(stale(format!("{function} carries the management path")));
            }
        }
        Ok(())
    }
}

/// VFs that the step takes away from whoever uses them or changes under them.
fn touched_vfs(kernel: &Kernel, step: &Step) -> Vec<VfRef> {
    match (&step.change, &step.object) {
        (Change::SetNumVfs { .. } | Change::SetEswitch { .. }, Object::Pci(pf)) => {
            kernel.vfs().filter(|vf| vf.pf == *pf).collect()
        }
        (Change::SetPfMtu { .. }, Object::Pci(pf)) => {
            let resets = kernel.pf(*pf).is_some_and(|pf| !pf.family.traits().mtu_keeps_vfs);
            kernel.vfs().filter(|vf| resets && vf.pf == *pf).collect()
        }
        (_, Object::Vf(vf)) => vec![*vf],
        (_, Object::Pci(_) | Object::Node | Object::Policy(..) | Object::Named(_)) => Vec::new(),
    }
}

/// Functions whose settings the step changes. Autoprobe and admin-up hurt nobody.
fn touched_functions(kernel: &Kernel, step: &Step) -> Vec<PciAddress> {
    let address_of = |vf: VfRef| kernel.vf(vf).map(|vf| vf.address);
    match (&step.change, &step.object) {
        (Change::SetNumVfs { .. } | Change::SetEswitch { .. } | Change::SetPfMtu { .. }, Object::Pci(pf)) => {
            let vfs = kernel.vfs().filter(|vf| vf.pf == *pf).filter_map(address_of);
            std::iter::once(*pf).chain(vfs).collect()
        }
        (_, Object::Vf(vf)) => address_of(*vf).into_iter().collect(),
        (_, Object::Pci(_) | Object::Node | Object::Policy(..) | Object::Named(_)) => Vec::new(),
    }
}

/// Whether the node is as the step expects.
fn still_holds(kernel: &Kernel, step: &Step) -> Checked {
    match &step.object {
        Object::Node => node_holds(kernel, &step.change),
        Object::Pci(pf) => pf_holds(kernel, *pf, &step.change),
        Object::Vf(vf) => {
            let there = kernel.vf(*vf).ok_or_else(|| stale(format!("{vf} is not there")))?;
            vf_holds(there, &step.change)
        }
        Object::Named(_) => ovs_holds(kernel, step),
        Object::Policy(..) => Err(stale(format!("{} cannot be changed", step.object))),
    }
}

fn ovs_holds(kernel: &Kernel, step: &Step) -> Checked {
    let (Some(target), Some(ovs)) = (Target::of(&step.object), &kernel.ovs) else {
        return Err(stale(format!("{} cannot be changed", step.object)));
    };
    let Change::Ovs { owner, change } = &step.change else {
        return Err(stale(format!("not a change of {target}")));
    };
    ovs::conflict(ovs, &target, owner, change).map_or(Ok(()), |found| Err(stale(found)))
}

fn equal<T: PartialEq + std::fmt::Debug>(found: &T, from: &T) -> Checked {
    if found == from { Ok(()) } else { Err(stale(format!("found {found:?} instead of {from:?}"))) }
}

/// `None` means that the VF did not exist when the plan was made: whatever a fresh VF has is as expected.
fn equal_if_known<T: PartialEq + std::fmt::Debug>(found: &T, from: Option<&T>) -> Checked {
    from.map_or(Ok(()), |from| equal(found, from))
}

fn node_holds(kernel: &Kernel, change: &Change) -> Checked {
    if let Change::WriteUdevRule { from, .. } = change {
        return equal(&kernel.node.udev_rule, from);
    }
    Err(stale("not a change of the node"))
}

fn pf_holds(kernel: &Kernel, address: PciAddress, change: &Change) -> Checked {
    let pf = kernel.pf(address).ok_or_else(|| stale(format!("{address} is not there")))?;
    let netdev = || pf.netdev.as_ref().ok_or_else(|| stale(format!("{address} has no netdev")));
    match change {
        // Loading what is loaded (another PF wanted it as well) is no harm.
        Change::LoadModule { .. } => Ok(()),
        Change::SetPfUp { .. } => equal(&netdev()?.up, &false),
        Change::SetPfMtu { from, .. } => equal(&netdev()?.mtu, from),
        Change::SetAutoprobe { from, .. } => equal(&pf.autoprobe, from),
        Change::SetNumVfs { from, .. } => equal(&pf.vfs.len(), &usize::from(*from)),
        Change::SetEswitch { from, .. } => equal(&pf.eswitch, from),
        Change::WriteUdevRule { .. }
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
        | Change::Ovs { .. } => Err(stale("not a change of a PF")),
    }
}

fn vf_holds(vf: &SimVf, change: &Change) -> Checked {
    let Admin { mac, vlan, spoof_check, trust, tx_rate, link_state } = &vf.admin;
    let visible = |netdev: &&SimNetdev| netdev.in_host() && !vf.late;
    let netdev = || vf.netdev.as_ref().filter(visible).ok_or_else(|| stale("the VF has no netdev here"));
    match change {
        Change::UnbindVf { from } | Change::ReprobeVf { driver: from } => {
            equal(&vf.driver.as_ref(), &Some(from))
        }
        // A module that was loaded before may have bound it already, as is wanted.
        Change::BindVf { to: DriverTarget::Named { driver, .. }, .. }
            if vf.driver.as_ref() == Some(driver) =>
        {
            Ok(())
        }
        Change::BindVf { from, .. } => equal(&vf.driver, from),
        Change::SetVfMac { from, .. } => equal_if_known(mac, from.as_ref()),
        Change::SetVfVlan { from, .. } => equal_if_known(vlan, from.as_ref()),
        Change::SetVfSpoofCheck { from, .. } => equal_if_known(spoof_check, from.as_ref()),
        Change::SetVfTrust { from, .. } => equal_if_known(trust, from.as_ref()),
        Change::SetVfRate { from, .. } => equal_if_known(tx_rate, from.as_ref()),
        Change::SetVfLinkState { from, .. } => equal_if_known(link_state, from.as_ref()),
        Change::RenameVf { from, .. } => equal(&netdev()?.name, from),
        Change::SetVfMtu { from, .. } => equal_if_known(&netdev()?.mtu, from.as_ref()),
        Change::WriteUdevRule { .. }
        | Change::LoadModule { .. }
        | Change::SetPfUp { .. }
        | Change::SetPfMtu { .. }
        | Change::SetAutoprobe { .. }
        | Change::SetNumVfs { .. }
        | Change::SetEswitch { .. }
        | Change::Ovs { .. } => Err(stale("not a change of a VF")),
    }
}
