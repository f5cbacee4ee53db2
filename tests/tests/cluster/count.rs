//! The count of nodes in a policy's status.

use std::time::Duration;

use portwright_api::NodeStateContent;
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::rig::{node, policy, policy_path};
use crate::told::*;

#[tokio::test]
async fn nodes_are_counted_by_whoever_is_drawn() {
    let api = ApiServer::start().await;
    policy(&api, "p", json!({}));
    let mut object = api.get(&policy_path("p")).unwrap();
    object["metadata"]["generation"] = json!(1);
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    api.put(&policy_path("p"), object);
    let said = |ready: bool| {
        let mut policies = policy_state(ready);
        policies[0].uid = Some(uid.clone());
        NodeStateContent { policies, ..NodeStateContent::default() }
    };
    let mut agents = Vec::new();
    for index in 0..8 {
        let name = format!("worker-{index}");
        api.put(&format!("/api/v1/nodes/{name}"), node(json!({})));
        let told = Told::of(&api, &name, quick()).await;
        let content = said(index < 3);
        told.round(move |told| told.content = content);
        agents.push(told);
    }
    let status = |ready: u32| {
        move |policy: &Value| policy["status"]["matchedNodes"] == 8 && policy["status"]["readyNodes"] == ready
    };
    let counted = wait(&api, status(3)).await;
    assert_eq!(counted["status"]["matchedPfs"], 16);
    assert_eq!(counted["status"]["observedGeneration"], 1);
    for told in &agents {
        let content = said(true);
        told.round(move |told| told.content = content);
    }
    wait(&api, status(8)).await;
    let lists = api.requests("/nodestates?").len();
    assert!(lists <= 4, "{lists} counts");
    let ready = api.get(&policy_path("p")).unwrap()["status"]["conditions"][1].clone();
    assert_eq!(
        (&ready["type"], &ready["status"], &ready["reason"]),
        (&json!("Ready"), &json!("True"), &json!("InSync"))
    );
}

/// A count may take longer than other things: whoever counts rests for ten seconds.
async fn wait(api: &ApiServer, accept: impl Fn(&Value) -> bool) -> Value {
    api.wait_for_within(Duration::from_secs(40), &policy_path("p"), accept).await
}
