//! One VF: its MAC, attributes, driver, name and MTU.
//!
//! Attributes that belong to the PF's driver are set before the VF's driver probes, so that it starts with them. A VF in
//! use belongs to its user: what a CNI plugin set on it is not drift. A wish that is absent leaves the value as it is.

use super::Findings;
use super::gate::{Request, gate};
use super::pf::{Link, PfPlanner};
use super::preflight::{is_vfio, wanted_attributes};
use crate::blocked::{Blocked, Reason};
use crate::desired::{DriverWish, MacPolicy, TxRate, VfGroup};
use crate::fact::{Absence, Fact};
use crate::id::{MacAddress, Object, VfRef};
use crate::mac;
use crate::observed::Vf;
use crate::profile::{MacApplies, VfAttribute};
use crate::step::{Change, Disruption, DriverTarget, Step};
use crate::usage::uses;

/// What is known of the value that a wish is about.
enum Present<T> {
    /// The VF does not exist yet.
    New,
    /// It exists.
    Is(Fact<T>),
}

impl PfPlanner<'_> {
    /// Plans a VF that the plan makes anew. `probed` says that the kernel binds it by itself.
    pub(super) fn plan_new_vf(&self, findings: &mut Findings, index: u16, probed: bool, link: Link) {
        let vf = VfRef { pf: self.pf.address, index };
        let group = self.entry.group(index);
        if let Some(group) = group {
            self.plan_attributes(findings, vf, group, None, link);
        }
        if let Some(to) = self.wanted_driver(group).filter(|_| !probed) {
            findings.step(Object::Vf(vf), Change::BindVf { from: None, to }, Disruption::None, false);
        }
        self.plan_mtu_after_binding(findings, vf, group, link);
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
        let in_use = !users.is_empty();
        let binding = bind.and_then(|to| self.plan_binding(findings, reference, vf, unbound, to, users));
        // What a user set on its VF is no drift; only after an unbinding by force is it ours again.
        if in_use && !unbound && binding.is_none() {
            return;
        }
        if self.context.management.why(vf.address).is_some() && !self.entry.allow_management_path {
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
        if let Some(binding) = binding {
            findings.steps.push(binding);
            self.plan_mtu_after_binding(findings, reference, group, link);
            return;
        }
        if !(settled && self.plan_probe(findings, reference, vf, group, link)) {
            self.plan_netdev(findings, reference, vf, group.filter(|_| settled), link);
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
        match gate(self.document.disruption, request, &mut findings.notes) {
            Ok(force) => Some(Step { object, change: Change::BindVf { from, to }, disruption, force }),
            Err(mut obstacles) => {
                findings.blocked.append(&mut obstacles);
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
            (Some(driver), DriverTarget::Default) => !is_vfio(driver) && !driver.contains("uio"),
            (None, DriverTarget::Named { .. } | DriverTarget::Default) => false,
        }
    }

    fn plan_attributes(
        &self,
        findings: &mut Findings,
        vf: VfRef,
        group: &VfGroup,
        existing: Option<&Vf>,
        link: Link,
    ) {
        if self.pf.netdev().is_none() && self.pf.name.is_none() {
            return;
        }
        let admin = existing.map(|vf| &vf.admin);
        // What the driver does not take is an obstacle that was told already.
        let refused = |attributes: &[VfAttribute]| {
            let mut wanted = wanted_attributes(group).into_iter().map(|(attribute, _)| attribute);
            wanted.any(|attribute| attributes.contains(&attribute) && !self.takes(attribute))
        };
        fn present<T: Copy>(fact: Option<&Fact<T>>) -> Present<T> {
            fact.map_or(Present::New, |fact| Present::Is(*fact))
        }
        // A VF that no driver has carries no traffic.
        let idle = existing.is_none_or(|vf| vf.driver.is_none());
        let cuts = if idle { Disruption::None } else { Disruption::Vf };
        let (plain, free) = (Disruption::None, Disruption::None);
        let mac = self.wanted_mac(vf, group, existing);
        let change = |from, to| Change::SetVfMac { from, to };
        self.wish(findings, vf, "MAC", cuts, mac, present(admin.map(|a| &a.mac)), change);
        let change = |from, to| Change::SetVfVlan { from, to };
        let vlan = group.vlan.filter(|_| !refused(&[VfAttribute::Vlan, VfAttribute::VlanDot1ad]));
        self.wish(findings, vf, "VLAN", cuts, vlan, present(admin.map(|a| &a.vlan)), change);
        let change = |from, to| Change::SetVfSpoofCheck { from, to };
        self.wish(
            findings,
            vf,
            "spoof check",
            plain,
            group.spoof_check.filter(|_| !refused(&[VfAttribute::SpoofCheck])),
            present(admin.map(|a| &a.spoof_check)),
            change,
        );
        let change = |from, to| Change::SetVfTrust { from, to };
        let trust = group.trust.filter(|_| !refused(&[VfAttribute::Trust]));
        self.wish(findings, vf, "trust", free, trust, present(admin.map(|a| &a.trust)), change);
        let there = admin.and_then(|a| a.tx_rate.known().copied()).unwrap_or(TxRate { min: 0, max: 0 });
        let rate = group.tx_rate.filter(|_| !refused(&[VfAttribute::MinRate, VfAttribute::MaxRate]));
        let rate = rate.map(|wish| wish.over(there));
        let change = |from, to| Change::SetVfRate { from, to };
        // A new VF has no limits, so a wish for none needs no step (and some drivers refuse it).
        let rate = rate.filter(|rate| existing.is_some() || *rate != TxRate { min: 0, max: 0 });
        let rate = rate.filter(|rate| !self.lacks_carrier(findings, vf, existing, *rate, link));
        self.wish(findings, vf, "rate", free, rate, present(admin.map(|a| &a.tx_rate)), change);
        let change = |from, to| Change::SetVfLinkState { from, to };
        self.wish(
            findings,
            vf,
            "link state",
            cuts,
            group.link_state.filter(|_| !refused(&[VfAttribute::LinkState])),
            present(admin.map(|a| &a.link_state)),
            change,
        );
    }

    /// Whether rates cannot be set because the driver wants carrier for that and there is none.
    fn lacks_carrier(
        &self,
        findings: &mut Findings,
        vf: VfRef,
        existing: Option<&Vf>,
        rate: TxRate,
        link: Link,
    ) -> bool {
        let needs = self.profile.and_then(|profile| profile.rate_needs_carrier.as_ref());
        let set = existing.is_some_and(|vf| vf.admin.tx_rate.is(&rate));
        // A PF that this plan sets up may get carrier; one that is up says whether it has it.
        let without = !link.up || self.pf.netdev().is_some_and(|netdev| netdev.carrier == Some(false));
        let lacks = needs.is_some_and(|needs| needs.value) && without && !set;
        if lacks {
            findings.blocked.push(Blocked::new(
                Object::Vf(vf),
                Reason::NoCarrier,
                format!("a rate of {rate} is wanted, which driver {} takes only with carrier", self.driver()),
                "plug the cable in or switch the port on at the other end",
            ));
        }
        lacks
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one wish is what, how much it cuts, wanted, present and how to change"
    )]
    fn wish<T: Copy + PartialEq>(
        &self,
        findings: &mut Findings,
        vf: VfRef,
        what: &str,
        disruption: Disruption,
        wanted: Option<T>,
        present: Present<T>,
        change: impl Fn(Option<T>, T) -> Change,
    ) {
        let Some(wanted) = wanted else { return };
        let object = Object::Vf(vf);
        match present {
            Present::New => findings.step(object, change(None, wanted), Disruption::None, false),
            Present::Is(Fact::Known(value)) if value == wanted => {}
            Present::Is(Fact::Known(value)) => {
                let what = format!("changing its {what}");
                let request = Request {
                    object: object.clone(),
                    what: &what,
                    consequence: "cut it off",
                    alternative: None,
                    disruption,
                    users: Vec::new(),
                };
                match gate(self.document.disruption, request, &mut findings.notes) {
                    Ok(force) => findings.step(object, change(Some(value), wanted), disruption, force),
                    Err(mut obstacles) => findings.blocked.append(&mut obstacles),
                }
            }
            Present::Is(Fact::Absent(Absence::Unknown)) => findings.unknown(object, what),
            Present::Is(Fact::Absent(Absence::Unsupported)) => findings.blocked.push(Blocked::new(
                object,
                Reason::PfUnsupported,
                format!("a {what} is wanted and driver {} has no such setting", self.driver()),
                "leave it out of this group",
            )),
        }
    }

    /// The administrative MAC to have, if one is wanted.
    fn wanted_mac(&self, vf: VfRef, group: &VfGroup, existing: Option<&Vf>) -> Option<MacAddress> {
        let stable = || self.context.observed.node.mac_seed.as_deref().map(|seed| mac::stable(seed, vf));
        match group.macs {
            Some(MacPolicy::Stable) => stable().filter(|_| self.takes(VfAttribute::Mac)),
            Some(MacPolicy::Keep | MacPolicy::Random) => None,
            None => {
                if !self.takes(VfAttribute::Mac) {
                    return None;
                }
                let has_none = existing.is_none_or(|vf| vf.admin.mac.is(&MacAddress::ZERO));
                if has_none { stable() } else { None }
            }
        }
    }

    fn plan_mtu_after_binding(
        &self,
        findings: &mut Findings,
        vf: VfRef,
        group: Option<&VfGroup>,
        link: Link,
    ) {
        let fits = |mtu: &u32| link.mtu.is_none_or(|most| *mtu <= most);
        if let Some(to) = group.and_then(wanted_mtu).filter(fits) {
            findings.step(Object::Vf(vf), Change::SetVfMtu { from: None, to }, Disruption::None, false);
        }
    }

    /// Puts right a probe that went wrong. The answer is whether the driver probes again.
    fn plan_probe(
        &self,
        findings: &mut Findings,
        reference: VfRef,
        vf: &Vf,
        group: Option<&VfGroup>,
        link: Link,
    ) -> bool {
        let object = || Object::Vf(reference);
        let with_netdev = group.is_some_and(has_netdev);
        if let (true, Some(driver)) =
            (with_netdev && self.needs_probe(findings, reference, vf, group, link), &vf.driver)
        {
            let request = Request {
                object: object(),
                what: "probing its driver again",
                consequence: "take it from its user",
                alternative: None,
                disruption: Disruption::Vf,
                users: Vec::new(),
            };
            match gate(self.document.disruption, request, &mut findings.notes) {
                Ok(force) => {
                    let change = Change::ReprobeVf { driver: driver.clone() };
                    findings.step(object(), change, Disruption::Vf, force);
                    if group.and_then(wanted_mtu).is_some() {
                        self.plan_mtu_after_binding(findings, reference, group, link);
                    } else if let Some(to) = self.remembered_mtu(vf, link) {
                        // The new netdev starts with the driver's default.
                        findings.step(object(), Change::SetVfMtu { from: None, to }, Disruption::None, false);
                    }
                    return true;
                }
                Err(mut obstacles) => findings.blocked.append(&mut obstacles),
            }
        }
        false
    }

    /// What concerns the netdev of a VF that keeps its driver: name and MTU, after a pod or by wish.
    fn plan_netdev(
        &self,
        findings: &mut Findings,
        reference: VfRef,
        vf: &Vf,
        group: Option<&VfGroup>,
        link: Link,
    ) {
        let object = || Object::Vf(reference);
        let Some(netdev) = vf.netdevs.first() else { return };
        if let Some(remembered) = &vf.remembered
            && remembered.name != netdev.name
            && self.context.observed.link(&remembered.name).is_none()
        {
            let change = Change::RenameVf { from: netdev.name.clone(), to: remembered.name.clone() };
            findings.step(object(), change, Disruption::None, false);
        }
        let most = link.mtu.unwrap_or(u32::MAX);
        let wish = group.and_then(wanted_mtu).filter(|mtu| *mtu <= most);
        let wish = wish.or_else(|| self.remembered_mtu(vf, link));
        // Above the PF's MTU its frames are dropped: then it comes down with the PF, wished for or not.
        let down = netdev.mtu.known().filter(|mtu| **mtu > most).map(|_| most);
        let Some(wish) = wish.or(down) else { return };
        match netdev.mtu {
            Fact::Known(mtu) if mtu == wish => {}
            Fact::Known(mtu) => {
                findings.step(
                    object(),
                    Change::SetVfMtu { from: Some(mtu), to: wish },
                    Disruption::None,
                    false,
                );
            }
            Fact::Absent(_) => findings.unknown(object(), "MTU"),
        }
    }

    /// The MTU that the VF's netdev had when it was last in order, as far as the PF still takes it.
    fn remembered_mtu(&self, vf: &Vf, link: Link) -> Option<u32> {
        let remembered = vf.remembered.as_ref().and_then(|remembered| remembered.mtu);
        remembered.filter(|mtu| link.mtu.is_none_or(|most| *mtu <= most))
    }

    /// Whether the VF's driver has to probe again: its netdev is missing, or does not have the MAC it was given.
    fn needs_probe(
        &self,
        findings: &Findings,
        reference: VfRef,
        vf: &Vf,
        group: Option<&VfGroup>,
        link: Link,
    ) -> bool {
        let Some(netdev) = vf.netdevs.first() else {
            return vf.netdev.is_none() && self.pf.netdev().is_some() && vf.vdpa.is_empty();
        };
        let at_once = self
            .profile
            .and_then(|profile| profile.mac_applies.as_ref())
            .is_some_and(|applies| applies.value == MacApplies::AtOnce);
        let given = findings.steps.iter().rev().find_map(|step| {
            if let Change::SetVfMac { to, .. } = step.change
                && step.object == Object::Vf(reference)
            {
                return Some(to);
            }
            None
        });
        let stable =
            group.is_some_and(|group| !matches!(group.macs, Some(MacPolicy::Keep | MacPolicy::Random)));
        let there = vf.admin.mac.known().copied().filter(|mac| stable && *mac != MacAddress::ZERO);
        let wanted = if at_once && given.is_some() { None } else { given.or(there) };
        // Probing under a PF that stays down would not take the MAC either.
        link.up && matches!((wanted, netdev.mac), (Some(wanted), Some(mac)) if wanted != mac)
    }
}

/// Whether the driver that a group wants makes a netdev: those that hand the device to user space do not.
fn has_netdev(group: &VfGroup) -> bool {
    match &group.driver {
        DriverWish::Kernel => true,
        DriverWish::Named(driver) => !is_vfio(driver) && !driver.contains("uio"),
    }
}

/// The MTU of the VF's netdev, if one is wanted and it will have a netdev.
fn wanted_mtu(group: &VfGroup) -> Option<u32> {
    group.mtu.filter(|_| has_netdev(group))
}
