//! What is journalled around steps, what a crash leaves, and what the journal adds to an observation.

use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portwright_core::drive::{Node, chain};
use portwright_core::management::management_path;
use portwright_core::{Change, Profiles, VfRef};
use portwright_host::inventory::Observer;
use portwright_host::node::HostNode;
use portwright_host::root::Root;
use portwright_host::run::HostError;
use serde_json::json;

use crate::bench::{Bench, OTHER, PF, address, failure, hold, is_stale, on_pf, on_vf};
use crate::child::launcher;
use crate::kernel::{self, FullPipe};
use crate::tree::TreeBuilder;

pub(crate) const TESTS: [(&str, fn()); 8] = [
    ("who_holds_a_vf_is_journalled", who_holds_a_vf_is_journalled),
    (
        "autoprobe_is_journalled_before_and_forgotten_when_back",
        autoprobe_is_journalled_before_and_forgotten_when_back,
    ),
    (
        "what_the_journal_cannot_be_told_afterwards_is_told_as_such",
        what_the_journal_cannot_be_told_afterwards_is_told_as_such,
    ),
    ("a_killed_agents_write_is_waited_for", a_killed_agents_write_is_waited_for),
    ("an_autoprobe_that_is_back_is_forgotten", an_autoprobe_that_is_back_is_forgotten),
    (
        "a_full_state_directory_is_one_pfs_problem_and_not_the_nodes",
        a_full_state_directory_is_one_pfs_problem_and_not_the_nodes,
    ),
    ("the_journal_is_part_of_the_observation", the_journal_is_part_of_the_observation),
    (
        "a_path_that_was_seen_is_kept_for_when_nothing_shows_it",
        a_path_that_was_seen_is_kept_for_when_nothing_shows_it,
    ),
];

fn a_path_that_was_seen_is_kept_for_when_nothing_shows_it() {
    let bench = Bench::new();
    let over = |pf: Option<&'static str>| {
        let mut node = bench.open();
        node.set_supplement(Arc::new(move |observed| {
            if let Some(pf) = pf {
                let link = json!({"name": "ens1f0", "ifindex": 7, "pci": pf});
                observed.links.push(serde_json::from_value(link).unwrap());
                let route = json!({"interface": "ens1f0", "family": 4});
                observed.management.default_routes.push(serde_json::from_value(route).unwrap());
            }
        }));
        management_path(&node.observe().unwrap()).functions
    };
    let file = bench.root().join("state/management-path.json");
    assert!(over(None).is_empty() && !file.exists());
    assert_eq!(over(Some(PF))[&address(PF)], "carries the default route (IPv4)");
    // Another start, as after a boot, before anybody has set up a route.
    assert_eq!(over(None)[&address(PF)], "carries the default route (IPv4), as last seen");
    // A file that cannot be read is told; and it is written anew when the path is seen again.
    fs::write(&file, "{").unwrap();
    let mut node = bench.open();
    let problems = node.observe().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.reason.contains("management-path.json")), "{problems:?}");
    drop(node);
    over(Some(PF));
    assert!(!over(None).is_empty());
}

fn autoprobe_is_journalled_before_and_forgotten_when_back() {
    let bench = Bench::new();
    let mut node = bench.open();
    node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })).unwrap();
    assert!(bench.text(PF, "sriov_drivers_autoprobe").starts_with('0'));
    assert_eq!(node.journal().saved_autoprobe(address(PF)), Some(true));
    // A crash here: whoever comes next finds 0 and knows that 1 is due.
    drop(node);
    let mut node = bench.open();
    assert_eq!(node.journal().saved_autoprobe(address(PF)), Some(true));
    node.run(&on_pf(PF, Change::SetAutoprobe { from: false, to: true })).unwrap();
    assert_eq!(node.journal().saved_autoprobe(address(PF)), None);
    // Nothing is written that could not be journalled first.
    let other = bench.root().join("state/pf");
    fs::remove_dir_all(&other).unwrap();
    fs::write(&other, "in the way").unwrap();
    let error = failure(node.run(&on_pf(OTHER, Change::SetAutoprobe { from: true, to: false })));
    assert!(matches!(error, HostError::Journal { .. }), "{error}");
    assert_eq!(bench.text(OTHER, "sriov_drivers_autoprobe"), "1\n");
}

fn what_the_journal_cannot_be_told_afterwards_is_told_as_such() {
    let bench = Bench::new();
    let mut node = bench.open();
    let pipe = FullPipe::new(bench.root(), PF);
    let journal = bench.root().join("state/pf");
    let (root, aside) = (bench.root().to_path_buf(), bench.root().join("state/aside"));
    let kernel = std::thread::spawn(move || {
        pipe.wait_for_writer();
        // The disk is full from now on, and the VFs come.
        fs::rename(&journal, aside).unwrap();
        fs::write(&journal, "in the way").unwrap();
        let tree = TreeBuilder::new(&root).unwrap();
        for index in 0..4 {
            tree.vf_of(PF, index, &kernel::vf_name(PF, index)).unwrap();
        }
        pipe.let_go()
    });
    let error = failure(node.run(&on_pf(PF, Change::SetNumVfs { from: 0, to: 4 })));
    assert_eq!(kernel.join().unwrap(), "4");
    assert!(matches!(error, HostError::NotJournalled { .. }), "{error}");
    let text = chain(&error);
    assert!(text.contains("the node was changed") && text.contains("state/pf"), "{text}");
    assert!(error.hint().unwrap().contains("state directory"));
}

/// An agent that is killed in the middle of a write.
pub(crate) fn agent_in_a_write(root: &str) {
    let mut node =
        HostNode::open(Root::new(root), Path::new(root).join("state"), Profiles::default(), launcher())
            .unwrap();
    node.run(&on_pf(PF, Change::SetNumVfs { from: 0, to: 4 })).unwrap();
}

fn a_killed_agents_write_is_waited_for() {
    let bench = Bench::new();
    let pipe = FullPipe::new(bench.root(), PF);
    let mut agent = Process::new(std::env::current_exe().unwrap())
        .arg("__agent")
        .arg(bench.root())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    pipe.wait_for_writer();
    kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), Signal::SIGKILL).unwrap();
    agent.wait().unwrap();
    // The node's lock is free, but the write is not over. Who opens the node waits until it is.
    let holder = std::thread::spawn(move || pipe.let_go());
    let mut node = bench.open();
    assert_eq!(holder.join().unwrap(), "4");
    assert_eq!(
        node.journal().doing(address(PF)),
        Some("0000:3b:00.0: set VFs 0 → 4"),
        "what was interrupted"
    );
    assert!(node.journal().made_by_us(address(PF)));
    node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })).unwrap();
    assert_eq!(node.journal().doing(address(PF)), None);
}

fn an_autoprobe_that_is_back_is_forgotten() {
    let bench = Bench::new();
    let mut node = bench.open();
    node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })).unwrap();
    let saved = |node: &mut HostNode| node.observe().unwrap().pf(address(PF)).unwrap().saved_autoprobe;
    assert_eq!(saved(&mut node), Some(true));
    // A crash after the restoring write and before its note.
    fs::write(bench.file(PF, "sriov_drivers_autoprobe"), "1\n").unwrap();
    assert_eq!(saved(&mut node), None);
    // An operator's own 0 later is the operator's.
    fs::write(bench.file(PF, "sriov_drivers_autoprobe"), "0\n").unwrap();
    assert_eq!(saved(&mut node), None);
}

fn a_full_state_directory_is_one_pfs_problem_and_not_the_nodes() {
    let bench = Bench::new();
    let mut node = bench.open();
    node.run(&on_pf(PF, Change::SetAutoprobe { from: true, to: false })).unwrap();
    fs::write(bench.file(PF, "sriov_drivers_autoprobe"), "1\n").unwrap();
    let (journal, aside) = (bench.root().join("state/pf"), bench.root().join("state/aside"));
    fs::rename(&journal, &aside).unwrap();
    fs::write(&journal, "in the way").unwrap();
    let seen = node.observe().unwrap();
    assert!(seen.pf(address(OTHER)).is_some(), "the node is seen all the same");
    let told = |problem: &&portwright_core::observed::Problem| {
        problem.object == portwright_core::Object::Pci(address(PF)) && problem.reason.contains("state/pf")
    };
    assert_eq!(seen.problems.iter().filter(told).count(), 1, "{:?}", seen.problems);
    fs::remove_file(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    assert_eq!(node.observe().unwrap().problems.iter().filter(told).count(), 0, "noted now");
    assert_eq!(node.journal().saved_autoprobe(address(PF)), None);
}

fn the_journal_is_part_of_the_observation() {
    let bench = Bench::new();
    let vf = bench.vf(0, Some("igbvf"));
    bench.tree.netdev(&vf, "ens1f0v0").unwrap();
    let mut node = bench.open();
    let before = node.observe().unwrap();
    node.remember(&before, [address(PF)]).unwrap();
    drop(node);
    fs::create_dir_all(bench.root().join("run/portwright/stuck")).unwrap();
    fs::write(bench.root().join("run/portwright/stuck").join(OTHER), "garbage").unwrap();
    let state = bench.root().join("state");
    let observer = Observer::new(Root::new(bench.root()), false, &state);
    let seen = observer.observe().unwrap();
    let reference = VfRef { pf: address(PF), index: 0 };
    assert_eq!(seen.vf(reference).unwrap().remembered.as_ref().unwrap().name, "ens1f0v0");
    let stuck = seen.pf(address(OTHER)).unwrap().stuck.as_ref().unwrap();
    assert!(
        stuck.contains("cannot be read"),
        "better no change than one on top of a write that hangs: {stuck}"
    );
    fs::write(state.join("pf").join(format!("{PF}.json")), "{").unwrap();
    let seen = observer.observe().unwrap();
    assert_eq!(seen.vf(reference).unwrap().remembered, None);
    assert!(
        seen.problems.iter().any(|problem| problem.reason.contains("is not used")),
        "{:?}",
        seen.problems
    );
}

fn who_holds_a_vf_is_journalled() {
    let bench = Bench::new();
    let vf = bench.vf(0, Some("igbvf"));
    bench.tree.netdev(&vf, "ens1f0v0").unwrap();
    let mut node = bench.open();
    let before = node.observe().unwrap();
    node.remember(&before, [address(PF)]).unwrap();
    let reference = VfRef { pf: address(PF), index: 0 };
    let away = |node: &mut HostNode| {
        let seen = node.observe().unwrap();
        let remembered = seen.vf(reference).unwrap().remembered.clone().unwrap();
        assert_eq!(node.journal().remembered(reference), Some(&remembered));
        remembered.away
    };
    assert!(!away(&mut node));
    // A step looks, too, and may be the only one to see the pod.
    hold(&mut node, serde_json::from_value(json!({"kind": "pod", "namespace": "a", "name": "b"})).unwrap());
    assert!(is_stale(&node.run(&on_vf(0, Change::SetVfTrust { from: None, to: true }))));
    node.set_supplement(Arc::new(|_| {}));
    assert!(away(&mut node));
    let now = node.observe().unwrap();
    node.remember(&now, [address(PF)]).unwrap();
    assert!(!away(&mut node));
}
