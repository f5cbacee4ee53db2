//! The node as a whole: kernel and Open vSwitch, which do not know each other, as one [`Node`].

pub mod eye;
mod gone;
pub mod switch;
mod taps;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright_core::drive::{Node, RunError};
use portwright_core::{Change, Observed, PciAddress, Step};
use portwright_host::node::{HostNode, Supplement};
use portwright_host::run::HostError;
use portwright_ovs::node::OvsError;
use portwright_ovs::ovsdb::Remote;

use self::eye::{Eye, locked};
pub use self::gone::Keeping;
pub use self::switch::SwitchPart;
use crate::cli::Global;

/// Where ovsdb-server listens unless the operator says otherwise.
pub const DEFAULT_OVSDB: &str = "/run/openvswitch/db.sock";
/// How long a call to OVSDB may take unless the operator says otherwise.
pub const OVSDB_WITHIN: Duration = Duration::from_secs(10);

/// Why something of the node could not be observed or done.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is of the kernel.
    #[error(transparent)]
    Host(HostError),
    /// It is of Open vSwitch.
    #[error(transparent)]
    Ovs(OvsError),
}

impl NodeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            NodeError::Host(error) => error.hint(),
            NodeError::Ovs(error) => error.hint(),
        }
    }
}

/// The database's address: the one that was given; the usual one on the running host; none on a tree.
pub fn ovsdb(global: &Global) -> Option<Remote> {
    let usual = || (global.root == Path::new("/")).then(|| Remote::Unix(DEFAULT_OVSDB.into()));
    global.ovsdb.clone().or_else(usual)
}

/// The real node.
pub struct WholeNode {
    /// Kernel, netlink, devlink.
    pub host: HostNode,
    switch: Arc<Mutex<SwitchPart>>,
    /// Who looks at the switch; none if every observation does.
    eye: Option<Eye>,
}

impl WholeNode {
    /// Joins the two, and `pods` says who has which VF. What OVSDB says is a part of every observation, also of those that are
    /// made right before a disruptive step: the management path may run over a bridge.
    pub fn new(host: HostNode, switch: SwitchPart, pods: Supplement) -> WholeNode {
        WholeNode::with(host, Arc::new(Mutex::new(switch)), None, pods)
    }

    /// The same with a switch that others have too.
    pub fn with_shared(host: HostNode, switch: Arc<Mutex<SwitchPart>>, pods: Supplement) -> WholeNode {
        WholeNode::with(host, switch, None, pods)
    }

    /// The same, where an eye that is open looks at the switch.
    pub fn with_eye(host: HostNode, switch: Arc<Mutex<SwitchPart>>, eye: Eye, pods: Supplement) -> WholeNode {
        WholeNode::with(host, switch, Some(eye), pods)
    }

    fn with(
        mut host: HostNode,
        switch: Arc<Mutex<SwitchPart>>,
        eye: Option<Eye>,
        pods: Supplement,
    ) -> WholeNode {
        let (shared, seen) = (Arc::clone(&switch), eye.clone());
        let memory = locked(&switch).memory();
        host.set_supplement(Arc::new(move |observed: &mut Observed| {
            let look = seen.as_ref().map_or_else(|| locked(&shared).look(), Eye::last);
            memory.add(look, observed);
            pods(observed);
        }));
        WholeNode { host, switch, eye }
    }

    /// Another hand on the same node, as [`HostNode::hand`].
    pub fn hand(&self, ports: BTreeSet<PciAddress>) -> WholeNode {
        WholeNode { host: self.host.hand(ports), switch: Arc::clone(&self.switch), eye: self.eye.clone() }
    }

    fn on_switch(&mut self, steps: &[Step]) -> Result<(), RunError<NodeError>> {
        let mut switch = locked(&self.switch);
        let done = switch.run(steps).map_err(|error| wrap(error, NodeError::Ovs));
        if let Some(eye) = &self.eye {
            // What is observed next has to show what was done.
            eye.keep(switch.look());
        }
        done
    }
}

/// Adds what an open eye sees of the switch to each observation, before another supplement.
pub fn seen_by(eye: Eye, switch: &Mutex<SwitchPart>, further: Supplement) -> Supplement {
    let memory = locked(switch).memory();
    Arc::new(move |observed: &mut Observed| {
        memory.add(eye.last(), observed);
        further(observed);
    })
}

fn wrap<E: std::error::Error>(error: RunError<E>, wrap: fn(E) -> NodeError) -> RunError<NodeError> {
    match error {
        RunError::Stale { found } => RunError::Stale { found },
        RunError::Stopped { because } => RunError::Stopped { because },
        RunError::Failed(error) => RunError::Failed(wrap(error)),
    }
}

fn is_of_switch(step: &Step) -> bool {
    matches!(step.change, Change::Ovs { .. })
}

impl Node for WholeNode {
    type Error = NodeError;

    fn observe(&mut self) -> Result<Observed, NodeError> {
        self.host.observe().map_err(NodeError::Host)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<NodeError>> {
        if is_of_switch(step) {
            return self.on_switch(std::slice::from_ref(step));
        }
        self.host.run(step).map_err(|error| wrap(error, NodeError::Host))
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<NodeError>> {
        if steps.iter().all(is_of_switch) {
            return self.on_switch(steps);
        }
        steps.iter().try_for_each(|step| self.run(step))
    }
}
