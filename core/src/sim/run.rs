//! Steps as the sequences of writes that the host makes of them. A crash can come before any single write.

use super::kernel::Attribute;
use super::{Errno, SimError, SimNode, Violation};
use crate::id::{Object, PciAddress, VfRef};
use crate::ovs::{self, Target};
use crate::step::{Change, DriverTarget, Step};

type Done = Result<(), SimError>;

impl SimNode {
    pub(super) fn carry_out(&mut self, step: &Step) -> Done {
        let above_before: Vec<VfRef> = self.vfs_above_their_pf();
        let done = match &step.object {
            Object::Node => self.change_node(&step.change),
            Object::Pci(pf) => self.change_pf(*pf, &step.change),
            Object::Vf(vf) => self.change_vf(*vf, &step.change),
            Object::Named(_) => self.change_ovs(step),
            Object::Policy(..) => Ok(()),
        };
        for vf in self.vfs_above_their_pf() {
            let by_force = step.force && self.kernel.yields_to_force(vf);
            // A driver starts its netdev with an MTU of its own, which is nobody's order.
            let ordered = matches!(step.change, Change::SetPfMtu { .. } | Change::SetVfMtu { .. });
            if ordered && !above_before.contains(&vf) && !by_force {
                self.violate(Violation::MtuOrder { vf, step: step.to_string() });
            }
        }
        for violation in std::mem::take(&mut self.kernel.faults) {
            self.violate(violation);
        }
        done
    }

    /// One write: the moment at which something else may happen first.
    fn write(
        &mut self,
        what: impl Into<String>,
        write: impl FnOnce(&mut super::state::Kernel) -> Result<(), Errno>,
    ) -> Done {
        self.writes = self.writes.saturating_add(1);
        for event in self.schedule.at_write(self.writes) {
            self.happen(&event);
        }
        if self.crashed {
            return Err(SimError::Crashed);
        }
        write(&mut self.kernel).map_err(|errno| SimError::Refused { what: what.into(), errno })
    }

    fn change_node(&mut self, change: &Change) -> Done {
        if let Change::WriteUdevRule { to, .. } = change {
            let to = to.clone();
            return self.write("writing the udev rule", |kernel| {
                kernel.node.udev_rule = Some(to);
                Ok(())
            });
        }
        Ok(())
    }

    /// One transaction. That steps of a bridge are one transaction together is a promise that only the real node makes:
    /// here each may be the last.
    fn change_ovs(&mut self, step: &Step) -> Done {
        let (Some(target), Change::Ovs { owner, change }) = (Target::of(&step.object), &step.change) else {
            return Ok(());
        };
        self.write(format!("a transaction on {target}"), |kernel| {
            if let Some(ovs) = &mut kernel.ovs {
                ovs::perform(ovs, &target, owner, change);
            }
            Ok(())
        })
    }

    fn change_pf(&mut self, pf: PciAddress, change: &Change) -> Done {
        match change {
            Change::SetPfUp { .. } => self.write(format!("setting {pf} up"), |kernel| kernel.set_pf_up(pf)),
            Change::SetPfMtu { to, .. } => {
                self.write(format!("setting the MTU of {pf} to {to}"), |kernel| kernel.set_pf_mtu(pf, *to))
            }
            Change::SetAutoprobe { from, to } => self.set_autoprobe(pf, *from, *to),
            Change::SetNumVfs { from, to } => self.set_num_vfs(pf, *from, *to),
            Change::SetEswitch { to, .. } => self
                .write(format!("setting the e-switch of {pf} to {to}"), |kernel| kernel.set_eswitch(pf, *to)),
            Change::LoadModule { module } => {
                self.write(format!("loading {module}"), |kernel| kernel.load_module(module))
            }
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
            | Change::Ovs { .. } => Ok(()),
        }
    }

    /// The value found first goes to the journal before it is changed, and leaves it when it is back.
    fn set_autoprobe(&mut self, pf: PciAddress, from: bool, to: bool) -> Done {
        self.write(format!("journalling the autoprobe of {pf}"), |_| Ok(()))?;
        let saved = *self.state_dir.saved_autoprobe.entry(pf).or_insert(from);
        self.write(format!("writing {to} to sriov_drivers_autoprobe of {pf}"), |kernel| {
            kernel.write_autoprobe(pf, to)
        })?;
        if saved == to {
            self.state_dir.saved_autoprobe.remove(&pf);
        }
        Ok(())
    }

    /// From one number to another goes through 0.
    fn set_num_vfs(&mut self, pf: PciAddress, from: u16, to: u16) -> Done {
        let what = |count: u16| format!("writing {count} to sriov_numvfs of {pf}");
        if from != 0 {
            self.write(what(0), |kernel| kernel.write_numvfs(pf, 0))?;
        }
        self.state_dir.remembered.retain(|vf, _| vf.pf != pf);
        if to == 0 {
            self.state_dir.made_by_us.remove(&pf);
            return Ok(());
        }
        self.state_dir.made_by_us.insert(pf);
        self.write(what(to), |kernel| kernel.write_numvfs(pf, to))?;
        let there = self.kernel.pf(pf).map_or(0, |pf| pf.vfs.len());
        if there == usize::from(to) { Ok(()) } else { Err(not_read_back(what(to), there.to_string())) }
    }

    fn change_vf(&mut self, vf: VfRef, change: &Change) -> Done {
        // A driver that is bound anew makes a new netdev: what is remembered is of the old one.
        if matches!(change, Change::BindVf { .. } | Change::UnbindVf { .. } | Change::ReprobeVf { .. }) {
            self.state_dir.remembered.remove(&vf);
        }
        match change {
            Change::UnbindVf { .. } => self.write(format!("unbinding {vf}"), |kernel| kernel.unbind(vf)),
            Change::BindVf { to, .. } => {
                let bound = self.kernel.vf(vf).and_then(|vf| vf.driver.as_deref());
                if matches!(to, DriverTarget::Named { driver, .. } if bound == Some(driver)) {
                    return Ok(());
                }
                if bound.is_some() {
                    self.write(format!("unbinding {vf}"), |kernel| kernel.unbind(vf))?;
                }
                self.bind(vf, to)
            }
            Change::ReprobeVf { driver } => {
                self.write(format!("unbinding {vf}"), |kernel| kernel.unbind(vf))?;
                let pinned = self.kernel.vf(vf).is_some_and(|vf| vf.driver_override.is_some());
                self.bind(vf, &DriverTarget::Named { driver: driver.clone(), keep_override: pinned })
            }
            Change::SetVfMac { to, .. } => self.set(vf, "MAC", Attribute::Mac(*to)),
            Change::SetVfVlan { to, .. } => self.set(vf, "VLAN", Attribute::Vlan(*to)),
            Change::SetVfSpoofCheck { to, .. } => self.set(vf, "spoof check", Attribute::SpoofCheck(*to)),
            Change::SetVfTrust { to, .. } => self.set(vf, "trust", Attribute::Trust(*to)),
            Change::SetVfRate { to, .. } => self.set(vf, "rate", Attribute::Rate(*to)),
            Change::SetVfLinkState { to, .. } => self.set(vf, "link state", Attribute::LinkState(*to)),
            Change::RenameVf { to, .. } => {
                self.write(format!("renaming the netdev of {vf} to {to}"), |kernel| kernel.rename_vf(vf, to))
            }
            Change::SetVfMtu { to, .. } => {
                self.write(format!("setting the MTU of {vf} to {to}"), |kernel| kernel.set_vf_mtu(vf, *to))
            }
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

    fn set(&mut self, vf: VfRef, name: &str, attribute: Attribute) -> Done {
        self.write(format!("setting the {name} of {vf}"), |kernel| kernel.set_attribute(vf, attribute))
    }

    /// Override, probe, read back, and no override where it is not to stay.
    fn bind(&mut self, vf: VfRef, to: &DriverTarget) -> Done {
        let (wanted, keep) = match to {
            DriverTarget::Named { driver, keep_override } => (Some(driver.as_str()), *keep_override),
            DriverTarget::Default => (None, false),
        };
        let overriding = format!("writing driver_override of {vf}");
        self.write(overriding.clone(), |kernel| kernel.write_override(vf, wanted))?;
        self.write(format!("probing {vf}"), |kernel| kernel.drivers_probe(vf))?;
        let found = self.kernel.vf(vf).and_then(|vf| vf.driver.clone());
        if found.is_none() || wanted.is_some_and(|wanted| found.as_deref() != Some(wanted)) {
            let found = found.unwrap_or_else(|| "without driver".to_owned());
            return Err(not_read_back(format!("probing {vf}"), found));
        }
        if wanted.is_some() && !keep {
            self.write(overriding, |kernel| kernel.write_override(vf, None))?;
        }
        if self.kernel.vf(vf).is_some_and(|vf| vf.late) {
            return Err(not_read_back(format!("probing {vf}"), "without netdev"));
        }
        Ok(())
    }

    /// VFs whose netdev has a larger MTU than the PF's, wherever it is. A netdev that nobody has observed yet (its module was
    /// just loaded) does not count.
    fn vfs_above_their_pf(&self) -> Vec<VfRef> {
        let above = |vf: &VfRef| {
            let pf = self.kernel.pf(vf.pf).and_then(|pf| pf.netdev.as_ref());
            let netdev = self.kernel.vf(*vf).and_then(|vf| vf.netdev.as_ref());
            let known = netdev.filter(|netdev| netdev.ifindex <= self.known_ifindex);
            pf.zip(known).is_some_and(|(pf, vf)| vf.mtu > pf.mtu)
        };
        self.kernel.vfs().filter(above).collect()
    }
}

fn not_read_back(what: String, found: impl Into<String>) -> SimError {
    SimError::NotReadBack { what, found: found.into() }
}
