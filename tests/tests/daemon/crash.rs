//! The agent is killed at two hundred moments of its work, while policies change, ports fail and vanish, pods come and go and
//! are evicted. What is left each time is a safe place to stop: in the end all is as wanted, no Lease is held, the node takes
//! pods, and no pod has lost its VF.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use portwright_core::Step;
use portwright_core::desired::{Vlan, VlanProtocol};
use portwright_core::sim::{Errno, Event};
use portwright_tests::agents::{Machine, Watcher, in_sync};
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{NODE, POLICY, agent, api, policy};
use crate::rig::{WITHIN, machine, pf, vf};

const KILLS: u64 = 200;
/// How long an agent may live before it is killed at the latest.
const LIFE: Duration = Duration::from_millis(300);
const SEED: u64 = 0x5eed;

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Ends the writes of the simulated agent before its step of a number, and says so.
fn killer(machine: &Machine, before: u64, dead: Sender<()>) -> Watcher {
    let (machine, steps) = (machine.clone(), AtomicU64::new(0));
    Arc::new(move |step: Option<&Step>| {
        if step.is_some() && steps.fetch_add(1, Ordering::SeqCst) == before {
            machine.node().happen(&Event::Crash);
            dead.send(()).ok();
        }
    })
}

#[test]
fn two_hundred_kills_leave_nothing_behind() {
    let world = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (machine, folder) = (machine(), tempfile::tempdir().unwrap());
    let api = world.block_on(api());
    let mut numbers = Numbers(SEED);
    let mut killed_at_a_step = 0;
    for _ in 0..KILLS {
        disturb(&machine, &api, &mut numbers);
        let disruption = ["Evict", "WhenIdle", "Evict", "Never"][usize::try_from(numbers.below(4)).unwrap()];
        let mut wanted = policy(2 + u16::try_from(numbers.below(5)).unwrap(), disruption);
        // There is always something to do on the second port.
        let second = json!({"select": {"addresses": ["0000:3b:00.1"]}, "vfs": numbers.below(4), "mtu": 1500 + numbers.below(9)});
        wanted["spec"]["nics"].as_array_mut().unwrap().push(second);
        api.put(POLICY, wanted);
        let (dead, killed) = channel();
        let watcher = killer(&machine, numbers.below(3) * numbers.below(3), dead);
        let life = runtime();
        let running = life.block_on(agent(&api, &machine, folder.path(), Some(watcher)));
        killed_at_a_step += u64::from(killed.recv_timeout(LIFE).is_ok());
        // As SIGKILL: no task gets to do anything more.
        life.shutdown_background();
        drop(running);
        machine.node().restart();
    }
    assert!(
        killed_at_a_step >= KILLS.div_euclid(2),
        "only {killed_at_a_step} kills hit a step: this shows little"
    );
    settle(&machine, &api);
    api.put(POLICY, policy(3, "Evict"));
    let life = runtime();
    life.block_on(async {
        let mut running = agent(&api, &machine, folder.path(), None).await;
        let all = |facts: &portwright::daemon::facts::Facts| {
            in_sync(facts) && facts.observed.pfs.iter().any(|pf| pf.vfs.len() == 3)
        };
        running.until("all is as wanted", WITHIN, all).await;
        api.wait_for(NODE, |node| node.pointer("/spec/unschedulable").is_none_or(|value| value != true))
            .await;
        running.stop().await;
    });
    let held = api.list("/apis/coordination.k8s.io/v1/namespaces/portwright/leases");
    let held: Vec<&Value> = held
        .iter()
        .filter(|lease| lease.pointer("/spec/holderIdentity").is_some_and(|who| who == "worker-1"))
        .collect();
    assert!(held.is_empty(), "{held:?}");
    let node = machine.node();
    assert!(node.violations().is_empty(), "{:?}", node.violations());
    assert!(node.autoprobe_not_restored().is_empty(), "{:?}", node.autoprobe_not_restored());
}

/// Lets something happen to the node, the policy or the pods.
fn disturb(machine: &Machine, api: &ApiServer, numbers: &mut Numbers) {
    free_what_was_evicted(machine, api);
    let index = u16::try_from(numbers.below(3)).unwrap();
    let mut node = machine.node();
    match numbers.below(8) {
        0 | 1 => {
            let disruption =
                ["Evict", "WhenIdle", "Evict", "Never"][usize::try_from(numbers.below(4)).unwrap()];
            api.put(POLICY, policy(2 + u16::try_from(numbers.below(5)).unwrap(), disruption));
        }
        2 => {
            let pod = format!("web-{index}");
            if node.kernel.vf(vf(index)).is_some() && !node.kernel.in_use(vf(index)) {
                api.put(&path(&pod), json!({"kind": "Pod", "spec": {"nodeName": "worker-1"}}));
                node.happen(&Event::Allocated(vf(index), pod));
            }
        }
        3 => {
            api.delete(&path(&format!("web-{index}")));
        }
        4 => node.happen(&Event::NumVfsFails(pf(0), Errno::NoSpace)),
        5 => {
            let in_use = (0..8).any(|index| node.kernel.in_use(vf(index)));
            if !in_use {
                node.happen(&Event::PfVanishes(pf(0)));
                node.happen(&Event::PfReturns(pf(0)));
            }
        }
        6 => {
            if let Some(vf) = node.kernel.pfs.get_mut(&pf(0)).and_then(|pf| pf.vfs.get_mut(&index)) {
                vf.admin.vlan = Vlan { id: 9, qos: 0, protocol: VlanProtocol::Dot1q };
            }
        }
        _ => node.happen(&Event::LateNetdevs(pf(0), 2)),
    }
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{pod}")
}

/// kubelet takes the VFs of pods that are gone back.
fn free_what_was_evicted(machine: &Machine, api: &ApiServer) {
    for index in 0..3 {
        if api.get(&path(&format!("web-{index}"))).is_none() {
            machine.node().happen(&Event::Freed(vf(index)));
        }
    }
}

fn settle(machine: &Machine, api: &ApiServer) {
    for index in 0..3 {
        api.delete(&path(&format!("web-{index}")));
    }
    free_what_was_evicted(machine, api);
}
