//! How a plan is carried out: a failure stops its PF and not the node, a crash stops everything, and every end is told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests fail by panicking")]

use portwright_core::desired::{Desired, DisruptionPolicy, Document, Mode, NicEntry};
use portwright_core::drive::{Node, Outcome, Progress, apply, run_steps};
use portwright_core::select::{Pattern, Selector};
use portwright_core::sim::{Errno, Event, Family, Kernel, SimNode, SimPf};
use portwright_core::{Object, PciAddress, Plan, Profiles, plan};

const PFS: [&str; 2] = ["0000:3b:00.0", "0000:5e:00.0"];

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Two ports, each down, and two VFs wanted on each.
fn node_and_wish() -> (SimNode, Desired) {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf"].map(str::to_owned).into();
    let mut nics = Vec::new();
    for (number, text) in PFS.into_iter().enumerate() {
        kernel.pfs.insert(address(text), SimPf::new(address(text), Family::Ice, 8, &format!("ens{number}")));
        nics.push(NicEntry {
            path: format!("spec.nics[{number}]"),
            select: Selector { addresses: vec![Pattern::new(text).unwrap()], ..Selector::default() },
            vfs: Some(2),
            // Lowered last, so that there is a step behind the making of VFs.
            mtu: Some(1400),
            eswitch: None,
            externally_managed: false,
            allow_management_path: false,
            groups: Vec::new(),
        });
    }
    let document = Document {
        name: "workers".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics,
        ovs: Default::default(),
        pools: Vec::new(),
    };
    (SimNode::new(kernel), Desired { documents: vec![document], ..Desired::default() })
}

fn planned(node: &mut SimNode, desired: &Desired) -> Plan {
    plan(&node.observe().unwrap(), desired, &Profiles::default())
}

#[test]
fn a_failure_stops_its_pf_and_not_the_other() {
    let (mut node, desired) = node_and_wish();
    let first = planned(&mut node, &desired);
    node.happen(&Event::NumVfsFails(address(PFS[0]), Errno::NoSpace));
    let reports = run_steps(&mut node, &first, &mut |_| {});
    assert!(reports.iter().any(|report| matches!(report.outcome, Outcome::Skipped { .. })), "{reports:#?}");
    for report in &reports {
        let failing = report.step.object.pf() == Some(address(PFS[0]));
        let creates = report.step.change.action() == "set-num-vfs";
        match &report.outcome {
            Outcome::Failed { why } => assert!(failing && creates && why.ends_with("ENOSPC"), "{report:?}"),
            Outcome::Skipped { because } => {
                assert!(failing && because.contains("set VFs 0 → 2"), "{report:?}");
            }
            Outcome::Stale { found } => panic!("nothing has changed: {found}"),
            Outcome::Done => assert!(!(failing && creates), "{report:?}"),
        }
    }
    assert_eq!(node.kernel.pfs[&address(PFS[1])].vfs.len(), 2, "the other port has its VFs");
}

#[test]
fn a_failing_rule_stops_all_and_nothing_is_made() {
    let (mut node, desired) = node_and_wish();
    let first = planned(&mut node, &desired);
    assert_eq!(first.steps[0].object, Object::Node, "the udev rule comes first");
    node.schedule.before_write.insert(1, vec![Event::Crash]);
    let reports = run_steps(&mut node, &first, &mut |_| {});
    assert!(matches!(reports[0].outcome, Outcome::Failed { .. }));
    assert!(
        reports[1..].iter().all(|report| matches!(report.outcome, Outcome::Skipped { .. })),
        "{reports:#?}"
    );
    node.restart();
    assert_eq!(planned(&mut node, &desired), first, "nothing has happened");
}

#[test]
fn an_apply_verifies_by_planning_again_and_tells_each_step_once() {
    let (mut node, desired) = node_and_wish();
    let first = planned(&mut node, &desired);
    let (mut begun, mut ended, mut verified) = (0, 0, 0);
    let report = apply(&mut node, &desired, &Profiles::default(), &first, &mut |progress| match progress {
        Progress::Begins(position, total, _) => {
            begun += 1;
            assert_eq!((position, total), (begun, first.steps.len()));
        }
        Progress::Ended(..) => ended += 1,
        Progress::Verifies => verified += 1,
    })
    .unwrap();
    assert!(report.converged(), "{report:#?}");
    assert_eq!((begun, ended, verified), (first.steps.len(), first.steps.len(), 1));
}
