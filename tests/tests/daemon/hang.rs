//! A step that does not return degrades the port that it is on, and nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};

use portwright::daemon::facts::Facts;
use portwright::daemon::turn::{Handle, Request, Turn};
use portwright_core::desired::{Vlan, VlanProtocol};
use portwright_core::ovs::Ovs;
use portwright_core::sim::Event;
use portwright_core::{Object, PciAddress, Step, VfRef};
use portwright_host::deadline::Deadline;
use portwright_tests::agents::{Agent, Machine, Start, in_sync, wish};
use portwright_tests::kubelet::{Answer, Kubelet, Pod, Resource};
use tokio::sync::watch;

use crate::pools::{on_disk, request};
use crate::rig::{POLICY, WITHIN, in_sync_after, machine, pf, sequence, settings, source, vf};

/// What is wanted of the second port, and of a bridge on no port.
const OTHERS: &str = "
---
apiVersion: portwright.dev/v1alpha1
kind: NodePolicy
metadata: {name: others}
spec:
  nics:
  - select: {addresses: ['0000:3b:00.1']}
    vfs: 2
    vfGroups:
    - {vfs: '0-1', pool: other, driver: kernel, vlan: {id: 200}}
  bridges:
  - {name: br-data, datapath: netdev, options: {mcastSnooping: true}}
";

/// Keeps steps on one port from returning.
#[derive(Clone, Default)]
struct Hang(Arc<(Mutex<Option<PciAddress>>, Condvar)>);

impl Hang {
    /// From now on, or no more.
    fn set(&self, port: Option<PciAddress>) {
        *self.0.0.lock().unwrap() = port;
        self.0.1.notify_all();
    }

    fn watcher(&self) -> portwright_tests::agents::Watcher {
        let hang = self.clone();
        Arc::new(move |step: Option<&Step>| {
            let Some(port) = step.and_then(|step| step.object.pf()) else { return };
            let hangs = hang.0.0.lock().unwrap();
            let limit = std::time::Duration::from_secs(30);
            let (mut hangs, waited) =
                hang.0.1.wait_timeout_while(hangs, limit, |hangs| *hangs == Some(port)).unwrap();
            if waited.timed_out() {
                // A test that has failed is over.
                *hangs = None;
            }
        })
    }
}

/// An agent whose first port has a step that hangs, everything else being as wanted. Somebody has removed its VFs.
async fn hanging(machine: &Machine, agent: &mut Agent, hang: &Hang) -> Arc<Facts> {
    in_sync_after(agent, 0).await;
    hang.set(Some(pf(0)));
    machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().vfs.clear();
    agent.wake();
    agent.until("a step is under way", WITHIN, |facts| facts.acting.contains(&Object::Pci(pf(0)))).await
}

fn set_vlan(machine: &Machine, vf: VfRef, id: u16) {
    let vlan = Vlan { id, qos: 0, protocol: VlanProtocol::Dot1q };
    machine.node().kernel.pfs.get_mut(&vf.pf).unwrap().vfs.get_mut(&vf.index).unwrap().admin.vlan = vlan;
}

/// A VF of the second port.
fn other(index: u16) -> VfRef {
    VfRef { pf: pf(1), index }
}

fn vlan(machine: &Machine, vf: VfRef) -> u16 {
    machine.node().kernel.vf(vf).unwrap().admin.vlan.id
}

/// A node that has Open vSwitch too.
fn with_switch() -> Machine {
    let machine = machine();
    machine.node().kernel.ovs = Some(Ovs { settled: true, vswitchd: true.into(), ..Ovs::default() });
    machine
}

/// Whether nothing is left to do but on the first port.
fn others_in_sync(facts: &Facts) -> bool {
    facts.plan.steps.iter().all(|step| step.object.pf() == Some(pf(0))) && facts.plan.blocked.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_step_hangs_other_ports_and_bridges_are_put_right_and_told() {
    let (machine, folder, hang) = (with_switch(), tempfile::tempdir().unwrap(), Hang::default());
    let by_name = POLICY.replace("addresses: ['0000:3b:00.0']", "names: [ens0]");
    let documents = format!("{by_name}{OTHERS}");
    let (source, receiver) = source(&documents);
    let start = Start { watcher: Some(hang.watcher()), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    let facts = hanging(&machine, &mut agent, &hang).await;
    assert!(facts.running && facts.plan.steps.iter().any(|step| step.object == Object::Vf(vf(0))));
    let planned = facts.plan.steps.clone();
    // As some drivers have it half-way.
    let rename = |name: &str| {
        machine.node().kernel.pfs.get_mut(&pf(0)).unwrap().netdev.as_mut().unwrap().name = name.to_owned();
    };
    rename("eth0");

    // Drift of the other port, and of the bridge.
    set_vlan(&machine, other(1), 9);
    machine.node().kernel.ovs.as_mut().unwrap().bridges[0].mcast_snooping = false;
    agent.wake();
    let heard = agent.has_heard();
    let right = |facts: &Facts| heard(facts) && others_in_sync(facts);
    let facts = agent.until("the others are put right", WITHIN, right).await;
    assert_eq!(vlan(&machine, other(1)), 200);
    assert!(machine.node().kernel.ovs.as_ref().unwrap().bridges[0].mcast_snooping);
    assert!(facts.acting.contains(&Object::Pci(pf(0))), "the first port's step still hangs");
    assert_eq!(facts.plan.steps, planned, "and nothing else is said of it: {:?}", facts.plan.blocked);
    // What was done meanwhile is in the last run already.
    let run = facts.last_run.clone().unwrap();
    assert!(run.steps.iter().any(|report| report.step.object == Object::Vf(other(1))), "{run:?}");

    // Another policy for the other port is followed at once.
    source.send_replace(wish(&documents.replace("id: 200", "id: 201")));
    let changed = |facts: &Facts| others_in_sync(facts) && vlan(&machine, other(0)) == 201;
    let facts = agent.until("the new policy is followed", WITHIN, changed).await;
    assert!(facts.running);

    rename("ens0");
    hang.set(None);
    agent.until("all is in sync", WITHIN, in_sync).await;
    assert_eq!([vf(0), vf(1), other(0), other(1)].map(|vf| vlan(&machine, vf)), [100, 100, 201, 201]);
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_step_hangs_devices_of_other_ports_are_put_in_order_and_handed_out() {
    let (machine, folder, hang) = (with_switch(), tempfile::tempdir().unwrap(), Hang::default());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let (_source, receiver) = source(&format!("{POLICY}{OTHERS}"));
    let start = Start { watcher: Some(hang.watcher()), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    let shows =
        |count: usize| move |resource: &Resource| resource.connected && resource.devices.len() == count;
    kubelet.wait("portwright.dev/net", WITHIN, shows(2)).await.unwrap();
    hanging(&machine, &mut agent, &hang).await;
    // None of the port's VFs is given away while steps are on it.
    kubelet.wait("portwright.dev/net", WITHIN, shows(0)).await.unwrap();
    kubelet.wait("portwright.dev/other", WITHIN, shows(2)).await.unwrap();

    // A pod lets go of a VF, whose netdev is as it was there, and kubelet hands it out again at once.
    machine.node().happen(&Event::NetdevLeaves(other(0), "pod".to_owned()));
    let before = sequence(&agent);
    agent.wake();
    let heard = agent.has_heard();
    agent.until("it is seen to be away", WITHIN, |facts| facts.sequence > before && heard(facts)).await;
    machine.node().happen(&Event::NetdevReturns(other(0)));
    let id = machine.node().kernel.vf(other(0)).unwrap().address.to_string();
    on_disk(folder.path(), &id, true);
    let mut client = kubelet.client("portwright.dev/other").await.unwrap();
    client.allocate(request(&id)).await.unwrap();
    let netdev = machine.node().kernel.vf(other(0)).unwrap().netdev.clone().unwrap();
    assert!(netdev.in_host() && netdev.name != "net1", "it was put in order first: {netdev:?}");
    assert!(agent.facts.borrow().running, "the step still hangs");

    hang.set(None);
    kubelet.wait("portwright.dev/net", WITHIN, shows(2)).await.unwrap();
    assert!(machine.node().violations().is_empty());
    agent.stop().await;
    kubelet.stop().await;
}

/// The cluster's end of the turn.
struct Places {
    request: watch::Receiver<Option<Request>>,
    turn: watch::Sender<Turn>,
}

impl Places {
    fn new() -> (Handle, Places) {
        let (request, wanted) = watch::channel(None);
        let (answer, turn) = watch::channel(Turn::Idle);
        (Handle { request, turn }, Places { request: wanted, turn: answer })
    }

    fn grant(&self, policies: &[&str]) {
        let policies = policies.iter().map(|policy| (*policy).to_owned()).collect();
        let until = Deadline::after(WITHIN * 10);
        self.turn.send_replace(Turn::Granted { until, policies, missing: None, evicting: None });
    }

    /// The policies that places are asked for.
    fn asked(&self) -> Vec<String> {
        self.request.borrow().iter().flat_map(|request| request.policies.keys().cloned()).collect()
    }

    async fn until_asked(&mut self, policies: &[&str]) {
        let same = |request: &Option<Request>| {
            request.iter().flat_map(|request| request.policies.keys()).eq(policies)
        };
        let waited = tokio::time::timeout(WITHIN, self.request.wait_for(same)).await.is_ok();
        assert!(waited, "{policies:?}: {:?}", self.asked());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_for_its_policy_and_is_not_put_at_stake_while_steps_rest_on_it() {
    let (machine, folder, hang) = (with_switch(), tempfile::tempdir().unwrap(), Hang::default());
    let documents = format!("{POLICY}{OTHERS}");
    let (source, receiver) = source(&documents);
    let (handle, mut places) = Places::new();
    places.grant(&["others", "workers"]);
    let start =
        Start { watcher: Some(hang.watcher()), turn: Some(handle), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    in_sync_after(&mut agent, 0).await;
    places.until_asked(&[]).await;
    places.turn.send_replace(Turn::Idle);

    // Making another number of VFs disrupts those that are there: that needs a place.
    let larger = documents.replace("vfs: 4", "vfs: 6");
    source.send_replace(wish(&larger));
    places.until_asked(&["workers"]).await;
    hang.set(Some(pf(0)));
    places.grant(&["workers"]);
    let on_first = |facts: &Facts| facts.acting.contains(&Object::Pci(pf(0)));
    agent.until("the first port's steps are under way", WITHIN, on_first).await;

    // Now the other policy needs a place, too. It waits, and is not even asked for.
    source.send_replace(wish(&larger.replace("vfs: 2", "vfs: 3")));
    let waits = |facts: &Facts| {
        let why = facts.waiting.get(&Object::Pci(pf(1)));
        why.is_some_and(|why| why == "waits for steps under way that hold this node's place")
    };
    let facts = agent.until("the other port waits", WITHIN, waits).await;
    assert!(facts.running, "{:?}", facts.waiting);
    assert_eq!(places.asked(), ["workers"]);

    // What has its place goes on first, although the policies have changed; then the other one is asked for.
    hang.set(None);
    places.until_asked(&["others"]).await;
    let counts = || [0, 1].map(|number| machine.node().kernel.pfs[&pf(number)].vfs.len());
    assert_eq!(counts(), [6, 2], "no place was given to the other port");
    places.grant(&["others"]);
    agent.until("all is in sync", WITHIN, in_sync).await;
    assert_eq!(counts(), [6, 3]);
    places.until_asked(&[]).await;
    assert!(machine.node().violations().is_empty());
    // The cluster is gone before the agent: nobody is left to give anything back to.
    drop(places);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_there_are_kept_and_nobody_is_evicted_without_one() {
    let (machine, folder, hang) = (with_switch(), tempfile::tempdir().unwrap(), Hang::default());
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let evicting = OTHERS.replace("spec:\n", "spec:\n  disruption: Evict\n");
    let documents = format!("{POLICY}{evicting}");
    let (source, receiver) = source(&documents);
    let (handle, mut places) = Places::new();
    places.grant(&["others", "workers"]);
    let start =
        Start { watcher: Some(hang.watcher()), turn: Some(handle), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    in_sync_after(&mut agent, 0).await;
    places.turn.send_replace(Turn::Idle);

    // A pod has a VF of the second port, and both ports are to have other numbers of VFs.
    let id = machine.node().kernel.vf(other(0)).unwrap().address.to_string();
    let pod = Pod {
        namespace: "default".to_owned(),
        name: "web-0".to_owned(),
        container: "c".to_owned(),
        resource: "portwright.dev/other".to_owned(),
        devices: vec![id],
    };
    kubelet.set_pods(Answer::Pods(vec![pod]));
    hang.set(Some(pf(0)));
    source.send_replace(wish(&documents.replace("vfs: 4", "vfs: 6").replace("vfs: 2", "vfs: 3")));
    places.until_asked(&["others", "workers"]).await;
    let evicts = |places: &Places| {
        places
            .request
            .borrow()
            .iter()
            .flat_map(|request| request.evict.values())
            .map(BTreeSet::len)
            .sum::<usize>()
    };
    assert_eq!(evicts(&places), 1);
    places.grant(&["others", "workers"]);
    let on_first = |facts: &Facts| facts.acting.contains(&Object::Pci(pf(0)));
    agent.until("the first port's steps are under way", WITHIN, on_first).await;
    let before = sequence(&agent);
    agent.wake();
    let heard = agent.has_heard();
    agent.until("it is thought again", WITHIN, |facts| facts.sequence > before && heard(facts)).await;
    assert_eq!((places.asked(), evicts(&places)), (vec!["others".to_owned(), "workers".to_owned()], 1));

    // The cluster takes the other policy's place away: nothing is done for it any more, and it is not asked for in the middle.
    places.grant(&["workers"]);
    places.until_asked(&["workers"]).await;
    assert_eq!(evicts(&places), 0, "nobody is evicted without a place");
    assert!(agent.facts.borrow().running);
    hang.set(None);
    places.until_asked(&["others"]).await;
    assert_eq!(evicts(&places), 1);
    assert!(machine.node().violations().is_empty());
    // The cluster is gone before the agent: nobody is left to give anything back to.
    drop(places);
    agent.stop().await;
    kubelet.stop().await;
}
