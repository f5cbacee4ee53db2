//! Who holds a VF, as far as a tree can show it.

use portwright_core::VfRef;
use portwright_core::observed::{FileKind, Holder, Observed};
use portwright_core::usage::{Use, uses};
use std::fs;

use crate::{PF, node, observe, problems, vf, vf_file};

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
