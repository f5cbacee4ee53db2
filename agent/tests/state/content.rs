//! What is told besides conditions: VFs in ranges, pools, times, problems.

use std::collections::BTreeSet;
use std::sync::Arc;

use portwright::daemon::facts::{Cause, Facts};
use portwright::daemon::state::node_state;
use portwright::daemon::wish::Untold;
use portwright_device_plugin::allocations::{Allocation, Allocations};

use crate::{edit, node, pod, scenario, told};

#[test]
fn vfs_are_told_in_ranges_and_their_users_by_name() {
    let mut facts = node(8);
    edit(&mut facts, |observed| {
        observed.pfs[0].vfs[5].holders = vec![pod("a")];
        observed.pfs[0].vfs[6].holders = vec![pod("a"), pod("b")];
        observed.pfs[0].vfs[7].driver = None;
    });
    let allocation = |device: &str| Allocation {
        device: device.to_owned(),
        resource: "portwright.dev/net".to_owned(),
        namespace: "web".to_owned(),
        pod: "a".to_owned(),
        container: "c".to_owned(),
    };
    let list = vec![allocation("0001:00:00.5"), allocation("0001:00:00.6")];
    facts.allocations = Arc::new(Allocations { list, ..Allocations::default() });
    let content = told(&facts);
    let pf = &content.pfs[0];
    let ranges: Vec<String> = pf
        .vfs
        .iter()
        .map(|range| format!("{} {:?} {:?} {:?}", range.vfs, range.driver, range.pool, range.unhealthy))
        .collect();
    assert_eq!(
        ranges,
        [
            "0-3 Some(\"vfio-pci\") Some(\"portwright.dev/dpdk\") None",
            "4-6 Some(\"igbvf\") Some(\"portwright.dev/net\") None",
            "7 None Some(\"portwright.dev/net\") None"
        ]
    );
    assert_eq!((pf.in_use, pf.pods.as_slice()), (2, ["web/a".to_owned(), "web/b".to_owned()].as_slice()));
    assert_eq!((content.summary.vfs, content.summary.vfs_in_use), (8, 2));
    let pools: Vec<_> = content
        .pools
        .iter()
        .map(|pool| (pool.resource.as_str(), pool.devices, pool.healthy, pool.allocated))
        .collect();
    assert_eq!(pools, [("portwright.dev/dpdk", 4, 4, 0), ("portwright.dev/net", 4, 4, 2)]);
    assert_eq!(content.ready().unwrap().reason, "InSync");
}

#[test]
fn pools_say_what_keeps_them_from_being_used() {
    let reason = |facts: &Facts| {
        let content = told(facts);
        let pool = &content.pools[1].conditions[0];
        (pool.reason.clone(), pool.message.clone(), content.ready().unwrap().reason.clone())
    };
    let mut deaf = node(4);
    deaf.unconnected = vec![deaf.pools.pools[1].spec.resource.clone()];
    assert_eq!(reason(&deaf).0, "NotRegistered");
    assert_eq!(reason(&deaf).2, "NotRegistered");
    let mut sick = node(4);
    let mut pools = (*sick.pools).clone();
    pools.pools[1].devices[0].health =
        portwright_core::pools::Health::Unhealthy { why: "its PF has no link".to_owned() };
    sick.pools = Arc::new(pools.clone());
    let (word, message, node_word) = reason(&sick);
    assert_eq!((word.as_str(), node_word.as_str()), ("Unhealthy", "Unhealthy"));
    assert_eq!(message, "1 of 2 devices cannot be given out; 0001:00:00.2: its PF has no link");
    let mut empty = sick.clone();
    pools.pools[1].devices.clear();
    empty.pools = Arc::new(pools.clone());
    assert_eq!((reason(&empty).0.as_str(), reason(&empty).2.as_str()), ("NoDevices", "NoDevices"));
    // A pool of config.json may be empty: that file is the same on all nodes.
    pools.pools[1].spec.rules.clear();
    empty.pools = Arc::new(pools);
    assert_eq!((reason(&empty).0.as_str(), reason(&empty).2.as_str()), ("NoDevices", "InSync"));
}

#[test]
fn time_goes_on_only_with_status_or_reason() {
    let facts = node(4);
    let first = told(&facts);
    let mut later = facts.clone();
    (later.at, later.sequence, later.causes) = (1_790_000_060, 8, BTreeSet::from([Cause::Timer]));
    let second = node_state(&later, Some(&first), "worker-1");
    assert!(second != first && second.equal_but_for_time(&first));
    assert!(
        second.all_conditions().iter().all(|(_, one)| one.last_transition_time == "2026-09-21T14:13:20Z")
    );
    later.unconnected = vec![facts.pools.pools[0].spec.resource.clone()];
    let third = node_state(&later, Some(&second), "worker-1");
    assert!(!third.equal_but_for_time(&second));
    let moved: Vec<String> = third
        .all_conditions()
        .into_iter()
        .filter(|(_, condition)| condition.last_transition_time == "2026-09-21T14:14:20Z")
        .map(|(object, _)| object)
        .collect();
    assert_eq!(moved, ["node", "pool/portwright.dev/dpdk"]);
}

#[test]
fn that_nobody_is_told_is_the_first_problem() {
    let mut facts = scenario("in-sync");
    assert!(node_state(&facts, None, "worker-1").problems.is_empty());
    let why = "the definitions in the cluster are older than this agent".to_owned();
    // An API server that is away is no news about the node: it would be written when it is back, and taken back at once.
    facts.untold = Some(Untold { why: why.clone(), outdated: false });
    assert!(node_state(&facts, None, "worker-1").problems.is_empty());
    facts.untold = Some(Untold { why: why.clone(), outdated: true });
    let problems = node_state(&facts, None, "worker-1").problems;
    assert_eq!((problems.len(), &problems[0].reason), (1, &why));
}
