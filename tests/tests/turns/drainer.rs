//! An external drainer in our place.

use portwright::daemon::turn::{DRAINER, Disruption, GRANTED, REQUESTED, Request, Turn};
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};

use super::rig::{LEASES, Node, annotation, evicting, node_path, pod_path};

fn annotate(server: &ApiServer, key: &str, value: Option<&str>) {
    let mut node = server.get(&node_path("n1")).unwrap();
    if !node["metadata"]["annotations"].is_object() {
        node["metadata"]["annotations"] = json!({});
    }
    let annotations = node["metadata"]["annotations"].as_object_mut().unwrap();
    match value {
        Some(value) => annotations.insert(key.to_owned(), value.into()),
        None => annotations.remove(key),
    };
    server.put(&node_path("n1"), node);
}

async fn asked(server: &ApiServer, accept: impl Fn(&Disruption) -> bool) -> Disruption {
    let read = |node: &Value| serde_json::from_str::<Disruption>(&annotation(node, REQUESTED)?).ok();
    let node = server.wait_for(&node_path("n1"), |node| read(node).is_some_and(|asked| accept(&asked))).await;
    read(&node).unwrap()
}

async fn drained(server: &ApiServer) -> Node {
    server.put(&node_path("n1"), json!({"kind": "Node", "spec": {}}));
    server.put(&pod_path("web/a-0"), json!({"kind": "Pod", "spec": {"nodeName": "n1"}}));
    annotate(server, DRAINER, Some("maintenance-operator"));
    Node::start(server, "n1")
}

fn untouched(server: &ApiServer) {
    assert!(server.requests("/eviction").is_empty());
    assert!(server.history(LEASES).is_empty());
    assert!(server.get(&node_path("n1")).unwrap()["spec"]["unschedulable"].is_null());
}

#[tokio::test]
async fn the_drainer_is_asked_grants_and_is_told_the_end() {
    let server = ApiServer::start().await;
    let mut node = drained(&server).await;
    node.ask(Request { cordon: ["workers".to_owned()].into(), ..evicting(&["web/a-0"]) });
    let disruption = asked(&server, |_| true).await;
    assert_eq!(disruption.pods.iter().collect::<Vec<_>>(), ["web/a-0"]);
    assert_eq!(disruption.policies.iter().collect::<Vec<_>>(), ["workers"]);
    node.waiting("drainer maintenance-operator").await;
    annotate(&server, GRANTED, Some("something else"));
    node.waiting("has not granted").await;
    annotate(&server, GRANTED, Some(&disruption.id));
    node.granted().await;
    untouched(&server);
    // The drainer has evicted the pod: less is wanted, and the grant covers it.
    node.ask(evicting(&[]));
    node.granted().await;
    node.done();
    let over = |node: &Value| annotation(node, REQUESTED).is_none() && annotation(node, GRANTED).is_none();
    let after = server.wait_for(&node_path("n1"), over).await;
    assert_eq!(
        annotation(&after, DRAINER).as_deref(),
        Some("maintenance-operator"),
        "the administrator's stays"
    );
    untouched(&server);
}

#[tokio::test]
async fn more_than_was_granted_is_asked_anew() {
    let server = ApiServer::start().await;
    let mut node = drained(&server).await;
    node.ask(evicting(&["web/a-0"]));
    let first = asked(&server, |_| true).await;
    annotate(&server, GRANTED, Some(&first.id));
    node.granted().await;
    node.ask(evicting(&["web/a-0", "web/a-1"]));
    let second = asked(&server, |asked| asked.pods.len() == 2).await;
    assert_ne!(second.id, first.id);
    node.waiting("drainer").await;
    annotate(&server, GRANTED, Some(&second.id));
    node.granted().await;
}

#[tokio::test]
async fn a_grant_taken_back_ends_the_turn() {
    let server = ApiServer::start().await;
    let mut node = drained(&server).await;
    node.ask(evicting(&["web/a-0"]));
    let disruption = asked(&server, |_| true).await;
    annotate(&server, GRANTED, Some(&disruption.id));
    node.granted().await;
    annotate(&server, GRANTED, None);
    node.waiting("has not granted").await;
}

#[tokio::test]
async fn an_outage_ends_a_drainers_turn_as_well() {
    let server = ApiServer::start().await;
    let mut node = drained(&server).await;
    node.ask(evicting(&["web/a-0"]));
    let disruption = asked(&server, |_| true).await;
    annotate(&server, GRANTED, Some(&disruption.id));
    node.granted().await;
    server.set_mood(portwright_tests::apiserver::Mood::Away);
    node.waiting("").await;
    server.set_mood(portwright_tests::apiserver::Mood::Well);
    node.granted().await;
}

#[tokio::test]
async fn a_crash_in_a_granted_turn_goes_on_with_the_same_request() {
    let server = ApiServer::start().await;
    let node = drained(&server).await;
    node.ask(evicting(&["web/a-0"]));
    let disruption = asked(&server, |_| true).await;
    node.crash().await;
    annotate(&server, GRANTED, Some(&disruption.id));
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0"]));
    node.granted().await;
    node.crash().await;
    // Nothing is wanted after the second crash.
    let node = Node::start(&server, "n1");
    node.done();
    server.wait_for(&node_path("n1"), |node| annotation(node, REQUESTED).is_none()).await;
    assert_eq!(annotation(&server.get(&node_path("n1")).unwrap(), GRANTED), None);
}

#[tokio::test]
async fn a_drainer_that_is_named_or_dismissed_while_we_wait() {
    let server = ApiServer::start().await;
    let mut node = drained(&server).await;
    node.ask(evicting(&["web/a-0"]));
    asked(&server, |_| true).await;
    annotate(&server, DRAINER, None);
    server.wait_gone(&pod_path("web/a-0")).await;
    let turn = node.granted().await;
    assert!(matches!(turn, Turn::Granted { .. }));
    assert_eq!(annotation(&server.get(&node_path("n1")).unwrap(), REQUESTED), None);
    // Named in the middle of a turn: it is finished as it began.
    annotate(&server, DRAINER, Some("late"));
    node.ask(evicting(&["web/a-1"]));
    node.granted().await;
    node.done();
    server.wait_gone(&format!("{LEASES}/portwright-workers-0")).await;
    node.ask(evicting(&["web/a-1"]));
    asked(&server, |_| true).await;
    assert!(server.get(&format!("{LEASES}/portwright-workers-0")).is_none());
}
