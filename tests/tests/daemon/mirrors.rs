//! Mirrors that follow pods: real Open vSwitch, the loop, and pods that come and go in a cluster.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::client::{NodeName, connect_with};
use portwright::daemon::kube::Cluster;
use portwright::node::{Keeping, SwitchPart};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{POLICY, api};
use crate::harness::{Server, Vswitchd};
use crate::only_switch;

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
        let running = only_switch::start(folder.path(), &switch, &cluster, &stop);
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
