//! Which containers make a pod one that is evicted: a sidecar, which kubelet lists like any other container, and an init
//! container that runs, which only its checkpoint knows. What the checkpoint says of an init container that has ended moves
//! nobody.

use std::collections::BTreeSet;

use portwright::daemon::facts::Facts;
use portwright_core::VfRef;
use portwright_core::observed::Holder;
use portwright_core::sim::Event;
use portwright_tests::agents::{Agent, Machine};
use portwright_tests::apiserver::ApiServer;
use portwright_tests::kubelet::{Answer, Kubelet, Noted, Pod};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{POLICY, agent, api, policy};
use crate::rig::{WITHIN, in_sync_after, machine, pf, sequence, vf};

const NET: &str = "portwright.dev/net";
const OTHERS: &str = "portwright.dev/others";
/// As a container runtime names it.
const NETNS: &str = "cni-init-0";

/// The first port with so many VFs, of which three are in a pool; the second one stays as it is.
fn wanted(vfs: u16) -> Value {
    let mut wanted = policy(vfs, "Evict");
    wanted["spec"]["nics"][0]["vfGroups"][0]["vfs"] = json!("0-2");
    let second = json!({"select": {"addresses": [pf(1).to_string()]}, "vfs": 1,
        "vfGroups": [{"vfs": "0-0", "pool": "others", "driver": "kernel"}]});
    wanted["spec"]["nics"].as_array_mut().unwrap().push(second);
    wanted
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{pod}")
}

/// The node's pods, their VFs, and kubelet that tells of them.
struct Pods {
    kubelet: Kubelet,
    init: Noted,
    ended: Noted,
    listed: Vec<Pod>,
}

fn device(machine: &Machine, vf: VfRef) -> String {
    machine.node().kernel.vf(vf).unwrap().address.to_string()
}

/// Makes a pod of the node; its UID.
fn make(api: &ApiServer, name: &str, init: &Value) -> String {
    let spec = json!({"nodeName": "worker-1", "containers": [{"name": "app"}], "initContainers": init});
    api.put(&path(name), json!({"kind": "Pod", "spec": spec, "status": {"phase": "Running"}}));
    api.get(&path(name)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

impl Pods {
    async fn run(api: &ApiServer, machine: &Machine, kubelet: Kubelet) -> Pods {
        make(api, "sidecar-0", &json!([{"name": "proxy", "restartPolicy": "Always"}]));
        make(api, "other-0", &json!([]));
        let [init, ended] = [("init-0", vf(1)), ("ended-0", vf(2))].map(|(pod, vf)| Noted {
            uid: make(api, pod, &json!([{"name": "probe"}])),
            container: "probe".to_owned(),
            resource: NET.to_owned(),
            device: device(machine, vf),
        });
        // The init container has its VF in the pod's network namespace; the other pod's one has ended.
        machine.node().happen(&Event::NetdevLeaves(vf(1), NETNS.to_owned()));
        let listed = |pod: &str, container: &str, resource: &str, devices: Vec<String>| Pod {
            namespace: "default".to_owned(),
            name: pod.to_owned(),
            container: container.to_owned(),
            resource: resource.to_owned(),
            devices,
        };
        let listed = vec![
            listed("sidecar-0", "app", NET, Vec::new()),
            listed("sidecar-0", "proxy", NET, vec![device(machine, vf(0))]),
            listed("ended-0", "app", NET, Vec::new()),
            listed("other-0", "app", OTHERS, vec![device(machine, VfRef { pf: pf(1), index: 0 })]),
        ];
        let pods = Pods { kubelet, init, ended, listed };
        pods.tell(&["sidecar-0", "init-0", "ended-0", "other-0"]).await;
        pods
    }

    /// kubelet tells of these pods.
    async fn tell(&self, running: &[&str]) {
        let runs = |pod: &Pod| running.contains(&pod.name.as_str());
        let listed = self.listed.iter().filter(|pod| runs(pod)).cloned().collect();
        self.kubelet.set_pods(Answer::Pods(listed));
        let init = Some(&self.init).filter(|_| running.contains(&"init-0"));
        let noted: Vec<Noted> = init.into_iter().chain([&self.ended]).cloned().collect();
        self.kubelet.note(&noted).await.unwrap();
    }
}

/// The containers that have VFs of the first port, as the agent sees them: VF, pod or its UID, container.
fn users(facts: &Facts) -> BTreeSet<(u16, String, String)> {
    let vfs = facts.observed.pf(pf(0)).map(|pf| pf.vfs.as_slice()).unwrap_or_default();
    let pods = vfs.iter().flat_map(|vf| vf.holders.iter().map(|holder| (vf.index, holder)));
    let named = pods.filter_map(|(index, holder)| match holder {
        Holder::Pod { name, container, .. } => Some((index, name.clone(), container.clone())),
        Holder::Namespace { .. } | Holder::File { .. } => None,
    });
    named.collect()
}

/// Lets the agent look until it sees these users: for its first five seconds kubelet's list is not trusted, and everything counts
/// that the checkpoint has.
async fn until_seen(agent: &mut Agent, expected: &BTreeSet<(u16, String, String)>) {
    let end = Instant::now() + WITHIN;
    loop {
        agent.wake();
        let facts = agent.until("it looks", WITHIN, agent.has_heard()).await;
        if users(&facts) == *expected {
            return;
        }
        assert!(Instant::now() < end, "{:?} are seen", users(&facts));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_evicted_for_sidecars_and_for_init_containers_that_run() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    api.put(POLICY, wanted(3));
    let mut agent = agent(&api, &machine, folder.path(), None).await;
    in_sync_after(&mut agent, 0).await;
    let pods = Pods::run(&api, &machine, kubelet).await;
    let user = |index: u16, pod: &str, container: &str| (index, pod.to_owned(), container.to_owned());
    let expected = [user(0, "sidecar-0", "proxy"), user(1, &pods.init.uid, "probe")].into();
    until_seen(&mut agent, &expected).await;
    assert!(api.requests("/eviction").is_empty(), "nothing has to be changed");

    api.put(POLICY, wanted(4));
    // One after another, in whichever order. A pod's name goes with its object: whoever still holds its VF then is not known to
    // be a pod, and the other one is not evicted in vain.
    let gone = |pod: &str| api.get(&path(pod)).is_none();
    assert!(api.wait_until(WITHIN, || gone("init-0") || gone("sidecar-0")).await, "nobody is evicted");
    let init_first = gone("init-0");
    if init_first {
        machine.node().happen(&Event::NetdevReturns(vf(1)));
        agent.wake();
    }
    for pod in ["sidecar-0", "init-0"] {
        api.wait_gone(&path(pod)).await;
    }
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 3, "it waits until the VFs are let go");
    if !init_first {
        machine.node().happen(&Event::NetdevReturns(vf(1)));
    }
    pods.tell(&["ended-0", "other-0"]).await;
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    assert_eq!(api.requests("/eviction").len(), 2);
    for pod in ["ended-0", "other-0"] {
        assert!(api.get(&path(pod)).is_some(), "{pod} has no VF that is affected");
    }
    assert!(machine.node().violations().is_empty(), "{:?}", machine.node().violations());
    agent.stop().await;
    pods.kubelet.stop().await;
}
