//! A simulated node in a cluster: policies come from the API server, what comes of them is told to it, pods are evicted where
//! a policy says so.

use std::path::Path;
use std::time::Duration;

use portwright::daemon::cluster::client::{Connection, NodeName, connect_with};
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright::daemon::kube::Cluster;
use portwright::daemon::turn;
use portwright::daemon::wish::Wish;
use portwright_core::sim::Event;
use portwright_tests::agents::{Agent, Machine, Start, Watcher};
use portwright_tests::apiserver::{ApiServer, Mood};
use portwright_tests::kubelet::Kubelet;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::rig::{WITHIN, in_sync_after, machine, pf, sequence, settings, vf};

pub const NODE: &str = "/api/v1/nodes/worker-1";
pub const STATE: &str = "/apis/portwright.dev/v1alpha1/nodestates/worker-1";
pub const POLICY: &str = "/apis/portwright.dev/v1alpha1/nodepolicies/workers";
pub const POD: &str = "/api/v1/namespaces/default/pods/web-0";

pub fn policy(vfs: u16, disruption: &str) -> Value {
    json!({"kind": "NodePolicy", "metadata": {"name": "workers"}, "spec": {
        "nodeSelector": {"matchLabels": {"role": "worker"}},
        "disruption": disruption, "cordon": true,
        "nics": [{"select": {"addresses": ["0000:3b:00.0"]}, "vfs": vfs,
            "vfGroups": [{"vfs": "0-1", "pool": "net", "driver": "kernel", "trust": true}]}],
    }})
}

pub async fn api() -> ApiServer {
    let api = ApiServer::start().await;
    api.put(NODE, json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}, "status": {"capacity": {"cpu": "8"}}}));
    api
}

async fn start(api: &ApiServer, machine: &Machine, folder: &Path) -> Agent {
    agent(api, machine, folder, None).await
}

/// Short pauses between attempts.
pub fn patience() -> Patience {
    let pauses = Growing::new(Duration::from_millis(50), Duration::from_millis(500));
    Patience { pauses, doubt: Duration::from_millis(200) }
}

/// NodeStates are written often.
pub fn pace() -> Pace {
    Pace { period: Duration::from_millis(100), ..Pace::default() }
}

/// An agent in the cluster; `watcher` looks at its steps.
pub async fn agent(api: &ApiServer, machine: &Machine, folder: &Path, watcher: Option<Watcher>) -> Agent {
    agent_of("worker-1", api, machine, folder, watcher).await
}

/// The same on a node of any name.
pub async fn agent_of(
    node: &str,
    api: &ApiServer,
    machine: &Machine,
    folder: &Path,
    watcher: Option<Watcher>,
) -> Agent {
    let connection = connection(node, api).await;
    let pace = (patience(), pace());
    let turns = turn::Settings { spread: Duration::from_millis(50), ..turn::Settings::default() };
    agent_over(connection, pace, turns, machine, Start { watcher, ..outfit(folder) })
}

/// The way to the API server.
pub async fn connection(node: &str, api: &ApiServer) -> Connection {
    let config = kube::Config::new(api.url().parse().unwrap());
    connect_with(config, NodeName::new(node).unwrap()).await.unwrap()
}

/// What an agent of a cluster is started with, but for the cluster.
pub fn outfit(folder: &Path) -> Start<'_> {
    settings(folder, watch::channel(Wish::default()).1)
}

/// An agent with this connection.
pub fn agent_over(
    connection: Connection,
    (patience, pace): (Patience, Pace),
    turns: turn::Settings,
    machine: &Machine,
    start: Start<'_>,
) -> Agent {
    let stop = CancellationToken::new();
    let cluster = Cluster::new(connection, patience, pace, None, &stop);
    let turn = Some(cluster.turns("portwright", turns));
    let start = Start { wish: cluster.wish(), turn, cluster: Some(cluster), ..start };
    Agent::start_until(machine, start, stop)
}

pub fn ready(state: &Value) -> Option<&str> {
    let conditions = state.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")?["status"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_cluster_is_followed_and_told_of() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    api.put(POLICY, policy(2, "WhenIdle"));
    let mut agent = start(&api, &machine, folder.path()).await;
    in_sync_after(&mut agent, 0).await;
    api.wait_for(STATE, |state| ready(state) == Some("True")).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 2);

    // The API server goes away, something drifts meanwhile, and the policy that it returns with is another one.
    api.set_mood(Mood::Away);
    let before = sequence(&agent);
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.clear();
    agent.wake();
    // A round that had looked before may still be telling that all is well.
    let made = |facts: &Facts| facts.sequence > before && machine.node().kernel.pfs[&pf(0)].vfs.len() == 2;
    agent.until("the VFs are made again", WITHIN, made).await;
    in_sync_after(&mut agent, before).await;
    api.put(POLICY, policy(3, "WhenIdle"));
    let before = sequence(&agent);
    api.set_mood(Mood::Well);
    in_sync_after(&mut agent, before).await;
    agent.until("the new policy", WITHIN, |facts| facts.observed.pfs[0].vfs.len() == 3).await;

    // One that cannot be read changes nothing and is told.
    let mut bad = policy(3, "WhenIdle");
    bad["spec"]["nics"][0]["vfGroups"][0]["vfs"] = json!("5-1");
    api.put(POLICY, bad);
    api.wait_for(STATE, |state| ready(state) == Some("False")).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 3);
    agent.stop().await;
    kubelet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_hold_affected_vfs_are_evicted_and_no_others() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "Evict"));
    let mut agent = start(&api, &machine, folder.path()).await;
    in_sync_after(&mut agent, 0).await;
    for (index, name) in ["web-0", "other-0"].into_iter().enumerate() {
        let path = POD.replace("web-0", name);
        api.put(&path, json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}}));
        if index == 0 {
            machine.node().happen(&Event::Allocated(vf(0), name.to_owned()));
        }
    }
    let before = sequence(&agent);
    agent.wake();
    agent.until("the pod is seen", WITHIN, |facts| facts.sequence > before).await;
    assert!(api.get(POD).is_some(), "nothing has to be changed, so nobody is evicted");

    api.put(POLICY, policy(4, "Evict"));
    api.wait_gone(POD).await;
    machine.node().happen(&Event::Freed(vf(0)));
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    assert!(api.requests("pods/other-0/eviction").is_empty());
    assert!(machine.node().violations().is_empty());
    // The node takes pods again, and its place is free.
    api.wait_for(NODE, |node| node.pointer("/spec/unschedulable").is_none_or(|value| value != true)).await;
    agent.stop().await;
}
