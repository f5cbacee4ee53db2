//! Looks at trees on disk: what is there is seen, what is odd is reported, and one odd thing hides nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and write their own files"
)]

mod tree;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use portwright_core::observed::{FileKind, Holder, Lockdown, Observed, Sight};
use portwright_core::usage::{Use, uses};
use portwright_core::{Fact, VfRef};
use portwright_host::inventory::{ObserveError, Observer};
use portwright_host::root::Root;
use tempfile::TempDir;
use tree::{FunctionSpec, TreeBuilder};

const PF: &str = "0000:3b:00.0";
const OTHER_PF: &str = "0000:5e:00.0";

/// A node with one PF of three VFs (one of them for VFIO) and one PF without VFs.
fn node() -> (TempDir, TreeBuilder) {
    let folder = TempDir::new().unwrap();
    let tree = TreeBuilder::new(folder.path()).unwrap();
    for (address, name) in [(PF, "ens1f0"), (OTHER_PF, "ens2f0")] {
        tree.function(&spec(address, "1592", Some("ice"), Some(name), 1)).unwrap();
        tree.sriov(address, "64", "1889").unwrap();
    }
    for (index, driver, netdev) in
        [(0, "iavf", Some("ens1f0v0")), (1, "vfio-pci", None), (2, "iavf", Some("ens1f0v2"))]
    {
        let address = vf(index);
        tree.function(&spec(&address, "1889", Some(driver), netdev, 10 + index)).unwrap();
        tree.vf_of(PF, index, &address).unwrap();
    }
    (folder, tree)
}

fn vf(index: u32) -> String {
    format!("0000:3b:01.{index}")
}

fn vf_file(index: u32, file: &str) -> std::path::PathBuf {
    TreeBuilder::function_path(&vf(index)).join(file)
}

fn pf_file(file: &str) -> std::path::PathBuf {
    TreeBuilder::function_path(PF).join(file)
}

fn spec<'a>(
    address: &'a str,
    device: &'a str,
    driver: Option<&'a str>,
    netdev: Option<&'a str>,
    group: u32,
) -> FunctionSpec<'a> {
    FunctionSpec { address, vendor: "8086", device, driver, netdev, iommu_group: Some(group) }
}

fn observe(folder: &TempDir) -> Observed {
    Observer::new(Root::new(folder.path()), false, folder.path().join("state")).observe().unwrap()
}

fn problems(observed: &Observed) -> Vec<String> {
    observed.problems.iter().map(|problem| format!("{}: {}", problem.object, problem.reason)).collect()
}

/// Exactly one problem, about this object, with these words.
fn only_problem(observed: &Observed, object: &str, words: &str) {
    let problems = problems(observed);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with(&format!("{object}: ")), "{problems:?}");
    assert!(problems[0].contains(words), "{problems:?} lacks {words:?}");
}

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
        tree::generate(folder.path(), 2, vfs).unwrap();
        let root = Root::new(folder.path());
        Observer::new(root.clone(), false, folder.path()).observe().unwrap();
        root.reads()
    };
    let (few, more, most) = (reads(8), reads(16), reads(32));
    assert_eq!((most - more), 2 * (more - few), "{few} {more} {most}");
}

#[test]
fn a_value_that_is_no_number_is_reported_and_hides_nothing() {
    let cases: [(&str, &[u8], &str); 9] = [
        ("mtu", b"many\n", "is not an MTU"),
        ("mtu", b"-1\n", "is not an MTU"),
        ("mtu", b"99999999999\n", "is not an MTU"),
        ("flags", b"1003\n", "is not a hexadecimal number"),
        ("address", b"52:54:00\n", "is not a MAC address"),
        ("carrier", b"2\n", "is not 0 or 1"),
        ("type", b"\xff\xfe\n", "is not an ARPHRD number"),
        ("ifindex", b"\n", "is not an interface index"),
        ("mtu", &[b'1'; 5000], "is larger than 4095 bytes"),
    ];
    for (file, content, words) in cases {
        let (folder, tree) = node();
        tree.file(vf_file(0, &format!("net/ens1f0v0/{file}")), content).unwrap();
        let observed = observe(&folder);
        only_problem(&observed, "0000:3b:00.0/vf/0", words);
        let pf = observed.pf(PF.parse().unwrap()).unwrap();
        assert_eq!(pf.vfs.len(), 3, "{file}");
        assert_eq!(pf.vfs[0].netdev.as_deref(), Some("ens1f0v0"), "{file}");
        assert_eq!(observed.pfs.len(), 2, "{file}");
    }
}

#[test]
fn odd_values_of_a_pf_are_reported_and_its_vfs_stay_visible() {
    let cases = [
        ("sriov_totalvfs", "lots\n", "is not a number of VFs"),
        ("sriov_totalvfs", "65536\n", "is not a number of VFs"),
        ("sriov_drivers_autoprobe", "yes\n", "is not 0 or 1"),
        ("sriov_vf_device", "xyz\n", "is not a PCI ID"),
        ("vendor", "8086\n", "is not a PCI ID"),
        ("device", "0x15929\n", "is not a PCI ID"),
        ("class", "0x02\n", "is not a PCI class"),
        ("numa_node", "zero\n", "is not a NUMA node"),
        ("acpi_index", "-1\n", "is not a number"),
    ];
    for (file, content, words) in cases {
        let (folder, tree) = node();
        tree.file(pf_file(file), content).unwrap();
        let observed = observe(&folder);
        only_problem(&observed, PF, words);
        assert_eq!(observed.pf(PF.parse().unwrap()).unwrap().vfs.len(), 3, "{file}");
    }
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
fn dangling_links_are_reported() {
    let (folder, tree) = node();
    tree.link(pf_file("virtfn7"), "../0000:3b:01.7").unwrap();
    let observed = observe(&folder);
    only_problem(&observed, "0000:3b:00.0/vf/7", "which is not there");
    assert_eq!(observed.pf(PF.parse().unwrap()).unwrap().vfs.len(), 3);

    let (folder, tree) = node();
    tree.link("sys/bus/pci/devices/0000:aa:00.0", "../../../devices/pci0000:00/0000:aa:00.0").unwrap();
    only_problem(&observe(&folder), "0000:aa:00.0", "does not exist");

    let (folder, tree) = node();
    tree.link(pf_file("virtfn9"), "../nonsense").unwrap();
    only_problem(&observe(&folder), PF, "`nonsense` is not a PCI address");

    let (folder, tree) = node();
    tree.link("sys/class/net/gone0", "../../devices/virtual/net/gone0").unwrap();
    only_problem(&observe(&folder), "net/gone0", "does not exist");
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
fn names_that_are_not_utf8_are_reported() {
    let (folder, tree) = node();
    let odd = std::ffi::OsStr::from_bytes(b"eth\xff0");
    fs::create_dir_all(tree.root.join(pf_file("net")).join(odd)).unwrap();
    let observed = observe(&folder);
    only_problem(&observed, PF, "is not UTF-8");
    assert_eq!(observed.pf(PF.parse().unwrap()).unwrap().name.as_deref(), Some("ens1f0"));

    let (folder, tree) = node();
    fs::create_dir_all(tree.root.join("sys/class/net").join(odd)).unwrap();
    only_problem(&observe(&folder), "node", "is not UTF-8");
}

#[test]
fn a_folder_or_a_pipe_in_place_of_a_file_is_reported() {
    let (folder, tree) = node();
    tree.remove(vf_file(0, "device")).unwrap();
    fs::create_dir_all(tree.root.join(vf_file(0, "device"))).unwrap();
    only_problem(&observe(&folder), "0000:3b:00.0/vf/0", "Is a directory");

    let (folder, tree) = node();
    tree.remove(vf_file(0, "net/ens1f0v0/mtu")).unwrap();
    nix::unistd::mkfifo(&tree.root.join(vf_file(0, "net/ens1f0v0/mtu")), nix::sys::stat::Mode::S_IRUSR)
        .unwrap();
    only_problem(&observe(&folder), "0000:3b:00.0/vf/0", "is not an MTU");
}

#[test]
fn a_function_that_is_a_plain_file_or_no_address_is_reported() {
    let (folder, tree) = node();
    tree.file("sys/bus/pci/devices/README", "x").unwrap();
    tree.file("sys/bus/pci/devices/0000:77:00.0", "x").unwrap();
    let observed = observe(&folder);
    let problems = problems(&observed);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("README is not a PCI address")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("0000:77:00.0: cannot read")), "{problems:?}");
    assert_eq!(observed.pfs.len(), 2);
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
fn peers_share_an_iommu_group_and_bridges_do_not_count() {
    let (folder, tree) = node();
    let bridge = TreeBuilder::function_path("0000:3a:00.0");
    tree.function(&spec("0000:3a:00.0", "2030", Some("pcieport"), None, 10)).unwrap();
    tree.file(bridge.join("class"), "0x060400\n").unwrap();
    tree.function(&spec("0000:3b:02.0", "1889", None, None, 10)).unwrap();
    let observed = observe(&folder);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    let peers: Vec<String> = pf.vfs[0].group_peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["0000:3b:02.0"]);
    assert!(pf.vfs[1].group_peers.is_empty());
}

#[test]
fn representors_are_found_by_switch_and_port_whatever_they_are_called() {
    let (folder, tree) = node();
    let port = |netdev: &std::path::Path, switch: &str, port: &str| {
        tree.file(netdev.join("phys_switch_id"), format!("{switch}\n")).unwrap();
        tree.file(netdev.join("phys_port_name"), format!("{port}\n")).unwrap();
    };
    port(&pf_file("net/ens1f0"), "0a0b", "p0");
    port(&tree.netdev(PF, "eth7").unwrap(), "0a0b", "pf0vf0");
    port(&tree.netdev(PF, "aaa").unwrap(), "0a0b", "pf0vf2");
    // The same numbers on another switch, and a port of another host's VF.
    port(&tree.netdev(OTHER_PF, "other").unwrap(), "ffff", "pf0vf1");
    port(&tree.netdev(PF, "dpu").unwrap(), "0a0b", "c1pf0vf1");
    let observed = observe(&folder);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    let representors: Vec<_> = pf.vfs.iter().map(|vf| vf.representor.as_deref()).collect();
    assert_eq!(representors, [Some("eth7"), None, Some("aaa")]);
    let own: Vec<&str> = pf.netdevs.iter().map(|netdev| netdev.name.as_str()).collect();
    assert_eq!(own, ["dpu", "ens1f0"]);
    assert_eq!(pf.name.as_deref(), Some("ens1f0"));
}

#[test]
fn links_show_how_they_are_stacked() {
    let (folder, tree) = node();
    tree.file("sys/class/net/bonding_masters", "bond0\n").unwrap();
    let bond = tree.virtual_netdev("bond0", Some("bond")).unwrap();
    tree.link(bond.join("lower_ens2f0"), "../ens2f0").unwrap();
    tree.link(TreeBuilder::function_path(OTHER_PF).join("net/ens2f0/master"), "../../../virtual/net/bond0")
        .unwrap();
    let vlan = tree.virtual_netdev("bond0.5", Some("vlan")).unwrap();
    tree.link(vlan.join("lower_bond0"), "../bond0").unwrap();
    let bridge = tree.virtual_netdev("br0", None).unwrap();
    tree.file(bridge.join("bridge/stp_state"), "0\n").unwrap();
    tree.virtual_netdev("lo", None).unwrap();
    tree.file("sys/devices/virtual/net/lo/type", "772\n").unwrap();
    tree.virtual_netdev("dummy0", None).unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    let kind = |observed: &Observed, name: &str| observed.link(name).unwrap().kind.clone();
    let told: Vec<Option<String>> =
        ["bond0", "bond0.5", "br0", "dummy0", "ens2f0"].iter().map(|name| kind(&observed, name)).collect();
    let expected = [Some("bond"), Some("vlan"), Some("bridge"), None, None];
    assert_eq!(told, expected.map(|kind| kind.map(str::to_owned)));
    assert_eq!(observed.link("bond0").unwrap().lowers, ["ens2f0"]);
    assert_eq!(observed.link("ens2f0").unwrap().master.as_deref(), Some("bond0"));
    assert!(observed.link("bonding_masters").is_none());

    // With the OVS datapath, what shows no kind may be a port of it.
    tree.virtual_netdev("ovs-system", None).unwrap();
    let observed = observe(&folder);
    assert_eq!(kind(&observed, "dummy0").as_deref(), Some("openvswitch"));
    assert_eq!(kind(&observed, "lo"), None);
}

#[test]
fn virtio_netdevs_belong_to_their_function() {
    let (folder, tree) = node();
    tree.function(&spec("0000:00:03.0", "1041", Some("virtio-pci"), None, 60)).unwrap();
    let path = TreeBuilder::function_path("0000:00:03.0").join("virtio0/net/eth0");
    tree.file(path.join("ifindex"), "99\n").unwrap();
    tree.link("sys/class/net/eth0", "../../devices/pci0000:00/0000:00:03.0/virtio0/net/eth0").unwrap();
    let observed = observe(&folder);
    assert_eq!(observed.devices[0].netdevs[0].ifindex, 99);
    assert_eq!(observed.link("eth0").unwrap().pci, "0000:00:03.0".parse().ok());
}

#[test]
fn rdma_vdpa_and_subfunctions_are_listed() {
    let (folder, tree) = node();
    fs::create_dir_all(tree.root.join(pf_file("infiniband/mlx5_0"))).unwrap();
    fs::create_dir_all(tree.root.join(pf_file("mlx5_core.sf.2/net/sf0"))).unwrap();
    fs::create_dir_all(tree.root.join(vf_file(0, "vdpa3/vhost-vdpa-1"))).unwrap();
    tree.link("sys/bus/vdpa/devices/vdpa3", "../../../devices/pci0000:00/0000:3b:01.0/vdpa3").unwrap();
    fs::create_dir_all(tree.root.join(vf_file(2, "blue"))).unwrap();
    tree.link("sys/bus/vdpa/devices/blue", "../../../devices/pci0000:00/0000:3b:01.2/blue").unwrap();
    tree.link("sys/class/net/sf0", "../../devices/pci0000:00/0000:3b:00.0/mlx5_core.sf.2/net/sf0").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    assert_eq!(
        (pf.rdma.as_slice(), pf.subfunctions.as_slice()),
        (&["mlx5_0".to_owned()][..], &["mlx5_core.sf.2".to_owned()][..])
    );
    assert_eq!(pf.vfs[0].vdpa, ["vdpa3"]);
    assert_eq!(pf.vfs[2].vdpa, ["blue"]);
    assert_eq!(observed.link("sf0").unwrap().pci, PF.parse().ok());
    assert_eq!(pf.netdevs.len(), 1);
}

#[test]
fn holders_in_a_tree_are_named() {
    let (folder, tree) = node();
    let id = "0123456789abcdef".repeat(4);
    tree.file("proc/4711/comm", "qemu-system-x86\n").unwrap();
    tree.file("proc/4711/cgroup", format!("0::/kubepods.slice/cri-containerd-{id}.scope\n")).unwrap();
    tree.link("proc/4711/fd/3", "/dev/vfio/vfio").unwrap();
    tree.link("proc/4711/fd/4", "/dev/vfio/11").unwrap();
    tree.link("proc/4711/fd/5", "anon_inode:[vfio-device]").unwrap();
    let observed = observe(&folder);
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    let file = |file, path: &str| Holder::File {
        file,
        path: path.to_owned(),
        pid: 4711,
        command: "qemu-system-x86".to_owned(),
        container: Some(id.clone()),
        shared: false,
    };
    assert_eq!(
        pf.vfs[1].holders,
        [file(FileKind::VfioGroup, "/dev/vfio/11"), file(FileKind::VfioDevice, "anon_inode:[vfio-device]")]
    );
    assert!(pf.vfs[0].holders.is_empty() && pf.vfs[2].holders.is_empty());
}

#[test]
fn a_file_that_could_be_any_vfs_counts_for_all() {
    let (folder, tree) = node();
    for index in [0, 2] {
        tree.remove(vf_file(index, "driver")).unwrap();
        tree.link(vf_file(index, "driver"), "../../../bus/pci/drivers/vfio-pci").unwrap();
    }
    tree.file("proc/12/comm", "broker\n").unwrap();
    tree.link("proc/12/fd/9", "anon_inode:[vfio-device]").unwrap();
    let shared = |observed: &Observed| -> Vec<Option<bool>> {
        let pf = observed.pf(PF.parse().unwrap()).unwrap();
        let shared = |holder: &Holder| match holder {
            Holder::File { shared, .. } => *shared,
            Holder::Pod { .. } | Holder::Namespace { .. } => panic!("{holder:?}"),
        };
        pf.vfs.iter().map(|vf| vf.holders.first().map(shared)).collect()
    };
    assert_eq!(shared(&observe(&folder)), [Some(true), Some(true), Some(true)]);

    // Two devices and one group: one of them is of a group that the process does not show.
    tree.link("proc/12/fd/8", "anon_inode:[vfio-device]").unwrap();
    tree.link("proc/12/fd/10", "/dev/vfio/10").unwrap();
    assert_eq!(shared(&observe(&folder)), [Some(false), Some(true), Some(true)]);

    // The kernel says which.
    tree.file("proc/12/fdinfo/8", "pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/0000:3b:01.1\n")
        .unwrap();
    assert_eq!(shared(&observe(&folder)), [Some(false), Some(false), None]);
}

#[test]
fn what_does_not_come_out_even_could_be_any() {
    let (folder, tree) = node();
    tree.remove(vf_file(2, "driver")).unwrap();
    tree.link(vf_file(2, "driver"), "../../../bus/pci/drivers/vfio-pci").unwrap();
    let holders = || {
        let observed = observe(&folder);
        observed.pf(PF.parse().unwrap()).unwrap().vfs.iter().map(|vf| vf.holders.len()).collect::<Vec<_>>()
    };
    // Two groups and one device: one group's device is closed, or this one is neither group's.
    tree.link("proc/12/fd/3", "/dev/vfio/11").unwrap();
    tree.link("proc/12/fd/4", "/dev/vfio/99").unwrap();
    tree.link("proc/12/fd/5", "anon_inode:[vfio-device]").unwrap();
    assert_eq!(holders(), [0, 2, 1]);
    tree.remove("proc/12/fd/4").unwrap();
    assert_eq!(holders(), [0, 2, 0]);
    // A VF whose group cannot be read is in every group that is open.
    tree.remove(vf_file(2, "iommu_group")).unwrap();
    tree.link(vf_file(2, "iommu_group"), "../../../kernel/iommu_groups/x").unwrap();
    assert_eq!(holders(), [0, 2, 2]);
}

#[test]
fn a_vf_that_is_read_in_part_may_be_in_use() {
    let vf_ref = |index| VfRef { pf: PF.parse().unwrap(), index };
    for (file, broken) in [("iommu_group", "x"), ("net", "a file instead of a folder")] {
        let (folder, tree) = node();
        if file == "net" {
            fs::remove_dir_all(tree.root.join(vf_file(0, file))).unwrap();
            tree.file(vf_file(0, file), broken).unwrap();
        } else {
            tree.remove(vf_file(0, file)).unwrap();
            tree.link(vf_file(0, file), broken).unwrap();
        }
        let observed = observe(&folder);
        let found = uses(&observed, vf_ref(0));
        assert!(
            matches!(found.as_slice(), [Use::Unseen { why }] if why.contains(file) && why.contains(&vf(0))),
            "{found:?}"
        );
        assert!(uses(&observed, vf_ref(1)).is_empty() && uses(&observed, vf_ref(2)).is_empty(), "{file}");
    }
    let (folder, tree) = node();
    tree.file(vf_file(0, "net/ens1f0v0/mtu"), "big\n").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed).len(), 1);
    assert_eq!(uses(&observed, vf_ref(0)), [], "an odd value hides nobody");
}

#[test]
fn a_process_that_has_left_its_main_thread_still_holds_files() {
    let (folder, tree) = node();
    let stat = |state: &str, threads| {
        tree.file("proc/31/stat", format!("31 (a) b) {state} 1{} {threads} 0 99\n", " 0".repeat(15)))
            .unwrap();
        let observed = observe(&folder);
        observed.pf(PF.parse().unwrap()).unwrap().vfs[1].holders.len()
    };
    tree.file("proc/31/comm", "a) b\n").unwrap();
    fs::create_dir_all(tree.root.join("proc/31/fd")).unwrap();
    for thread in ["32", "33"] {
        tree.link(format!("proc/31/task/{thread}/fd/7"), "/dev/vfio/11").unwrap();
    }
    assert_eq!(stat("Z", 3), 1);
    assert_eq!((stat("Z", 1), stat("S", 3)), (0, 0), "a process without open files");
}

#[test]
fn every_sort_of_device_file_is_attributed() {
    let cases = [
        ("/dev/vfio/devices/vfio5", "sys/class/vfio-dev/vfio5", "vfio-dev/vfio5", FileKind::VfioDevice),
        (
            "/dev/infiniband/uverbs4",
            "sys/class/infiniband_verbs/uverbs4",
            "infiniband_verbs/uverbs4",
            FileKind::Uverbs,
        ),
        ("/dev/uio2", "sys/class/uio/uio2", "uio/uio2", FileKind::Uio),
        ("/dev/vhost-vdpa-1", "sys/bus/vdpa/devices/vdpa0", "vdpa0", FileKind::VhostVdpa),
    ];
    for (path, class, place, kind) in cases {
        let (folder, tree) = node();
        fs::create_dir_all(tree.root.join(vf_file(2, place)).join("vhost-vdpa-1")).unwrap();
        tree.link(class, format!("../../../devices/pci0000:00/{}/{place}", vf(2))).unwrap();
        tree.link("proc/7/fd/3", path).unwrap();
        let observed = observe(&folder);
        let pf = observed.pf(PF.parse().unwrap()).unwrap();
        let held: Vec<usize> = pf.vfs.iter().map(|vf| vf.holders.len()).collect();
        assert_eq!(held, [0, 0, 1], "{path}");
        assert!(
            matches!(&pf.vfs[2].holders[0], Holder::File { file, pid: 7, shared: false, .. } if *file == kind),
            "{path}"
        );
    }
}

#[test]
fn an_iommufd_counts_for_the_devices_beside_it_or_for_all() {
    let (folder, tree) = node();
    tree.link("proc/7/fd/3", "/dev/iommu").unwrap();
    let held = |observed: &Observed| -> Vec<usize> {
        observed.pf(PF.parse().unwrap()).unwrap().vfs.iter().map(|vf| vf.holders.len()).collect()
    };
    // Only the one VF on a VFIO driver can be meant.
    assert_eq!(held(&observe(&folder)), [0, 1, 0]);
    tree.link("sys/class/vfio-dev/vfio5", "../../devices/pci0000:00/0000:01:00.0/vfio-dev/vfio5").unwrap();
    tree.link("proc/7/fd/4", "/dev/vfio/devices/vfio5").unwrap();
    assert_eq!(held(&observe(&folder)), [0, 0, 0]);
}

#[test]
fn kubelets_api_server_is_management_evidence() {
    let (folder, tree) = node();
    tree.file("proc/900/comm", "kubelet\n").unwrap();
    tree.file("proc/900/cmdline", "/usr/bin/kubelet\0--kubeconfig=/etc/kubernetes/kubelet.conf\0").unwrap();
    let servers = || observe(&folder).management.api_servers;
    assert_eq!(servers(), []);
    tree.file("etc/kubernetes/kubelet.conf", "    server: https://192.0.2.9:8443\n").unwrap();
    assert_eq!(servers(), [("192.0.2.9".parse().unwrap(), 8443)]);
    // Where kubelet runs in a container of its own.
    tree.file("proc/900/root/etc/kubernetes/kubelet.conf", "    server: https://192.0.2.10\n").unwrap();
    assert_eq!(servers(), [("192.0.2.10".parse().unwrap(), 443)]);
}

#[test]
fn kubelets_node_address_is_management_evidence() {
    let (folder, tree) = node();
    tree.file("proc/900/comm", "kubelet\n").unwrap();
    tree.file("proc/900/cmdline", "/usr/bin/kubelet\0--node-ip=192.0.2.10\0").unwrap();
    tree.file("proc/901/comm", "other\n").unwrap();
    tree.file("proc/901/cmdline", "other\0--node-ip=192.0.2.11\0").unwrap();
    let addresses = observe(&folder).management.node_addresses;
    assert_eq!(addresses, ["192.0.2.10".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn the_node_without_facts_is_unknown_not_wrong() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("sys")).unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    assert!(observed.node.iommu.is_unknown() && observed.node.lockdown.is_unknown());
    assert_eq!((observed.node.mac_seed, observed.node.modprobe), (None, false));
}

#[test]
fn a_machine_id_is_never_shown() {
    for content in ["uninitialized\n", "0123\n", "secret-secret-secret-secret-secre\n", "\u{fffd}secret"] {
        let (folder, tree) = node();
        tree.file("etc/machine-id", content).unwrap();
        let observed = observe(&folder);
        only_problem(&observed, "node", "32 hexadecimal digits");
        assert!(!problems(&observed)[0].contains("secret"), "{:?}", observed.problems);
        assert_eq!(observed.node.mac_seed, None);
    }
}

#[test]
fn a_folder_without_sysfs_is_an_error() {
    let folder = TempDir::new().unwrap();
    let error = Observer::new(Root::new(folder.path()), false, folder.path()).observe().unwrap_err();
    assert!(matches!(error, ObserveError::NoSysfs { .. }));
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_huge_table_does_not_exhaust_memory() {
    let (folder, tree) = node();
    let huge = fs::File::create({
        tree.file("proc/net/tcp", "").unwrap();
        tree.root.join("proc/net/tcp")
    })
    .unwrap();
    // Sparse: it has no blocks on disk.
    huge.set_len(1 << 40).unwrap();
    let observed = observe(&folder);
    only_problem(&observed, "node", "is larger than");
    // Who is connected over which port is not known then.
    assert!(matches!(&observed.management.sight, Sight::Partial { why } if why.contains("proc/net/tcp")));
}

#[test]
#[cfg(target_endian = "little")]
fn the_management_path_of_a_tree_comes_from_its_tables() {
    let (folder, tree) = node();
    let titles = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT";
    tree.file(
        "proc/net/route",
        format!(
            "{titles}\nens2f0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\nens2f0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
             ens1f0 000A000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
        ),
    )
    .unwrap();
    let local = |address: &str| format!("  |-- {address}\n     /32 host LOCAL\n");
    tree.file("proc/net/fib_trie", format!("Local:\n{}{}", local("192.0.2.2"), local("10.0.10.5"))).unwrap();
    tree.file("proc/net/if_inet6", "fe800000000000005054005454000001 02 40 20 80 ens1f0v0\n").unwrap();
    tree.file("proc/net/tcp", "  sl\n 0: 050A000A:A0F2 010A000A:00B3 01 0:0\n").unwrap();
    let observed = observe(&folder);
    assert_eq!(problems(&observed), [] as [String; 0]);
    assert_eq!(observed.management.sight, Sight::Complete);
    let addresses = |name: &str| observed.link(name).unwrap().addresses.clone();
    assert_eq!(addresses("ens2f0"), ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(addresses("ens1f0"), ["10.0.10.5".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(addresses("ens1f0v0"), [] as [std::net::IpAddr; 0]);
    assert_eq!(observed.link("ens1f0v0").unwrap().link_local.len(), 1);
    let path = portwright_core::management::management_path(&observed);
    assert!(path.why(OTHER_PF.parse().unwrap()).unwrap().contains("default route"));
    assert!(path.why(PF.parse().unwrap()).unwrap().contains("BGP"));
    assert_eq!(path.why(vf(0).parse().unwrap()), None);
}

#[test]
fn what_is_seen_survives_its_json_form() {
    let (folder, _tree) = node();
    let observed = observe(&folder);
    let text = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed);
}
