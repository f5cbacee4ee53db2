//! Who has a place, and for how long.

use std::time::Duration;

use portwright::daemon::turn::{Turn, lease_name};
use portwright::daemon::wish::MaxUnavailable;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::json;
use tokio::time::Instant;

use super::rig::{Gauge, LEASES, Node, Wire, holders, most_held, place, places, settings, taken};

fn until(turn: &Turn) -> Instant {
    match turn {
        Turn::Granted { until, .. } => Instant::now() + until.remaining(),
        other => panic!("not granted: {other:?}"),
    }
}

#[tokio::test]
async fn a_node_gets_its_turn_keeps_it_and_gives_it_back() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    let first = until(&node.granted().await);
    let lease = server.get(&format!("{LEASES}/{}", lease_name("workers", 0))).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "n1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 2);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "Node");
    // The end moves on with each renewal.
    let later = node.turn(|turn| until(turn) > first + settings().renew / 2).await;
    assert!(until(&later) <= Instant::now() + settings().fence);
    node.done();
    node.turn(|turn| *turn == Turn::Idle).await;
    server.wait_gone(&format!("{LEASES}/{}", lease_name("workers", 0))).await;
}

#[tokio::test]
async fn nothing_is_asked_while_nothing_is_wanted() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.done();
    node.ask(place(1));
    node.granted().await;
    node.done();
    server.wait_gone(&format!("{LEASES}/{}", lease_name("workers", 0))).await;
    let before = server.requests("").len();
    tokio::time::sleep(settings().renew * 4).await;
    assert_eq!(server.requests("").len(), before, "{:?}", &server.requests("")[before..]);
}

/// Ten nodes want a turn; each has it for a moment. Never more than `most` at once.
async fn all_get_their_turn(max: MaxUnavailable, most: usize) {
    let server = ApiServer::start().await;
    let gauge = Gauge::default();
    let mut nodes: Vec<Node> = (0..10).map(|number| Node::start(&server, &format!("n{number}"))).collect();
    let all = nodes.iter_mut().map(|node| {
        let gauge = gauge.clone();
        async move {
            node.ask(places(&[("workers", max)]));
            node.granted().await;
            let counted = gauge.enter(&node.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(counted);
            node.done();
        }
    });
    futures::future::join_all(all).await;
    assert!((1..=most).contains(&gauge.most()), "{} nodes were disrupted at once", gauge.most());
    assert_eq!(most_held(&server), most, "all places were used, and no more");
    for node in &mut nodes {
        node.stop.cancel();
        node.handle.ended().await;
    }
    assert_eq!(holders(&server).len(), 0, "no lease is left");
}

#[tokio::test]
async fn ten_nodes_two_at_once() {
    all_get_their_turn(MaxUnavailable::Nodes(2), 2).await;
}

#[tokio::test]
async fn ten_nodes_a_third_of_them_at_once() {
    all_get_their_turn(MaxUnavailable::Percent { percent: 33, of: Some(10) }, 3).await;
}

#[tokio::test]
async fn ten_nodes_a_part_of_an_unknown_number_is_one() {
    all_get_their_turn(MaxUnavailable::Percent { percent: 50, of: None }, 1).await;
}

#[tokio::test]
async fn a_place_whose_holder_crashed_is_taken_when_it_expires() {
    let server = ApiServer::start().await;
    let mut first = Node::start(&server, "n1");
    first.ask(place(1));
    let end = until(&first.granted().await);
    let mut second = Node::start(&server, "n2");
    second.ask(place(1));
    assert!(second.waiting("taken").await.contains("n1"));
    first.crash().await;
    second.granted().await;
    let taken = taken(&server.history(LEASES), "n2").unwrap();
    assert!(taken > end, "taken {:?} before the fence", end - taken);
    let lease = server.get(&format!("{LEASES}/{}", lease_name("workers", 0))).unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_lease_without_labels_is_a_place_that_its_holder_has() {
    let server = ApiServer::start().await;
    let path = format!("{LEASES}/{}", lease_name("workers", 0));
    let held = |by: &str, round: u32| json!({"kind": "Lease", "spec": {"holderIdentity": by, "leaseDurationSeconds": 2, "leaseTransitions": round}});
    server.put(&path, held("somebody", 0));
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    assert!(node.waiting("are taken").await.contains("by somebody"));
    // It is renewed for longer than a Lease lasts, and what is said of it stays the same.
    node.handle.turn.mark_unchanged();
    let tries = || server.requests("/leases").iter().filter(|(method, _)| method == "POST").count();
    let before = tries();
    for round in 1..8 {
        tokio::time::sleep(settings().lease / 4).await;
        server.put(&path, held("somebody", round));
    }
    assert!(!node.handle.turn.has_changed().unwrap(), "{:?}", node.handle.turn.borrow());
    assert_eq!(tries(), before, "it is not asked for again and again");
    // The other place is taken at once.
    let mut other = Node::start(&server, "n2");
    other.ask(place(2));
    other.granted().await;
    other.done();
    // It is gone: the place is free.
    server.delete(&path);
    node.granted().await;
}

#[tokio::test]
async fn a_lease_without_labels_that_nobody_renews_is_taken_over() {
    let server = ApiServer::start().await;
    let path = format!("{LEASES}/{}", lease_name("workers", 0));
    server.put(
        &path,
        json!({"kind": "Lease", "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 2}}),
    );
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    node.granted().await;
    let lease = server.get(&path).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "n1");
    assert!(lease["metadata"]["labels"].get("portwright.dev/pool").is_some(), "{lease}");
}

#[tokio::test]
async fn a_crashed_holder_takes_its_own_place_up_again() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    node.granted().await;
    node.crash().await;
    let asked = Instant::now();
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    node.granted().await;
    assert!(asked.elapsed() < settings().lease, "it did not wait for its own lease to expire");
    let kinds: Vec<&str> = server.history(LEASES).iter().map(|change| change.kind).collect();
    assert!(!kinds.contains(&"DELETED"), "{kinds:?}");
}

#[tokio::test]
async fn a_lease_left_by_a_crash_is_removed_when_nothing_is_wanted_any_more() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(places(&[("a", MaxUnavailable::Nodes(1)), ("b", MaxUnavailable::Nodes(1))]));
    node.granted().await;
    node.crash().await;
    assert_eq!(holders(&server).len(), 2);
    let node = Node::start(&server, "n1");
    node.done();
    for policy in ["a", "b"] {
        server.wait_gone(&format!("{LEASES}/{}", lease_name(policy, 0))).await;
    }
}

#[tokio::test]
async fn a_partition_ends_the_turn_before_anybody_else_has_the_place() {
    let server = ApiServer::start().await;
    let wire = Wire::to(&server).await;
    server.put("/api/v1/nodes/n1", serde_json::json!({"kind": "Node"}));
    let mut cut = Node::start_at(&wire.url, "n1");
    cut.ask(place(1));
    cut.granted().await;
    let mut other = Node::start(&server, "n2");
    other.ask(place(1));
    other.waiting("taken").await;
    wire.cut();
    let mut end = Instant::now();
    let over = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let turn = cut.handle.turn.borrow_and_update().clone();
            match turn {
                Turn::Granted { .. } => end = until(&turn),
                _ => return Instant::now(),
            }
            cut.handle.turn.changed().await.unwrap();
        }
    });
    let told = over.await.unwrap();
    assert!(told + Duration::from_millis(20) >= end, "it was told no earlier than it ended");
    other.granted().await;
    let taken = taken(&server.history(LEASES), "n2").unwrap();
    assert!(taken > end, "the place was taken {:?} before the turn ended", end - taken);
    assert!(taken > told, "the place was taken {:?} before the loop was told", told - taken);
    // Back again, the node waits like others.
    wire.mend();
    cut.waiting("taken").await;
    other.done();
    cut.granted().await;
}

#[tokio::test]
async fn a_short_outage_is_survived_in_the_same_place() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    let first = until(&node.granted().await);
    for mood in [Mood::Away, Mood::Failing(503), Mood::Stalling] {
        server.set_mood(mood);
        node.waiting("").await;
        server.set_mood(Mood::Well);
        node.granted().await;
    }
    assert!(until(&node.handle.turn.borrow().clone()) > first);
    let kinds: Vec<&str> = server.history(LEASES).iter().map(|change| change.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "ADDED").count(), 1, "{kinds:?}");
    assert!(!kinds.contains(&"DELETED"), "{kinds:?}");
}

#[tokio::test]
async fn a_lease_taken_by_hand_ends_the_turn() {
    let server = ApiServer::start().await;
    let path = format!("{LEASES}/{}", lease_name("workers", 0));
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    node.granted().await;
    let mut lease = server.get(&path).unwrap();
    lease["spec"]["holderIdentity"] = "somebody".into();
    server.put(&path, lease);
    assert!(node.waiting("taken").await.contains("somebody"));
    server.delete(&path);
    node.granted().await;
}

#[tokio::test]
async fn when_places_become_fewer_holders_of_higher_ones_finish() {
    let server = ApiServer::start().await;
    let mut nodes: Vec<Node> = (0..3).map(|number| Node::start(&server, &format!("n{number}"))).collect();
    for node in &mut nodes {
        node.ask(place(3));
        node.granted().await;
    }
    let mut late = Node::start(&server, "late");
    late.ask(place(1));
    late.waiting("taken").await;
    for node in &mut nodes {
        node.ask(place(1));
    }
    for left in (0..3).rev() {
        assert!(matches!(*late.handle.turn.borrow(), Turn::Waiting { .. }), "{left} others are still at it");
        let node = nodes.pop().unwrap();
        assert!(matches!(*node.handle.turn.borrow(), Turn::Granted { .. }), "it finishes");
        node.done();
        if left > 0 {
            late.waiting(&format!("by {}", holders_of(&nodes))).await;
        }
    }
    late.granted().await;
}

fn holders_of(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn nodes_that_need_places_of_several_policies_do_not_wait_for_one_another() {
    let server = ApiServer::start().await;
    let one = MaxUnavailable::Nodes(1);
    let (both, last) = (places(&[("a", one), ("b", one)]), places(&[("b", one)]));
    let mut x = Node::start(&server, "x");
    let mut y = Node::start(&server, "y");
    // x has b and now wants a as well, which y has, who now wants b as well.
    x.ask(last.clone());
    x.granted().await;
    y.ask(places(&[("a", one)]));
    y.granted().await;
    y.ask(both.clone());
    x.ask(both);
    let gauge = Gauge::default();
    let turns = [&mut x, &mut y].map(|node| {
        let gauge = gauge.clone();
        async move {
            // y keeps what it has of a; x may not go on with b while it waits for a.
            let waits =
                |turn: &Turn| matches!(turn, Turn::Waiting { .. } | Turn::Granted { missing: Some(_), .. });
            node.turn(waits).await;
            node.turn(|turn| matches!(turn, Turn::Granted { missing: None, .. })).await;
            let counted = gauge.enter(&node.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(counted);
            node.done();
        }
    });
    futures::future::join_all(turns).await;
    assert_eq!(gauge.most(), 1);
}

#[tokio::test]
async fn a_pool_too_large_to_be_followed_is_looked_at_from_time_to_time() {
    let server = ApiServer::start().await;
    let mut nodes: Vec<Node> = (0..20).map(|number| Node::start(&server, &format!("n{number}"))).collect();
    for node in &mut nodes {
        node.ask(place(20));
    }
    futures::future::join_all(nodes.iter_mut().map(Node::granted)).await;
    let mut late = Node::start(&server, "late");
    late.ask(place(20));
    late.waiting("taken").await;
    nodes[7].done();
    late.granted().await;
}
