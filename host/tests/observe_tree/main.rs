//! Looks at trees on disk: what is there is seen, what is odd is reported, and one odd thing hides nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and write their own files"
)]

mod holders;
mod management;
mod odd;
mod relations;
#[path = "../tree/mod.rs"]
mod tree;
mod whole;

use portwright_core::observed::Observed;
use portwright_host::inventory::Observer;
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
