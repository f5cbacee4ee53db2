//! The Node object: resources that stand for bridges, and labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portwright::daemon::cluster::advertise;
use portwright::daemon::facts::Facts;
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::rig::{NODE_PATH, node};
use crate::told::*;

fn capacity(api: &ApiServer) -> Value {
    api.get(NODE_PATH).unwrap()["status"]["capacity"].clone()
}

fn set_status(api: &ApiServer, change: impl FnOnce(&mut Value)) {
    let mut node = api.get(NODE_PATH).unwrap();
    change(&mut node["status"]);
    api.put(NODE_PATH, node);
}

const BRIDGE: &str = "ovs-cni.network.kubevirt.io/br-data";

fn bridge(amount: u64) -> Option<BTreeMap<String, u64>> {
    Some(BTreeMap::from([(BRIDGE.to_owned(), amount)]))
}

#[tokio::test]
async fn bridges_are_offered_repaired_and_withdrawn() {
    let api = cluster().await;
    set_status(&api, |status| status["capacity"]["vendor.example/gpu"] = json!("4"));
    let told = Told::start(&api).await;
    told.round(|_| {});
    quiet(&api).await;
    assert!(capacity(&api).get(BRIDGE).is_none(), "nobody can tell yet");
    let asked = std::time::Instant::now();
    told.round(|said| said.resources = bridge(1000));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "1000").await;
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());

    // kubelet registers the node anew.
    set_status(&api, |status| status["capacity"][BRIDGE] = json!("0"));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "1000").await;
    set_status(&api, |status| {
        // As the API server writes it, and as kubelet follows.
        status["capacity"][BRIDGE] = json!("1k");
        status["allocatable"][BRIDGE] = json!("1k");
    });
    quiet(&api).await;
    assert_eq!(capacity(&api)[BRIDGE], "1k", "the same value in another spelling");

    // Open vSwitch is dead.
    told.round(|said| said.resources = Some(BTreeMap::new()));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "0").await;
    quiet(&api).await;
    assert_eq!(capacity(&api)[BRIDGE], "0", "kubelet has not seen it");
    set_status(&api, |status| status["allocatable"][BRIDGE] = json!("0"));
    let node = api.wait_for(NODE_PATH, |node| node["status"]["capacity"].get(BRIDGE).is_none()).await;
    assert_eq!(
        node["status"]["capacity"],
        json!({"cpu": "8", "vendor.example/gpu": "4"}),
        "others' are untouched"
    );
    quiet(&api).await;
    let annotations = api.get(NODE_PATH).unwrap()["metadata"]["annotations"].clone();
    assert!(annotations.get(advertise::ANNOTATION).is_none(), "{annotations}");
    let requests = api.requests("/status");
    assert!(
        requests
            .iter()
            .all(|(method, path)| method == "PATCH" && path.starts_with("/api/v1/nodes/worker-1/status")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn what_an_earlier_life_offered_is_withdrawn() {
    let api = cluster().await;
    let told = Told::start(&api).await;
    told.round(|said| said.resources = bridge(5));
    api.wait_for(NODE_PATH, |node| node["status"]["capacity"][BRIDGE] == "5").await;
    drop(told);
    set_status(&api, |status| status["capacity"]["ovs-cni.network.kubevirt.io/theirs"] = json!("1000"));
    let told = Told::start(&api).await;
    told.round(|said| said.resources = Some(BTreeMap::new()));
    let node = api
        .wait_for(NODE_PATH, |node| node["status"]["capacity"].get(BRIDGE).is_none_or(|amount| amount == "0"))
        .await;
    assert_eq!(node["status"]["capacity"]["ovs-cni.network.kubevirt.io/theirs"], "1000");
}

#[tokio::test]
async fn labels_below_the_prefix_are_ours_alone() {
    let api = cluster().await;
    api.put(
        NODE_PATH,
        node(json!({"zone": "a", "nics.example.org/nic-pfs": "9", "nics.example.org.other/pfs": "9"})),
    );
    let told = Told::start(&api).await;
    let observed: portwright_core::Observed = serde_json::from_value(json!({
        "pfs": [{"address": "0000:3b:00.0", "vendor": "8086", "device": "10c9", "driver": "igb", "totalVfs": 7, "vfs": []}],
    }))
    .unwrap();
    told.facts.send_replace(Arc::new(Facts {
        sequence: 1,
        observed: Arc::new(observed),
        ..Facts::default()
    }));
    let wanted = json!({
        "zone": "a", "nics.example.org.other/pfs": "9", "nics.example.org/nic-pfs": "1",
        "nics.example.org/nic-total-vfs": "7", "nics.example.org/nic-device.8086-10c9": "1",
        "nics.example.org/nic-driver.igb": "1",
    });
    api.wait_for(NODE_PATH, |node| node["metadata"]["labels"] == wanted).await;
    told.round(|_| {});
    api.wait_for(NODE_PATH, |node| node["metadata"]["labels"]["nics.example.org/nic-pfs"] == "0").await;
}

#[tokio::test]
async fn a_node_made_anew_is_labelled_and_offers_its_bridges_again() {
    let api = cluster().await;
    let mut told = Told::start(&api).await;
    told.round(|said| said.resources = bridge(5));
    let there = |node: &Value| {
        node["status"]["capacity"][BRIDGE] == "5"
            && node["metadata"]["labels"]["nics.example.org/nic-pfs"] == "0"
    };
    let first = api.wait_for(NODE_PATH, there).await;
    api.delete(NODE_PATH);
    let gone = told.following.node.wait_for(Option::is_none);
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap().unwrap();
    let asked = std::time::Instant::now();
    api.put(NODE_PATH, node(json!({"zone": "a"})));
    let second = api.wait_for(NODE_PATH, there).await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(second["metadata"]["labels"]["zone"], "a");
}
