//! What a defect of the decision does to clients: nothing but an answer that says so.

use std::sync::Arc;

use http::StatusCode;
use portwright_injector::mutate::{Add, Decide, Mutation, inject};
use portwright_tests::apiserver::ApiServer;
use serde_json::json;

use crate::rig::{Rig, nad, pod};

/// Decides as the program does, except about pods that are named after a defect.
fn defective() -> Arc<Decide> {
    Arc::new(|pod, wish, networks, switches, settings| {
        if pod.display_name().contains("panic") {
            panic!("a defect");
        }
        if pod.display_name().contains("stray") {
            let stray = Add::at(&["spec", "nowhere", "deep"], json!(1));
            return Ok(Mutation { patch: vec![stray], ..Mutation::default() });
        }
        inject(pod, wish, networks, switches, settings)
    })
}

async fn rig() -> Rig {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    // One place for work: a defect that kept it would be noticed by the next review.
    let rig = Rig::deciding(api, &["--max-requests=1"], defective()).await;
    rig.injector.ready().await;
    rig
}

#[tokio::test]
async fn a_panic_is_answered_with_500_and_the_connection_goes_on() {
    let rig = rig().await;
    let mut bad = pod("foo-network");
    bad["metadata"]["generateName"] = "panic-".into();
    let mut client = rig.client().await;
    let mut beside = rig.client().await;
    for _ in 0..5 {
        let answer = client.review(&bad).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.text, "internal error\n", "what went wrong is for the log");
        assert!(client.review(&pod("foo-network")).await.is_patched(), "the same connection");
        assert!(beside.review(&pod("foo-network")).await.is_patched(), "another one");
    }
    assert_eq!(rig.injector.metric("portwright_injector_panics_total").await, 5.0);
    assert_eq!(rig.injector.metric("portwright_injector_requests_in_flight").await, 0.0);
    assert_eq!(rig.injector.probe("/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_patch_that_does_not_apply_is_never_sent() {
    let rig = rig().await;
    let mut bad = pod("foo-network");
    bad["metadata"]["generateName"] = "stray-".into();
    let answer = rig.review(&bad).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text.contains("does not apply"), "{}", answer.text);
    assert!(rig.review(&pod("foo-network")).await.is_patched());
}
