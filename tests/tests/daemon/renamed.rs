//! The Node is deleted and made anew, or the agent comes back under another name: neither cuts anything.

use std::sync::{Arc, Mutex};

use portwright::daemon::facts::Facts;
use portwright_core::Step;
use portwright_core::sim::Event;
use portwright_tests::agents::Watcher;
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::cluster::{NODE, POD, POLICY, STATE, agent, agent_of, api, ready};
use crate::rig::{WITHIN, in_sync_after, machine, pf, sequence, vf};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/portwright/leases";

fn worker() -> Value {
    json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}, "status": {"capacity": {"cpu": "8"}}})
}

fn uid(api: &ApiServer, path: &str) -> Value {
    api.get(path).unwrap()["metadata"]["uid"].clone()
}

/// Without a pool: no kubelet is there to be told of one.
fn policy(vfs: u16, disruption: &str) -> Value {
    let mut policy = crate::cluster::policy(vfs, disruption);
    policy["spec"]["nics"][0]["vfGroups"][0].as_object_mut().unwrap().remove("pool");
    policy
}

/// The UIDs of an object's owners.
fn owners(object: &Value) -> Vec<&Value> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().map(|owner| &owner["uid"]).collect()
}

/// Notes every step.
fn noting() -> (Arc<Mutex<Vec<Step>>>, Watcher) {
    let steps = Arc::<Mutex<Vec<Step>>>::default();
    let noted = Arc::clone(&steps);
    (steps, Arc::new(move |step: Option<&Step>| noted.lock().unwrap().extend(step.cloned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_made_anew_has_its_state_and_turns_as_before() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "Evict"));
    let (steps, watcher) = noting();
    let mut agent = agent(&api, &machine, folder.path(), Some(watcher)).await;
    in_sync_after(&mut agent, 0).await;
    api.wait_for(STATE, |state| ready(state) == Some("True")).await;
    let (first, before) = (uid(&api, NODE), steps.lock().unwrap().len());

    api.delete(NODE);
    let missed = |facts: &Facts| facts.source_trouble.as_ref().is_some_and(|why| why.contains("no Node"));
    agent.until("the Node is missed", WITHIN, missed).await;
    // The garbage collector has not come round yet: the NodeState is still there.
    api.put(NODE, worker());
    let second = uid(&api, NODE);
    assert_ne!(first, second);
    api.wait_for(STATE, |state| owners(state) == [&second]).await;
    agent.until("nothing is missed", WITHIN, |facts| facts.source_trouble.is_none()).await;
    assert_eq!(steps.lock().unwrap().len(), before, "nothing is done for that: {:?}", steps.lock().unwrap());

    // A turn's Lease goes with the new Node.
    api.put(POD, json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}}));
    machine.node().happen(&Event::Allocated(vf(0), "web-0".to_owned()));
    api.put(POLICY, policy(3, "Evict"));
    api.wait_gone(POD).await;
    let made = api.history(LEASES);
    let owner = made.iter().map(|change| owners(&change.object)).next().unwrap();
    assert_eq!(owner, [&second]);
    machine.node().happen(&Event::Freed(vf(0)));
    let before = sequence(&agent);
    agent.wake();
    in_sync_after(&mut agent, before).await;
    agent.stop().await;
    assert!(api.list(LEASES).is_empty() && machine.node().violations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_another_name_nothing_is_cut_and_the_old_state_is_left_alone() {
    const OTHER: &str = "/api/v1/nodes/worker-2";
    const OTHERS_STATE: &str = "/apis/portwright.dev/v1alpha1/nodestates/worker-2";
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "WhenIdle"));
    let mut first = agent(&api, &machine, folder.path(), None).await;
    in_sync_after(&mut first, 0).await;
    let old = api.wait_for(STATE, |state| ready(state) == Some("True")).await;
    machine.node().happen(&Event::Allocated(vf(0), "web-0".to_owned()));
    first.stop().await;
    machine.node().restart();

    // Its Node is not there yet: the last good policies hold.
    let (steps, watcher) = noting();
    let mut second = agent_of("worker-2", &api, &machine, folder.path(), Some(watcher)).await;
    let says =
        |facts: &Facts| facts.source_trouble.as_ref().is_some_and(|why| why.contains("no Node `worker-2`"));
    second.until("the Node is missed", WITHIN, |facts| says(facts) && !facts.synced).await;
    in_sync_after(&mut second, 0).await;
    api.put(OTHER, worker());
    let state = api.wait_for(OTHERS_STATE, |state| ready(state) == Some("True")).await;
    assert_eq!(owners(&state), [&uid(&api, OTHER)]);
    second.until("policies are known", WITHIN, |facts| facts.synced && facts.source_trouble.is_none()).await;
    assert!(steps.lock().unwrap().is_empty(), "{:?}", steps.lock().unwrap());
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 2);
    assert!(machine.node().violations().is_empty());
    second.stop().await;

    assert_eq!(api.get(STATE).as_ref(), Some(&old), "it belongs to the old Node and goes with it");
    let touched = api.requests("worker-1").into_iter().filter(|(method, _)| method != "GET").count();
    assert_eq!(touched, api.history(STATE).len(), "only the first agent has written it");
}
