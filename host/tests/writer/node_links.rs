//! Steps on links: the tree's netdevs are real ones, in a network namespace of their own.

use portwright_core::Change;
use portwright_core::drive::Node;
use portwright_host::netlink::{self, RawLink};
use portwright_host::run::HostError;

use crate::bench::{Bench, failure, is_stale, on_pf, on_vf};
use crate::common::{fresh_netns, sh};
use crate::tree::TreeBuilder;

pub(crate) const TESTS: [(&str, fn()); 2] = [
    ("links_are_set_through_the_functions_own_netdev", links_are_set_through_the_functions_own_netdev),
    ("a_refusal_of_the_kernel_reaches_the_error", a_refusal_of_the_kernel_reaches_the_error),
];

const PF: &str = "0000:3b:00.0";

fn link(name: &str) -> RawLink {
    netlink::links().unwrap().into_iter().find(|link| link.name == name).unwrap()
}

/// Gives a function of the tree a netdev that exists.
fn adopt(bench: &Bench, address: &str, name: &str) {
    let path = TreeBuilder::function_path(address).join("net").join(name);
    bench.tree.file(path.join("ifindex"), format!("{}\n", link(name).ifindex)).unwrap();
}

/// On a thread of its own, because the namespace is the thread's.
fn in_netns(test: fn()) {
    let run = std::thread::spawn(move || {
        fresh_netns();
        test();
    });
    run.join().unwrap();
}

fn links_are_set_through_the_functions_own_netdev() {
    in_netns(|| {
        sh(
            "ip link add pf0 type veth peer name wire; ip link add net1 type veth peer name far; ip link set wire up",
        );
        let bench = Bench::new();
        let vf = bench.vf(0, None);
        adopt(&bench, PF, "pf0");
        adopt(&bench, &vf, "net1");
        let mut node = bench.open();
        let up = on_pf(PF, Change::SetPfUp { wait_carrier_ms: 5_000 });
        node.run(&up).unwrap();
        assert_eq!(link("pf0").carrier, Some(true), "carrier was waited for");
        assert!(is_stale(&node.run(&up)), "it is up");
        node.run(&on_pf(PF, Change::SetPfMtu { from: 1500, to: 9000 })).unwrap();
        assert_eq!(link("pf0").mtu, Some(9000));
        node.run(&on_vf(0, Change::SetVfMtu { from: None, to: 8000 })).unwrap();
        assert!(is_stale(&node.run(&on_vf(0, Change::SetVfMtu { from: Some(1500), to: 8000 }))));
        node.run(&on_vf(0, Change::RenameVf { from: "net1".to_owned(), to: "pf0v0".to_owned() })).unwrap();
        assert_eq!(link("pf0v0").mtu, Some(8000));
    });
}

fn a_refusal_of_the_kernel_reaches_the_error() {
    in_netns(|| {
        sh("ip link add pf0 type veth peer name wire");
        let bench = Bench::new();
        bench.vf(0, None);
        adopt(&bench, PF, "pf0");
        let mut node = bench.open();
        let error = failure(node.run(&on_vf(0, Change::SetVfTrust { from: None, to: true })));
        let text = portwright_core::drive::chain(&error);
        assert!(matches!(error, HostError::Netlink { .. }), "{text}");
        assert!(text.contains("set trust of VF 0 of pf0: EOPNOTSUPP"), "{text}");
        assert!(error.hint().unwrap().contains("leave it out"));
        let error = failure(node.run(&on_pf(PF, Change::SetPfMtu { from: 1500, to: 1_000_000 })));
        let text = portwright_core::drive::chain(&error);
        assert!(text.contains("mtu greater than device maximum"), "{text}");
    });
}
