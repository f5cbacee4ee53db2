//! A PF that cannot reach its new state goes back to its last good one, and stays there until somebody changes or asks.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::desired::{
    Desired, DisruptionPolicy, Document, DriverWish, Mode, NicEntry, VfGroup, Vlan,
};
use portwright_core::drive::{Node, StepReport, run_steps};
use portwright_core::fallback::{FallBack, RUNS};
use portwright_core::observed::Pf;
use portwright_core::range::IndexSet;
use portwright_core::select::{Pattern, Selector};
use portwright_core::sim::{Event, Family, Kernel, SimNode, SimPf};
use portwright_core::{PciAddress, Profiles, Reason, plan};

const PF: &str = "0000:3b:00.0";

fn pf() -> PciAddress {
    PF.parse().unwrap()
}

/// So many VFs, the first two of them for VFIO and in a VLAN.
fn policy(vfs: u16) -> Desired {
    let group = VfGroup {
        vfs: IndexSet::from_indexes(0..2).unwrap(),
        pool: None,
        driver: DriverWish::Named("vfio-pci".to_owned()),
        mtu: None,
        trust: Some(true),
        spoof_check: None,
        vlan: Some(Vlan { id: 100, qos: 0, protocol: Default::default() }),
        tx_rate: None,
        link_state: None,
        macs: None,
    };
    let nic = NicEntry {
        path: "spec.nics[0]".to_owned(),
        select: Selector { addresses: vec![Pattern::new(PF).unwrap()], ..Selector::default() },
        vfs: Some(vfs),
        mtu: None,
        eswitch: None,
        externally_managed: false,
        allow_management_path: false,
        groups: vec![group],
    };
    let document = Document {
        name: "workers".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: vec![nic],
        ovs: Default::default(),
        pools: Vec::new(),
    };
    Desired { documents: vec![document], ..Desired::default() }
}

fn run(node: &mut SimNode, desired: &Desired) -> Vec<StepReport> {
    let made = plan(&node.observe().unwrap(), desired, &Profiles::default());
    run_steps(node, &made, &mut |_| {})
}

/// A node whose PF has four VFs, as wanted, and how it looks then.
fn good() -> (SimNode, BTreeMap<PciAddress, Pf>) {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    kernel.node.mac_seed = Some("5eed".to_owned());
    kernel.pfs.insert(pf(), SimPf::new(pf(), Family::Ice, 16, "ens0"));
    let mut node = SimNode::new(kernel);
    run(&mut node, &policy(4));
    let observed = node.observe().unwrap();
    assert!(plan(&observed, &policy(4), &Profiles::default()).in_sync());
    let last_good = BTreeMap::from([(pf(), observed.pfs[0].clone())]);
    (node, last_good)
}

#[test]
fn after_three_failed_runs_a_port_is_as_it_was_and_stays_so() {
    let (mut node, last_good) = good();
    let mut back = FallBack::default();
    let mut desired = policy(8);
    for attempt in 0..RUNS {
        assert!(desired.fall_back.is_empty(), "not before attempt {attempt}");
        node.happen(&Event::EnablesAtMost(pf(), 5 + u16::try_from(attempt % 2).unwrap()));
        back.note(&run(&mut node, &desired));
        desired.fall_back = back.choose(
            &node.observe().unwrap(),
            &desired,
            &Profiles::default(),
            &last_good,
            &BTreeSet::new(),
        );
    }
    assert_eq!(desired.fall_back, last_good);
    back.note(&run(&mut node, &desired));
    let observed = node.observe().unwrap();
    let after = plan(&observed, &desired, &Profiles::default());
    assert!(after.steps.is_empty(), "{after:#?}");
    let told: Vec<Reason> = after.blocked.iter().map(|blocked| blocked.reason).collect();
    assert_eq!(told, [Reason::FellBack], "it is not said to be in order");
    let of =
        |pf: &Pf| pf.vfs.iter().map(|vf| (vf.index, vf.driver.clone(), vf.admin.clone())).collect::<Vec<_>>();
    assert_eq!(of(&observed.pfs[0]), of(&last_good[&pf()]));
    assert!(node.violations().is_empty(), "{:?}", node.violations());
    // What kept it from getting there may be over: it stays all the same.
    assert_eq!(
        back.choose(&observed, &desired, &Profiles::default(), &last_good, &BTreeSet::new()),
        last_good
    );
    back.forget();
    desired.fall_back = back.choose(&observed, &desired, &Profiles::default(), &last_good, &BTreeSet::new());
    assert!(desired.fall_back.is_empty());
    run(&mut node, &desired);
    assert!(
        plan(&node.observe().unwrap(), &desired, &Profiles::default()).in_sync(),
        "asked, it tries again"
    );
}

#[test]
fn failures_that_change_nothing_and_strange_hardware_lead_nowhere() {
    let (node, last_good) = good();
    let fails = |node: &SimNode, last_good: &BTreeMap<PciAddress, Pf>, between: bool| {
        let mut node = node.clone();
        let mut back = FallBack::default();
        let desired = policy(8);
        for attempt in 0..RUNS {
            // The first write already fails: what is there is still the last good state.
            let errno = portwright_core::sim::Errno::NoSpace;
            node.happen(&Event::NumVfsFails(pf(), errno));
            back.note(&run(&mut node, &desired));
            if between && attempt == 1 {
                back.note(&run(&mut node.clone(), &policy(6)));
            }
        }
        back.choose(&node.observe().unwrap(), &desired, &Profiles::default(), last_good, &BTreeSet::new())
    };
    assert!(fails(&node, &last_good, false).is_empty(), "it is as it was");
    let mut other = last_good.clone();
    other.get_mut(&pf()).unwrap().vfs.truncate(2);
    assert_eq!(fails(&node, &other, false), other, "it was otherwise");
    assert!(fails(&node, &other, true).is_empty(), "a run that succeeds begins anew");
    other.get_mut(&pf()).unwrap().device = "10c9".parse().unwrap();
    assert!(fails(&node, &other, false).is_empty(), "another device is there now");
}
