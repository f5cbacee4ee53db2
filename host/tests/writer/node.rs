//! Steps on a tree: what is checked before, what is written where and in which order, what is read back, and what the
//! errors say. The lab runs the same steps on a real kernel.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portwright_core::desired::TxRate;
use portwright_core::drive::{Node, chain};
use portwright_core::step::DriverTarget;
use portwright_core::{Change, Disruption, Profiles, Step};
use portwright_host::inventory::Observer;
use portwright_host::node::HostNode;
use portwright_host::root::Root;
use portwright_host::run::HostError;
use serde_json::json;

use crate::bench::{
    Bench, OTHER, PF, address, failure, hold, is_stale, named, on_node, on_pf, on_vf, outrun,
};
use crate::child::launcher;
use crate::kernel;
use crate::tree::TreeBuilder;

pub(crate) const TESTS: [(&str, fn()); 9] = [
    ("what_has_changed_since_the_plan_is_stale", what_has_changed_since_the_plan_is_stale),
    ("from_one_number_to_another_goes_through_zero", from_one_number_to_another_goes_through_zero),
    (
        "fewer_vfs_than_asked_are_reported_with_both_numbers",
        fewer_vfs_than_asked_are_reported_with_both_numbers,
    ),
    ("a_write_that_hangs_is_one_pfs_trouble", a_write_that_hangs_is_one_pfs_trouble),
    ("a_vf_in_use_is_not_touched", a_vf_in_use_is_not_touched),
    (
        "a_port_that_the_node_has_come_to_be_reached_over_is_left_alone",
        a_port_that_the_node_has_come_to_be_reached_over_is_left_alone,
    ),
    ("what_disrupts_nobody_waits_for_users_too", what_disrupts_nobody_waits_for_users_too),
    ("a_missing_file_is_told_with_its_meaning", a_missing_file_is_told_with_its_meaning),
    ("a_second_writer_is_refused", a_second_writer_is_refused),
];

fn what_has_changed_since_the_plan_is_stale() {
    let bench = Bench::new();
    bench.vf(0, Some("igbvf"));
    let mut node = bench.open();
    let bound = |driver: &str| Some(driver.to_owned());
    let stale = [
        on_pf(PF, Change::SetNumVfs { from: 0, to: 4 }),
        on_pf(PF, Change::SetAutoprobe { from: false, to: true }),
        on_pf(PF, Change::SetPfMtu { from: 1500, to: 9000 }),
        on_pf("0000:99:00.0", Change::SetNumVfs { from: 0, to: 4 }),
        on_vf(0, Change::BindVf { from: None, to: named("vfio-pci", true) }),
        on_vf(0, Change::BindVf { from: bound("vfio-pci"), to: named("uio_pci_generic", true) }),
        on_vf(0, Change::UnbindVf { from: "vfio-pci".to_owned() }),
        on_vf(0, Change::SetVfMtu { from: None, to: 9000 }),
        on_vf(1, Change::BindVf { from: None, to: DriverTarget::Default }),
        on_vf(0, Change::SetVfTrust { from: Some(false), to: true }),
        on_node(Change::WriteUdevRule { from: Some("other".to_owned()), to: String::new() }),
    ];
    for step in stale {
        let result = node.run(&step);
        assert!(is_stale(&result), "{step}: {result:?}");
    }
    assert_eq!(bench.text(PF, "sriov_numvfs"), "never read\n");
    assert_eq!(bench.text(PF, "sriov_drivers_autoprobe"), "1\n");
    assert!(!bench.root().join("state").exists(), "what is not begun is not journalled");
}

fn from_one_number_to_another_goes_through_zero() {
    let bench = Bench::new();
    for index in 0..3 {
        bench.vf(index, None);
    }
    let mut node = bench.open();
    // A plain file removes no VFs: that is noticed, and the other number is not even tried.
    let error = failure(node.run(&on_pf(PF, Change::SetNumVfs { from: 3, to: 5 })));
    assert!(matches!(error, HostError::NotReadBack { .. }), "{error}");
    assert!(error.to_string().contains("3 VFs instead of 0"), "{error}");
    assert!(bench.text(PF, "sriov_numvfs").starts_with("0ever read"));
    assert!(!node.journal().made_by_us(address(PF)));
}

fn fewer_vfs_than_asked_are_reported_with_both_numbers() {
    let bench = Bench::new();
    let mut node = bench.open();
    let error = failure(node.run(&on_pf(PF, Change::SetNumVfs { from: 0, to: 7 })));
    assert!(matches!(error, HostError::PartialEnable { wanted: 7, made: 0, .. }), "{error}");
    assert!(error.to_string().contains("7 VFs were asked for and the driver made 0"), "{error}");
    assert!(error.hint().unwrap().contains("0 VFs"));
    assert!(bench.text(PF, "sriov_numvfs").starts_with("7ever read"));
    assert!(node.journal().made_by_us(address(PF)), "what there is of them is ours to remove");
}

fn a_write_that_hangs_is_one_pfs_trouble() {
    let bench = Bench::new();
    let pipe = kernel::pipe(bench.root(), PF);
    std::os::unix::fs::symlink("/proc/self", bench.root().join("proc/self")).unwrap();
    let mut node = bench.open();
    let hang = on_pf(PF, Change::SetNumVfs { from: 0, to: 4 });
    let error = failure(node.run(&hang));
    assert!(matches!(error, HostError::Stuck { .. }), "{error}");
    assert!(error.hint().unwrap().contains("reboot"));
    // Nothing more is written on this PF, and the observation says why.
    let error = failure(node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })));
    assert!(matches!(error, HostError::Stuck { .. }), "{error}");
    assert_eq!(bench.text(PF, "sriov_drivers_autoprobe"), "1\n");
    let observed = node.observe().unwrap();
    let stuck = observed.pf(address(PF)).unwrap().stuck.clone().unwrap();
    assert!(stuck.contains("sriov_numvfs") && stuck.contains("process"), "{stuck}");
    // The other PF goes on.
    assert_eq!(observed.pf(address(OTHER)).unwrap().stuck, None);
    node.run(&on_pf(OTHER, Change::SetAutoprobe { from: true, to: false })).unwrap();
    // But no second resizing waits behind the first, to happen whenever that ends.
    let error = failure(node.run(&on_pf(OTHER, Change::SetNumVfs { from: 0, to: 4 })));
    assert!(matches!(&error, HostError::Stuck { pf, .. } if *pf == address(PF)), "{error}");
    assert_eq!(bench.text(OTHER, "sriov_numvfs"), "never read\n");
    // Other processes see the claim, also where the mark could not be written; this one does not need it either. That the
    // PF itself has gone changes nothing: its write still waits.
    fs::remove_file(bench.root().join("run/portwright/stuck").join(PF)).unwrap();
    let beside = Observer::new(Root::new(bench.root()), false, bench.root().join("state"));
    let told = |observer: &Observer| {
        let problems = observer.observe().unwrap().problems;
        problems.iter().any(|problem| problem.reason.starts_with("a writer is at work, process "))
    };
    assert!(told(&beside));
    let there = bench.root().join(TreeBuilder::function_path(PF));
    let aside = bench.root().join("removed");
    fs::rename(&there, &aside).unwrap();
    node.observe().unwrap();
    let error = failure(node.run(&on_pf(OTHER, Change::SetNumVfs { from: 0, to: 4 })));
    assert!(matches!(&error, HostError::Stuck { pf, .. } if *pf == address(PF)), "{error}");
    fs::rename(&aside, &there).unwrap();
    // Once the write returns the PF is free again.
    let mut written = String::new();
    fs::File::open(&pipe).unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(written, "4");
    assert!(node.wait_for_stuck(address(PF), Duration::from_secs(10)));
    node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })).unwrap();
    // A writer without work is no reason to leave anything out for its own agent.
    let problems = node.observe().unwrap().problems;
    assert!(!problems.iter().any(|problem| problem.reason.contains("writer")), "{problems:?}");
}

fn a_vf_in_use_is_not_touched() {
    let bench = Bench::new();
    bench.vf(0, Some("igbvf"));
    let mut node = bench.open();
    let remove =
        |force| Step { disruption: Disruption::Pf, force, ..on_pf(PF, Change::SetNumVfs { from: 1, to: 0 }) };
    let unbind = |force| Step {
        disruption: Disruption::Vf,
        force,
        ..on_vf(0, Change::UnbindVf { from: "igbvf".to_owned() })
    };
    // It was idle when the plan was made; the holder comes before the step.
    let pod = json!({"kind": "pod", "namespace": "default", "name": "web-0"});
    let file =
        json!({"kind": "file", "file": "vfio-group", "path": "/dev/vfio/11", "pid": 4242, "command": "qemu"});
    let refused = |node: &mut HostNode, step: &Step, word: &str| {
        // Whoever was faster makes no failure: the node is planned again.
        let text = outrun(node.run(step));
        assert!(text.starts_with("VfInUse: VF 0 of 0000:3b:00.0 is") && text.contains(word), "{text}");
    };
    hold(&mut node, serde_json::from_value(pod).unwrap());
    refused(&mut node, &remove(false), "pod default/web-0");
    refused(&mut node, &unbind(false), "pod default/web-0");
    assert_eq!(bench.text(PF, "sriov_numvfs"), "never read\n");
    // Force takes it from a pod: the write is made.
    let error = failure(node.run(&remove(true)));
    assert!(matches!(error, HostError::NotReadBack { .. }), "{error}");
    fs::write(bench.file(PF, "sriov_numvfs"), "never read\n").unwrap();
    // It never takes it from an open VFIO file: that write would block the node.
    hold(&mut node, serde_json::from_value(file).unwrap());
    for force in [false, true] {
        refused(&mut node, &remove(force), "pid 4242 (qemu)");
        refused(&mut node, &unbind(force), "/dev/vfio/11");
    }
    assert_eq!(bench.text(PF, "sriov_numvfs"), "never read\n");
}

fn a_port_that_the_node_has_come_to_be_reached_over_is_left_alone() {
    let bench = Bench::new();
    let mut node = bench.open();
    // Seen with every look from here on, as if an address had been set up meanwhile.
    let reached_over = |node: &mut HostNode, pf: &'static str| {
        node.set_supplement(Arc::new(move |observed| {
            let link = json!({"name": "ens1f0", "ifindex": 7, "pci": pf});
            observed.links.push(serde_json::from_value(link).unwrap());
            let route = json!({"interface": "ens1f0", "family": 4});
            observed.management.default_routes.push(serde_json::from_value(route).unwrap());
        }));
    };
    let remake = Step { disruption: Disruption::Pf, ..on_pf(PF, Change::SetNumVfs { from: 0, to: 4 }) };
    reached_over(&mut node, PF);
    let found = outrun(node.run(&remake));
    assert!(found.starts_with("ManagementPath: 0000:3b:00.0 carries the default route"), "{found}");
    assert_eq!(bench.text(PF, "sriov_numvfs"), "never read\n");
    // What was on the path when the plan was made is in the plan with the policy's leave.
    node.observe().unwrap();
    let error = failure(node.run(&remake));
    assert!(matches!(error, HostError::PartialEnable { .. }), "{error}");
    // Another port's path is no obstacle.
    let mut node = {
        drop(node);
        bench.open()
    };
    reached_over(&mut node, OTHER);
    fs::write(bench.file(PF, "sriov_numvfs"), "never read\n").unwrap();
    assert!(matches!(failure(node.run(&remake)), HostError::PartialEnable { .. }));
}

fn what_disrupts_nobody_waits_for_users_too() {
    let bench = Bench::new();
    bench.vf(0, Some("igbvf"));
    bench.vf(1, Some("igbvf"));
    bench.vf(2, None);
    let mut node = bench.open();
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    node.set_supplement(Arc::new(move |observed| {
        counted.fetch_add(1, Ordering::Relaxed);
        let pod = json!({"kind": "pod", "namespace": "default", "name": "web-0"});
        let vf = observed.pfs.iter_mut().find_map(|pf| pf.vfs.iter_mut().find(|vf| vf.index == 1));
        vf.into_iter().for_each(|vf| vf.holders = vec![serde_json::from_value(pod.clone()).unwrap()]);
    }));
    let trust = |index| on_vf(index, Change::SetVfTrust { from: None, to: true });
    let rate = |index| {
        let to = TxRate { min: 0, max: 100 };
        on_vf(index, Change::SetVfRate { from: None, to })
    };
    // In a tree there is no netdev to set anything on: as far as that they come.
    let ends =
        |node: &mut HostNode, step: &Step| (chain(&failure(node.run(step))), looks.load(Ordering::Relaxed));
    let nothing_to_set = "0000:3b:00.0 has no netdev in this network namespace";
    assert_eq!(ends(&mut node, &trust(0)), (nothing_to_set.to_owned(), 1));
    assert_eq!(ends(&mut node, &rate(0)), (nothing_to_set.to_owned(), 1), "one look for all steps of a VF");
    for _ in 0..2 {
        let text = outrun(node.run(&trust(1)));
        assert!(text.starts_with("VfInUse: VF 1 of 0000:3b:00.0 is used by pod default/web-0"), "{text}");
    }
    assert_eq!(ends(&mut node, &rate(0)), (nothing_to_set.to_owned(), 4));
    assert_eq!(
        ends(&mut node, &rate(2)),
        (nothing_to_set.to_owned(), 4),
        "nobody uses a VF without a driver"
    );
}

fn a_missing_file_is_told_with_its_meaning() {
    let bench = Bench::new();
    fs::remove_file(bench.file(PF, "sriov_numvfs")).unwrap();
    let mut node = bench.open();
    let error = failure(node.run(&on_pf(PF, Change::SetNumVfs { from: 0, to: 4 })));
    let text = chain(&error);
    for part in ["4 VFs cannot be made on 0000:3b:00.0", "no driver", "sriov_numvfs", "ENOENT"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.matches("ENOENT").count(), 1, "the chain says each thing once: {text}");
    assert!(error.hint().unwrap().contains("externallyManaged"));
}

fn a_second_writer_is_refused() {
    let bench = Bench::new();
    let _node = bench.open();
    let again = HostNode::open(
        Root::new(bench.root()),
        bench.root().join("another-state"),
        Profiles::default(),
        launcher(),
    );
    let Err(error) = again else { panic!("two writers") };
    assert!(chain(&error).contains(&format!("pid {}", std::process::id())), "{}", chain(&error));
    assert!(error.hint().is_some());
}
