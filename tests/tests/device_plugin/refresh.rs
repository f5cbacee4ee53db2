//! Looking at one function again gives what looking at everything gives.

use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use portwright_tests::fuzz::Random;
use portwright_tests::tree::Tree;

use crate::rig::NODE;

#[test]
fn one_function_looked_at_alone_is_as_in_a_whole_look() {
    let tree = Tree::from_text(NODE).unwrap();
    tree.line("pf 0000:3c:00.0 netdev=ens2f0 total=8").unwrap();
    tree.file("sys/devices/pci0000:00/0000:3b:00.0/sriov_offset", "8\n").unwrap();
    tree.file("sys/devices/pci0000:00/0000:3b:00.0/sriov_stride", "1\n").unwrap();
    let root = Root::new(tree.root());
    let observer = Observer::new(root.clone(), false, tree.root().join("state"));
    let mut seen = observer.observe().unwrap();
    let mut random = Random::new(11);
    let mut alone = 0;
    for round in 0..200 {
        let index = random.below(8);
        let address = format!("0000:3b:01.{index}");
        let there = tree.root().join("sys/bus/pci/devices").join(&address).exists();
        match (there, random.below(4)) {
            (false, _) => {
                let line = format!(
                    "vf {address} pf=0000:3b:00.0 index={index} netdev=v{index} group={}",
                    20 + index
                );
                tree.line(&line).unwrap();
            }
            (true, 0) => tree.remove_function(&address).unwrap(),
            (true, 1) => tree.bind(&address, Some("vfio-pci")).unwrap(),
            (true, 2) => tree.bind(&address, Some("iavf")).unwrap(),
            (true, _) => {
                let net = tree.root().join(Tree::device(&address)).join("net");
                if net.exists() {
                    std::fs::remove_dir_all(net).unwrap();
                }
            }
        }
        let reads = root.reads();
        let refreshed = observer.refresh(&mut seen, address.parse().unwrap());
        alone += u32::from(refreshed);
        assert!(root.reads() - reads < 40, "round {round}: {} files", root.reads() - reads);
        let whole = observer.observe().unwrap();
        if refreshed {
            assert_eq!((&seen.pfs, &seen.devices), (&whole.pfs, &whole.devices), "round {round}: {address}");
        }
        seen = whole;
    }
    assert!(alone > 190, "{alone} of 200");
    for pf in ["0000:3b:00.0", "0000:3c:00.0", "0000:99:00.0"] {
        assert!(!observer.refresh(&mut seen, pf.parse().unwrap()), "{pf} is a matter for a whole look");
    }
}
