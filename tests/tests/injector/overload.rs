//! More reviews than there are places for, and reviews that cannot be answered in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http::StatusCode;
use portwright_injector::mutate::{Decide, inject};
use portwright_tests::apiserver::{ApiServer, Mood};
use tokio::sync::watch;

use crate::rig::{Answer, Rig, nad, pod, review, until};

/// Turned away soon, and told when to come back.
fn assert_turned_away(answer: &Answer, asked: Instant) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.retry_after, "1");
    assert!(answer.text.contains("--max-requests"), "{}", answer.text);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

const TURNED_AWAY: &str = "portwright_injector_requests_total{outcome=\"error\",reason=\"Overload\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_review_beyond_max_requests_gets_503_soon() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    // Work on the pods called "long" lasts until the test has seen enough.
    let (release, released) = watch::channel(false);
    let (started, starts) = watch::channel(0);
    let decide: Arc<Decide> = Arc::new(move |pod, wish, networks, switches, settings| {
        if pod.display_name().contains("long") {
            started.send_modify(|count| *count += 1);
            let mut released = released.clone();
            let waiting = async { released.wait_for(|released| *released).await.map(|_| ()) };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(waiting)).unwrap();
        }
        inject(pod, wish, networks, switches, settings)
    });
    let rig = Rig::deciding(api, &["--max-requests=2"], decide).await;
    rig.injector.ready().await;

    let mut long = pod("foo-network");
    long["metadata"]["generateName"] = "long-".into();
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let (mut client, body) = (rig.client().await, review(&long));
        at_work.push(tokio::spawn(async move { client.post(body).await.unwrap() }));
    }
    until("both places are taken", async || *starts.borrow() == 2).await;
    let mut client = rig.client().await;
    for turned in 1..=3 {
        let asked = Instant::now();
        assert_turned_away(&client.review(&pod("foo-network")).await, asked);
        assert_eq!(rig.injector.metric(TURNED_AWAY).await, f64::from(turned));
    }
    release.send_replace(true);
    for review in at_work {
        assert!(review.await.unwrap().is_patched(), "those who had a place were served");
    }
    assert!(client.review(&pod("foo-network")).await.is_patched(), "the connection goes on");
}

#[tokio::test]
async fn reviews_that_wait_for_the_api_server_are_limited_and_keep_nobody_from_working() {
    let rig = Rig::start(&["--max-requests=2"]).await;
    rig.api.set_mood(Mood::Stalling);
    let mut waiting = Vec::new();
    for which in 0..8 {
        let (mut client, body) = (rig.client().await, review(&pod(&format!("late-{which}"))));
        waiting.push(tokio::spawn(async move { client.post(body).await.unwrap() }));
    }
    let asks = || rig.api.requests("network-attachment-definitions/late-").len();
    until("all of them are looked up", async || asks() == 8).await;
    let asked = Instant::now();
    assert_turned_away(&rig.review(&pod("late-8")).await, asked);
    assert!(rig.review(&pod("foo-network")).await.is_patched(), "what is cached needs no place to wait");
    for which in 0..8 {
        nad(&rig.api, "default", &format!("late-{which}"), Some("example.com/late"));
    }
    rig.api.set_mood(Mood::Well);
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        assert!(answer.is_patched(), "{answer:?}");
    }
}

#[tokio::test]
async fn the_answer_comes_before_the_api_server_stops_waiting() {
    let rig = Rig::start(&[]).await;
    rig.api.set_mood(Mood::Stalling);
    let asked = Instant::now();
    let answer = rig.client().await.post_within(1, review(&pod("unknown"))).await.unwrap();
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(rig.injector.metric("portwright_injector_requests_in_flight").await, 0.0);
}
