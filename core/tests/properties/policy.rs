//! Random policies over a node, and who is bound to what by an independent reading of the rules.

use std::collections::BTreeMap;

use portwright_core::desired::{
    Desired, DisruptionPolicy, Document, DriverWish, EswitchMode, LinkState, MacPolicy, Mode, NicEntry,
    TxRateWish, VfGroup, Vlan, VlanProtocol,
};
use portwright_core::id::PciAddress;
use portwright_core::range::IndexSet;
use portwright_core::select::{Pattern, Selector};
use portwright_core::sim::{Kernel, SimPf};

use crate::choices::Choices;
use crate::node::{PFS, address};

/// One to three documents.
pub fn desired(choices: &mut Choices<'_>, kernel: &Kernel) -> Desired {
    let count = if choices.chance(25) { 2 + choices.below(2) } else { 1 };
    let documents: Vec<Document> = (0..count).map(|number| document(choices, kernel, number)).collect();
    let mut desired = Desired { documents, bindings: BTreeMap::new(), ..Desired::default() };
    for text in PFS {
        if choices.chance(20) {
            desired.bindings.insert(address(text), format!("policy-{}", choices.below(count)));
        }
    }
    desired
}

fn document(choices: &mut Choices<'_>, kernel: &Kernel, number: usize) -> Document {
    let disruption = choices.of(&[
        DisruptionPolicy::WhenIdle,
        DisruptionPolicy::WhenIdle,
        DisruptionPolicy::Force,
        DisruptionPolicy::Never,
        DisruptionPolicy::Evict,
    ]);
    let mut nics = Vec::new();
    for (pf_address, pf) in &kernel.pfs {
        if number > 0 && !choices.chance(50) || choices.chance(12) {
            continue;
        }
        let pattern = Pattern::new(&pf_address.to_string()).unwrap();
        let mut select = Selector { addresses: vec![pattern], ..Selector::default() };
        if choices.chance(10) {
            select =
                Selector { drivers: vec![pf.family.traits().pf_driver.to_owned()], ..Selector::default() };
        }
        nics.push(entry(choices, pf, select, nics.len()));
    }
    if choices.chance(4) {
        let pattern = Pattern::new("0000:ff:*").unwrap();
        let select = Selector { addresses: vec![pattern], ..Selector::default() };
        if let Some(pf) = kernel.pfs.values().next() {
            nics.push(entry(choices, pf, select, nics.len()));
        }
    }
    Document {
        name: format!("policy-{number}"),
        priority: choices.of(&[10, 10, 20, 5]),
        mode: Mode::Apply,
        disruption,
        nics,
        pools: Vec::new(),
        ovs: Default::default(),
    }
}

fn entry(choices: &mut Choices<'_>, pf: &SimPf, select: Selector, number: usize) -> NicEntry {
    let total = pf.shown.total_vfs;
    let there = u16::try_from(pf.vfs.len()).unwrap();
    let vfs = match choices.below(10) {
        0..=2 => Some(total),
        3..=5 => Some(choices.count(total)),
        6 | 7 => Some(there),
        8 => None,
        _ if choices.chance(30) => Some(total + 1),
        _ => Some(0),
    };
    let mtu = choices.of(&[None, Some(1500), Some(9000), Some(4000), Some(1400)]);
    let eswitch = match choices.below(6) {
        0..=2 => None,
        3 => Some(EswitchMode::Legacy),
        _ if matches!(pf.eswitch, EswitchMode::Switchdev)
            || pf.family.traits().eswitch != portwright_core::sim::family::EswitchRule::Never =>
        {
            Some(EswitchMode::Switchdev)
        }
        _ => None,
    };
    let most = vfs.unwrap_or(there);
    let groups = groups(choices, pf, most, mtu);
    NicEntry {
        path: format!("spec.nics[{number}]"),
        select,
        vfs,
        mtu,
        eswitch,
        externally_managed: choices.chance(8),
        allow_management_path: choices.chance(10),
        groups,
    }
}

/// Up to three groups, side by side, perhaps with gaps.
fn groups(choices: &mut Choices<'_>, pf: &SimPf, most: u16, pf_mtu: Option<u32>) -> Vec<VfGroup> {
    let mut groups = Vec::new();
    let mut next = 0;
    while next < most && groups.len() < 3 {
        let last = next + choices.count(most - next - 1);
        if !choices.chance(15) {
            let vfs = IndexSet::from_indexes(next..=last).unwrap();
            groups.push(group(choices, pf, vfs, pf_mtu));
        }
        next = last + 1;
    }
    groups
}

fn group(choices: &mut Choices<'_>, pf: &SimPf, vfs: IndexSet, pf_mtu: Option<u32>) -> VfGroup {
    let traits = pf.family.traits();
    let driver = match choices.below(6) {
        0..=2 => DriverWish::Kernel,
        3 | 4 => DriverWish::Named("vfio-pci".to_owned()),
        _ => DriverWish::Named(traits.vf_driver.to_owned()),
    };
    // What a family refuses is wished for rarely, or nothing else would ever be tried on it.
    let odd = choices.chance(6);
    let has_netdev = traits.netdev || odd;
    let mut group = VfGroup {
        vfs,
        pool: None,
        driver,
        mtu: choices
            .of(&[None, None, Some(1500), Some(9000), Some(2000)])
            .filter(|mtu| pf_mtu.is_none_or(|most| *mtu <= most)),
        trust: None,
        spoof_check: None,
        vlan: None,
        tx_rate: None,
        link_state: None,
        macs: choices.of(&[
            None,
            None,
            Some(MacPolicy::Stable),
            Some(MacPolicy::Keep),
            Some(MacPolicy::Random),
        ]),
    };
    if !has_netdev {
        group.macs = None;
        return group;
    }
    group.trust = choices.of(&[None, Some(true), Some(false)]);
    group.spoof_check = choices.of(&[None, Some(false), Some(true)]);
    let mut vlan = choices.of(&[None, None, Some(100), Some(0), Some(7)]).map(|id| Vlan {
        id,
        qos: 0,
        protocol: VlanProtocol::Dot1q,
    });
    if let Some(vlan) = vlan.as_mut().filter(|vlan| vlan.id != 0) {
        vlan.qos = choices.of(&[0, 3]);
        if odd && choices.chance(30) {
            vlan.protocol = VlanProtocol::Dot1ad;
        }
    }
    group.vlan = vlan;
    if choices.chance(30) {
        let min = if odd { Some(100) } else { choices.of(&[None, Some(0)]) };
        group.tx_rate = Some(TxRateWish { min, max: choices.of(&[Some(1000), Some(0), None]) });
    }
    if pf.family != portwright_core::sim::Family::Igb || odd {
        group.link_state = choices.of(&[None, None, Some(LinkState::Auto), Some(LinkState::Enable)]);
    }
    group
}

/// What a PF follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// No document selects it.
    Free,
    /// Several want it.
    Conflict,
    /// Document and entry.
    To(usize, usize),
}

/// Who is bound to what, read from the rules of the policy and not from the planner: the document of highest priority wins;
/// among equals the one recorded earlier; two entries of one document conflict.
pub fn binding(desired: &Desired, kernel: &Kernel, pf_address: PciAddress) -> Binding {
    let Some(pf) = kernel.pf(pf_address) else { return Binding::Free };
    let selects = |select: &Selector| {
        select.addresses.iter().any(|pattern| pattern.as_str() == pf_address.to_string())
            || select.drivers.iter().any(|driver| Some(driver) == pf.driver.as_ref())
    };
    let mut best: Vec<(usize, usize)> = Vec::new();
    for (d, document) in desired.documents.iter().enumerate() {
        for (e, entry) in document.nics.iter().enumerate().filter(|(_, entry)| selects(&entry.select)) {
            let _ = entry;
            match best.first().map(|(d, _)| desired.documents[*d].priority) {
                Some(top) if top > document.priority => {}
                Some(top) if top == document.priority => best.push((d, e)),
                Some(_) | None => best = vec![(d, e)],
            }
        }
    }
    if let Some(name) = desired.bindings.get(&pf_address)
        && best.iter().any(|(d, _)| desired.documents[*d].name == *name)
    {
        best.retain(|(d, _)| desired.documents[*d].name == *name);
    }
    match best.as_slice() {
        [] => Binding::Free,
        [(d, e)] => Binding::To(*d, *e),
        _ => Binding::Conflict,
    }
}
