//! The node as a whole: kernel and Open vSwitch, which do not know each other, as one [`Node`].

mod gone;
mod switch;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::drive::{Node, RunError};
use portwright_core::ovs::{MirrorHealth, Target};
use portwright_core::{Change, Observed, Step};
use portwright_host::node::{HostNode, Supplement};
use portwright_host::run::HostError;
use portwright_ovs::node::{OvsError, Watch};
use portwright_ovs::ovsdb::Remote;

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
}

impl WholeNode {
    /// Joins the two, and `pods` says who has which VF. What OVSDB says is a part of every observation, also of those that are made right before a disruptive
    /// step: the management path may run over a bridge.
    pub fn new(mut host: HostNode, switch: SwitchPart, mut pods: Supplement) -> WholeNode {
        let switch = Arc::new(Mutex::new(switch));
        let shared = Arc::clone(&switch);
        host.set_supplement(Box::new(move |observed| {
            locked(&shared).supplement(observed);
            pods(observed);
        }));
        WholeNode { host, switch }
    }

    /// As [`SwitchPart::watch`].
    pub fn watch_switch(&self) -> Option<Watch> {
        locked(&self.switch).watch()
    }

    /// As [`SwitchPart::mirror_health`].
    pub fn mirror_health(&self, observed: &Observed) -> BTreeMap<Target, MirrorHealth> {
        locked(&self.switch).mirror_health(observed)
    }

    fn on_switch(&mut self, steps: &[Step]) -> Result<(), RunError<NodeError>> {
        locked(&self.switch).run(steps).map_err(|error| wrap(error, NodeError::Ovs))
    }
}

/// A panic elsewhere leaves nothing half-done in there.
fn locked(switch: &Mutex<SwitchPart>) -> MutexGuard<'_, SwitchPart> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
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
