//! How functions and links belong together.

use portwright_core::observed::Observed;
use std::fs;

use crate::tree::TreeBuilder;
use crate::{OTHER_PF, PF, node, observe, pf_file, problems, spec, vf_file};

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
