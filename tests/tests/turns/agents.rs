//! Fifty agents with their real loops on simulated nodes: ports are resized two nodes at a time, though some agents are killed
//! in the middle of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::client::{NodeName, connect_with};
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::kube::Cluster;
use portwright::daemon::turn::{self, Settings};
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::step::Disruption;
use portwright_core::{PciAddress, Profiles};
use portwright_tests::agents::{Agent, Machine, Start, Watcher, in_sync};
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rig::{Counted, Gauge, NAMESPACE, holders, most_held, node_path};

const POLICY: &str = "/apis/portwright.dev/v1alpha1/nodepolicies/workers";
const NODES: usize = 50;

/// How long anything may take, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(120);

fn settings() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        lease: millis(6000),
        renew: millis(1000),
        fence: millis(4000),
        limit: millis(2000),
        retry: millis(100),
        spread: millis(50),
        ..Settings::default()
    }
}

fn pf() -> PciAddress {
    "0000:3b:00.0".parse().unwrap()
}

fn policy(vfs: u16) -> Value {
    json!({"kind": "NodePolicy", "metadata": {"name": "workers"}, "spec": {
        "nodeSelector": {"matchLabels": {"role": "worker"}}, "maxUnavailable": 2, "cordon": true,
        "nics": [{"select": {"addresses": ["0000:3b:00.0"]}, "vfs": vfs}],
    }})
}

/// A simulated node, what is watched of it, and when its agent is to be killed.
struct Worker {
    name: String,
    folder: PathBuf,
    machine: Machine,
    watcher: Watcher,
    /// While the node has fewer VFs than before and than wanted.
    disrupted: Arc<Mutex<Option<Counted>>>,
    /// Told at the first step of the resize, if the agent is to be killed there.
    fatal: Arc<Notify>,
}

/// An agent, whose part that holds the turn can be ended without giving anything back.
struct Running {
    agent: Agent,
    turn: JoinHandle<()>,
}

impl Worker {
    fn new(number: usize, folder: &Path, gauge: &Gauge) -> Worker {
        let name = format!("node-{number}");
        let mut kernel = Kernel::default();
        kernel.node.drivers = ["ice", "iavf"].map(str::to_owned).into();
        kernel.pfs.insert(pf(), SimPf::new(pf(), Family::Ice, 8, "ens0"));
        let machine = Machine::new(SimNode::new(kernel));
        let (disrupted, fatal) = (Arc::<Mutex<Option<Counted>>>::default(), Arc::new(Notify::new()));
        let dies = Mutex::new(number % 8 == 3);
        let watcher = {
            let (name, gauge, machine) = (name.clone(), gauge.clone(), machine.clone());
            let (disrupted, fatal) = (Arc::clone(&disrupted), Arc::clone(&fatal));
            move |step: Option<&portwright_core::Step>| {
                let vfs = machine.node().kernel.pfs[&pf()].vfs.len();
                match step {
                    Some(step) if step.disruption != Disruption::None && vfs > 0 => {
                        disrupted.lock().unwrap().get_or_insert_with(|| gauge.enter(&name));
                        // Real ports take longer; others shall have the time to do what they must not.
                        std::thread::sleep(Duration::from_millis(50));
                        if std::mem::take(&mut *dies.lock().unwrap()) {
                            fatal.notify_one();
                            std::thread::sleep(Duration::from_millis(200));
                        }
                    }
                    Some(_) => {}
                    None if vfs == 3 => drop(disrupted.lock().unwrap().take()),
                    None => {}
                }
            }
        };
        Worker { folder: folder.join(&name), name, machine, watcher: Arc::new(watcher), disrupted, fatal }
    }

    async fn start(&self, server: &ApiServer) -> Running {
        std::fs::create_dir_all(&self.folder).unwrap();
        let stop = CancellationToken::new();
        let config = kube::Config::new(server.url().parse().unwrap());
        let connection = connect_with(config, NodeName::new(&self.name).unwrap()).await.unwrap();
        let client = connection.client.clone();
        let pauses = Growing::new(Duration::from_millis(50), Duration::from_millis(500));
        let patience = Patience { pauses, ..Patience::default() };
        let cluster = Cluster::new(connection, patience, Pace::default(), None, &stop);
        let (handle, task) =
            turn::prepare(client, &self.name, NAMESPACE, settings(), CancellationToken::new());
        let start = Start {
            folder: &self.folder,
            profiles: Profiles::default(),
            wish: cluster.wish(),
            turn: Some(handle),
            cluster: Some(cluster),
            watcher: Some(Arc::clone(&self.watcher)),
        };
        Running { turn: tokio::spawn(task), agent: Agent::start_until(&self.machine, start, stop) }
    }

    /// Waits until the port has so many VFs and all is as wanted.
    async fn has(&self, running: &mut Running, vfs: usize) {
        let as_wanted = |facts: &portwright::daemon::facts::Facts| {
            in_sync(facts) && facts.observed.pfs.iter().all(|pf| pf.vfs.len() == vfs)
        };
        running.agent.until(&format!("{} has {vfs} VFs", self.name), WITHIN, as_wanted).await;
    }
}

impl Running {
    async fn kill(self) {
        self.turn.abort();
        self.turn.await.ok();
        self.agent.kill().await;
    }
}

/// One node's resize. An agent that is killed comes back: at once, or only when its place has expired.
async fn resize(
    worker: &Worker,
    mut running: Running,
    server: &ApiServer,
    late: bool,
    killed: &AtomicUsize,
) -> Running {
    tokio::select! {
        biased;
        () = worker.fatal.notified() => {}
        () = worker.has(&mut running, 3) => return running,
    }
    running.kill().await;
    killed.fetch_add(1, Ordering::Relaxed);
    drop(worker.disrupted.lock().unwrap().take());
    if late {
        tokio::time::sleep(settings().lease * 3 / 2).await;
    }
    let mut running = worker.start(server).await;
    worker.has(&mut running, 3).await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_agents_resize_two_at_a_time_though_some_are_killed() {
    let server = ApiServer::start().await;
    let (folder, gauge) = (tempfile::tempdir().unwrap(), Gauge::default());
    let workers: Vec<Worker> = (0..NODES).map(|number| Worker::new(number, folder.path(), &gauge)).collect();
    for worker in &workers {
        let node = json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}, "spec": {}});
        server.put(&node_path(&worker.name), node);
    }
    server.put(POLICY, policy(2));
    let starts = workers.iter().map(|worker| async {
        let mut running = worker.start(&server).await;
        worker.has(&mut running, 2).await;
        running
    });
    let running = futures::future::join_all(starts).await;
    assert_eq!(gauge.most(), 0, "ports that had no VF need no turn");
    assert!(server.history(super::rig::LEASES).is_empty());

    server.put(POLICY, policy(3));
    let killed = AtomicUsize::new(0);
    let resizes = workers
        .iter()
        .zip(running)
        .enumerate()
        .map(|(number, (worker, running))| resize(worker, running, &server, number % 16 == 3, &killed));
    let running = futures::future::join_all(resizes).await;
    assert_eq!(killed.into_inner(), 6, "nodes 3, 11, 19, 27, 35 and 43");
    assert!((1..=2).contains(&gauge.most()), "{} nodes were without their VFs at once", gauge.most());
    assert_eq!(most_held(&server), 2, "both places were used, and no more");
    for (worker, running) in workers.iter().zip(running) {
        running.agent.stop().await;
        running.turn.await.unwrap();
        assert!(worker.machine.node().violations().is_empty());
        let node = server.get(&node_path(&worker.name)).unwrap();
        assert!(node["spec"]["unschedulable"].is_null(), "{}: a cordon is left", worker.name);
    }
    assert!(holders(&server).is_empty(), "no lease is left");
}
