//! Hands on one node: what one waits for holds up no other.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use portwright_core::Change;
use portwright_core::drive::Node;
use portwright_host::run::HostError;

use crate::bench::{Bench, OTHER, PF, address, failure, on_pf};
use crate::kernel::FullPipe;

pub(crate) const TESTS: [(&str, fn()); 1] = [(
    "hands_work_beside_each_other",
    a_write_that_hangs_in_one_hand_keeps_no_other_from_looking_and_writing,
)];

/// How long the other hand may take while the first one's write hangs.
const WITHIN: Duration = Duration::from_secs(20);

fn a_write_that_hangs_in_one_hand_keeps_no_other_from_looking_and_writing() {
    let bench = Bench::new();
    let pipe = FullPipe::new(bench.root(), PF);
    std::os::unix::fs::symlink("/proc/self", bench.root().join("proc/self")).unwrap();
    let mut node = bench.open_with(60_000);
    let ports = |port: &str| BTreeSet::from([address(port)]);
    let (mut first, mut second) = (node.hand(ports(PF)), node.hand(ports(OTHER)));
    let writing = std::thread::spawn(move || {
        let done = first.run(&on_pf(PF, Change::SetNumVfs { from: 0, to: 4 }));
        (first, done)
    });
    pipe.wait_for_writer();

    // The other hand writes, and the node is looked at without a word about the port that is being worked on.
    second.run(&on_pf(OTHER, Change::SetAutoprobe { from: true, to: false })).unwrap();
    assert_eq!(bench.text(OTHER, "sriov_drivers_autoprobe"), "0\n");
    let observed = node.observe().unwrap();
    assert_eq!(observed.pf(address(PF)).unwrap().stuck, None, "it is at work, not stuck");
    assert!(!observed.problems.iter().any(|one| one.reason.contains("writer")), "{:?}", observed.problems);
    assert_eq!(
        node.journal().saved_autoprobe(address(OTHER)),
        Some(true),
        "the other hand is not done with it"
    );

    // Making VFs takes a lock of the kernel: the other hand waits for it here, until the first write has returned.
    let (tell, told) = mpsc::channel();
    let resizing = std::thread::spawn(move || {
        let done = second.run(&on_pf(OTHER, Change::SetNumVfs { from: 0, to: 4 }));
        tell.send(()).unwrap();
        (second, done)
    });
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
    assert_eq!(bench.text(OTHER, "sriov_numvfs"), "never read\n");
    assert_eq!(pipe.let_go(), "4");
    told.recv_timeout(WITHIN).unwrap();
    // Both were written, and this tree's kernel has made no VFs.
    for hand in [writing.join().unwrap(), resizing.join().unwrap()] {
        let error = failure(hand.1);
        assert!(matches!(error, HostError::PartialEnable { wanted: 4, made: 0, .. }), "{error}");
    }
    assert!(bench.text(OTHER, "sriov_numvfs").starts_with('4'));
    // Now nobody is on the ports, and what is over is settled.
    let observed = node.observe().unwrap();
    assert!(!observed.problems.iter().any(|one| one.reason.contains("writer")), "{:?}", observed.problems);
}
