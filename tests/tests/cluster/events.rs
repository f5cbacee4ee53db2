//! Events: changes of conditions, and nothing else.

use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus, PfState};
use portwright_tests::apiserver::ApiServer;
use serde_json::Value;

use crate::rig::{NODE, NODE_PATH};
use crate::told::*;

fn events(api: &ApiServer) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let history = api.history("/apis/events.k8s.io/v1/namespaces/default/events");
    history
        .iter()
        .map(|change| {
            (text(&change.object["type"]), text(&change.object["reason"]), text(&change.object["note"]))
        })
        .collect()
}

#[tokio::test]
async fn events_tell_changes_of_conditions_and_nothing_else() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let said = |status: ConditionStatus, reason: &str, pending: u32| {
        let ready = Condition { message: "why".to_owned(), ..condition("Ready", status, reason) };
        let pf =
            PfState { address: "0000:3b:00.0".to_owned(), conditions: vec![ready], ..PfState::default() };
        NodeStateContent { pfs: vec![pf], ..self::pending(pending) }
    };
    let steps = [
        (ConditionStatus::True, "InSync", 0),
        (ConditionStatus::False, "Failed", 1),
        (ConditionStatus::False, "Failed", 2),
        (ConditionStatus::False, "Waiting", 3),
        (ConditionStatus::True, "InSync", 4),
        (ConditionStatus::True, "InSync", 5),
    ];
    for (status, reason, count) in steps {
        told.round(|told| told.content = said(status, reason, count));
        api.wait_for(STATE_PATH, is_pending(count)).await;
        quiet(&api).await;
    }
    let note = "0000:3b:00.0: why".to_owned();
    let expected = [("Warning", "Failed"), ("Normal", "Waiting"), ("Normal", "InSync")];
    let expected: Vec<_> =
        expected.map(|(kind, reason)| (kind.to_owned(), reason.to_owned(), note.clone())).into();
    assert_eq!(events(&api), expected);
    let event = &api.history("/apis/events.k8s.io/v1/namespaces/default/events")[0].object;
    assert_eq!(event["regarding"]["name"], NODE);
    assert_eq!(event["regarding"]["uid"], api.get(NODE_PATH).unwrap()["metadata"]["uid"]);
    let time = event["eventTime"].as_str().unwrap();
    assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");

    // After a restart what was told is not told again, and what has changed meanwhile is.
    drop(told);
    let told = Told::start(&api).await;
    told.round(|told| told.content = said(ConditionStatus::True, "InSync", 5));
    quiet(&api).await;
    assert_eq!(events(&api).len(), 3);
    drop(told);
    let told = Told::start(&api).await;
    told.round(|told| told.content = said(ConditionStatus::False, "Failed", 5));
    quiet(&api).await;
    assert_eq!(events(&api).len(), 4);
}

#[tokio::test]
async fn events_are_bounded() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let pfs = |status: ConditionStatus| {
        let pf = |index| PfState {
            address: format!("0000:3b:{index:02x}.0"),
            conditions: vec![condition("Ready", status, "Failed")],
            ..PfState::default()
        };
        (0..64).map(pf).collect::<Vec<_>>()
    };
    told.round(|said| said.content.pfs = pfs(ConditionStatus::False));
    api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    quiet(&api).await;
    assert_eq!(events(&api).len(), 10);
}

#[tokio::test]
async fn progress_keeps_no_warning_back() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    let pfs = |reason: &str, also: &str| {
        let pf = |index| PfState {
            address: format!("0000:3b:{index:02x}.0"),
            conditions: vec![condition(
                "Ready",
                ConditionStatus::False,
                if index == 63 { also } else { reason },
            )],
            ..PfState::default()
        };
        (0..64).map(pf).collect::<Vec<_>>()
    };
    told.round(|said| said.content.pfs = pfs("Pending", "Pending"));
    api.wait_for(STATE_PATH, |state| state["status"]["pfs"].is_array()).await;
    quiet(&api).await;
    assert_eq!(events(&api).len(), 10);
    told.round(|said| said.content.pfs = pfs("Pending", "PfMissing"));
    api.wait_for(STATE_PATH, |state| state["status"]["pfs"][63]["conditions"][0]["reason"] == "PfMissing")
        .await;
    quiet(&api).await;
    let warnings: Vec<_> = events(&api).into_iter().filter(|(kind, ..)| kind == "Warning").collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].1, "PfMissing");
}
