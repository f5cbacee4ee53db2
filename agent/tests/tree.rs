//! `--root`: everything comes from the tree, what a tree cannot hold is unknown, and one broken device never hides the
//! others.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and make trees on disk"
)]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use common::portwright;
use common::tree::{PF, Tree};

fn observe(tree: &Tree) -> serde_json::Value {
    let ran = portwright(&["observe", "--root", tree.root(), "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran.json()
}

fn plan(tree: &Tree, spec: &str) -> common::Ran {
    let policy = format!(
        "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: p}}\nspec: {{nics: [{{select: {{drivers: [igb]}}, {spec}}}]}}\n"
    );
    common::portwright_reading(&["plan", "-f", "-", "--root", tree.root(), "-o", "json"], policy)
}

#[test]
fn a_tree_is_observed_without_asking_the_running_kernel() {
    let tree = Tree::new();
    let observed = observe(&tree);
    assert_eq!(observed["node"]["kernel"], "6.12.0");
    let pf = &observed["pfs"][0];
    assert_eq!(pf["address"], "0000:3b:00.0");
    assert_eq!(pf["vfs"].as_array().unwrap().len(), 2);
    assert_eq!(pf["vfs"][1]["netdev"], "ens1f0v1");
    assert_eq!(pf["vfs"][0]["admin"]["vlan"], "unknown", "a tree does not hold VLANs");
    let text = portwright(&["observe", "--root", tree.root()]);
    for word in ["0000:3b:00.0", "ens1f0", "igb", "2 of 7", "0000:3b:00.0/vf/1", "ens1f0v1"] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
}

#[test]
fn a_wish_that_depends_on_what_a_tree_cannot_hold_is_exit_2() {
    let tree = Tree::new();
    let ran = plan(&tree, r#"vfGroups: [{vfs: "0-1", trust: true}]"#);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    let json = ran.json();
    assert!(!json["unknown"].as_array().unwrap().is_empty(), "{json}");
    assert!(json["steps"].as_array().unwrap().iter().all(|step| step["action"] != "set-vf-trust"), "{json}");
}

#[test]
fn the_plan_of_a_tree_can_be_made_off_node_as_well() {
    let tree = Tree::new();
    let observed = portwright(&["observe", "--root", tree.root(), "-o", "json"]);
    tree.write("observed.json", &observed.stdout);
    let file = tree.path("observed.json");
    let policy = "fixtures/workers.yaml";
    let there = portwright(&["plan", "-f", policy, "--root", tree.root()]);
    let off = portwright(&["plan", "-f", policy, "--observed", file.to_str().unwrap()]);
    assert_eq!((there.code, &there.stdout), (off.code, &off.stdout));
}

#[test]
fn what_is_broken_in_one_device_is_told_and_hides_no_other() {
    type Breaks = fn(&Tree);
    let broken: [(&str, Breaks); 5] = [
        ("sriov_totalvfs", |tree| tree.write(&format!("{PF}/sriov_totalvfs"), "many\n")),
        ("mtu", |tree| tree.write("sys/devices/pci0000:3b/0000:3b:10.0/net/ens1f0v0/mtu", "\u{0}\u{0}")),
        ("virtfn9", |tree| tree.link(&format!("{PF}/virtfn9"), "../0000:3b:99.0")),
        ("not a PCI address", |tree| tree.dir(OsStr::from_bytes(b"sys/bus/pci/devices/\xff\xfe"))),
        ("vendor", |tree| std::fs::remove_file(tree.path(format!("{PF}/vendor"))).unwrap()),
    ];
    for (word, breaks) in broken {
        let tree = Tree::new();
        // A second NIC that nothing is wrong with.
        tree.write("sys/devices/pci0000:5e/0000:5e:00.0/vendor", "0x15b3\n");
        tree.write("sys/devices/pci0000:5e/0000:5e:00.0/device", "0x101d\n");
        tree.write("sys/devices/pci0000:5e/0000:5e:00.0/class", "0x020000\n");
        tree.write("sys/devices/pci0000:5e/0000:5e:00.0/sriov_totalvfs", "8\n");
        tree.link("sys/bus/pci/devices/0000:5e:00.0", "../../../devices/pci0000:5e/0000:5e:00.0");
        breaks(&tree);
        let observed = observe(&tree);
        let problems = observed["problems"].to_string();
        assert!(problems.contains(word), "{word}: {problems}");
        let pfs = observed["pfs"].as_array().unwrap();
        assert!(pfs.iter().any(|pf| pf["address"] == "0000:5e:00.0"), "{word} hides another NIC");
        let text = portwright(&["observe", "--root", tree.root()]);
        assert!(text.stdout.contains("PROBLEM WITH"), "{word}: {}", text.stdout);
    }
}

#[test]
fn a_folder_that_is_no_node_is_exit_2() {
    for arguments in [&["observe"][..], &["plan", "-f", "fixtures/workers.yaml"], &["profiles", "match"]] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--root", "/nowhere"]);
        let ran = portwright(&arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.stdout.is_empty(), "{ran:#?}");
        assert!(ran.stderr.starts_with("error: cannot observe the node: "), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("--root").count(), 1, "the hint is given once: {}", ran.stderr);
    }
}
