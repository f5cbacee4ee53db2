//! A simulated node with two ports, its agent, and a kubelet.

use std::path::Path;
use std::time::Duration;

use portwright::daemon::wish::Wish;
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::{PciAddress, Profiles, VfRef};
use portwright_tests::agents::{Agent, Machine, Start, in_sync, wish};
use tokio::sync::watch;

/// How long anything may take.
pub const WITHIN: Duration = Duration::from_secs(20);

/// What the tests want of the first port.
pub const POLICY: &str = "
apiVersion: portwright.dev/v1alpha1
kind: NodePolicy
metadata: {name: workers}
spec:
  nics:
  - select: {addresses: ['0000:3b:00.0']}
    vfs: 4
    vfGroups:
    - {vfs: '0-1', pool: net, driver: kernel, trust: true, vlan: {id: 100}}
    - {vfs: '2-3', pool: dpdk, driver: vfio-pci}
";

/// The address of a port.
pub fn pf(number: usize) -> PciAddress {
    ["0000:3b:00.0", "0000:3b:00.1"][number].parse().unwrap()
}

/// A VF of the first port.
pub fn vf(index: u16) -> VfRef {
    VfRef { pf: pf(0), index }
}

/// A node with two ports as after boot.
pub fn machine() -> Machine {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    for number in 0..2 {
        kernel.pfs.insert(pf(number), SimPf::new(pf(number), Family::Ice, 8, &format!("ens{number}")));
    }
    Machine::new(SimNode::new(kernel))
}

/// The wish as a source that a test may change.
pub fn source(documents: &str) -> (watch::Sender<Wish>, watch::Receiver<Wish>) {
    watch::channel(wish(documents))
}

/// Starts an agent.
pub fn start(machine: &Machine, folder: &Path, wish: watch::Receiver<Wish>) -> Agent {
    Agent::start(machine, settings(folder, wish))
}

/// What an agent is started with.
pub fn settings(folder: &Path, wish: watch::Receiver<Wish>) -> Start<'_> {
    Start { folder, profiles: Profiles::default(), wish, turn: None, cluster: None, watcher: None }
}

/// Waits until all is as wanted, by facts that are newer than these.
pub async fn in_sync_after(agent: &mut Agent, sequence: u64) {
    let heard = agent.has_heard();
    agent.until("in sync", WITHIN, |facts| facts.sequence > sequence && heard(facts) && in_sync(facts)).await;
}

/// The number of the last facts.
pub fn sequence(agent: &Agent) -> u64 {
    agent.facts.borrow().sequence
}
