//! What the node is reached over, and what nobody can tell.

use portwright_core::observed::Sight;
use std::fs;
use tempfile::TempDir;

use crate::{OTHER_PF, PF, node, observe, problems, vf};

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
