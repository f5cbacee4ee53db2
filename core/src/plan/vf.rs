//! One VF: its MAC, attributes, driver, name and MTU.
//!
//! Attributes that belong to the PF's driver are set before the VF's driver probes, so that it starts with them. A VF in
//! use belongs to its user: what a CNI plugin set on it is not drift. A wish that is absent leaves the value as it is.

use super::Findings;
use super::gate::{Request, gate};
use super::link::Link;
use super::netdev::makes_netdev;
use super::pf::{PfPlanner, words};
use super::preflight::{for_user_space, is_vfio};
use crate::desired::{DriverWish, VfGroup};
use crate::id::{Object, VfRef};
use crate::observed::Vf;
use crate::step::{Change, Disruption, DriverTarget, Step};
use crate::usage::uses;

impl PfPlanner<'_> {
    /// Plans a VF that the plan makes anew. `probed` says that the kernel binds it by itself.
    pub(super) fn plan_new_vf(&self, findings: &mut Findings, index: u16, probed: bool, link: Link) {
        let vf = VfRef { pf: self.pf.address, index };
        let group = self.entry.group(index);
        if let Some(group) = group {
            self.plan_attributes(findings, vf, group, None, link);
        }
        let wanted = self.wanted_driver(group);
        let with_netdev = wanted.as_ref().is_some_and(makes_netdev);
        if let Some(to) = wanted.filter(|_| !probed) {
            findings.step(Object::Vf(vf), Change::BindVf { from: None, to }, Disruption::None, false);
        }
        if with_netdev {
            self.plan_mtu_after_binding(findings, vf, group, link, None);
        }
    }

    /// Plans a VF that exists and stays. `unbound` says that an e-switch change before has unbound it, and whether by force;
    /// `link` is what the PF's link will be.
    pub(super) fn plan_existing_vf(
        &self,
        findings: &mut Findings,
        vf: &Vf,
        unbound: Option<bool>,
        link: Link,
    ) {
        let taken = unbound.unwrap_or(false);
        let unbound = unbound.is_some();
        let reference = VfRef { pf: self.pf.address, index: vf.index };
        let group = self.entry.group(vf.index);
        let users = uses(self.context.observed, reference);
        let driver = if unbound { None } else { vf.driver.as_ref() };
        // A VF that nothing is wanted of gets back what an unbinding took from it.
        let before = vf.driver.as_ref().filter(|_| unbound).map(|driver| DriverTarget::Named {
            driver: driver.clone(),
            keep_override: vf.driver_override.is_some(),
        });
        let wanted = self.wanted_driver(group).or(before);
        let lacks = |wanted: &DriverTarget| !self.has_driver(driver, wanted);
        let settled = !wanted.as_ref().is_some_and(lacks);
        let bind = wanted.filter(|wanted| lacks(wanted) && self.can_bind(wanted));
        let netdev_after = bind.as_ref().map(makes_netdev);
        let in_use = !users.is_empty();
        let binding = bind.and_then(|to| self.plan_binding(findings, reference, vf, unbound, to, users));
        // What a user set on its VF is no drift; only after an unbinding by force is it ours again.
        if in_use && !unbound && binding.is_none() {
            return;
        }
        if let Some(why) =
            self.context.management.why(vf.address).filter(|_| !self.entry.allow_management_path)
        {
            if settled {
                self.tell_protected(findings, vf, group, link, why);
            }
            return;
        }
        let before = findings.steps.len();
        if let Some(group) = group {
            self.plan_attributes(findings, reference, group, Some(vf), link);
        }
        // What prepares a binding by force is done by force as well: its user still has the VF.
        let force = taken || binding.as_ref().is_some_and(|binding| binding.force);
        findings.steps.iter_mut().skip(before).for_each(|step| step.force |= force);
        // Attributes go before the binding, so that the driver starts with them.
        if let Some((binding, with_netdev)) = binding.zip(netdev_after) {
            findings.steps.push(binding);
            if with_netdev {
                self.plan_mtu_after_binding(findings, reference, group, link, None);
            }
            return;
        }
        if !(settled && self.plan_probe(findings, reference, vf, group, link)) {
            self.plan_netdev(findings, reference, vf, group.filter(|_| settled), link);
        }
    }

    /// Tells what would be changed on a VF that the node is reached over, if anything.
    fn tell_protected(
        &self,
        findings: &mut Findings,
        vf: &Vf,
        group: Option<&VfGroup>,
        link: Link,
        why: &str,
    ) {
        let reference = VfRef { pf: self.pf.address, index: vf.index };
        let mut would = Findings::default();
        if let Some(group) = group {
            self.plan_attributes(&mut would, reference, group, Some(vf), link);
        }
        if !self.plan_probe(&mut would, reference, vf, group, link) {
            self.plan_netdev(&mut would, reference, vf, group, link);
        }
        if !would.steps.is_empty() {
            let changes: Vec<String> = would.steps.iter().map(|step| words(&step.change)).collect();
            let what = format!("`{}`", changes.join("`, `"));
            let name = format!("VF {}", vf.index);
            findings.blocked.push(super::on_management_path(Object::Vf(reference), &name, why, &what));
        }
    }

    /// Plans a change of driver; `None` if it may not be done, with the reason among the obstacles.
    fn plan_binding(
        &self,
        findings: &mut Findings,
        reference: VfRef,
        vf: &Vf,
        unbound: bool,
        to: DriverTarget,
        users: Vec<crate::usage::Use>,
    ) -> Option<Step> {
        let object = Object::Vf(reference);
        // The PF's obstacles say so already.
        if self.foreign_group_peer(vf, &to).is_some() {
            return None;
        }
        if let Some(why) =
            self.context.management.why(vf.address).filter(|_| !self.entry.allow_management_path)
        {
            let name = format!("VF {}", vf.index);
            findings.blocked.push(super::on_management_path(object, &name, why, "rebinding it"));
            return None;
        }
        let from = if unbound { None } else { vf.driver.clone() };
        let disruption = if from.is_some() { Disruption::Vf } else { Disruption::None };
        let users = if users.is_empty() || unbound { Vec::new() } else { vec![(reference, users)] };
        let request = Request {
            object: object.clone(),
            what: "binding it to another driver",
            consequence: "take it from its user",
            alternative: None,
            disruption,
            users,
        };
        match gate(self.permit(), request, &mut findings.notes) {
            Ok(force) => Some(Step { object, change: Change::BindVf { from, to }, disruption, force }),
            Err(refusal) => {
                findings.refused(refusal);
                None
            }
        }
    }

    /// A function of the VF's IOMMU group that keeps the VF from VFIO.
    pub(super) fn foreign_group_peer(&self, vf: &Vf, to: &DriverTarget) -> Option<crate::id::PciAddress> {
        let DriverTarget::Named { driver, .. } = to else { return None };
        if !is_vfio(driver) {
            return None;
        }
        let goes_to_vfio = |address: &crate::id::PciAddress| {
            let sibling = self.pf.vfs.iter().find(|vf| vf.address == *address);
            sibling.is_some_and(|vf| {
                let group = self.entry.group(vf.index);
                group.is_some_and(
                    |group| matches!(&group.driver, DriverWish::Named(driver) if is_vfio(driver)),
                )
            })
        };
        vf.group_peers.iter().find(|peer| !goes_to_vfio(peer)).copied()
    }

    /// What a VF should be bound to. A VF in no group keeps the kernel's driver, if the kernel binds drivers at all.
    fn wanted_driver(&self, group: Option<&VfGroup>) -> Option<DriverTarget> {
        let kernel = || match self.vf_driver() {
            Some(driver) => DriverTarget::Named { driver: driver.to_owned(), keep_override: false },
            None => DriverTarget::Default,
        };
        match group.map(|group| &group.driver) {
            Some(DriverWish::Named(driver)) => {
                let own = self.vf_driver() == Some(driver.as_str());
                Some(DriverTarget::Named { driver: driver.clone(), keep_override: !own })
            }
            Some(DriverWish::Kernel) => Some(kernel()),
            None => {
                let steady = self.steady_autoprobe();
                let there = self.vf_driver().is_none_or(|driver| {
                    let node = &self.context.observed.node;
                    node.drivers.is_empty() || node.driver_loaded(driver)
                });
                (steady != Some(false) && there).then(kernel)
            }
        }
    }

    /// Whether a VF has the driver that is wanted.
    pub(super) fn has_driver(&self, driver: Option<&String>, wanted: &DriverTarget) -> bool {
        match (driver, wanted) {
            (Some(driver), DriverTarget::Named { driver: wanted, .. }) => driver == wanted,
            // The kernel's choice is not known; a driver for user space is certainly not it.
            (Some(driver), DriverTarget::Default) => !for_user_space(driver),
            (None, DriverTarget::Named { .. } | DriverTarget::Default) => false,
        }
    }
}
