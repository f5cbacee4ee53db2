//! PFs: what they are, their VFs in ranges, who uses them, and whether they are as wanted.

use std::collections::{BTreeMap, BTreeSet};

use portwright_api::state::{PfState, VfRange, limit};
use portwright_core::observed::{Pf, Sight, Vf};
use portwright_core::pools::{Health, Pool, PoolDevice, Pools};
use portwright_core::range::IndexSet;
use portwright_core::usage::uses;
use portwright_core::{Object, Observed, Reason, VfRef};

use super::Scene;
use super::room::number;
use super::verdict::{Verdict, failure, judge, pods};
use super::word::Word;

/// All PFs.
pub(super) fn states(scene: &mut Scene<'_>) -> Vec<PfState> {
    let pools = places(&scene.facts.pools);
    let facts = scene.facts;
    facts.observed.pfs.iter().map(|pf| state(scene, pf, &pools)).collect()
}

fn state(scene: &mut Scene<'_>, pf: &Pf, pools: &BTreeMap<&str, Place>) -> PfState {
    let object = Object::Pci(pf.address);
    let subject = scene.subject(&object);
    let policy = subject.map(|subject| subject.policy.clone()).filter(|policy| !policy.is_empty());
    let notes: Vec<String> = subject.into_iter().flat_map(|subject| &subject.notes).cloned().collect();
    let verdict = verdict(scene, pf, policy.as_deref());
    let used: BTreeSet<String> = pf.vfs.iter().flat_map(|vf| pods(&vf.holders)).collect();
    let notes = notes.iter().map(|note| scene.room.text(note)).collect();
    PfState {
        address: pf.address.to_string(),
        name: pf.name.clone(),
        id: format!("{}:{}", pf.vendor, pf.device),
        driver: pf.driver.clone(),
        total_vfs: u32::from(pf.total_vfs),
        num_vfs: u32::from(pf.num_vfs()),
        in_use: in_use(&scene.facts.observed, pf),
        pods: scene.room.fit("pfs[].pods", limit::PODS, used.into_iter().collect()),
        vfs: ranges(scene, pf, pools),
        policy,
        notes: scene.room.fit("pfs[].notes", limit::NOTES, notes),
        conditions: vec![verdict.ready(scene)],
    }
}

fn verdict(scene: &Scene<'_>, pf: &Pf, policy: Option<&str>) -> Verdict {
    let mode = scene.mode(policy);
    let verdict = judge(scene, mode, &|object| object.pf() == Some(pf.address));
    let back = scene.facts.desired.fall_back.contains_key(&pf.address);
    // The plan says so, too, and does not know why.
    let back = back && (verdict.holds() || verdict.reason == Reason::FellBack.to_string());
    match (policy, verdict.holds()) {
        _ if back => Verdict::no(Reason::FellBack, fell_back(scene, pf)),
        (None, true) => Verdict::yes(Word::Unmanaged, "no policy selects it"),
        (Some(_), true) | (_, false) => verdict,
    }
}

/// Why the new state could not be reached, if that was in the last run.
fn fell_back(scene: &Scene<'_>, pf: &Pf) -> String {
    let failed = failure(scene, &|object| object.pf() == Some(pf.address));
    let why = failed.map(|why| format!(": {why}")).unwrap_or_default();
    format!("it could not be made as the policy wants it and is as it was when last verified{why}")
}

/// How many VFs of a PF somebody uses.
pub(super) fn in_use(observed: &Observed, pf: &Pf) -> u32 {
    let used = |vf: &&Vf| {
        // Most VFs have an answer that costs nothing.
        if !vf.holders.is_empty() {
            return true;
        }
        let hidden = observed.node.sight != Sight::Complete || vf.unseen.is_some();
        let may_be = hidden || !vf.netdevs.is_empty() || vf.representor.is_some();
        may_be && !uses(observed, VfRef { pf: pf.address, index: vf.index }).is_empty()
    };
    number(pf.vfs.iter().filter(used).count())
}

/// Where a device is, and why it cannot be given out.
struct Place {
    resource: String,
    unhealthy: Option<String>,
}

fn places(pools: &Pools) -> BTreeMap<&str, Place> {
    let place = |pool: &Pool, device: &PoolDevice| Place {
        resource: pool.spec.resource.to_string(),
        unhealthy: match &device.health {
            Health::Healthy => None,
            Health::Unhealthy { why } | Health::Withheld { why } => Some(why.clone()),
        },
    };
    let devices = pools.pools.iter().flat_map(|pool| pool.devices.iter().map(move |device| (pool, device)));
    devices.map(|(pool, device)| (device.id(), place(pool, device))).collect()
}

/// VFs that are alike, in the order of their first.
fn ranges(scene: &mut Scene<'_>, pf: &Pf, pools: &BTreeMap<&str, Place>) -> Vec<VfRange> {
    type Alike<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);
    let mut alike: BTreeMap<Alike<'_>, Vec<u16>> = BTreeMap::new();
    for vf in &pf.vfs {
        let place = pools.get(vf.address.to_string().as_str());
        let key = (
            vf.driver.as_deref(),
            place.map(|place| place.resource.as_str()),
            place.and_then(|place| place.unhealthy.as_deref()),
        );
        alike.entry(key).or_default().push(vf.index);
    }
    let mut list: Vec<_> = alike.into_iter().collect();
    list.sort_by_key(|(_, indexes)| indexes.iter().min().copied());
    let list = scene.room.fit("pfs[].vfs", limit::RANGES, list);
    let range = |((driver, pool, unhealthy), indexes): (Alike<'_>, Vec<u16>)| VfRange {
        vfs: IndexSet::from_indexes(indexes).map(|set| set.to_string()).unwrap_or_default(),
        driver: driver.map(ToOwned::to_owned),
        pool: pool.map(ToOwned::to_owned),
        unhealthy: unhealthy.map(|why| scene.room.text(why)),
    };
    list.into_iter().map(range).collect()
}
