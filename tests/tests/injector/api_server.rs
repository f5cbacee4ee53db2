//! Networks and switches as the API server has them, or when it is away.

use std::time::{Duration, Instant};

use futures::future::join_all;
use http::StatusCode;
use kube::runtime::watcher;
use portwright_injector::cluster::Cluster;
use portwright_injector::following::Following;
use portwright_injector::nad::NetworkAttachmentDefinition;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::json;

use crate::rig::{Rig, amount, nad, nad_object, nad_path, pod, until};

const CONFIG_MAP: &str = "/api/v1/namespaces/injector/configmaps/nri-control-switches";

#[tokio::test]
async fn changes_of_networks_are_followed() {
    let rig = Rig::start(&[]).await;
    let pod = pod("foo-network");
    let gets = || rig.api.requests("network-attachment-definitions/").len();
    assert_eq!(amount(&rig.review(&pod).await, &pod, "example.com/foo").as_deref(), Some("1"));
    assert_eq!(gets(), 0, "what is cached is not asked for");
    nad(&rig.api, "default", "foo-network", Some("example.com/other"));
    until("the change is seen", async || {
        amount(&rig.review(&pod).await, &pod, "example.com/other").is_some()
    })
    .await;

    // A history that was forgotten means a new list, during which the old answers go on.
    rig.api.compact();
    nad(&rig.api, "default", "foo-network", Some("example.com/third"));
    until("the list is read anew", async || {
        amount(&rig.review(&pod).await, &pod, "example.com/third").is_some()
    })
    .await;

    rig.api.delete(&nad_path("default", "foo-network"));
    until("the deletion is seen", async || rig.review(&pod).await.json()["response"]["allowed"] == false)
        .await;
    assert!(gets() > 0, "a missing one is asked for before it is refused");
}

#[tokio::test]
async fn networks_without_annotations_are_known_too() {
    let rig = Rig::start(&[]).await;
    nad(&rig.api, "default", "bare", None);
    until("cached", async || rig.injector.metric("portwright_injector_networks").await == 2.0).await;
    let answer = rig.review(&pod("bare")).await.json();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(rig.api.requests("network-attachment-definitions/bare").len(), 0);
}

#[tokio::test]
async fn a_hundred_first_requests_ask_once() {
    let api = ApiServer::start().await;
    api.set_mood(Mood::Blind);
    nad(&api, "default", "late", Some("example.com/late"));
    let rig = Rig::with(api, &["--cache-sync-timeout=0"]).await;
    rig.injector.ready().await;
    rig.api.set_delay(Duration::from_secs(1));
    let pod = pod("late,late");
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(rig.client().await);
    }
    let answers = join_all(clients.iter_mut().map(|client| client.review(&pod))).await;
    for answer in &answers {
        assert_eq!(amount(answer, &pod, "example.com/late").as_deref(), Some("2"));
    }
    assert_eq!(rig.api.requests("network-attachment-definitions/late").len(), 1);
}

#[tokio::test]
async fn while_the_api_server_is_away_known_networks_are_served_and_others_fail() {
    let rig = Rig::start(&[]).await;
    let known = pod("foo-network");
    for mood in [Mood::Away, Mood::Failing(503), Mood::Failing(403)] {
        rig.api.set_mood(mood);
        assert_eq!(
            amount(&rig.review(&known).await, &known, "example.com/foo").as_deref(),
            Some("1"),
            "{mood:?}"
        );
        let answer = rig.review(&pod("unknown")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{mood:?}: {}", answer.text);
        assert!(answer.text.contains("default/unknown"), "{}", answer.text);
    }
    rig.api.set_mood(Mood::Stalling);
    let asked = Instant::now();
    assert_eq!(rig.review(&pod("unknown")).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(asked.elapsed() < Duration::from_millis(4500), "within the API server's patience");
    assert_eq!(rig.injector.probe("/readyz").await.0, StatusCode::OK, "still of use");
    rig.api.set_mood(Mood::Well);
    nad(&rig.api, "default", "unknown", Some("example.com/late"));
    until("it is found again", async || rig.review(&pod("unknown")).await.is_patched()).await;
}

#[tokio::test]
async fn readiness_waits_for_the_list_but_not_for_ever() {
    let api = ApiServer::start().await;
    api.set_mood(Mood::Stalling);
    let rig = Rig::with(api, &["--cache-sync-timeout=2"]).await;
    let (status, text) = rig.injector.probe("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("not listed yet"), "{text}");
    assert_eq!(rig.injector.probe("/healthz").await.0, StatusCode::OK);
    rig.injector.ready().await;
    assert_eq!(rig.injector.metric("portwright_injector_networks_synced").await, 0.0);
    rig.api.set_mood(Mood::Well);
    nad(&rig.api, "default", "foo-network", Some("example.com/foo"));
    until("the list", async || rig.injector.metric("portwright_injector_networks_synced").await == 1.0).await;
}

#[tokio::test]
async fn names_never_reach_a_url_unchecked() {
    let rig = Rig::start(&[]).await;
    for name in ["../../../../api/v1/secrets", "a/b", "a?b", "a%2fb", "A", ".", ".."] {
        for networks in [json!([{"name": name}]), json!([{"name": "a", "namespace": name}])] {
            let answer = rig.review(&pod(&networks.to_string())).await.json();
            assert_eq!(answer["response"]["status"]["code"], 400, "{networks}");
        }
    }
    assert_eq!(rig.api.requests("network-attachment-definitions/").len(), 0);
    assert_eq!(rig.api.requests("secrets").len(), 0);
}

#[tokio::test]
async fn switches_follow_the_config_map() {
    let rig = Rig::start(&[]).await;
    let mut pod = pod("foo-network,foo-network");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"example.com/foo": "1"}, "limits": {"example.com/foo": "1"}});
    let now = async || amount(&rig.review(&pod).await, &pod, "example.com/foo").unwrap();
    let set = |document: &str| {
        rig.api.put(CONFIG_MAP, json!({"kind": "ConfigMap", "data": {"config.json": document}}))
    };
    assert_eq!(now().await, "1");
    set(r#"{"features":{"enableHonorExistingResources":true}}"#);
    until("honoured", async || now().await == "3").await;
    set(r#"{"features":{"enableHonorExistingResources":"false"}}"#);
    until("found bad", async || rig.injector.metric("portwright_injector_switches_bad").await == 1.0).await;
    assert_eq!(now().await, "3", "the last good switches hold");
    rig.api.delete(CONFIG_MAP);
    until("back to the flags", async || now().await == "1").await;
    assert_eq!(rig.injector.metric("portwright_injector_switches_bad").await, 0.0);
}

#[tokio::test]
async fn a_config_map_that_is_bad_from_the_start_leaves_the_flags_in_force() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    api.put(CONFIG_MAP, json!({"kind": "ConfigMap", "data": {"config.json": "{"}}));
    let rig = Rig::with(api, &["--existing-resources=top-up"]).await;
    rig.injector.ready().await;
    until("found bad", async || rig.injector.metric("portwright_injector_switches_bad").await == 1.0).await;
    let mut pod = pod("foo-network,foo-network");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"example.com/foo": "1"}, "limits": {"example.com/foo": "1"}});
    assert_eq!(amount(&rig.review(&pod).await, &pod, "example.com/foo").as_deref(), Some("2"));
}

#[tokio::test]
async fn ten_thousand_networks_are_listed_before_it_is_ready() {
    let api = ApiServer::start().await;
    api.put_all(
        (0..10_000).map(|i| (nad_path("default", &format!("net-{i}")), nad_object(Some("example.com/foo")))),
    );
    let started = Instant::now();
    let rig = Rig::with(api, &[]).await;
    rig.injector.ready().await;
    let took = started.elapsed();
    assert_eq!(rig.injector.metric("portwright_injector_networks").await, 10_000.0);
    // An unoptimised build shares this machine with the API server that it reads from; the bench measures the goal.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(rig.review(&pod("net-9999")).await.is_patched());
}

/// A watch that goes on where it left off makes no event; that an outage has ended is known all the same, and so is the next.
#[tokio::test]
async fn the_end_of_an_outage_is_known_though_nothing_changes() {
    let api = ApiServer::start().await;
    let cluster = Cluster::new(kube::Config::new(api.url().parse().unwrap())).unwrap();
    let networks: kube::Api<NetworkAttachmentDefinition> = kube::Api::all(cluster.client.clone());
    let mut following = Following::new(
        networks,
        watcher::Config::default(),
        &cluster.watches,
        "networks",
        "nothing is known",
    );
    while !matches!(following.next().await, Some(watcher::Event::InitDone)) {}
    let mut well = following.subscribe();
    let running = tokio::spawn(async move { following.next().await });
    for _ in 0..2 {
        let mut turned = async |so: bool| {
            let turning = tokio::time::timeout(Duration::from_secs(15), well.wait_for(|well| *well == so));
            turning.await.expect("in time").expect("it is still followed");
        };
        // Not 503, which the client tries again for a while without a word.
        api.set_mood(Mood::Failing(500));
        turned(false).await;
        api.set_mood(Mood::Well);
        turned(true).await;
    }
    nad(&api, "default", "late", None);
    let event = tokio::time::timeout(Duration::from_secs(15), running).await.unwrap().unwrap();
    assert!(matches!(event, Some(watcher::Event::Apply(_))), "nothing was listed anew: {event:?}");
}
