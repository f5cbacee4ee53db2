//! `/readyz` and `/healthz` over HTTP, from what a real agent tells.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portwright::daemon::facts::Facts;
use portwright::serve::http::{self, Shown};
use portwright_device_plugin::metrics::Metrics;
use portwright_device_plugin::{Context, Plugin, Registration, Settings};
use portwright_host::root::Root;
use portwright_tests::apiserver::{ApiServer, Mood};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::{POLICY, STATE, agent, api, policy, ready};
use crate::rig::{WITHIN, machine};

/// What an agent tells that started at `since`, served; its pools are not asked.
async fn served(
    facts: watch::Receiver<Arc<Facts>>,
    since: Instant,
    folder: &Path,
) -> (SocketAddr, DropGuard, Plugin) {
    let settings =
        Settings { kubelet_dir: folder.join("nobody"), registration: Registration::Legacy, use_cdi: false };
    let plugin = Plugin::start(Context::new(Root::new(folder), settings, Metrics::default()));
    let connections = plugin.connections();
    let shown = Shown { registry: Registry::default(), connections, facts, follows: true, since };
    let stop = CancellationToken::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = http::serve(address, Arc::new(shown), stop.clone()).await.unwrap();
    (address, stop.drop_guard(), plugin)
}

/// Status and text.
async fn readyz(address: SocketAddr) -> (u16, String) {
    get(address, "/readyz").await
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
}

async fn written(api: &ApiServer, vfs: u16) {
    api.wait_for_within(Duration::from_secs(20), STATE, |state| state["status"]["pfs"][0]["numVfs"] == vfs)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_older_than_the_agent_stop_a_roll_out() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let mut wanted = policy(2, "WhenIdle");
    wanted["spec"]["nics"][0]["vfGroups"][0].as_object_mut().unwrap().remove("pool");
    api.put(POLICY, wanted.clone());
    let mut agent = agent(&api, &machine, folder.path(), None).await;
    let (address, _served, plugin) = served(agent.facts.clone(), Instant::now(), folder.path()).await;
    api.wait_for(STATE, |state| ready(state) == Some("True")).await;
    agent.until("told", WITHIN, |facts| facts.sequence > 0 && facts.untold.is_none()).await;
    assert_eq!(readyz(address).await, (200, "ok\n".to_owned()));

    api.undeclare("portwright.dev/v1alpha1/nodestates", "/status/summary/pending");
    wanted["spec"]["nics"][0]["vfs"] = 3.into();
    api.put(POLICY, wanted);
    let outdated = |facts: &Facts| facts.untold.as_ref().is_some_and(|untold| untold.outdated);
    agent.until("nothing can be told", WITHIN, outdated).await;
    let (status, why) = readyz(address).await;
    assert_eq!(status, 503);
    for words in ["older than this agent", "NodeState has no .status.summary.pending", "apply deploy/crds"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    // The policy is followed all the same.
    agent.until("three VFs", WITHIN, |facts| facts.observed.pfs[0].vfs.len() == 3).await;

    api.declare_all();
    written(&api, 3).await;
    agent.until("told again", WITHIN, |facts| facts.untold.is_none()).await;
    assert_eq!(readyz(address).await.0, 200);
    agent.stop().await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_no_policy_is_not_ready_and_one_that_remembers_is() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let mut wanted = policy(2, "WhenIdle");
    wanted["spec"]["nics"][0]["vfGroups"][0].as_object_mut().unwrap().remove("pool");
    api.put(POLICY, wanted);
    api.set_mood(Mood::Away);
    let mut first = agent(&api, &machine, folder.path(), None).await;
    let (address, _served, plugin) = served(first.facts.clone(), Instant::now(), folder.path()).await;
    first.until("a round", WITHIN, |facts| facts.sequence > 0).await;
    assert_eq!(readyz(address).await, (503, "no policy was read yet, and none is remembered\n".to_owned()));
    api.set_mood(Mood::Well);
    first.until("policies", WITHIN, |facts| facts.synced && !facts.policies.is_empty()).await;
    assert_eq!(readyz(address).await.0, 200);
    first.stop().await;
    plugin.stop().await;

    api.set_mood(Mood::Away);
    let mut second = agent(&api, &machine, folder.path(), None).await;
    let (address, _served, plugin) = served(second.facts.clone(), Instant::now(), folder.path()).await;
    second.until("a round", WITHIN, |facts| facts.sequence > 0 && !facts.synced).await;
    assert_eq!(readyz(address).await, (200, "ok\n".to_owned()));
    second.stop().await;
    plugin.stop().await;
}

/// Longer ago than a loop that turns has ever ended its last round.
fn long_ago() -> Instant {
    Instant::now().checked_sub(Duration::from_secs(301)).unwrap()
}

#[tokio::test]
async fn who_lives_has_ended_a_round_within_five_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let (tell, facts) = watch::channel(Arc::<Facts>::default());
    for (since, status) in [(Instant::now(), 200), (long_ago(), 503)] {
        let (address, _served, plugin) = served(facts.clone(), since, folder.path()).await;
        assert_eq!(get(address, "/healthz").await.0, status, "nothing was told since then");
        plugin.stop().await;
    }

    let (address, _served, plugin) = served(facts, long_ago(), folder.path()).await;
    let trouble = Some("looking at the node has not ended".to_owned());
    tell.send_replace(Arc::new(Facts { ended: Some(Instant::now()), trouble, ..Facts::default() }));
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()), "a new process would see no more");
    tell.send_replace(Arc::new(Facts { ended: Some(long_ago()), ..Facts::default() }));
    let (status, why) = get(address, "/healthz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "no round has ended for 301 s: the loop does not turn any more\n")
    );
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_each_round_counts_as_life() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "WhenIdle"));
    let mut agent = agent(&api, &machine, folder.path(), None).await;
    let (address, _served, plugin) = served(agent.facts.clone(), long_ago(), folder.path()).await;
    agent.until("a round has ended", WITHIN, |facts| facts.sequence > 0).await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    let first = agent.facts.borrow().ended;
    agent.wake();
    agent.until("another one has", WITHIN, |facts| facts.ended > first).await;
    agent.stop().await;
    plugin.stop().await;
}
