//! What is odd is reported, and hides nothing else.

use portwright_core::observed::Sight;
use portwright_host::inventory::{ObserveError, Observer};
use portwright_host::root::Root;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use tempfile::TempDir;

use crate::{PF, node, observe, only_problem, pf_file, problems, vf_file};

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
