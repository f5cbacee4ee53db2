//! Steps on a tree: what is checked before, what is written where and in which order, what is read back, and what the
//! errors say. The lab runs the same steps on a real kernel.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portwright_core::desired::TxRate;
use portwright_core::drive::{Node, RunError, chain};
use portwright_core::observed::Holder;
use portwright_core::step::DriverTarget;
use portwright_core::{Change, Disruption, Object, PciAddress, Profiles, Step, VfRef, udev_rule};
use portwright_host::inventory::Observer;
use portwright_host::node::HostNode;
use portwright_host::root::Root;
use portwright_host::run::HostError;
use serde_json::json;

use crate::child::launcher;
use crate::kernel;
use crate::tree::{FunctionSpec, TreeBuilder};

pub(crate) const TESTS: [(&str, fn()); 14] = [
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
    ("binding_writes_override_and_probe_and_reads_back", binding_writes_override_and_probe_and_reads_back),
    ("an_override_goes_where_it_is_not_to_stay", an_override_goes_where_it_is_not_to_stay),
    ("a_missing_file_is_told_with_its_meaning", a_missing_file_is_told_with_its_meaning),
    ("the_udev_rule_is_written_whole", the_udev_rule_is_written_whole),
    ("modules_are_loaded_by_the_hosts_modprobe", modules_are_loaded_by_the_hosts_modprobe),
    ("a_second_writer_is_refused", a_second_writer_is_refused),
    ("a_vf_that_is_bound_already_is_left_alone", a_vf_that_is_bound_already_is_left_alone),
];

pub(crate) const PF: &str = "0000:3b:00.0";
pub(crate) const OTHER: &str = "0000:5e:00.0";

pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) tree: TreeBuilder,
}

impl Bench {
    /// Two PFs without VFs.
    pub(crate) fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let tree = TreeBuilder::new(folder.path()).unwrap();
        tree.file("proc/sys/kernel/random/boot_id", "this-boot\n").unwrap();
        tree.file("sys/bus/pci/drivers_probe", "").unwrap();
        for address in [PF, OTHER] {
            let spec = FunctionSpec {
                address,
                vendor: "8086",
                device: "10c9",
                driver: Some("igb"),
                netdev: None,
                iommu_group: None,
            };
            tree.function(&spec).unwrap();
            tree.sriov(address, "7", "10ca").unwrap();
        }
        Bench { folder, tree }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn open(&self) -> HostNode {
        self.open_with(300)
    }

    /// A node whose watchdog gives up a resizing write after so many milliseconds.
    pub(crate) fn open_with(&self, deadline: u32) -> HostNode {
        let profile = format!(
            "name = \"igb\"\nsummary = \"test\"\ndrivers = [\"igb\"]\n\
            [numvfs-deadline-ms]\nvalue = {deadline}\nsource = \"test\"\nconfidence = \"assumed\"\n\
            [netdev-deadline-ms]\nvalue = 100\nsource = \"test\"\nconfidence = \"assumed\"\n"
        );
        let profiles = Profiles::parse([("igb.toml", profile.as_str())]).unwrap();
        let root = Root::new(self.root());
        let mut node = HostNode::open(root, self.root().join("state"), profiles, launcher()).unwrap();
        node.observe().unwrap();
        node
    }

    pub(crate) fn file(&self, address: &str, name: &str) -> PathBuf {
        self.root().join(TreeBuilder::function_path(address)).join(name)
    }

    pub(crate) fn text(&self, address: &str, name: &str) -> String {
        fs::read_to_string(self.file(address, name)).unwrap()
    }

    /// A VF as sysfs shows it.
    pub(crate) fn vf(&self, index: u32, driver: Option<&str>) -> String {
        let address = kernel::vf_name(PF, index);
        let spec = FunctionSpec {
            address: &address,
            vendor: "8086",
            device: "10ca",
            driver,
            netdev: None,
            iommu_group: None,
        };
        self.tree.function(&spec).unwrap();
        self.tree.vf_of(PF, index, &address).unwrap();
        address
    }
}

pub(crate) fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

pub(crate) fn on_pf(pf: &str, change: Change) -> Step {
    Step { object: Object::Pci(address(pf)), change, disruption: Disruption::None, force: false }
}

pub(crate) fn on_vf(index: u16, change: Change) -> Step {
    let object = Object::Vf(VfRef { pf: address(PF), index });
    Step { object, change, disruption: Disruption::None, force: false }
}

fn on_node(change: Change) -> Step {
    Step { object: Object::Node, change, disruption: Disruption::None, force: false }
}

pub(crate) fn failure(result: Result<(), RunError<HostError>>) -> HostError {
    match result {
        Err(RunError::Failed(error)) => error,
        other => panic!("a failure was due: {other:?}"),
    }
}

/// What was found in place of what the step expects.
fn outrun(result: Result<(), RunError<HostError>>) -> String {
    match result {
        Err(RunError::Stale { found }) => found,
        other => panic!("it should be out of date: {other:?}"),
    }
}

pub(crate) fn is_stale(result: &Result<(), RunError<HostError>>) -> bool {
    matches!(result, Err(RunError::Stale { .. }))
}

fn named(driver: &str, keep_override: bool) -> DriverTarget {
    DriverTarget::Named { driver: driver.to_owned(), keep_override }
}

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

/// Lets the VF be held from now on.
pub(crate) fn hold(node: &mut HostNode, holder: Holder) {
    node.set_supplement(Arc::new(move |observed| {
        let vfs = observed.pfs.iter_mut().flat_map(|pf| &mut pf.vfs);
        vfs.for_each(|vf| vf.holders = vec![holder.clone()]);
    }));
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

fn binding_writes_override_and_probe_and_reads_back() {
    let bench = Bench::new();
    let vf = bench.vf(0, None);
    let mut node = bench.open();
    let step = on_vf(0, Change::BindVf { from: None, to: named("vfio-pci", true) });
    // Nobody binds anything in a tree: success is not believed.
    let error = failure(node.run(&step));
    let text = error.to_string();
    assert!(matches!(error, HostError::NotReadBack { .. }), "{text}");
    assert!(text.contains("no driver instead of vfio-pci"), "{text}");
    assert!(bench.text(&vf, "driver_override").starts_with("vfio-pci\n"));
    assert_eq!(fs::read_to_string(bench.root().join("sys/bus/pci/drivers_probe")).unwrap(), vf);
    let error = failure(node.run(&on_vf(0, Change::BindVf { from: None, to: DriverTarget::Default })));
    assert!(error.to_string().contains("no driver instead of kernel default"), "{error}");
}

fn an_override_goes_where_it_is_not_to_stay() {
    let bench = Bench::new();
    let vf = bench.vf(0, Some("igbvf"));
    fs::write(bench.file(&vf, "driver_override"), "").unwrap();
    // The tree's driver folder takes the unbinding and forgets it: the VF stays bound, as if bound again at once.
    fs::write(bench.root().join("sys/bus/pci/drivers/igbvf/unbind"), "").unwrap();
    let mut node = bench.open();
    node.run(&on_vf(0, Change::ReprobeVf { driver: "igbvf".to_owned() })).unwrap();
    assert_eq!(fs::read_to_string(bench.root().join("sys/bus/pci/drivers/igbvf/unbind")).unwrap(), vf);
    // A plain file keeps the tail of what was longer; the last write was the empty line.
    assert_eq!(bench.text(&vf, "driver_override"), "\ngbvf\n");
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

fn the_udev_rule_is_written_whole() {
    let bench = Bench::new();
    let mut node = bench.open();
    let content = udev_rule::content(&std::collections::BTreeSet::new());
    let step = on_node(Change::WriteUdevRule { from: None, to: content.clone() });
    node.run(&step).unwrap();
    assert_eq!(fs::read_to_string(bench.root().join(udev_rule::PATH)).unwrap(), content);
    assert_eq!(node.observe().unwrap().node.udev_rule, Some(content));
    assert!(is_stale(&node.run(&step)), "it is there already");
}

fn modules_are_loaded_by_the_hosts_modprobe() {
    let bench = Bench::new();
    let mut node = bench.open();
    let step = on_pf(PF, Change::LoadModule { module: "vfio_pci".to_owned() });
    let error = failure(node.run(&step));
    assert!(matches!(error, HostError::NoProgram { .. }), "{error}");
    assert!(error.hint().unwrap().contains("modules-load.d"));
    let modprobe = |script: &str| {
        bench.tree.file("sbin/modprobe", format!("#!/bin/sh\n{script}\n")).unwrap();
        let path = bench.root().join("sbin/modprobe");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    modprobe("echo 'modprobe: FATAL: Module vfio_pci not found' >&2; exit 1");
    let error = failure(node.run(&step));
    assert!(error.to_string().contains("Module vfio_pci not found"), "{error}");
    modprobe("exit 0");
    assert!(matches!(failure(node.run(&step)), HostError::NotReadBack { .. }), "success is not believed");
    let drivers = bench.root().join("sys/bus/pci/drivers");
    // Whatever the host's configuration has it bind, it binds nothing by itself.
    modprobe(&format!("[ \"$*\" = \"-- vfio_pci ids=\" ] && mkdir {}/vfio-pci", drivers.display()));
    node.run(&step).unwrap();
    modprobe(&format!("[ \"$*\" = \"-- igbvf\" ] && mkdir -p {}/igbvf", drivers.display()));
    node.run(&on_pf(PF, Change::LoadModule { module: "igbvf".to_owned() })).unwrap();
    modprobe("exit 0");
    node.run(&step).unwrap();
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

fn a_vf_that_is_bound_already_is_left_alone() {
    let bench = Bench::new();
    let vf = bench.vf(0, Some("igbvf"));
    let mut node = bench.open();
    // A module that was loaded earlier in the plan has bound it.
    node.run(&on_vf(0, Change::BindVf { from: None, to: named("igbvf", false) })).unwrap();
    assert_eq!(bench.text(&vf, "driver_override"), "(null)\n");
}
