//! Back to the last good state: a PF that worked before and cannot reach what its policy wants goes back to how it was when it
//! was last verified, which is itself a plan.
//!
//! It stays there until the wish changes or an operator asks: trying again and again would cut its users each time. The
//! policy is told as not applied meanwhile ([`Reason::FellBack`](crate::Reason::FellBack)).

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{
    Desired, DriverWish, LinkState, MacPolicy, NicEntry, TxRate, TxRateWish, VfGroup, Vlan,
};
use crate::drive::{Outcome, StepReport};
use crate::fact::Fact;
use crate::id::{MacAddress, PciAddress, VfRef};
use crate::mac;
use crate::observed::{Observed, Pf, Vf, VfAdmin};
use crate::plan::plan;
use crate::profile::Profiles;
use crate::range::IndexSet;

/// After so many failed runs in a row a PF goes back.
pub const RUNS: u32 = 3;

/// Which PFs have failed how often, and which have gone back.
#[derive(Debug, Clone, Default)]
pub struct FallBack {
    failed: BTreeMap<PciAddress, u32>,
    fallen: BTreeMap<PciAddress, Pf>,
}

impl FallBack {
    /// Counts what a run has done: per PF runs with a failure, one after the other. A run without failure begins anew.
    pub fn note(&mut self, reports: &[StepReport]) {
        let mut ends: BTreeMap<PciAddress, (bool, bool)> = BTreeMap::new();
        for report in reports {
            let Some(pf) = report.step.object.pf() else { continue };
            let (failed, whole) = ends.entry(pf).or_insert((false, true));
            *failed |= matches!(report.outcome, Outcome::Failed { .. });
            *whole &= report.outcome == Outcome::Done;
        }
        for (pf, (failed, whole)) in ends {
            if failed {
                let runs = self.failed.entry(pf).or_default();
                *runs = runs.saturating_add(1);
            } else if whole {
                self.failed.remove(&pf);
            }
        }
    }

    /// Decides which PFs go back, and gives all that have: to be put into [`Desired::fall_back`]. `last_good` has how PFs were
    /// when last verified. Of those that steps are being carried out on (`busy`) nothing is decided.
    pub fn choose(
        &mut self,
        observed: &Observed,
        desired: &Desired,
        profiles: &Profiles,
        last_good: &BTreeMap<PciAddress, Pf>,
        busy: &BTreeSet<PciAddress>,
    ) -> BTreeMap<PciAddress, Pf> {
        let open = |pf: &PciAddress| !busy.contains(pf) && !self.fallen.contains_key(pf);
        let due = self.failed.iter().filter(|(pf, runs)| **runs >= RUNS && open(pf));
        let due: Vec<PciAddress> = due.map(|(pf, _)| *pf).collect();
        for pf in due {
            let fits = |good: &&Pf| observed.pf(pf).is_some_and(|now| same_hardware(good, now));
            if let Some(good) = last_good.get(&pf).filter(fits)
                && leads_somewhere(pf, good, observed, desired, profiles)
            {
                self.fallen.insert(pf, good.clone());
            }
        }
        self.fallen.clone()
    }

    /// Takes up again what an earlier process had decided for the same wish: these PFs had gone back. One that is not the same
    /// hardware any more is tried anew.
    pub fn resume(
        &mut self,
        fallen: &BTreeSet<PciAddress>,
        observed: &Observed,
        last_good: &BTreeMap<PciAddress, Pf>,
    ) {
        for pf in fallen {
            let fits = |good: &&Pf| observed.pf(*pf).is_some_and(|now| same_hardware(good, now));
            if let Some(good) = last_good.get(pf).filter(fits) {
                self.fallen.insert(*pf, good.clone());
            }
        }
    }

    /// The PFs that have gone back, each with the state that it went back to.
    pub fn fallen(&self) -> &BTreeMap<PciAddress, Pf> {
        &self.fallen
    }

    /// The wish has changed, or an operator asks: everything is tried anew.
    pub fn forget(&mut self) {
        *self = FallBack::default();
    }
}

/// Whether what was remembered is of the device that is there now, with the driver that it has now.
fn same_hardware(good: &Pf, now: &Pf) -> bool {
    good.vendor == now.vendor
        && good.device == now.device
        && good.driver == now.driver
        && good.num_vfs() <= now.total_vfs
}

/// Whether going back would change anything: what is there may be the last good state still.
fn leads_somewhere(
    pf: PciAddress,
    good: &Pf,
    observed: &Observed,
    desired: &Desired,
    profiles: &Profiles,
) -> bool {
    let back = Desired { fall_back: BTreeMap::from([(pf, good.clone())]), ..desired.clone() };
    plan(observed, &back, profiles).steps.iter().any(|step| step.object.pf() == Some(pf))
}

/// What the policy's entry becomes while a PF is to be as it was: number of VFs, MTU, e-switch, and of each VF what was known.
pub(crate) fn entry(policy: &NicEntry, good: &Pf, observed: &Observed) -> NicEntry {
    let mut groups: Vec<VfGroup> = Vec::new();
    for vf in &good.vfs {
        let Some(group) = group(good, vf, observed) else { continue };
        let alike = |other: &&mut VfGroup| VfGroup { vfs: group.vfs.clone(), ..(**other).clone() } == group;
        match groups.iter_mut().find(alike) {
            Some(other) => {
                let both = IndexSet::from_indexes(other.vfs.iter().chain([vf.index]));
                other.vfs = both.unwrap_or_else(|| group.vfs.clone());
            }
            None => groups.push(group),
        }
    }
    NicEntry {
        path: policy.path.clone(),
        select: policy.select.clone(),
        vfs: Some(good.num_vfs()),
        mtu: good.netdev().and_then(|netdev| netdev.mtu.known().copied()),
        eswitch: good.eswitch.known().copied(),
        externally_managed: policy.externally_managed,
        allow_management_path: policy.allow_management_path,
        groups,
    }
}

/// A group of one VF. A VF that had no driver gets none.
fn group(good: &Pf, vf: &Vf, observed: &Observed) -> Option<VfGroup> {
    let driver = vf.driver.clone()?;
    let reference = VfRef { pf: good.address, index: vf.index };
    let now = observed.vf(reference).map(|vf| &vf.admin);
    let VfAdmin { mac: _, vlan, spoof_check, trust, tx_rate, link_state } = &vf.admin;
    let none = Vlan { id: 0, qos: 0, protocol: Default::default() };
    let rate = wish(tx_rate, TxRate { min: 0, max: 0 }, now.map(|now| &now.tx_rate));
    Some(VfGroup {
        vfs: IndexSet::from_indexes([vf.index])?,
        pool: None,
        driver: DriverWish::Named(driver),
        mtu: vf.netdevs.first().and_then(|netdev| netdev.mtu.known().copied()),
        trust: wish(trust, false, now.map(|now| &now.trust)),
        spoof_check: wish(spoof_check, true, now.map(|now| &now.spoof_check)),
        vlan: wish(vlan, none, now.map(|now| &now.vlan)),
        tx_rate: rate.map(|rate| TxRateWish { min: Some(rate.min), max: Some(rate.max) }),
        link_state: wish(link_state, LinkState::Auto, now.map(|now| &now.link_state)),
        macs: macs(reference, &vf.admin, observed),
    })
}

/// A value that was known, unless it is what a fresh VF has and nothing else is there now: a driver may refuse even that.
fn wish<T: Copy + PartialEq>(good: &Fact<T>, fresh: T, now: Option<&Fact<T>>) -> Option<T> {
    let value = good.known().copied()?;
    let other = now.and_then(|now| now.known().copied()).is_some_and(|now| now != value);
    (value != fresh || other).then_some(value)
}

fn macs(vf: VfRef, admin: &VfAdmin, observed: &Observed) -> Option<MacPolicy> {
    let mac = admin.mac.known()?;
    let stable = observed.node.mac_seed.as_deref().map(|seed| mac::stable(seed, vf));
    if *mac == MacAddress::ZERO {
        Some(MacPolicy::Random)
    } else if stable == Some(*mac) {
        Some(MacPolicy::Stable)
    } else {
        // Any other address cannot be wished for; a VF that is made anew gets its stable one.
        None
    }
}
