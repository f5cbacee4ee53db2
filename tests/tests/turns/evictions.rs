//! Evictions: only the named pods, within their budgets.

use portwright::daemon::turn::Turn;
use portwright_tests::apiserver::{ApiServer, Ending};
use serde_json::{Value, json};

use super::rig::{Node, evicting, pod_path};

const BUDGET: &str = "/apis/policy/v1/namespaces/web/poddisruptionbudgets/a";

fn pod(server: &ApiServer, name: &str, more: Value) {
    let mut pod = json!({
        "kind": "Pod", "metadata": {"labels": {"app": "a"}},
        "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 7}, "status": {"phase": "Running"},
    });
    json_merge(&mut pod, &more);
    server.put(&pod_path(name), pod);
}

fn json_merge(object: &mut Value, more: &Value) {
    match (object.as_object_mut(), more.as_object()) {
        (Some(object), Some(more)) => {
            for (key, value) in more {
                json_merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *object = more.clone(),
    }
}

fn budget(server: &ApiServer, allowed: u64) {
    let selector = json!({"matchLabels": {"app": "a"}});
    let status = json!({"disruptionsAllowed": allowed});
    server.put(
        BUDGET,
        json!({"kind": "PodDisruptionBudget", "spec": {"selector": selector}, "status": status}),
    );
}

async fn nothing_left(node: &mut Node) {
    node.turn(|turn| matches!(turn, Turn::Granted { evicting: None, .. })).await;
}

async fn told(node: &mut Node, words: &str) -> String {
    let says =
        |turn: &Turn| matches!(turn, Turn::Granted { evicting: Some(text), .. } if text.contains(words));
    match node.turn(says).await {
        Turn::Granted { evicting: Some(text), .. } => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_the_named_pods_are_evicted_with_their_own_grace() {
    let server = ApiServer::start().await;
    server.set_ending(Ending::Marked);
    for name in ["web/a-0", "web/a-1", "db/b-0"] {
        pod(&server, name, json!({}));
    }
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0", "db/b-0"]));
    for name in ["web/a-0", "db/b-0"] {
        let ending =
            server.wait_for(&pod_path(name), |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
        assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 7);
    }
    assert_eq!(told(&mut node, "db/b-0, web/a-0").await, "db/b-0, web/a-0 are being evicted");
    server.delete(&pod_path("db/b-0"));
    told(&mut node, "web/a-0 is being evicted").await;
    server.delete(&pod_path("web/a-0"));
    nothing_left(&mut node).await;
    assert!(server.get(&pod_path("web/a-1")).unwrap()["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(server.requests("/eviction").len(), 2, "each was asked once");
}

#[tokio::test]
async fn nobody_is_evicted_without_a_place() {
    let server = ApiServer::start().await;
    pod(&server, "web/a-0", json!({}));
    let mut first = Node::start(&server, "n0");
    first.ask(super::rig::place(1));
    first.granted().await;
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0"]));
    node.waiting("taken").await;
    assert!(server.requests("/eviction").is_empty());
    first.done();
    server.wait_gone(&pod_path("web/a-0")).await;
    nothing_left(&mut node).await;
}

#[tokio::test]
async fn a_disruption_budget_is_waited_for_and_named() {
    let server = ApiServer::start().await;
    for name in ["web/a-0", "web/a-1"] {
        pod(&server, name, json!({}));
    }
    budget(&server, 1);
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0", "web/a-1"]));
    server.wait_gone(&pod_path("web/a-0")).await;
    told(&mut node, "web/a-1 is protected by a disruption budget").await;
    assert!(server.get(&pod_path("web/a-1")).is_some());
    budget(&server, 1);
    server.wait_gone(&pod_path("web/a-1")).await;
    nothing_left(&mut node).await;
}

#[tokio::test]
async fn pods_that_are_gone_elsewhere_or_ended_are_none() {
    let server = ApiServer::start().await;
    pod(&server, "web/elsewhere", json!({"spec": {"nodeName": "n2"}}));
    pod(&server, "web/ended", json!({"status": {"phase": "Succeeded"}}));
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/gone", "web/elsewhere", "web/ended"]));
    nothing_left(&mut node).await;
    assert!(server.requests("/eviction").is_empty());
}

#[tokio::test]
async fn a_pod_that_comes_back_under_its_name_is_evicted_again_only_while_it_is_named() {
    let server = ApiServer::start().await;
    pod(&server, "web/a-0", json!({}));
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0"]));
    server.wait_gone(&pod_path("web/a-0")).await;
    // Its controller is quick, and the loop has not looked yet.
    pod(&server, "web/a-0", json!({}));
    told(&mut node, "web/a-0 has come back under its name").await;
    assert_eq!(server.requests("/eviction").len(), 1);
    server.wait_gone(&pod_path("web/a-0")).await;
    assert_eq!(server.requests("/eviction").len(), 2, "it is still named, so it holds an affected VF again");
    nothing_left(&mut node).await;
    // On another node it is none of ours.
    pod(&server, "web/a-0", json!({"spec": {"nodeName": "n2"}}));
    node.ask(evicting(&["web/a-0", "web/other"]));
    nothing_left(&mut node).await;
    assert!(server.get(&pod_path("web/a-0")).is_some());
}

#[tokio::test]
async fn static_pods_stay_and_pods_of_daemon_sets_go() {
    let server = ApiServer::start().await;
    pod(&server, "web/static", json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}));
    let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "net", "uid": "1"}]);
    pod(&server, "web/net-x", json!({"metadata": {"ownerReferences": owner}}));
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/static", "web/net-x"]));
    server.wait_gone(&pod_path("web/net-x")).await;
    told(&mut node, "web/static is a static pod").await;
    assert!(server.get(&pod_path("web/static")).is_some());
}

#[tokio::test]
async fn an_eviction_that_is_refused_for_good_is_told() {
    let server = ApiServer::start().await;
    pod(&server, "web/a-0", json!({}));
    server.refuse("POST", "/eviction", 403);
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0"]));
    told(&mut node, "cannot evict Pod web/a-0: told to refuse").await;
}

#[tokio::test]
async fn a_pod_with_two_budgets_is_told_in_the_servers_words() {
    let server = ApiServer::start().await;
    pod(&server, "web/a-0", json!({}));
    budget(&server, 1);
    let second = server.get(BUDGET).unwrap();
    server.put(&format!("{BUDGET}-2"), second);
    let mut node = Node::start(&server, "n1");
    node.ask(evicting(&["web/a-0"]));
    // The API server says so with status 500, which is no outage: the place is kept meanwhile.
    told(&mut node, "more than one PodDisruptionBudget").await;
    assert!(server.get(&pod_path("web/a-0")).is_some());
    server.delete(&format!("{BUDGET}-2"));
    server.wait_gone(&pod_path("web/a-0")).await;
}

#[tokio::test]
async fn a_pod_that_only_has_the_name_is_not_hit() {
    let server = ApiServer::start().await;
    pod(&server, "web/a-0", json!({}));
    let mut node = Node::start(&server, "n1");
    node.ask(super::rig::place(1));
    node.granted().await;
    server.set_delay(super::rig::settings().limit / 2);
    node.ask(evicting(&["web/a-0"]));
    // The eviction is under way when the pod is replaced.
    server.wait_requested("/eviction").await;
    server.delete(&pod_path("web/a-0"));
    pod(&server, "web/a-0", json!({}));
    told(&mut node, "web/a-0 has come back under its name").await;
    assert!(server.get(&pod_path("web/a-0")).is_some());
}
