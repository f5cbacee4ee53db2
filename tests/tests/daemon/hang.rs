//! A step that does not return degrades the port that it is on, and nothing else.

use std::sync::{Arc, Condvar, Mutex};

use portwright::daemon::facts::Facts;
use portwright_core::desired::{Vlan, VlanProtocol};
use portwright_core::ovs::Ovs;
use portwright_core::sim::Event;
use portwright_core::{Object, PciAddress, Step, VfRef};
use portwright_tests::agents::{Agent, Machine, Start, in_sync, wish};
use portwright_tests::kubelet::{Kubelet, Resource};

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
            drop(hang.0.1.wait_timeout_while(hangs, limit, |hangs| *hangs == Some(port)).unwrap());
        })
    }
}

/// An agent whose first port has a step that hangs, everything else being as wanted.
async fn hanging(machine: &Machine, agent: &mut Agent, hang: &Hang) -> Arc<Facts> {
    in_sync_after(agent, 0).await;
    hang.set(Some(pf(0)));
    set_vlan(machine, vf(0), 7);
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
    let documents = format!("{POLICY}{OTHERS}");
    let (source, receiver) = source(&documents);
    let start = Start { watcher: Some(hang.watcher()), ..settings(folder.path(), receiver) };
    let mut agent = Agent::start(&machine, start);
    let facts = hanging(&machine, &mut agent, &hang).await;
    assert!(facts.running && facts.plan.steps.iter().any(|step| step.object == Object::Vf(vf(0))));

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
    assert_eq!(vlan(&machine, vf(0)), 7);
    // What was done meanwhile is in the last run already.
    let run = facts.last_run.clone().unwrap();
    assert!(run.steps.iter().any(|report| report.step.object == Object::Vf(other(1))), "{run:?}");

    // More drift of the port itself changes nothing before its step returns.
    set_vlan(&machine, vf(1), 8);
    let before = sequence(&agent);
    agent.wake();
    let heard = agent.has_heard();
    let facts = agent.until("it is looked at", WITHIN, |facts| facts.sequence > before && heard(facts)).await;
    assert!(facts.running && facts.plan.steps.iter().all(|step| step.object == Object::Vf(vf(0))));

    // Another policy for the other port is followed at once.
    source.send_replace(wish(&documents.replace("id: 200", "id: 201")));
    let changed = |facts: &Facts| others_in_sync(facts) && vlan(&machine, other(0)) == 201;
    let facts = agent.until("the new policy is followed", WITHIN, changed).await;
    assert!(facts.running);

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
