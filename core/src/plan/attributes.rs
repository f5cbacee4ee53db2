//! What belongs to the PF's driver and is set for a VF through the PF's netdev: MAC, VLAN, spoof check, trust, rates, link
//! state.
//!
//! A wish that is absent leaves the value as it is; a value that nobody could read is never a step.

use super::Findings;
use super::gate::{Request, gate};
use super::link::Link;
use super::netdev::back_from_user;
use super::pf::PfPlanner;
use super::preflight::wanted_attributes;
use crate::blocked::{Blocked, Reason};
use crate::desired::{MacPolicy, TxRate, VfGroup};
use crate::fact::{Absence, Fact};
use crate::id::{MacAddress, Object, VfRef};
use crate::mac;
use crate::observed::Vf;
use crate::profile::VfAttribute;
use crate::step::{Change, Disruption};

/// What is known of the value that a wish is about.
enum Present<T> {
    /// The VF does not exist yet.
    New,
    /// It exists.
    Is(Fact<T>),
}

impl PfPlanner<'_> {
    pub(super) fn plan_attributes(
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
        let refusal: Vec<VfAttribute> = wanted_attributes(group)
            .into_iter()
            .map(|(attribute, _)| attribute)
            .filter(|attribute| !self.takes(*attribute))
            .collect();
        let refused = |attributes: &[VfAttribute]| attributes.iter().any(|one| refusal.contains(one));
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
                match gate(self.permit(), request, &mut findings.notes) {
                    Ok(force) => findings.step(object, change(Some(value), wanted), disruption, force),
                    Err(refusal) => findings.refused(refusal),
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
                // A pod's MAC does not stay on a VF that came back: the pod may have it elsewhere by now.
                let before = || existing.and_then(back_from_user).and_then(|remembered| remembered.mac);
                if has_none { stable() } else { before() }
            }
        }
    }
}
