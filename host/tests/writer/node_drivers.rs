//! Steps about drivers: binding, overrides, modules, udev's rule.

use std::fs;

use portwright_core::drive::Node;
use portwright_core::step::DriverTarget;
use portwright_core::{Change, udev_rule};
use portwright_host::run::HostError;

use crate::bench::{Bench, PF, failure, is_stale, named, on_node, on_pf, on_vf};

pub(crate) const TESTS: [(&str, fn()); 5] = [
    ("binding_writes_override_and_probe_and_reads_back", binding_writes_override_and_probe_and_reads_back),
    ("an_override_goes_where_it_is_not_to_stay", an_override_goes_where_it_is_not_to_stay),
    ("the_udev_rule_is_written_whole", the_udev_rule_is_written_whole),
    ("modules_are_loaded_by_the_hosts_modprobe", modules_are_loaded_by_the_hosts_modprobe),
    ("a_vf_that_is_bound_already_is_left_alone", a_vf_that_is_bound_already_is_left_alone),
];

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

fn a_vf_that_is_bound_already_is_left_alone() {
    let bench = Bench::new();
    let vf = bench.vf(0, Some("igbvf"));
    let mut node = bench.open();
    // A module that was loaded earlier in the plan has bound it.
    node.run(&on_vf(0, Change::BindVf { from: None, to: named("igbvf", false) })).unwrap();
    assert_eq!(bench.text(&vf, "driver_override"), "(null)\n");
}
