//! Cordons: only when asked, only ours taken away, also after a crash.

use portwright::daemon::turn::{CORDONED, Request, Turn, lease_name};
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};

use super::rig::{LEASES, Node, annotation, node_path, place};

fn cordoning() -> Request {
    Request { cordon: ["workers".to_owned()].into(), ..place(1) }
}

fn takes_no_pods(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

#[tokio::test]
async fn a_node_is_cordoned_for_its_turn_only() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    let cordoned = server.get(&node_path("n1")).unwrap();
    assert!(takes_no_pods(&cordoned), "it is cordoned before the turn begins");
    assert_eq!(annotation(&cordoned, CORDONED).as_deref(), Some("workers"));
    node.done();
    let after = server.wait_for(&node_path("n1"), |node| !takes_no_pods(node)).await;
    assert_eq!(annotation(&after, CORDONED), None);
}

#[tokio::test]
async fn without_being_asked_nothing_is_cordoned() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(place(1));
    node.granted().await;
    node.done();
    server.wait_gone(&format!("{LEASES}/{}", lease_name("workers", 0))).await;
    assert_eq!(server.history(&node_path("n1")).len(), 1, "the Node was not written to");
}

#[tokio::test]
async fn a_foreign_cordon_is_never_removed() {
    let server = ApiServer::start().await;
    server.put(&node_path("n1"), json!({"kind": "Node", "spec": {"unschedulable": true}}));
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    node.done();
    server.wait_gone(&format!("{LEASES}/{}", lease_name("workers", 0))).await;
    node.stop.cancel();
    node.handle.ended().await;
    assert!(takes_no_pods(&server.get(&node_path("n1")).unwrap()));
    assert_eq!(server.history(&node_path("n1")).len(), 1, "the Node was not written to");
}

#[tokio::test]
async fn a_cordon_left_by_a_crash_is_removed() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    node.crash().await;
    // The API server is away when the agent starts again.
    server.set_mood(Mood::Away);
    let node = Node::start(&server, "n1");
    node.done();
    server.set_mood(Mood::Well);
    let after = server.wait_for(&node_path("n1"), |node| !takes_no_pods(node)).await;
    assert_eq!(annotation(&after, CORDONED), None);
}

#[tokio::test]
async fn a_cordon_stays_for_a_turn_that_goes_on_after_a_crash() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    node.crash().await;
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    assert_eq!(server.history(&node_path("n1")).len(), 2, "made, cordoned, and nothing since");
    node.stop.cancel();
    node.handle.ended().await;
    assert!(!takes_no_pods(&server.get(&node_path("n1")).unwrap()), "a clean stop leaves nothing behind");
}

#[tokio::test]
async fn uncordoned_by_hand_in_the_middle_it_stays_so() {
    let server = ApiServer::start().await;
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    node.granted().await;
    let mut object = server.get(&node_path("n1")).unwrap();
    object["spec"] = json!({});
    server.put(&node_path("n1"), object);
    // Another request makes it look again.
    node.ask(Request { evict: super::rig::evicting(&["web/none"]).evict, ..cordoning() });
    node.turn(|turn| matches!(turn, Turn::Granted { evicting: Some(_), .. })).await;
    node.turn(|turn| matches!(turn, Turn::Granted { evicting: None, .. })).await;
    assert!(!takes_no_pods(&server.get(&node_path("n1")).unwrap()));
    node.done();
    server.wait_for(&node_path("n1"), |node| annotation(node, CORDONED).is_none()).await;
}

#[tokio::test]
async fn a_node_that_may_not_be_cordoned_gets_no_turn_and_says_why() {
    let server = ApiServer::start().await;
    server.refuse("PATCH", "/nodes/", 403);
    let mut node = Node::start(&server, "n1");
    node.ask(cordoning());
    let why = node.waiting("cannot patch Node n1").await;
    assert!(why.contains("told to refuse"), "{why}");
}

#[tokio::test]
async fn a_node_object_that_is_not_there_is_said() {
    let server = ApiServer::start().await;
    let mut node = Node::start_at(&server.url(), "n1");
    node.ask(cordoning());
    node.waiting("there is no Node n1").await;
    server.put(&node_path("n1"), json!({"kind": "Node"}));
    node.granted().await;
}
