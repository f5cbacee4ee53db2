//! The API server is away for ten minutes, whichever way it is away. Nothing here waits for the kernel (client and server
//! speak through memory), so tokio's paused clock goes on only when the whole agent has nothing left to do until its next
//! timer: ten minutes are as long as the agent's own pauses make them, and take a second.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kube::client::ClientBuilder;
use portwright::daemon::cluster::client::{Connection, NodeName};
use portwright::daemon::cluster::health::{Guard, Health};
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright::daemon::turn::{Settings, Turn};
use portwright_core::sim::Event;
use portwright_tests::agents::{Agent, Machine, in_sync};
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::cluster::{NODE, POD, POLICY, STATE, agent_over, api, outfit, ready};
use crate::rig::{in_sync_after, machine, pf, sequence, vf};

const MINUTE: Duration = Duration::from_secs(60);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/portwright/leases";
/// Longest pause of what follows the API server; a history that was forgotten meanwhile costs no further one.
const SEEN_WITHIN: Duration = Duration::from_secs(46);
/// Longest pause of who writes the NodeState, and a request's own time.
const TOLD_WITHIN: Duration = Duration::from_secs(90 + 30);

/// The way to the API server without a socket, a connection for each request. Deadlines and notes are the agent's own; what
/// is left out is what kube puts below them: TCP, TLS, and keeping connections.
fn connection(api: &ApiServer) -> Connection {
    let server = api.dialer();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let wire = TokioIo::new(server.dial());
        async move {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(wire).await?;
            // How it ends is seen by the request.
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    });
    let health = Health::default();
    let client = ClientBuilder::new(service, "default").with_layer(&Guard::new(health.clone())).build();
    let node = NodeName::new("worker-1").unwrap();
    Connection { client, node, api_servers: Default::default(), health, untold: Default::default() }
}

/// An agent with all its own times.
fn start(api: &ApiServer, machine: &Machine, folder: &Path) -> Agent {
    let pace = (Patience::default(), Pace::default());
    agent_over(connection(api), pace, Settings::default(), machine, outfit(folder))
}

/// The first port may only be resized when its pods are evicted; the second is free.
fn policy(first: u16, second: u16) -> Value {
    let nic = |address: &str, vfs: u16| {
        let group = json!({"vfs": format!("0-{}", vfs - 1), "driver": "kernel", "trust": true});
        json!({"select": {"addresses": [address]}, "vfs": vfs, "vfGroups": [group]})
    };
    json!({"kind": "NodePolicy", "metadata": {"name": "workers"}, "spec": {
        "nodeSelector": {"matchLabels": {"role": "worker"}}, "disruption": "Evict", "cordon": true,
        "nics": [nic("0000:3b:00.0", first), nic("0000:3b:00.1", second)],
    }})
}

fn vfs(machine: &Machine) -> [usize; 2] {
    [0, 1].map(|number| machine.node().kernel.pfs[&pf(number)].vfs.len())
}

/// One VF of the second port is changed by hand and put right while no other time passes than the agent's own.
async fn drifts_and_is_repaired(agent: &mut Agent, machine: &Machine, index: u16) {
    let before = sequence(agent);
    let set = |trust: bool| {
        machine.node().kernel.pfs.get_mut(&pf(1)).unwrap().vfs.get_mut(&index).unwrap().admin.trust = trust;
    };
    set(false);
    agent.wake();
    let began = Instant::now();
    let trusted = || machine.node().kernel.pfs[&pf(1)].vfs[&index].admin.trust;
    agent.until("drift is repaired", MINUTE, |facts| facts.sequence > before && trusted()).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Waits until the new policy is followed and told, and nothing of a turn is left.
async fn new_policy_is_followed(agent: &mut Agent, api: &ApiServer, machine: &Machine) {
    let back = Instant::now();
    let new = |facts: &Facts| in_sync(facts) && vfs(machine) == [2, 8] && facts.source_trouble.is_none();
    agent.until("the new policy", MINUTE * 5, new).await;
    assert!(back.elapsed() < SEEN_WITHIN, "{:?}", back.elapsed());
    let told = |state: &Value| ready(state) == Some("True") && state["status"]["pfs"][1]["numVfs"] == 8;
    api.wait_for_within(TOLD_WITHIN, STATE, told).await;
    assert!(api.wait_until(MINUTE, || api.list(LEASES).is_empty()).await, "{:?}", api.list(LEASES));
    let open = |node: &Value| node.pointer("/spec/unschedulable").is_none_or(|value| value != true);
    api.wait_for_within(MINUTE, NODE, open).await;
    assert!(machine.node().violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_absence_hold_up_nothing_and_end_with_the_new_policy() {
    for mood in [Mood::Away, Mood::Failing(503), Mood::Stalling] {
        let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
        api.put(POLICY, policy(2, 7));
        let mut agent = start(&api, &machine, folder.path());
        in_sync_after(&mut agent, 0).await;
        api.wait_for(STATE, |state| ready(state) == Some("True")).await;

        // The busiest a node can be: it has a turn, and waits for a pod that a budget protects.
        api.refuse("POST", "/eviction", 429);
        api.put(POD, json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}}));
        machine.node().happen(&Event::Allocated(vf(0), "web-0".to_owned()));
        api.put(POLICY, policy(3, 7));
        let granted = |facts: &Facts| matches!(facts.turn, Turn::Granted { .. });
        agent.until("the turn is granted", MINUTE, granted).await;
        assert_eq!(api.list(LEASES).len(), 1);
        api.wait_for(NODE, |node| node.pointer("/spec/unschedulable") == Some(&json!(true))).await;

        let (left, asked) = (Instant::now(), api.connections());
        api.set_mood(mood);
        for minute in 1..10 {
            sleep_until(left + MINUTE * minute).await;
            let facts = agent.facts.borrow().clone();
            assert!(facts.synced && facts.source_trouble.is_some());
            assert!(
                matches!(facts.turn, Turn::Waiting { .. }),
                "{mood:?}: nobody has confirmed {:?}",
                facts.turn
            );
            // Not the same thing each time: somebody who does that is left to win.
            drifts_and_is_repaired(&mut agent, &machine, u16::try_from(minute % 7).unwrap()).await;
        }
        sleep_until(left + MINUTE * 10).await;
        let asked = api.connections() - asked;
        assert!((100..300).contains(&asked), "{mood:?}: {asked} requests");
        assert_eq!(vfs(&machine), [2, 7], "{mood:?}");

        // What was changed meanwhile, and a history that nobody remembers any more.
        api.put(POLICY, policy(2, 8));
        api.compact();
        api.set_mood(Mood::Well);
        new_policy_is_followed(&mut agent, &api, &machine).await;
        assert!(api.get(POD).is_some(), "{mood:?}: nothing has to go any more");
        agent.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_meanwhile_works_from_the_last_good_policies() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, 7));
    let mut agent = start(&api, &machine, folder.path());
    in_sync_after(&mut agent, 0).await;
    agent.stop().await;

    let (left, asked) = (Instant::now(), api.connections());
    api.set_mood(Mood::Away);
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.clear();
    let mut agent = start(&api, &machine, folder.path());
    in_sync_after(&mut agent, 0).await;
    assert_eq!(vfs(&machine), [2, 7], "made again by what is remembered");
    for minute in 1..10 {
        sleep_until(left + MINUTE * minute).await;
        assert!(!agent.facts.borrow().synced, "nobody has said which policies there are");
        drifts_and_is_repaired(&mut agent, &machine, u16::try_from(minute % 7).unwrap()).await;
    }
    sleep_until(left + MINUTE * 10).await;
    let asked = api.connections() - asked;
    assert!((20..100).contains(&asked), "{asked} requests");
    api.put(POLICY, policy(2, 8));
    api.compact();
    api.set_mood(Mood::Well);
    new_policy_is_followed(&mut agent, &api, &machine).await;
    agent.stop().await;
}
