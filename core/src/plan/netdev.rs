//! A VF's netdev: a probe that went wrong, its name and MTU, after a pod or by wish.

use super::Findings;
use super::gate::{Request, gate};
use super::link::Link;
use super::pf::PfPlanner;
use super::preflight::for_user_space;
use crate::desired::{DriverWish, MacPolicy, VfGroup};
use crate::fact::Fact;
use crate::id::{MacAddress, Object, VfRef};
use crate::observed::{RememberedVf, Vf};
use crate::profile::MacApplies;
use crate::step::{Change, Disruption, DriverTarget};

/// MTU that Ethernet drivers start with.
const DEFAULT_MTU: u32 = 1500;

impl PfPlanner<'_> {
    /// Plans the MTU of a netdev that a driver makes anew.
    pub(super) fn plan_mtu_after_binding(
        &self,
        findings: &mut Findings,
        vf: VfRef,
        group: Option<&VfGroup>,
        link: Link,
        remembered: Option<u32>,
    ) {
        let most = link.mtu.unwrap_or(u32::MAX);
        let wish = group.and_then(wanted_mtu).filter(|mtu| *mtu <= most);
        // A new netdev starts with the usual MTU, whatever its PF has.
        let down = Some(most).filter(|most| *most < DEFAULT_MTU);
        if let Some(to) = wish.or(remembered).or(down) {
            findings.step(Object::Vf(vf), Change::SetVfMtu { from: None, to }, Disruption::None, false);
        }
    }

    /// Puts right a probe that went wrong. The answer is whether the driver probes again.
    pub(super) fn plan_probe(
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
            match gate(self.permit(), request, &mut findings.notes) {
                Ok(force) => {
                    let change = Change::ReprobeVf { driver: driver.clone() };
                    findings.step(object(), change, Disruption::Vf, force);
                    let remembered = self.remembered_mtu(vf, link);
                    self.plan_mtu_after_binding(findings, reference, group, link, remembered);
                    return true;
                }
                Err(refusal) => findings.refused(refusal),
            }
        }
        false
    }

    /// What concerns the netdev of a VF that keeps its driver: name and MTU, after a pod or by wish.
    pub(super) fn plan_netdev(
        &self,
        findings: &mut Findings,
        reference: VfRef,
        vf: &Vf,
        group: Option<&VfGroup>,
        link: Link,
    ) {
        let object = || Object::Vf(reference);
        let Some(netdev) = vf.netdevs.first() else { return };
        let most = link.mtu.unwrap_or(u32::MAX);
        let wish = group.and_then(wanted_mtu).filter(|mtu| *mtu <= most);
        let wish = wish.or_else(|| self.remembered_mtu(vf, link));
        // Above the PF's MTU its frames are dropped: then it comes down with the PF, wished for or not.
        let down = netdev.mtu.known().filter(|mtu| **mtu > most).map(|_| most);
        if let Some(wish) = wish.or(down) {
            match netdev.mtu {
                Fact::Known(mtu) if mtu == wish => {}
                Fact::Known(mtu) => {
                    let change = Change::SetVfMtu { from: Some(mtu), to: wish };
                    findings.step(object(), change, Disruption::None, false);
                }
                Fact::Absent(_) => findings.unknown(object(), "MTU"),
            }
        }
        // The name comes last: it is what tells that the VF was away.
        if let Some(remembered) = &vf.remembered
            && remembered.name != netdev.name
            && self.context.observed.link(&remembered.name).is_none()
        {
            let change = Change::RenameVf { from: netdev.name.clone(), to: remembered.name.clone() };
            findings.step(object(), change, Disruption::None, false);
        }
    }

    /// The MTU that the VF's netdev had when it was last in order, as far as the PF still takes it.
    fn remembered_mtu(&self, vf: &Vf, link: Link) -> Option<u32> {
        let remembered = back_from_user(vf).and_then(|remembered| remembered.mtu);
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
        DriverWish::Named(driver) => !for_user_space(driver),
    }
}

/// The MTU of the VF's netdev, if one is wanted and it will have a netdev.
fn wanted_mtu(group: &VfGroup) -> Option<u32> {
    group.mtu.filter(|_| has_netdev(group))
}

/// Whether a driver makes a netdev: those that hand the device to user space do not.
pub(super) fn makes_netdev(driver: &DriverTarget) -> bool {
    match driver {
        DriverTarget::Default => true,
        DriverTarget::Named { driver, .. } => !for_user_space(driver),
    }
}

/// What is remembered of a VF that somebody has had since: that it was held, or that its netdev came back with another name.
/// What differs on a VF that nobody had is the administrator's, and stays.
pub(super) fn back_from_user(vf: &Vf) -> Option<&RememberedVf> {
    let remembered = vf.remembered.as_ref()?;
    let renamed = vf.netdevs.first().is_some_and(|netdev| netdev.name != remembered.name);
    (remembered.away || renamed).then_some(remembered)
}
