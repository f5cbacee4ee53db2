//! An agent whose node is nothing but a switch: real Open vSwitch, and no PFs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use portwright::daemon::hands::{Hands, Recalled};
use portwright::daemon::kube::Cluster;
use portwright::daemon::memory::Memory;
use portwright::daemon::start::{Base, Outfit};
use portwright::daemon::wish::Wish;
use portwright::node::{SwitchPart, seen_by};
use portwright::pools::PoolSource;
use portwright_core::drive::{Node, RunError};
use portwright_core::{Observed, PciAddress, Profiles, Step};
use portwright_device_plugin::{Paths, Registration};
use portwright_host::node::Supplement;
use portwright_host::root::Root;
use portwright_ovs::node::OvsError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node that is nothing but a switch.
struct OnlySwitch {
    switch: Arc<Mutex<SwitchPart>>,
    eye: portwright::node::eye::Eye,
    supplement: Supplement,
}

impl Node for OnlySwitch {
    type Error = OvsError;

    fn observe(&mut self) -> Result<Observed, OvsError> {
        let mut observed = Observed::default();
        (self.supplement)(&mut observed);
        Ok(observed)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<OvsError>> {
        self.run_together(std::slice::from_ref(step))
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        let mut switch = self.switch.lock().unwrap();
        let done = switch.run(steps);
        self.eye.keep(switch.look());
        done
    }
}

impl Hands for OnlySwitch {
    fn remember(&mut self, _: &Observed, _: std::collections::BTreeSet<PciAddress>) -> Result<(), String> {
        Ok(())
    }

    fn recall(&self) -> Recalled {
        Recalled::default()
    }

    fn hand(&self, _: std::collections::BTreeSet<PciAddress>) -> OnlySwitch {
        OnlySwitch {
            switch: Arc::clone(&self.switch),
            eye: self.eye.clone(),
            supplement: Arc::clone(&self.supplement),
        }
    }
}

/// A daemon for nothing but a switch.
fn outfit(folder: &Path, switch: &Arc<Mutex<SwitchPart>>, wish: watch::Receiver<Wish>) -> Outfit {
    Outfit {
        root: Root::new(folder),
        kubelet: Paths { folder: folder.join("kubelet") },
        registration: Registration::Legacy,
        use_cdi: false,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        pools: PoolSource::default(),
        profiles: Profiles::default(),
        memory: Memory::read(&folder.join("state")),
        wish: Some(wish),
        turn: None,
        observer: None,
        switch: Some(Arc::clone(switch)),
        vf_metrics: false,
        node: None,
        socket: None,
    }
}

/// Starts the agent of such a node.
pub fn start(
    folder: &Path,
    switch: &Arc<Mutex<SwitchPart>>,
    cluster: &Cluster,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let base = Base::new(outfit(folder, switch, cluster.wish()));
    let eye = base.eye().unwrap();
    let supplement = seen_by(eye.clone(), switch, base.supplement());
    let node = OnlySwitch { switch: Arc::clone(switch), eye, supplement };
    let stop = stop.clone();
    tokio::spawn(async move { base.run(node, &stop).await.unwrap() })
}
