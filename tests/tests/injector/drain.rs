//! Stopping: what SIGTERM means to clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use portwright_injector::app::Pace;
use portwright_tests::apiserver::ApiServer;

use crate::rig::{Authority, Client, Injector, file_flags, nad, pod, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_under_load_loses_no_request() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    authority.issue(dir.path());
    let files = file_flags(dir.path());
    let flags: Vec<&str> = files.iter().map(String::as_str).chain(["--shutdown-delay=2"]).collect();
    let mut leaving = Injector::start(&api, &flags, Pace::default()).await;
    let staying = Injector::start(&api, &flags, Pace::default()).await;
    leaving.ready().await;
    staying.ready().await;

    // What a Service does: new connections go to replicas that are ready, a little late; old ones stay where they are
    // until an answer says that the connection ends.
    let gone = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let served = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut loads = Vec::new();
    for _ in 0..8 {
        let (gone, done, served) = (Arc::clone(&gone), Arc::clone(&done), Arc::clone(&served));
        let (first, second, roots) = (leaving.webhook, staying.webhook, authority.pem.clone());
        loads.push(tokio::spawn(async move {
            let mut connection: Option<(Client, usize)> = None;
            while !done.load(Ordering::Relaxed) {
                let (mut client, which) = match connection.take() {
                    Some(open) => open,
                    None => {
                        let which = usize::from(gone.load(Ordering::Relaxed));
                        let address = [first, second][which];
                        (Client::connect(address, &[&roots]).await.expect("connects"), which)
                    }
                };
                let answer = client.review(&pod("foo-network")).await;
                assert!(answer.is_patched());
                served[which].fetch_add(1, Ordering::Relaxed);
                if !answer.closing {
                    connection = Some((client, which));
                }
            }
        }));
    }
    let count = |which: usize| served[which].load(Ordering::Relaxed);
    until("load", async || count(0) > 50).await;
    leaving.stop();
    until("not ready", async || leaving.probe("/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE).await;
    // The endpoint is removed some time after the probe failed; until then new connections still come.
    let seen = count(0);
    until("served after the signal", async || count(0) > seen + 50).await;
    gone.store(true, Ordering::Relaxed);
    leaving.ended().await;
    until("load moved on", async || count(1) > 50).await;
    done.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.expect("not one request failed");
    }
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_idle_connections_do_not_hold_it_up() {
    let api = ApiServer::start().await;
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    authority.issue(dir.path());
    let files = file_flags(dir.path());
    let flags: Vec<&str> =
        files.iter().map(String::as_str).chain(["--shutdown-delay=0", "--cache-sync-timeout=0"]).collect();
    api.set_mood(portwright_tests::apiserver::Mood::Blind);
    nad(&api, "default", "slow", Some("example.com/slow"));
    let mut injector = Injector::start(&api, &flags, Pace::default()).await;
    injector.ready().await;
    api.set_delay(Duration::from_secs(1));
    let roots = authority.pem.as_str();
    let idle = Client::connect(injector.webhook, &[roots]).await.unwrap();
    let mut busy = Client::connect(injector.webhook, &[roots]).await.unwrap();
    let asking = tokio::spawn(async move { busy.review(&pod("slow")).await });
    until("under way", async || !api.requests("network-attachment-definitions/slow").is_empty()).await;
    injector.stop();
    let answer = asking.await.unwrap();
    assert!(answer.is_patched(), "{answer:?}");
    injector.ended().await;
    drop(idle);
}
