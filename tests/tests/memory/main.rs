//! An agent that runs for months needs no more memory than on its first day: it is driven through a thousand rounds in which
//! nothing has a name that it had before (pods, their namespaces, policies), and what it holds is counted byte by byte.
//!
//! This is a program of its own because it counts what the whole process holds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::alloc::System;
use std::time::Duration;

use portwright::daemon::facts::Cause;
use portwright::daemon::wish::Wish;
use portwright_core::desired::{Vlan, VlanProtocol};
use portwright_core::sim::{Event, Family, Kernel, SimNode, SimPf};
use portwright_core::{PciAddress, Profiles, VfRef};
use portwright_tests::agents::{Agent, Machine, Start, in_sync, wish};
use portwright_tests::kubelet::{Answer, Kubelet, Pod};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::watch;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WITHIN: Duration = Duration::from_secs(20);
/// After so many rounds everything that is made once is there.
const WARM: usize = 200;
const ROUNDS: usize = 1000;
/// What is compared is the least of so many rounds: messages that are under way are not what it holds.
const WINDOW: usize = 100;
/// In bytes. Names of another length, a table that was made anew; not a name for each round, which would be 30,000.
const NOISE: usize = 8 * 1024;

fn policy(name: usize) -> Wish {
    wish(&format!(
        "
apiVersion: portwright.dev/v1alpha1
kind: NodePolicy
metadata: {{name: workers-{name:06}}}
spec:
  nics:
  - select: {{drivers: [ice]}}
    vfs: 8
    vfGroups:
    - {{vfs: '0-3', pool: net, driver: kernel, trust: true, vlan: {{id: 100}}}}
    - {{vfs: '4-7', pool: dpdk, driver: vfio-pci}}
"
    ))
}

fn port(number: u8) -> PciAddress {
    PciAddress { bus: 0x3b, function: number, ..PciAddress::default() }
}

fn machine() -> Machine {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    for number in 0..2 {
        kernel.pfs.insert(port(number), SimPf::new(port(number), Family::Ice, 8, &format!("ens{number}")));
    }
    Machine::new(SimNode::new(kernel))
}

/// The world of the agent.
struct World {
    machine: Machine,
    kubelet: Kubelet,
    wish: watch::Sender<Wish>,
}

impl World {
    /// Something happens that did not happen before under this name.
    fn disturb(&self, round: usize) {
        let first = VfRef { pf: port(0), index: 0 };
        let mut node = self.machine.node();
        match round.rem_euclid(5) {
            0 => {
                let vfs = &mut node.kernel.pfs.get_mut(&port(0)).unwrap().vfs;
                vfs.get_mut(&1).unwrap().admin.vlan = Vlan { id: 7, qos: 0, protocol: VlanProtocol::Dot1q };
                let other = vfs.get_mut(&5).unwrap();
                (other.driver, other.driver_override) = (None, None);
            }
            1 => {
                let (pod, namespace) = (format!("web-{round:06}"), format!("netns-{round:06}"));
                node.happen(&Event::NetdevLeaves(first, namespace));
                let devices = vec![node.kernel.vf(first).unwrap().address.to_string()];
                let (namespace, resource) = ("default".to_owned(), "portwright.dev/net".to_owned());
                self.kubelet.set_pods(Answer::Pods(vec![Pod {
                    namespace,
                    name: pod,
                    container: "c".to_owned(),
                    resource,
                    devices,
                }]));
            }
            2 => {
                node.happen(&Event::NetdevReturns(first));
                self.kubelet.set_pods(Answer::default());
            }
            3 => {
                node.happen(&Event::PfVanishes(port(1)));
                node.happen(&Event::PfReturns(port(1)));
            }
            _ => drop(self.wish.send_replace(policy(round))),
        }
    }
}

/// What is held now.
fn held() -> usize {
    let counted = HEAP.stats();
    counted.bytes_allocated.saturating_sub(counted.bytes_deallocated)
}

#[tokio::test]
async fn a_thousand_rounds_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start(&folder.path().join("kubelet"), false).await.unwrap();
    let (wish, receiver) = watch::channel(policy(0));
    let world = World { machine: machine(), kubelet, wish };
    let start = Start {
        folder: folder.path(),
        profiles: Profiles::default(),
        wish: receiver,
        turn: None,
        cluster: None,
        watcher: None,
    };
    let mut agent = Agent::start(&world.machine, start);
    drop(agent.until("in sync", WITHIN, in_sync).await);
    let mut after = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        world.disturb(round);
        // As an operator would, or the second repair of a thing would be the last.
        let ticket = agent.wakes.wake(Cause::Asked);
        let what = format!("in sync after round {round}");
        drop(agent.until(&what, WITHIN, |facts| facts.heard >= ticket && in_sync(facts)).await);
        after.push(held());
    }
    assert!(world.machine.node().violations().is_empty());
    agent.stop().await;
    world.kubelet.stop().await;
    let least = |from: usize| after.iter().skip(from).take(WINDOW).min().copied().unwrap();
    let (early, late) = (least(WARM), least(ROUNDS - WINDOW));
    assert!(late <= early + NOISE, "{early} bytes were held after {WARM} rounds, {late} after {ROUNDS}");
}
