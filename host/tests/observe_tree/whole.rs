//! What there is on a node is seen, each file once.

use portwright_core::Fact;
use portwright_core::observed::{Lockdown, Observed, Sight};
use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use tempfile::TempDir;

use crate::tree::{FunctionSpec, TreeBuilder};
use crate::{OTHER_PF, PF, node, observe, only_problem, pf_file, problems, spec, vf, vf_file};

#[test]
fn an_ordinary_node_is_seen_whole() {
    let (folder, tree) = node();
    tree.file("proc/net/route", "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n")
        .unwrap();
    tree.file("lib/modules/6.12.95-amd64/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    assert_eq!((pf.name.as_deref(), pf.driver.as_deref(), pf.total_vfs), (Some("ens1f0"), Some("ice"), 64));
    assert_eq!((pf.vendor.to_string().as_str(), pf.device.to_string().as_str()), ("8086", "1592"));
    assert_eq!(
        (pf.class.as_deref(), pf.numa_node, pf.autoprobe),
        (Some("020000"), Some(0), Fact::Known(true))
    );
    assert_eq!(pf.vf_device.map(|id| id.to_string()).as_deref(), Some("1889"));
    assert!(pf.eswitch.is_unknown());
    let seen: Vec<_> =
        pf.vfs.iter().map(|vf| (vf.index, vf.driver.as_deref(), vf.netdev.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (0, Some("iavf"), Some("ens1f0v0")),
            (1, Some("vfio-pci"), None),
            (2, Some("iavf"), Some("ens1f0v2"))
        ]
    );
    let first = &pf.vfs[0];
    assert_eq!((first.iommu_group, first.driver_override.as_deref()), (Some(10), None));
    assert_eq!((first.netdevs[0].mtu, first.netdevs[0].up), (Fact::Known(1500), Fact::Known(true)));
    assert!(first.admin.mac.is_unknown() && first.admin.trust.is_unknown());
    assert_eq!(observed.node.kernel, "6.12.95-amd64");
    assert_eq!(observed.node.iommu, Fact::Known(true));
    assert_eq!(observed.node.lockdown, Fact::Known(Lockdown::None));
    assert_eq!(observed.node.mac_seed, Some(portwright_core::mac::seed("0123456789abcdef0123456789abcdef")));
    assert!(observed.node.driver_loaded("vfio-pci") && observed.node.module_available("vfio-pci"));
    assert_eq!(observed.node.sight, Sight::Complete);
    assert_eq!(observed.link("ens1f0v0").unwrap().pci, Some(vf(0).parse().unwrap()));
    assert!(observed.devices.is_empty());
}

#[test]
fn no_file_is_read_twice_and_the_blocking_one_never() {
    let (folder, _tree) = node();
    let root = Root::audited(folder.path());
    Observer::new(root.clone(), false, folder.path().join("state")).observe().unwrap();
    let audit = root.audit().unwrap();
    assert!(audit.keys().any(|path| path.ends_with("sriov_totalvfs")), "{audit:?}");
    assert!(!audit.keys().any(|path| path.ends_with("sriov_numvfs")), "{audit:?}");
    let twice: Vec<_> = audit.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(root.reads(), audit.values().map(|times| u64::from(*times)).sum::<u64>());
}

#[test]
fn the_number_of_reads_grows_with_the_vfs() {
    let reads = |vfs| {
        let folder = TempDir::new().unwrap();
        crate::tree::generate(folder.path(), 2, vfs).unwrap();
        let root = Root::new(folder.path());
        Observer::new(root.clone(), false, folder.path()).observe().unwrap();
        root.reads()
    };
    let (few, more, most) = (reads(8), reads(16), reads(32));
    assert_eq!((most - more), 2 * (more - few), "{few} {more} {most}");
}

#[test]
fn missing_files_are_normal_except_what_every_function_has() {
    let (folder, tree) = node();
    for file in [
        "numa_node",
        "sriov_vf_device",
        "sriov_drivers_autoprobe",
        "driver_override",
        "driver",
        "iommu_group",
    ] {
        tree.remove(pf_file(file)).unwrap();
    }
    for file in ["mtu", "address", "carrier", "speed", "phys_switch_id", "ifindex"] {
        tree.remove(pf_file(&format!("net/ens1f0/{file}"))).unwrap();
    }
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    assert_eq!((pf.driver.as_deref(), pf.numa_node, pf.iommu_group, pf.vf_device), (None, None, None, None));
    assert!(pf.autoprobe.is_unknown() && pf.netdevs[0].mtu.is_unknown());

    tree.remove(pf_file("vendor")).unwrap();
    only_problem(&observe(&folder), PF, "vendor does not exist");
}

#[test]
fn numbers_that_mean_none_are_none() {
    let (folder, tree) = node();
    tree.file(pf_file("numa_node"), "-1\n").unwrap();
    tree.file(pf_file("net/ens1f0/speed"), "-1\n").unwrap();
    tree.file(pf_file("net/ens1f0/flags"), "0x1002\n").unwrap();
    tree.file(TreeBuilder::function_path(OTHER_PF).join("net/ens2f0/speed"), "4294967295\n").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    assert_eq!((pf.numa_node, pf.netdevs[0].speed, pf.netdevs[0].carrier), (None, None, None));
    assert_eq!(pf.netdevs[0].up, Fact::Known(false));
    assert_eq!(observed.pf(OTHER_PF.parse().unwrap()).unwrap().netdevs[0].speed, None);
}

#[test]
fn vf_numbers_may_have_gaps() {
    let (folder, tree) = node();
    tree.remove(pf_file("virtfn1")).unwrap();
    tree.remove(vf_file(1, "physfn")).unwrap();
    let observed = observe(&folder);
    let indexes: Vec<u16> = observed.pf(PF.parse().unwrap()).unwrap().vfs.iter().map(|vf| vf.index).collect();
    assert_eq!(indexes, [0, 2]);
    // Without a physfn it is what a guest sees of a passed-through VF: a function of its own.
    assert_eq!(observed.devices.len(), 1);
    assert!(!observed.devices[0].hidden_pf);
}

#[test]
fn a_vf_whose_pf_is_not_visible_is_a_device() {
    let (folder, tree) = node();
    tree.function(&spec("0000:81:02.0", "1889", Some("iavf"), Some("enp129s2"), 40)).unwrap();
    tree.link(TreeBuilder::function_path("0000:81:02.0").join("physfn"), "../0000:81:00.0").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    assert!(observed.devices[0].hidden_pf);
    assert_eq!(observed.devices[0].netdevs[0].name, "enp129s2");
}

#[test]
fn other_functions_are_left_out() {
    let (folder, tree) = node();
    let nvme = TreeBuilder::function_path("0000:01:00.0");
    tree.function(&FunctionSpec { netdev: None, ..spec("0000:01:00.0", "a80a", Some("nvme"), None, 50) })
        .unwrap();
    tree.file(nvme.join("class"), "0x010802\n").unwrap();
    tree.function(&spec("0000:00:1f.6", "15be", Some("e1000e"), Some("eno1"), 51)).unwrap();
    let observed = observe(&folder);
    let addresses: Vec<String> = observed.devices.iter().map(|device| device.address.to_string()).collect();
    assert_eq!(addresses, ["0000:00:1f.6"]);

    // Storage with VFs is a PF as any other; with none at most it is not.
    tree.sriov("0000:01:00.0", "0", "a80a").unwrap();
    assert_eq!(observe(&folder).pfs.len(), 2);
    tree.file(nvme.join("sriov_totalvfs"), "32\n").unwrap();
    assert_eq!(observe(&folder).pfs.len(), 3);
    // A NIC whose firmware has switched SR-IOV off is shown, so that the operator finds it.
    tree.sriov("0000:00:1f.6", "0", "15be").unwrap();
    let observed = observe(&folder);
    assert_eq!(observed.pf("0000:00:1f.6".parse().unwrap()).unwrap().total_vfs, 0);
}

#[test]
fn what_is_seen_survives_its_json_form() {
    let (folder, _tree) = node();
    let observed = observe(&folder);
    let text = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed);
}
