//! Mirrors that follow pods: real Open vSwitch, the loop, and pods that come and go in a cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::client::{NodeName, connect_with};
use portwright::daemon::hands::{Hands, Recalled};
use portwright::daemon::kube::Cluster;
use portwright::daemon::memory::Memory;
use portwright::daemon::start::{Base, Outfit};
use portwright::daemon::wish::Wish;
use portwright::node::{Keeping, SwitchPart, seen_by};
use portwright::pools::PoolSource;
use portwright_core::drive::{Node, RunError};
use portwright_core::{Observed, PciAddress, Profiles, Step};
use portwright_device_plugin::{Paths, Registration};
use portwright_host::node::Supplement;
use portwright_host::root::Root;
use portwright_ovs::node::OvsError;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{POLICY, api};
use crate::harness::{Server, Vswitchd};

/// A node that is nothing but a switch.
struct OnlySwitch {
    switch: Arc<Mutex<SwitchPart>>,
    eye: portwright::node::eye::Eye,
    supplement: Supplement,
}

impl Node for OnlySwitch {
    type Error = OvsError;

    fn observe(&mut self) -> Result<Observed, OvsError> {
        let mut observed = Observed::default();
        (self.supplement)(&mut observed);
        Ok(observed)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<OvsError>> {
        self.run_together(std::slice::from_ref(step))
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        let mut switch = self.switch.lock().unwrap();
        let done = switch.run(steps);
        self.eye.keep(switch.look());
        done
    }
}

impl Hands for OnlySwitch {
    fn remember(&mut self, _: &Observed, _: std::collections::BTreeSet<PciAddress>) -> Result<(), String> {
        Ok(())
    }

    fn recall(&self) -> Recalled {
        Recalled::default()
    }

    fn hand(&self, _: std::collections::BTreeSet<PciAddress>) -> OnlySwitch {
        OnlySwitch {
            switch: Arc::clone(&self.switch),
            eye: self.eye.clone(),
            supplement: Arc::clone(&self.supplement),
        }
    }
}

/// A daemon for nothing but a switch.
fn outfit(folder: &Path, switch: &Arc<Mutex<SwitchPart>>, wish: watch::Receiver<Wish>) -> Outfit {
    Outfit {
        root: Root::new(folder),
        kubelet: Paths { folder: folder.join("kubelet") },
        registration: Registration::Legacy,
        use_cdi: false,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        pools: PoolSource::default(),
        profiles: Profiles::default(),
        memory: Memory::read(&folder.join("state")),
        wish: Some(wish),
        turn: None,
        observer: None,
        switch: Some(Arc::clone(switch)),
        vf_metrics: false,
        node: None,
        socket: None,
    }
}

#[test]
fn a_mirror_follows_the_pods_of_its_selector() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::start();
    let vswitchd = Vswitchd::start(&server);
    let folder = tempfile::tempdir().unwrap();
    let part = SwitchPart::new(
        Some(server.remote()),
        Duration::from_secs(10),
        &folder.path().join("state"),
        Keeping::Yes,
    );
    let switch = Arc::new(Mutex::new(part.unwrap()));
    let stop = CancellationToken::new();
    let running = runtime.block_on(async {
        let api = api().await;
        api.put(POLICY, json!({"kind": "NodePolicy", "spec": {
            "bridges": [{"name": "br0", "datapath": "netdev", "ports": [{"name": "mon0", "type": "internal"}]}],
            "mirrors": [{"name": "tap", "bridge": "br0", "output": {"port": "mon0"},
                "select": {"pods": {"namespace": "web", "matchLabels": {"app": "shop"}}}}],
        }}));
        let config = kube::Config::new(api.url().parse().unwrap());
        let connection = connect_with(config, NodeName::new("worker-1").unwrap()).await.unwrap();
        let cluster = Cluster::new(connection, crate::cluster::patience(), crate::cluster::pace(), None, &stop);
        let base = Base::new(outfit(folder.path(), &switch, cluster.wish()));
        let eye = base.eye().unwrap();
        let supplement = seen_by(eye.clone(), &switch, base.supplement());
        let node = OnlySwitch { switch: Arc::clone(&switch), eye, supplement };
        let stopped = stop.clone();
        let running = tokio::spawn(async move { base.run(node, &stopped).await.unwrap() });
        (api, running)
    });
    let (api, running) = running;
    let wait = |words: &str| {
        let words: Vec<&str> = std::iter::once("wait-until").chain(words.split(' ')).collect();
        server.vsctl(&words);
    };
    wait("mirror tap name=tap");
    let path = |name: &str| format!("/api/v1/namespaces/web/pods/{name}");
    let pod = |name: &str, app: &str| {
        let pod =
            json!({"kind": "Pod", "metadata": {"labels": {"app": app}}, "spec": {"nodeName": "worker-1"}});
        api.put(&path(name), pod);
        api.get(&path(name)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    // A pod's port, as a CNI plugin makes it; its row.
    let port = |name: &str, uid: &str| {
        let note = format!("external_ids:contPodUid={uid}");
        let kind = ["--", "set", "interface", name, "type=internal", "--", "set", "port", name, &note];
        server.vsctl(&[&["add-port", "br0", name][..], &kind].concat());
        server.vsctl(&["get", "port", name, "_uuid"]).trim().to_owned()
    };
    let shop = port("p1", &pod("p1", "shop"));
    let other = port("p2", &pod("p2", "other"));
    wait(&format!("mirror tap select_src_port={shop}"));
    assert!(!server.vsctl(&["get", "mirror", "tap", "select_src_port"]).contains(&other), "another app");
    // The pod goes with its port, and another becomes one of the shop's.
    server.vsctl(&["del-port", "br0", "p1"]);
    api.delete(&path("p1"));
    pod("p2", "shop");
    wait(&format!("mirror tap select_src_port={other}"));
    // One that comes later is copied too.
    let late = port("p3", &pod("p3", "shop"));
    wait(&format!("mirror tap select_src_port{{>=}}{late}"));
    runtime.block_on(async {
        stop.cancel();
        running.await.unwrap();
    });
    drop(runtime);
    drop((switch, vswitchd));
}
