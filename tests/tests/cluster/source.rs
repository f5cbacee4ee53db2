//! What is wanted, as the API server says it and as it stops saying it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::wish::MaxUnavailable;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::json;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::rig::{Followed, NODE, NODE_PATH, node, pod, policy, policy_path};

fn zone_a(priority: i32) -> serde_json::Value {
    json!({"nodeSelector": {"matchLabels": {"zone": "a"}}, "priority": priority})
}

#[tokio::test]
async fn a_policy_appears_changes_turns_bad_and_goes() {
    let mut followed = Followed::start().await;
    let empty = followed.until("synced", |wish| wish.synced).await;
    assert!(empty.policies.is_empty() && empty.trouble.is_none(), "{empty:?}");
    assert!(empty.node_addresses.contains(&"192.0.2.7".parse().unwrap()));
    let port = followed.api.url().rsplit(':').next().unwrap().parse().unwrap();
    assert!(empty.api_servers.contains(&("127.0.0.1".parse().unwrap(), port)), "{empty:?}");

    policy(&followed.api, "p", zone_a(1));
    followed.priority("p", 1).await;
    policy(&followed.api, "p", json!({"priority": 2, "maxUnavailable": "25%", "cordon": true}));
    let wish = followed.priority("p", 2).await;
    assert_eq!(wish.policies["p"].max_unavailable, MaxUnavailable::Percent { percent: 25, of: None });
    assert!(wish.policies["p"].cordon);

    policy(&followed.api, "p", json!({"priorities": 3, "mode": "Perhaps"}));
    let wish = followed.until("bad", |wish| wish.policies.get("p").is_some_and(|p| p.read.is_err())).await;
    let why = wish.policies["p"].read.as_ref().unwrap_err();
    assert!(why.contains("spec.priorities") && why.contains("spec.mode"), "{why}");

    policy(&followed.api, "p", zone_a(4));
    followed.priority("p", 4).await;
    followed.api.delete(&policy_path("p"));
    followed.until("gone", |wish| wish.policies.is_empty()).await;
}

#[tokio::test]
async fn labels_of_the_node_decide_and_may_change() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    policy(
        &followed.api,
        "q",
        json!({"nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}}),
    );
    let wish = followed.priority("p", 1).await;
    assert!(!wish.policies.contains_key("q"));
    followed.api.put(NODE_PATH, node(json!({"zone": "b"})));
    let wish = followed.until("the other, at once", |wish| wish.policies.contains_key("q")).await;
    assert!(wish.policies.contains_key("p"), "the labels may come back: {wish:?}");
    let wish = followed.until("only the other", |wish| !wish.policies.contains_key("p")).await;
    assert!(wish.policies.contains_key("q"), "{wish:?}");
}

#[tokio::test]
async fn labels_that_may_be_old_release_nothing() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    followed.priority("p", 1).await;
    followed.api.put(NODE_PATH, node(json!({})));
    followed.node.wait_for(|node| node.as_ref().is_some_and(|node| node.labels.is_empty())).await.unwrap();
    followed.api.set_mood(Mood::Failing(503));
    let failing = |trouble: &String| trouble.contains("asked for nodes");
    followed.until("trouble", |wish| wish.trouble.as_ref().is_some_and(failing)).await;
    let asked = followed.api.requests("").len();
    // The pauses between these are longer than the doubt.
    while followed.api.requests("").len() < asked + 8 {
        followed.api.wait_request().await;
    }
    assert!(followed.wish.borrow().policies.contains_key("p"));
    followed.api.put(NODE_PATH, node(json!({"zone": "a"})));
    followed.api.set_mood(Mood::Well);
    let wish = followed.until("no trouble", |wish| wish.trouble.is_none()).await;
    assert!(wish.policies.contains_key("p"), "{wish:?}");
}

#[tokio::test]
async fn a_selector_that_turns_impossible_is_told_and_releases_nothing() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    followed.priority("p", 1).await;
    let impossible = json!({"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]});
    policy(&followed.api, "p", json!({"nodeSelector": impossible}));
    let wish = followed.until("told", |wish| wish.policies.get("p").is_none_or(|p| p.read.is_err())).await;
    let why = wish.policies["p"].read.as_ref().unwrap_err();
    assert!(why.starts_with("spec.nodeSelector: selects no node: label `zone`"), "{why}");
}

#[tokio::test]
async fn what_does_not_matter_wakes_nobody() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    followed.priority("p", 1).await;
    followed.wish.mark_unchanged();
    let mut heartbeat = node(json!({"zone": "a"}));
    heartbeat["status"]["conditions"] =
        json!([{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
    followed.api.put(NODE_PATH, heartbeat);
    policy(&followed.api, "elsewhere", json!({"nodeSelector": {"matchLabels": {"zone": "b"}}}));
    let mut p = json!({"kind": "NodePolicy", "metadata": {"name": "p"}, "spec": zone_a(1)});
    p["status"] = json!({"lastCensus": "2026-01-01T00:00:00Z"});
    followed.api.put(&policy_path("p"), p);
    policy(&followed.api, "z", json!({}));
    let wish = followed.until("z", |wish| wish.policies.contains_key("z")).await;
    assert_eq!(wish.policies.len(), 2);
    followed.wish.mark_unchanged();
    assert!(!followed.wish.has_changed().unwrap());
}

#[tokio::test]
async fn a_forgotten_history_is_listed_anew() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    policy(&followed.api, "old", json!({}));
    followed.until("both", |wish| wish.policies.len() == 2).await;
    followed.api.set_mood(Mood::Away);
    followed.api.delete(&policy_path("old"));
    policy(&followed.api, "p", zone_a(2));
    followed.api.compact();
    followed.until("trouble", |wish| wish.trouble.is_some()).await;
    followed.api.set_mood(Mood::Well);
    let wish =
        followed.until("the new list", |wish| wish.policies.len() == 1 && wish.trouble.is_none()).await;
    assert_eq!(wish.policies["p"].read.as_ref().unwrap().priority, 2);
}

#[tokio::test]
async fn nothing_is_wished_before_everything_was_listed() {
    let mut api = ApiServer::start().await;
    policy(&api, "p", json!({"disruption": "Evict"}));
    for mood in [Mood::Away, Mood::Failing(503), Mood::Failing(403)] {
        api.set_mood(mood);
        let mut followed = Followed::with(api).await;
        let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
        assert!(!wish.synced && wish.policies.is_empty(), "{mood:?}: the last good policies hold");
        let why = wish.trouble.unwrap();
        assert!(why.contains("the API server cannot be asked for nodepolicies: "), "{why}");
        followed.api.set_mood(Mood::Well);
        let wish = followed
            .until("no Node", |wish| wish.trouble.as_ref().is_some_and(|why| why.contains("no Node")))
            .await;
        assert!(!wish.synced, "without the Node nobody knows which policies are for it");
        followed.api.put(NODE_PATH, node(json!({})));
        let wish = followed.until("synced", |wish| wish.synced && wish.trouble.is_none()).await;
        assert!(wish.policies.contains_key("p") && wish.pods.is_some(), "{wish:?}");
        api = followed.api;
        api.delete(NODE_PATH);
    }
}

#[tokio::test]
async fn while_the_api_server_is_away_everything_stays() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    let before = followed.priority("p", 1).await;
    for mood in [Mood::Away, Mood::Failing(500), Mood::Stalling] {
        followed.api.set_mood(mood);
        if mood != Mood::Stalling {
            let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
            assert_eq!((&wish.policies, wish.synced), (&before.policies, true), "{mood:?}");
        }
        followed.api.set_mood(Mood::Well);
        let wish = followed.until("no trouble", |wish| wish.trouble.is_none()).await;
        assert_eq!(wish.policies, before.policies);
    }
    followed.api.set_mood(Mood::Away);
    followed.until("trouble", |wish| wish.trouble.is_some()).await;
    policy(&followed.api, "p", zone_a(2));
    followed.api.set_mood(Mood::Well);
    followed.priority("p", 2).await;
    followed.until("no trouble", |wish| wish.trouble.is_none()).await;
}

#[tokio::test]
async fn a_missing_definition_is_told_as_such() {
    let api = ApiServer::start().await;
    api.put(NODE_PATH, node(json!({})));
    api.set_mood(Mood::Failing(404));
    let mut followed = Followed::with(api).await;
    let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
    assert!(wish.trouble.unwrap().contains("answers 404 Not Found"));
}

/// What is logged at INFO and above, by all tests.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those that speak of a node.
    fn of(&self, node: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(node)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn an_outage_is_one_line_and_its_end_another() {
    const LOGGED: &str = "worker-whose-log-is-read";
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish().init();
    let api = ApiServer::start().await;
    api.put(&format!("/api/v1/nodes/{LOGGED}"), node(json!({})));
    let mut followed = Followed::of(api, LOGGED).await;
    followed.until("synced", |wish| wish.synced && wish.trouble.is_none()).await;
    let before = lines.of(LOGGED).len();
    followed.api.set_mood(Mood::Failing(503));
    followed.until("trouble", |wish| wish.trouble.is_some()).await;
    let asked = followed.api.requests("").len();
    while followed.api.requests("").len() < asked + 8 {
        followed.api.wait_request().await;
    }
    let during = lines.of(LOGGED).split_off(before);
    assert_eq!(during.len(), 1, "{during:#?}");
    assert!(during[0].contains("WARN") && during[0].contains("policies cannot be followed"), "{during:?}");
    followed.api.set_mood(Mood::Well);
    followed.until("no trouble", |wish| wish.trouble.is_none()).await;
    let after = lines.of(LOGGED).split_off(before + 1);
    assert_eq!(after.len(), 1, "{after:#?}");
    assert!(after[0].contains("INFO") && after[0].contains("policies are followed again"), "{after:?}");
}

#[tokio::test]
async fn policies_hold_when_their_definition_is_deleted() {
    const POLICIES: &str = "portwright.dev/v1alpha1/nodepolicies";
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(0));
    followed.priority("p", 0).await;
    // The change comes by the watch, so that the deletion will, too.
    policy(&followed.api, "p", zone_a(1));
    let before = followed.priority("p", 1).await;
    followed.api.remove_definition(POLICIES);
    let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
    assert_eq!((&wish.policies, wish.synced), (&before.policies, true));
    let why = wish.trouble.unwrap();
    assert!(
        why.contains("their definition is not installed") && why.contains("last good policies hold"),
        "{why}"
    );
    // Several attempts later, with the watch ended too, and for another reason.
    followed.api.disconnect();
    let asked = followed.api.requests("nodepolicies").len();
    while followed.api.requests("nodepolicies").len() < asked + 6 {
        followed.api.wait_request().await;
    }
    assert_eq!(followed.wish.borrow().policies, before.policies);
    followed.api.refuse("GET", "/nodepolicies", 403);
    let asked = followed.api.requests("nodepolicies").len();
    while followed.api.requests("nodepolicies").len() < asked + 4 {
        followed.api.wait_request().await;
    }
    let wish = followed.wish.borrow().clone();
    assert!(wish.trouble.is_some() && wish.policies == before.policies, "{wish:?}");
    // The definition is back and the policy with it, as another object.
    followed.api.refuse_nothing();
    policy(&followed.api, "p", zone_a(2));
    followed.api.restore_definition(POLICIES, "2026-03-01T00:00:00Z");
    let wish = followed.priority("p", 2).await;
    assert_ne!(wish.policies["p"].uid, before.policies["p"].uid);
    followed.until("no trouble", |wish| wish.trouble.is_none()).await;
}

#[tokio::test]
async fn policies_hold_when_their_definition_is_made_anew_without_them() {
    const POLICIES: &str = "portwright.dev/v1alpha1/nodepolicies";
    let made_at = |time: &str, priority: i32| {
        let metadata = json!({"name": "p", "creationTimestamp": time});
        json!({"kind": "NodePolicy", "metadata": metadata, "spec": zone_a(priority)})
    };
    let mut followed = Followed::start().await;
    followed.api.put(&policy_path("p"), made_at("2026-02-01T00:00:00Z", 1));
    policy(&followed.api, "q", zone_a(1));
    followed.priority("p", 1).await;
    followed.api.remove_definition(POLICIES);
    followed.api.restore_definition(POLICIES, "2026-03-01T00:00:00Z");
    // Of the second nobody knows how old it was.
    let wish = followed.until("one is gone", |wish| !wish.policies.contains_key("q")).await;
    assert!(wish.policies.contains_key("p") && wish.synced, "{wish:?}");
    let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
    assert!(wish.trouble.unwrap().contains("made anew, and p went with it"));

    // Applied again it can be deleted.
    followed.api.put(&policy_path("p"), made_at("2026-03-02T00:00:00Z", 2));
    let wish = followed.priority("p", 2).await;
    assert!(wish.trouble.is_none(), "{wish:?}");
    followed.api.delete(&policy_path("p"));
    followed.until("gone", |wish| wish.policies.is_empty()).await;
}

#[tokio::test]
async fn a_policy_that_comes_back_at_once_was_never_gone() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(0));
    followed.priority("p", 0).await;
    policy(&followed.api, "p", zone_a(1));
    policy(&followed.api, "q", zone_a(1));
    let mut before = followed.until("both", |wish| wish.policies.len() == 2).await;
    followed.wish.mark_unchanged();
    followed.api.delete(&policy_path("p"));
    followed.api.delete(&policy_path("q"));
    policy(&followed.api, "p", zone_a(1));
    // What is deleted goes, and what is made anew was there all the time.
    while before.policies.contains_key("q") {
        followed.wish.changed().await.unwrap();
        before = followed.wish.borrow_and_update().clone();
        assert!(before.policies.contains_key("p"), "{before:?}");
    }
}

#[tokio::test]
async fn pods_are_followed_only_where_a_policy_asks_for_them() {
    let mut followed = Followed::start().await;
    pod(&followed.api, "mine", NODE, json!({"app": "shop"}));
    pod(&followed.api, "other", "worker-2", json!({"app": "shop"}));
    policy(&followed.api, "p", zone_a(1));
    let wish = followed.priority("p", 1).await;
    assert!(wish.pods.is_none() && followed.api.requests("/pods").is_empty());

    let mirror = json!({"mirrors": [{"name": "m", "bridge": "br", "select": {"pods": {"namespace": "web", "matchLabels": {"app": "shop"}}}, "output": {"port": "mon"}}], "priority": 2});
    policy(&followed.api, "p", mirror);
    let wish = followed.priority("p", 2).await;
    let pods = wish.pods.expect("a policy that needs pods comes with them");
    assert_eq!(pods.values().map(|pod| pod.namespace.as_str()).collect::<Vec<_>>(), ["web"]);
    assert!(followed.api.requests("/pods").iter().all(|(_, path)| path.contains("spec.nodeName%3Dworker-1")));

    pod(&followed.api, "second", NODE, json!({"app": "shop"}));
    followed.until("two pods", |wish| wish.pods.as_ref().is_some_and(|pods| pods.len() == 2)).await;
    followed.api.delete("/api/v1/namespaces/web/pods/mine");
    followed.until("one pod", |wish| wish.pods.as_ref().is_some_and(|pods| pods.len() == 1)).await;
    policy(&followed.api, "p", zone_a(3));
    followed.until("no pods", |wish| wish.pods.is_none()).await;
}

#[tokio::test]
async fn a_node_that_is_made_anew_is_another_one() {
    let mut followed = Followed::start().await;
    policy(&followed.api, "p", zone_a(1));
    let before = followed.priority("p", 1).await;
    let first = followed.node.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    followed.api.delete(NODE_PATH);
    let wish = followed.until("trouble", |wish| wish.trouble.is_some()).await;
    assert_eq!(wish.policies, before.policies, "a Node that is away for a moment releases nothing");
    followed.node.wait_for(Option::is_none).await.unwrap();
    followed.api.put(NODE_PATH, node(json!({"zone": "b"})));
    followed.until("the new labels", |wish| wish.trouble.is_none() && wish.policies.is_empty()).await;
    let second = followed.node.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert_ne!(first.uid, second.uid);
}

#[tokio::test]
async fn the_source_ends_when_nobody_listens() {
    let followed = Followed::start().await;
    let Followed { api: _api, wish, node: node_receiver, task } = followed;
    drop((wish, node_receiver));
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("it goes on asking").unwrap();
}
