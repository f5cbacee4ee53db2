//! NodeState: when it is written, what it costs the API server, and whom it belongs to.

use std::sync::Arc;
use std::time::Duration;

use portwright::daemon::cluster::contribution::ANNOTATION;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright_api::NodeStateContent;
use portwright_api::state::{ConditionStatus, PfState, VfRange};
use portwright_tests::apiserver::Mood;
use serde_json::{Value, json};

use crate::rig::{NODE, NODE_PATH, node};
use crate::told::*;

#[tokio::test]
async fn a_state_is_written_once_and_belongs_to_the_node() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    let state = api.wait_for(STATE_PATH, is_pending(1)).await;
    let owner = &state["metadata"]["ownerReferences"][0];
    let uid = api.get(NODE_PATH).unwrap()["metadata"]["uid"].clone();
    assert_eq!((&owner["kind"], &owner["name"], &owner["uid"]), (&json!("Node"), &json!(NODE), &uid));
    let annotation: Value =
        serde_json::from_str(state["metadata"]["annotations"][ANNOTATION].as_str().unwrap()).unwrap();
    assert_eq!(
        annotation,
        json!({"p": {"uid": "u", "generation": 1, "pfs": 2, "accepted": true, "ready": true}})
    );
    for _ in 0..5 {
        told.round(|said| {
            said.content.last_round =
                Some(portwright_api::state::Round { sequence: 7, ..Default::default() });
        });
    }
    quiet(&api).await;
    assert_eq!(writes(&api), 1, "rounds that found nothing new write nothing");
    assert!(
        api.requests("nodestates")
            .iter()
            .all(|(_, path)| !path.contains("PATCH") || path.contains("fieldManager=portwright"))
    );

    // Another process of the same agent finds what there is.
    drop(told);
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    quiet(&api).await;
    assert_eq!(writes(&api), 1, "a restart writes nothing");
    told.round(|said| said.content = pending(2));
    api.wait_for(STATE_PATH, is_pending(2)).await;
}

#[tokio::test]
async fn definitions_that_are_older_than_the_agent_are_told_as_such() {
    let api = cluster().await;
    let mut told = Told::start(&api).await;
    told.round(|said| said.content = pending(1));
    api.wait_for(STATE_PATH, is_pending(1)).await;
    api.undeclare("portwright.dev/v1alpha1/nodestates", "/status/summary/pending");
    told.round(|said| said.content = pending(2));
    let waiting = told.following.wish.wait_for(|wish| wish.untold.is_some());
    let wish = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().clone();
    let untold = wish.untold.unwrap();
    assert!(untold.outdated, "{untold:?}");
    for words in ["older than this agent", "NodeState has no .status.summary.pending", "apply deploy/crds"] {
        assert!(untold.why.contains(words), "{untold:?}");
    }
    assert!(wish.trouble.is_none(), "policies are followed all the same");
    api.declare_all();
    api.wait_for(STATE_PATH, is_pending(2)).await;
    let waiting = told.following.wish.wait_for(|wish| wish.untold.is_none());
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_for_another_reason_has_no_old_definitions() {
    let api = cluster().await;
    let mut told = Told::start(&api).await;
    api.refuse("PATCH", "/nodestates", 500);
    told.round(|said| said.content = pending(1));
    let waiting = told.following.wish.wait_for(|wish| wish.untold.is_some());
    let wish = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().clone();
    assert!(!wish.untold.unwrap().outdated);
}

#[tokio::test]
async fn fields_that_are_no_longer_told_go_and_others_stay() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| {
        said.content.pfs = vec![PfState { address: "0000:3b:00.0".to_owned(), ..PfState::default() }]
    });
    let mut state = api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    state["metadata"]["labels"] = json!({"theirs": "x"});
    api.put(STATE_PATH, state);
    told.round(|said| said.content = pending(1));
    let state = api.wait_for(STATE_PATH, is_pending(1)).await;
    assert!(state["status"].get("pfs").is_none(), "{state}");
    assert_eq!(state["metadata"]["labels"]["theirs"], "x");
}

#[tokio::test]
async fn writes_are_bounded_and_the_last_state_wins() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let started = std::time::Instant::now();
    for count in 1..=200 {
        told.round(|said| said.content = pending(count));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    api.wait_for(STATE_PATH, is_pending(200)).await;
    let periods = started.elapsed().as_millis() / 300;
    assert!((writes(&api) as u128) <= 3 + periods + 1, "{} writes in {periods} periods", writes(&api));
    quiet(&api).await;
    assert!(is_pending(200)(&api.get(STATE_PATH).unwrap()));
}

#[tokio::test]
async fn while_the_api_server_is_away_nothing_is_lost_and_nobody_waits() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = pending(1));
    api.wait_for(STATE_PATH, is_pending(1)).await;
    for (count, mood) in [(2, Mood::Away), (3, Mood::Failing(500)), (4, Mood::Failing(409))] {
        api.set_mood(mood);
        let before = api.attempts();
        for _ in 0..3 {
            told.round(|said| said.content = pending(count));
        }
        // Several attempts have come to nothing.
        api.wait_attempts(before + 4).await;
        api.set_mood(Mood::Well);
        api.wait_for(STATE_PATH, is_pending(count)).await;
    }
}

#[tokio::test]
async fn a_slow_api_server_is_waited_for() {
    let api = cluster().await;
    api.set_delay(Duration::from_millis(800));
    let told = Told::start(&api).await;
    let mut following = told.following.clone();
    following.wish.wait_for(|wish| wish.synced).await.unwrap();
    for count in 1..=20 {
        told.round(|said| said.content = pending(count));
    }
    api.wait_for(STATE_PATH, is_pending(20)).await;
    assert!(writes(&api) <= 3, "{} writes", writes(&api));
}

#[tokio::test]
async fn a_full_node_stays_below_a_mebibyte() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let ranges = (0..128).map(|index| VfRange {
        vfs: index.to_string(),
        driver: Some("vfio-pci".to_owned()),
        pool: Some("portwright.dev/dpdk".to_owned()),
        unhealthy: Some("the port has no carrier, and the pool asks for one".to_owned()),
    });
    let pf = PfState {
        vfs: ranges.collect(),
        pods: (0..64).map(|pod| format!("namespace-of-a-team/deployment-{pod}")).collect(),
        conditions: vec![condition("Ready", ConditionStatus::False, "Pending")],
        ..PfState::default()
    };
    told.round(|said| said.content.pfs = vec![pf; 16]);
    let state = api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    let size = state.to_string().len();
    assert!(size < 1024 * 1024, "{size} bytes for 2,048 VFs that are all different");
}

#[tokio::test]
async fn a_node_made_anew_gets_its_own_state() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = pending(1));
    api.wait_for(STATE_PATH, is_pending(1)).await;
    api.delete(NODE_PATH);
    let mut following = told.following.clone();
    following.node.wait_for(Option::is_none).await.unwrap();
    // What the garbage collector does.
    api.delete(STATE_PATH);
    told.round(|said| said.content = pending(2));
    quiet(&api).await;
    assert_eq!(api.get(STATE_PATH), None, "there is no Node that it could belong to");
    api.put(NODE_PATH, node(json!({})));
    let uid = api.get(NODE_PATH).unwrap()["metadata"]["uid"].clone();
    let state = api.wait_for(STATE_PATH, is_pending(2)).await;
    assert_eq!(
        state["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": uid}])
    );
}

#[tokio::test]
async fn the_same_is_confirmed_from_time_to_time() {
    let api = cluster().await;
    let told = Told::of(&api, NODE, Pace { confirm: Duration::from_millis(500), ..quick() }).await;
    told.round(|said| said.content = pending(1));
    let before = api.wait_for(STATE_PATH, is_pending(1)).await;
    let mut edited = before.clone();
    edited["status"]["summary"]["pending"] = json!(99);
    api.put(STATE_PATH, edited);
    api.wait_for(STATE_PATH, is_pending(1)).await;
    api.delete(STATE_PATH);
    api.wait_for(STATE_PATH, is_pending(1)).await;
}

#[tokio::test]
async fn before_policies_are_known_nothing_is_taken_back() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.content = NodeStateContent { policies: policy_state(true), ..pending(1) });
    let before = api.wait_for(STATE_PATH, is_pending(1)).await;
    drop(told);
    let told = Told::start(&api).await;
    told.said.lock().unwrap().content = pending(0);
    told.facts.send_replace(Arc::new(Facts { sequence: 1, synced: false, ..Facts::default() }));
    quiet(&api).await;
    assert_eq!(api.get(STATE_PATH), Some(before));
    told.round(|said| said.content = pending(2));
    api.wait_for(STATE_PATH, is_pending(2)).await;
}
