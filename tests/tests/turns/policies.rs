//! One agent that follows two policies with places of their own, as a whole: the real loop, the real turn task, Leases and
//! evictions of the API server, a kubelet and a simulated node. Another node has the only place of one of them.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::client::{NodeName, connect_with};
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright::daemon::kube::Cluster;
use portwright::daemon::turn::{self, lease_name};
use portwright::daemon::wish::MaxUnavailable;
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::{Disruption, Object, PciAddress, Profiles, Step, VfRef};
use portwright_tests::agents::{Agent, Machine, Start, Watcher, in_sync};
use portwright_tests::apiserver::{ApiServer, Rights};
use portwright_tests::kubelet::{Answer, Kubelet, Pod};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rig::{LEASES, NAMESPACE, Node, holders, node_path, places, pod_path, settings};

const WITHIN: Duration = Duration::from_secs(60);
const STATE: &str = "/apis/portwright.dev/v1alpha1/nodestates/worker-1";
/// The policy that evicts nobody, of the first port.
const CALM: &str = "calm";
/// The policy that evicts, of the second port. It comes later in the order in which places are got.
const EVICTING: &str = "evicting";
/// One that evicts nobody and lets the node take no new pods meanwhile. It comes first.
const CORDONING: &str = "a-cordoning";

fn port(number: u8) -> PciAddress {
    PciAddress { bus: 0x3b, function: number, ..PciAddress::default() }
}

fn vf(number: u8, index: u16) -> VfRef {
    VfRef { pf: port(number), index }
}

fn policy(name: &str, number: u8, vfs: u16) -> Value {
    let disruption = if name == EVICTING { "Evict" } else { "WhenIdle" };
    let cordon = name != CALM;
    json!({"kind": "NodePolicy", "metadata": {"name": name}, "spec": {
        "nodeSelector": {"matchLabels": {"role": "worker"}},
        "disruption": disruption, "cordon": cordon, "maxUnavailable": 1,
        "nics": [{"select": {"addresses": [port(number).to_string()]}, "vfs": vfs,
            "vfGroups": [{"vfs": "0-1", "pool": name, "driver": "kernel"}]}],
    }})
}

/// A node with its kubelet and its cluster.
struct World {
    api: ApiServer,
    machine: Machine,
    kubelet: Kubelet,
    folder: tempfile::TempDir,
}

/// An agent, whose part that holds the turn can be ended without giving anything back.
struct Running {
    agent: Agent,
    turn: JoinHandle<()>,
}

impl World {
    async fn new() -> World {
        let (api, folder) = (ApiServer::start().await, tempfile::tempdir().unwrap());
        api.limit(Rights::of_an_agent());
        api.put(
            &node_path("worker-1"),
            json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}, "spec": {}}),
        );
        let mut kernel = Kernel::default();
        kernel.node.drivers = ["ice", "iavf"].map(str::to_owned).into();
        for number in 0..2 {
            kernel
                .pfs
                .insert(port(number), SimPf::new(port(number), Family::Ice, 8, &format!("ens{number}")));
        }
        let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
        World { api, machine: Machine::new(SimNode::new(kernel)), kubelet, folder }
    }

    /// Both policies want so many VFs.
    fn want(&self, vfs: u16) {
        self.want_of([CALM, EVICTING], vfs);
    }

    /// These policies want so many VFs of one port each.
    fn want_of(&self, policies: [&str; 2], vfs: u16) {
        for (number, name) in (0..).zip(policies) {
            self.api.put(
                &format!("/apis/portwright.dev/v1alpha1/nodepolicies/{name}"),
                policy(name, number, vfs),
            );
        }
    }

    async fn start(&self, watcher: Option<Watcher>) -> Running {
        let stop = CancellationToken::new();
        let config = kube::Config::new(self.api.url().parse().unwrap());
        let connection = connect_with(config, NodeName::new("worker-1").unwrap()).await.unwrap();
        let (handle, task) = turn::prepare(
            connection.client.clone(),
            "worker-1",
            NAMESPACE,
            settings(),
            CancellationToken::new(),
        );
        let pauses = Growing::new(Duration::from_millis(50), Duration::from_millis(500));
        let pace = Pace { period: Duration::from_millis(50), ..Pace::default() };
        let cluster = Cluster::new(connection, Patience { pauses, ..Patience::default() }, pace, None, &stop);
        let start = Start {
            folder: self.folder.path(),
            profiles: Profiles::default(),
            wish: cluster.wish(),
            turn: Some(handle),
            cluster: Some(cluster),
            watcher,
        };
        Running { turn: tokio::spawn(task), agent: Agent::start_until(&self.machine, start, stop) }
    }

    fn counts(&self) -> [usize; 2] {
        let node = self.machine.node();
        [0, 1].map(|number| node.kernel.pfs[&port(number)].vfs.len())
    }

    /// A pod that runs on the node; it has a VF of the second port, if that is said.
    fn run(&self, name: &str, has_vf: bool) {
        self.api.put(
            &pod_path(name),
            json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}, "status": {"phase": "Running"}}),
        );
        if has_vf {
            let address = self.machine.node().kernel.vf(vf(1, 0)).unwrap().address;
            let (namespace, name) = name.split_once('/').unwrap();
            let pod = Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                container: "c".to_owned(),
                resource: format!("portwright.dev/{EVICTING}"),
                devices: vec![address.to_string()],
            };
            self.kubelet.set_pods(Answer::Pods(vec![pod]));
        }
    }

    /// Nothing of a turn is left, and nothing was done that must not be.
    async fn end(self, running: Running) {
        running.agent.stop().await;
        running.turn.await.unwrap();
        assert!(holders(&self.api).is_empty(), "{:?}", holders(&self.api));
        let node = self.api.get(&node_path("worker-1")).unwrap();
        assert!(node["spec"]["unschedulable"].is_null(), "a cordon is left: {node}");
        assert!(self.machine.node().violations().is_empty(), "{:?}", self.machine.node().violations());
        self.kubelet.stop().await;
    }
}

impl Running {
    /// Waits until all is as wanted with so many VFs on both ports.
    async fn has(&mut self, vfs: usize) {
        let as_wanted =
            |facts: &Facts| in_sync(facts) && facts.observed.pfs.iter().all(|pf| pf.vfs.len() == vfs);
        self.agent.until(&format!("{vfs} VFs each"), WITHIN, as_wanted).await;
    }
}

/// What NodeState says of a policy: its `Ready` condition's status and message.
fn ready<'a>(state: &'a Value, policy: &str) -> Option<(&'a str, &'a str)> {
    let policies = state.pointer("/status/policies")?.as_array()?;
    let found = policies.iter().find(|one| one["name"] == policy)?;
    let conditions = found["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    Some((condition["status"].as_str()?, condition["message"].as_str()?))
}

fn is_cordoned(world: &World) -> bool {
    world.api.get(&node_path("worker-1")).unwrap()["spec"]["unschedulable"] == true
}

/// Whether the node was without new pods at any time until now.
fn was_cordoned(world: &World) -> bool {
    let changes = world.api.history(&node_path("worker-1"));
    changes.iter().any(|change| change.object["spec"]["unschedulable"] == true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_a_place_waits_and_the_other_one_goes_on() {
    let world = World::new().await;
    world.want(2);
    let mut running = world.start(None).await;
    running.has(2).await;
    assert!(world.api.history(LEASES).is_empty(), "ports that had no VF need no turn");

    // Another node has the only place of one policy, and both ports are to have one VF more.
    let mut other = Node::start(&world.api, "worker-2");
    other.ask(places(&[(EVICTING, MaxUnavailable::Nodes(1))]));
    other.granted().await;
    world.run("web/a-0", true);
    world.run("web/b-0", false);
    world.want(3);
    let waits = |state: &Value| {
        let evicting = ready(state, EVICTING);
        ready(state, CALM).is_some_and(|(status, _)| status == "True")
            && evicting.is_some_and(|(status, why)| status == "False" && why.contains("taken, by worker-2"))
    };
    world.api.wait_for_within(WITHIN, STATE, waits).await;
    assert_eq!(world.counts(), [3, 2]);
    assert!(world.api.requests("/eviction").is_empty(), "nobody is evicted without a place");
    assert!(!was_cordoned(&world), "nor is the node cordoned for a policy without one");
    world.api.wait_gone(&format!("{LEASES}/{}", lease_name(CALM, 0))).await;

    // The place becomes free.
    other.done();
    world.api.wait_gone(&pod_path("web/a-0")).await;
    world.kubelet.set_pods(Answer::default());
    running.agent.wake();
    running.has(3).await;
    world.api.wait_gone(&format!("{LEASES}/{}", lease_name(EVICTING, 0))).await;
    assert!(world.api.get(&pod_path("web/b-0")).is_some(), "it has none of the VFs");
    assert_eq!(world.api.requests("/eviction").len(), 1);
    assert!(was_cordoned(&world), "the policy says so, in its place");
    other.stop.cancel();
    other.handle.ended().await;
    world.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordon_ends_with_the_place_that_it_was_for() {
    let world = World::new().await;
    world.want_of([CORDONING, EVICTING], 2);
    let mut running = world.start(None).await;
    running.has(2).await;
    let mut other = Node::start(&world.api, "worker-2");
    other.ask(places(&[(EVICTING, MaxUnavailable::Nodes(1))]));
    other.granted().await;
    world.want_of([CORDONING, EVICTING], 3);
    let done = |state: &Value| ready(state, CORDONING).is_some_and(|(status, _)| status == "True");
    world.api.wait_for_within(WITHIN, STATE, |state| done(state) && world.counts() == [3, 2]).await;
    let free = |node: &Value| node["spec"]["unschedulable"].is_null();
    world.api.wait_for_within(WITHIN, &node_path("worker-1"), free).await;
    assert!(was_cordoned(&world), "it was, in its place");
    assert_eq!(world.counts(), [3, 2], "the other policy still waits");

    other.done();
    running.has(3).await;
    world.api.wait_gone(&format!("{LEASES}/{}", lease_name(EVICTING, 0))).await;
    other.stop.cancel();
    other.handle.ended().await;
    world.end(running).await;
}

/// Halts the first step that disrupts the first port until the sender is gone, and says so: where an agent is to be killed.
fn halting(halted: &Arc<Notify>, until: Receiver<()>) -> Watcher {
    let (halted, until) = (Arc::clone(halted), Mutex::new(Some(until)));
    Arc::new(move |step: Option<&Step>| {
        let disrupts =
            |step: &&Step| step.disruption != Disruption::None && step.object == Object::Pci(port(0));
        let until = step.filter(disrupts).and_then(|_| until.lock().unwrap().take());
        if let Some(until) = until {
            halted.notify_one();
            until.recv().ok();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_in_its_places_leaves_nothing_behind() {
    let world = World::new().await;
    world.want(2);
    let (alive, until) = channel();
    let halted = Arc::<Notify>::default();
    let mut running = world.start(None).await;
    running.has(2).await;
    running.agent.stop().await;
    running.turn.await.unwrap();
    let running = world.start(Some(halting(&halted, until))).await;
    world.run("web/a-0", true);
    world.want(3);
    tokio::time::timeout(WITHIN, halted.notified()).await.unwrap();
    running.turn.abort();
    running.turn.await.ok();
    running.agent.kill().await;
    assert_eq!(holders(&world.api).len(), 2, "both places are held by nobody who lives");
    assert!(is_cordoned(&world));
    assert_eq!(world.counts(), [2, 2]);

    let mut running = world.start(None).await;
    world.api.wait_gone(&pod_path("web/a-0")).await;
    world.kubelet.set_pods(Answer::default());
    running.agent.wake();
    running.has(3).await;
    for policy in [CALM, EVICTING] {
        world.api.wait_gone(&format!("{LEASES}/{}", lease_name(policy, 0))).await;
    }
    world.api.wait_for(&node_path("worker-1"), |node| node["spec"]["unschedulable"].is_null()).await;
    assert_eq!(world.api.requests("/eviction").len(), 1, "nobody is evicted twice");
    world.end(running).await;
    drop(alive);
}
