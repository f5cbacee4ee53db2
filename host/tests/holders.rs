//! Real processes that hold device files: they are found through the real `/proc`, and gone when they end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and start their own processes"
)]

mod tree;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portwright_core::Observed;
use portwright_core::observed::{FileKind, Holder};
use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use tempfile::TempDir;
use tree::{FunctionSpec, TreeBuilder};

/// No VF is held.
const NOBODY: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
const PF: &str = "0000:3b:00.0";

/// One test at a time: a child that another test has forked and that has not yet started its program holds a copy of every
/// file that is open here.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A PF with two VFs for VFIO in the groups `first_group` and the next, and the processes of this machine.
fn node(first_group: u32) -> (TempDir, TreeBuilder) {
    let folder = TempDir::new().unwrap();
    let tree = TreeBuilder::new(folder.path()).unwrap();
    std::fs::remove_dir_all(folder.path().join("proc")).unwrap();
    tree.link("proc", "/proc").unwrap();
    let function = |address: &str, driver: &str, group: u32| {
        let spec = FunctionSpec {
            address,
            vendor: "8086",
            device: "1889",
            driver: Some(driver),
            netdev: None,
            iommu_group: Some(group),
        };
        tree.function(&spec).unwrap();
    };
    function(PF, "ice", 1);
    tree.sriov(PF, "64", "1889").unwrap();
    for index in 0..2 {
        let address = format!("0000:3b:01.{index}");
        function(&address, "vfio-pci", first_group + index);
        tree.vf_of(PF, index, &address).unwrap();
    }
    (folder, tree)
}

/// A process that has a file open, ended with the test.
struct Holding(Child);

impl Holding {
    fn open(tree: &TreeBuilder, path: &str) -> Holding {
        tree.file(path, "").unwrap();
        let file = File::open(tree.root.join(path)).unwrap();
        let child = Command::new("sleep").arg("600").stdin(file).stdout(Stdio::null()).spawn().unwrap();
        let holding = Holding(child);
        // The kernel lets the parent go on before the child has its new name.
        let started = Instant::now();
        while std::fs::read_to_string(format!("/proc/{}/comm", holding.0.id())).unwrap() != "sleep\n" {
            assert!(started.elapsed() < Duration::from_secs(10), "the child has not started");
            std::thread::yield_now();
        }
        holding
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn observe(folder: &TempDir) -> Observed {
    Observer::new(Root::new(folder.path()), false, folder.path().join("state")).observe().unwrap()
}

/// The pids that hold each VF through such a file.
fn holders(observed: &Observed, kind: FileKind) -> Vec<Vec<u32>> {
    let pid = |holder: &Holder| match holder {
        Holder::File { file, pid, command, .. } if *file == kind => {
            assert_eq!(command, "sleep");
            Some(*pid)
        }
        Holder::File { .. } | Holder::Pod { .. } | Holder::Namespace { .. } => None,
    };
    let pf = observed.pf(PF.parse().unwrap()).unwrap();
    pf.vfs.iter().map(|vf| vf.holders.iter().filter_map(pid).collect()).collect()
}

#[test]
fn a_process_with_a_group_open_holds_its_vf_until_it_ends() {
    let _alone = alone();
    let (folder, tree) = node(9_000_010);
    assert_eq!(holders(&observe(&folder), FileKind::VfioGroup), NOBODY);
    let first = Holding::open(&tree, "dev/vfio/9000011");
    let second = Holding::open(&tree, "dev/vfio/9000011");
    let mut pids = vec![first.0.id(), second.0.id()];
    pids.sort_unstable();
    assert_eq!(holders(&observe(&folder), FileKind::VfioGroup), [vec![], pids]);
    drop(first);
    assert_eq!(holders(&observe(&folder), FileKind::VfioGroup), [vec![], vec![second.0.id()]]);
    drop(second);
    assert_eq!(holders(&observe(&folder), FileKind::VfioGroup), NOBODY);
}

#[test]
fn a_device_file_that_was_removed_still_holds() {
    let _alone = alone();
    let (folder, tree) = node(9_000_020);
    let holding = Holding::open(&tree, "dev/vfio/9000020");
    tree.remove("dev/vfio/9000020").unwrap();
    assert_eq!(holders(&observe(&folder), FileKind::VfioGroup), [vec![holding.0.id()], vec![]]);
}

#[test]
fn a_vfio_device_of_unknown_owner_counts_for_every_vf() {
    let _alone = alone();
    let (folder, tree) = node(9_000_030);
    let holding = Holding::open(&tree, "dev/vfio/devices/vfio900001");
    let pid = holding.0.id();
    let observed = observe(&folder);
    assert_eq!(holders(&observed, FileKind::VfioDevice), [vec![pid], vec![pid]]);
    // Once the kernel says whose it is, it counts for that one.
    let place = "../../devices/pci0000:00/0000:3b:01.1/vfio-dev/vfio900001";
    tree.link("sys/class/vfio-dev/vfio900001", place).unwrap();
    assert_eq!(holders(&observe(&folder), FileKind::VfioDevice), [vec![], vec![pid]]);
}

#[test]
fn the_container_file_alone_holds_nothing() {
    let _alone = alone();
    let (folder, tree) = node(9_000_040);
    let holding = Holding::open(&tree, "dev/vfio/vfio");
    let pf = &observe(&folder).pfs[0];
    let by_us = |holder: &&Holder| matches!(holder, Holder::File { pid, .. } if *pid == holding.0.id());
    let held: Vec<usize> = pf.vfs.iter().map(|vf| vf.holders.iter().filter(by_us).count()).collect();
    assert_eq!(held, [0, 0]);
}

#[test]
fn own_files_are_not_holders_of_a_running_host() {
    // The observer itself may look at a device file; only others count. This asks the running host, whose functions are
    // what they are: nothing may be held by this process.
    let observed = Observer::new(Root::default(), true, "/nonexistent/state").observe().unwrap();
    let own = std::process::id();
    let holders = observed.pfs.iter().flat_map(|pf| &pf.vfs).flat_map(|vf| &vf.holders);
    assert!(!holders.into_iter().any(|holder| matches!(holder, Holder::File { pid, .. } if *pid == own)));
    assert_eq!(observed.node.kernel, nix::sys::utsname::uname().unwrap().release().to_str().unwrap());
}
