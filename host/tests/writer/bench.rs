//! A node to run steps on: a tree with two PFs, and steps for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_core::drive::{Node, RunError};
use portwright_core::observed::Holder;
use portwright_core::step::DriverTarget;
use portwright_core::{Change, Disruption, Object, PciAddress, Profiles, Step, VfRef};
use portwright_host::node::HostNode;
use portwright_host::root::Root;
use portwright_host::run::HostError;

use crate::child::launcher;
use crate::kernel;
use crate::tree::{FunctionSpec, TreeBuilder};

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

pub(crate) fn on_node(change: Change) -> Step {
    Step { object: Object::Node, change, disruption: Disruption::None, force: false }
}

pub(crate) fn failure(result: Result<(), RunError<HostError>>) -> HostError {
    match result {
        Err(RunError::Failed(error)) => error,
        other => panic!("a failure was due: {other:?}"),
    }
}

/// What was found in place of what the step expects.
pub(crate) fn outrun(result: Result<(), RunError<HostError>>) -> String {
    match result {
        Err(RunError::Stale { found }) => found,
        other => panic!("it should be out of date: {other:?}"),
    }
}

pub(crate) fn is_stale(result: &Result<(), RunError<HostError>>) -> bool {
    matches!(result, Err(RunError::Stale { .. }))
}

pub(crate) fn named(driver: &str, keep_override: bool) -> DriverTarget {
    DriverTarget::Named { driver: driver.to_owned(), keep_override }
}

/// Lets the VF be held from now on.
pub(crate) fn hold(node: &mut HostNode, holder: Holder) {
    node.set_supplement(Arc::new(move |observed| {
        let vfs = observed.pfs.iter_mut().flat_map(|pf| &mut pf.vfs);
        vfs.for_each(|vf| vf.holders = vec![holder.clone()]);
    }));
}
