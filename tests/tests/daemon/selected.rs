//! What a policy may override, and a policy that stops to be for this node: in the middle of a run, or for a moment only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::source::Patience;
use portwright::daemon::facts::Facts;
use portwright::daemon::kube::Cluster;
use portwright::daemon::turn;
use portwright_core::sim::Event;
use portwright_core::{Change, Reason, Step};
use portwright_tests::agents::{Agent, Start, Watcher};
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{NODE, POD, POLICY, agent, agent_over, api, connection, outfit, pace, patience, policy};
use crate::rig::{WITHIN, in_sync_after, machine, pf, sequence, vf};

#[tokio::test(flavor = "multi_thread")]
async fn force_takes_a_vf_from_a_pod_and_evicts_nobody() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "WhenIdle"));
    let mut agent = agent(&api, &machine, folder.path(), None).await;
    in_sync_after(&mut agent, 0).await;
    api.put(POD, json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}}));
    machine.node().happen(&Event::Allocated(vf(0), "web-0".to_owned()));
    api.put(POLICY, policy(4, "WhenIdle"));
    let in_use = |facts: &Facts| facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::VfInUse);
    agent.until("the pod is in the way", WITHIN, in_use).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 2);

    let before = sequence(&agent);
    api.put(POLICY, policy(4, "Force"));
    in_sync_after(&mut agent, before).await;
    assert_eq!(machine.node().kernel.pfs[&pf(0)].vfs.len(), 4);
    assert!(api.get(POD).is_some() && api.requests("/eviction").is_empty(), "the pod stays, without its VF");
    assert!(machine.node().violations().is_empty(), "{:?}", machine.node().violations());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_longer_selected_stops_between_two_steps_and_releases_what_is_idle() {
    let (api, machine, folder) = (Arc::new(api().await), machine(), tempfile::tempdir().unwrap());
    api.put(POLICY, policy(2, "WhenIdle"));
    let stop = CancellationToken::new();
    let cluster = Cluster::new(connection("worker-1", &api).await, patience(), pace(), None, &stop);
    let (wish, steps, unselected) =
        (cluster.wish(), Arc::<Mutex<Vec<Step>>>::default(), Arc::new(AtomicBool::new(false)));
    let watcher: Watcher = {
        let (api, wish, steps, runtime) =
            (Arc::clone(&api), wish.clone(), Arc::clone(&steps), Handle::current());
        Arc::new(move |step: Option<&Step>| {
            let Some(step) = step.filter(|step| step.object.pf() == Some(pf(1))) else { return };
            steps.lock().unwrap().push(step.clone());
            if !unselected.swap(true, Ordering::SeqCst) {
                // The first step on the second port runs while the Node's label goes.
                api.put(NODE, json!({"kind": "Node", "metadata": {"labels": {}}, "status": {}}));
                let mut wish = wish.clone();
                runtime.block_on(async { wish.wait_for(|wish| wish.policies.is_empty()).await.unwrap() });
            }
        })
    };
    let start = Start { wish, cluster: Some(cluster), watcher: Some(watcher), ..outfit(folder.path()) };
    let mut agent = Agent::start_until(&machine, start, stop);
    in_sync_after(&mut agent, 0).await;
    machine.node().happen(&Event::Allocated(vf(0), "web-0".to_owned()));

    let mut both = policy(2, "WhenIdle");
    let second = json!({"select": {"addresses": ["0000:3b:00.1"]}, "vfs": 3,
        "vfGroups": [{"vfs": "0-2", "driver": "kernel", "trust": true}]});
    both["spec"]["nics"].as_array_mut().unwrap().push(second);
    api.put(POLICY, both);

    // The pod keeps its VF, and with it the port's VFs; the other port's, which nobody has, go.
    let releasing = |facts: &Facts| {
        let port = |number: usize| facts.observed.pfs.iter().find(|port| port.address == pf(number)).unwrap();
        let waits = facts.plan.blocked.iter().any(|blocked| blocked.reason == Reason::Releasing);
        facts.policies.is_empty() && waits && port(0).vfs.len() == 2 && port(1).vfs.is_empty()
    };
    agent.until("the first port waits for its pod", WITHIN, releasing).await;
    let done = steps.lock().unwrap().clone();
    let rest: Vec<&Step> =
        done.iter().filter(|step| matches!(step.change, Change::SetVfTrust { .. })).collect();
    assert!(!done.is_empty() && rest.is_empty(), "{done:#?}");

    machine.node().happen(&Event::Freed(vf(0)));
    agent.wake();
    let released = |_: &Facts| machine.node().kernel.pfs[&pf(0)].vfs.is_empty();
    agent.until("the first port is released", WITHIN, released).await;
    assert!(machine.node().violations().is_empty(), "{:?}", machine.node().violations());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_flicker_release_nothing_and_what_they_newly_select_acts_at_once() {
    let (api, machine, folder) = (api().await, machine(), tempfile::tempdir().unwrap());
    let mut other = policy(1, "WhenIdle");
    other["metadata"]["name"] = "others".into();
    other["spec"]["nodeSelector"] = json!({"matchLabels": {"role": "other"}});
    other["spec"]["nics"] = json!([{"select": {"addresses": ["0000:3b:00.1"]}, "vfs": 1}]);
    api.put(POLICY, policy(2, "WhenIdle"));
    api.put(&POLICY.replace("workers", "others"), other);
    let patience = Patience { doubt: Duration::from_secs(600), ..patience() };
    let connection = connection("worker-1", &api).await;
    let (pace, start) = ((patience, pace()), outfit(folder.path()));
    let mut agent = agent_over(connection, pace, turn::Settings::default(), &machine, start);
    in_sync_after(&mut agent, 0).await;
    let vfs = |number: usize| machine.node().kernel.pfs[&pf(number)].vfs.len();
    assert_eq!((vfs(0), vfs(1)), (2, 0));

    let labelled = |role: &str| json!({"kind": "Node", "metadata": {"labels": {"role": role}}, "status": {}});
    for role in ["other", "worker", "other"] {
        let before = sequence(&agent);
        api.put(NODE, labelled(role));
        let made = |facts: &Facts| facts.sequence > before && facts.policies.len() == 2 && vfs(1) == 1;
        agent.wake();
        agent.until("the other policy acts", WITHIN, made).await;
        in_sync_after(&mut agent, before).await;
        assert_eq!((vfs(0), vfs(1)), (2, 1), "nothing is removed while the labels say `{role}`");
    }
    assert!(machine.node().violations().is_empty(), "{:?}", machine.node().violations());
    agent.stop().await;
}
