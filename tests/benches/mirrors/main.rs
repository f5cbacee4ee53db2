//! How soon a mirror by pods is right again: from a pod's change at the API server, and from a pod's port that is new in
//! OVSDB, to the mirror's row. ovsdb-server and ovs-vswitchd are real (userspace datapath), so are the agent's loop and all
//! its pauses; the API server is the tests'. Both times begin before the change is asked for and end when `ovs-vsctl
//! wait-until` has seen the row, so that they hold the start of two or three processes too.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a bench starts servers, takes the time, and fails by panicking where its surroundings do"
)]

#[path = "../../../ovs/tests/it/harness/mod.rs"]
#[allow(
    dead_code,
    clippy::let_underscore_must_use,
    reason = "the servers of the OVSDB tests can do more than is needed here, and do it as tests do"
)]
mod harness;
#[path = "../../tests/daemon/only_switch.rs"]
mod only_switch;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::{Server, Vswitchd};
use portwright::daemon::cluster::client::{NodeName, connect_with};
use portwright::daemon::cluster::source::Patience;
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::kube::Cluster;
use portwright::node::{Keeping, SwitchPart};
use portwright_tests::apiserver::ApiServer;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// What is promised.
const GOAL: Duration = Duration::from_secs(1);
const TIMES: usize = 15;
/// Other pods' ports on the bridge.
const OTHERS: usize = 50;
const NODE: &str = "/api/v1/nodes/worker-1";
const POLICY: &str = "/apis/portwright.dev/v1alpha1/nodepolicies/workers";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = Rig { server: Server::start(), api: runtime.block_on(ApiServer::start()) };
    let vswitchd = Vswitchd::start(&rig.server);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let part = SwitchPart::new(Some(rig.server.remote()), Duration::from_secs(10), &state, Keeping::Yes);
    let switch = Arc::new(Mutex::new(part.unwrap()));
    rig.api.put(NODE, json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}}));
    rig.api.put(
        POLICY,
        json!({"kind": "NodePolicy", "spec": {
            "bridges": [{"name": "br0", "datapath": "netdev", "ports": [{"name": "mon0", "type": "internal"}]}],
            "mirrors": [{"name": "tap", "bridge": "br0", "output": {"port": "mon0"},
                "select": {"pods": {"namespace": "web", "matchLabels": {"app": "shop"}}}}],
        }}),
    );
    let stop = CancellationToken::new();
    let cluster = runtime.block_on(async {
        let config = kube::Config::new(rig.api.url().parse().unwrap());
        let connection = connect_with(config, NodeName::new("worker-1").unwrap()).await.unwrap();
        Cluster::new(connection, Patience::default(), Pace::default(), None, &stop)
    });
    let running = {
        let _runtime = runtime.enter();
        only_switch::start(folder.path(), &switch, &cluster, &stop)
    };
    rig.server.vsctl(&["wait-until", "mirror", "tap", "name=tap"]);
    for number in 0..OTHERS {
        rig.port(&format!("o{number}"), &rig.pod(&format!("other-{number}"), "other"));
    }
    let pods = report("a pod's change to the mirror's row", (0..TIMES).map(|number| rig.by_pod(number)));
    let ports = report("a pod's new port to the mirror's row", (0..TIMES).map(|number| rig.by_port(number)));
    runtime.block_on(async {
        stop.cancel();
        running.await.unwrap();
    });
    drop((runtime, switch, vswitchd));
    if pods && ports { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Rig {
    server: Server,
    api: ApiServer,
}

impl Rig {
    /// Makes or changes a pod of the node; its UID.
    fn pod(&self, name: &str, app: &str) -> String {
        let path = format!("/api/v1/namespaces/web/pods/{name}");
        let metadata = json!({"labels": {"app": app}});
        self.api.put(&path, json!({"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "worker-1"}}));
        self.api.get(&path).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A pod's port, as a CNI plugin makes it; its row.
    fn port(&self, name: &str, uid: &str) -> String {
        let note = format!("external_ids:contPodUid={uid}");
        let kind = ["--", "set", "interface", name, "type=internal", "--", "set", "port", name, &note];
        self.server.vsctl(&[&["--no-wait", "add-port", "br0", name][..], &kind].concat());
        self.server.vsctl(&["get", "port", name, "_uuid"]).trim().to_owned()
    }

    fn wait_for(&self, port: &str) {
        self.server.vsctl(&["wait-until", "mirror", "tap", &format!("select_src_port{{>=}}{port}")]);
    }

    /// A pod whose port is there becomes one of those that are mirrored.
    fn by_pod(&self, number: usize) -> Duration {
        let name = format!("a{number}");
        let port = self.port(&name, &self.pod(&name, "other"));
        rest();
        assert!(!self.sources().contains(&port), "it is not mirrored yet");
        let began = Instant::now();
        self.pod(&name, "shop");
        self.wait_for(&port);
        let took = began.elapsed();
        assert!(self.sources().contains(&port), "it is mirrored");
        took
    }

    /// A pod that is one of those gets its port.
    fn by_port(&self, number: usize) -> Duration {
        let name = format!("b{number}");
        let uid = self.pod(&name, "shop");
        rest();
        let began = Instant::now();
        let port = self.port(&name, &uid);
        self.wait_for(&port);
        let took = began.elapsed();
        assert!(self.sources().contains(&port), "it is mirrored");
        took
    }

    /// What the mirror copies.
    fn sources(&self) -> String {
        self.server.vsctl(&["get", "mirror", "tap", "select_src_port"])
    }
}

/// What went before is not to be measured; there is nothing that tells that nothing goes on any more.
fn rest() {
    std::thread::sleep(Duration::from_millis(500));
}

/// Prints the median and the longest; whether each was within the goal.
fn report(what: &str, times: impl Iterator<Item = Duration>) -> bool {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what}: median {:.0} ms, longest {:.0} ms, of {TIMES} (goal {GOAL:?})",
        ms(median),
        ms(longest)
    );
    longest <= GOAL
}
