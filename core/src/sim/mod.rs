//! A simulated node: kernel behaviour without a kernel.
//!
//! It knows the rules that hurt in the field (`sriov_numvfs` refuses to go from one number to another, an autoprobe of 0
//! makes binds do nothing, attributes are lost when VFs are made again, a write blocks while VFIO holds a VF, a netdev
//! comes back from a pod with the pod's name), and it can break at any single write: crash, vanish, enable too little.
//! What must never happen on a real node is recorded as a [`Violation`] instead of happening.
//!
//! The lab VM keeps it honest: the same steps run on both and what is observed afterwards is compared.
//!
//! - [`state`]: what the node is made of; [`family`]: how NIC families differ, as data
//! - `kernel`: single writes, with the kernel's rules
//! - `run`: steps as sequences of such writes; `check`: what is looked at before a step
//! - `view`: the node as [`Observed`]; `import`: the way back
//! - [`event`]: what happens meanwhile

mod check;
pub mod event;
pub mod family;
mod import;
mod kernel;
mod run;
pub mod state;
mod view;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{Event, Schedule};
pub use family::Family;
pub use state::{Kernel, SimNetdev, SimPf, SimVf, StateDir};
pub use violation::Violation;

use crate::drive::{Node, RunError};
use crate::id::{PciAddress, VfRef};
use crate::observed::{Observed, RememberedVf};
use crate::step::Step;

/// Why the simulated kernel refuses a write, by its errno names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Errno {
    /// Device or resource busy.
    #[error("EBUSY")]
    Busy,
    /// No such file: the device is gone, or its driver has no such callback.
    #[error("ENOENT")]
    NoEntry,
    /// No such device.
    #[error("ENODEV")]
    NoDevice,
    /// Result out of range.
    #[error("ERANGE")]
    Range,
    /// Invalid argument.
    #[error("EINVAL")]
    Invalid,
    /// Operation not supported.
    #[error("EOPNOTSUPP")]
    NotSupported,
    /// File exists.
    #[error("EEXIST")]
    Exists,
    /// No space left on device: interrupt vectors, for example.
    #[error("ENOSPC")]
    NoSpace,
    /// The write does not return. No errno; a watchdog would say so.
    #[error("the write does not return")]
    Blocks,
}

/// How something on the simulated node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// The agent was killed. Nothing more happens until [`SimNode::restart`].
    #[error("the agent was killed")]
    Crashed,
    /// The kernel refused a write.
    #[error("{what}")]
    Refused {
        /// Which write.
        what: String,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
    /// A write succeeded and the kernel shows something else.
    #[error("{what} was accepted and is {found}")]
    NotReadBack {
        /// Which write.
        what: String,
        /// What is there.
        found: String,
    },
}

/// A node that can be observed and changed like a real one.
#[derive(Debug, Clone)]
pub struct SimNode {
    /// The kernel's state: survives a crash of the agent.
    pub kernel: Kernel,
    /// The agent's state directory: survives a crash as well.
    pub state_dir: StateDir,
    /// What will happen meanwhile.
    pub schedule: Schedule,
    /// Writes made so far.
    pub writes: u32,
    /// Steps started so far.
    pub steps: u32,
    crashed: bool,
    violations: Vec<Violation>,
    /// VFs that were in use when the node was last observed, and whether in a way that even `Force` respects.
    known_in_use: BTreeMap<VfRef, bool>,
    /// The largest interface index when the node was last observed: what has a larger one nobody has planned with.
    known_ifindex: u32,
}

impl SimNode {
    /// A node in the given state.
    pub fn new(kernel: Kernel) -> SimNode {
        SimNode {
            kernel,
            state_dir: StateDir::default(),
            schedule: Schedule::default(),
            writes: 0,
            steps: 0,
            crashed: false,
            violations: Vec::new(),
            known_in_use: BTreeMap::new(),
            known_ifindex: u32::MAX,
        }
    }

    /// A node that looks like an observed one, for calibration and for running the plans of fixtures.
    pub fn from_observed(observed: &Observed) -> SimNode {
        let mut node = SimNode::new(import::kernel(observed));
        node.state_dir = import::state_dir(observed);
        node
    }

    /// What happened that must never happen.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether the agent was killed and not started again.
    pub fn crashed(&self) -> bool {
        self.crashed
    }

    /// Starts the agent again after a crash. Kernel and state directory are as the crash left them.
    pub fn restart(&mut self) {
        self.crashed = false;
    }

    /// What the agent does when a plan has come out empty: it writes down what idle VFs look like, so that they can be
    /// made to look so again after a pod had them.
    pub fn remember(&mut self) {
        let mut remembered: BTreeMap<VfRef, RememberedVf> = BTreeMap::new();
        for (address, pf) in &self.kernel.pfs {
            for (index, vf) in &pf.vfs {
                let reference = VfRef { pf: *address, index: *index };
                let idle = !self.kernel.in_use(reference);
                let now = vf.netdev.as_ref().filter(|netdev| idle && netdev.in_host());
                let entry = match now {
                    Some(netdev) => Some(RememberedVf {
                        name: netdev.name.clone(),
                        mac: Some(netdev.mac),
                        mtu: Some(netdev.mtu),
                        away: false,
                    }),
                    None => self.state_dir.remembered.get(&reference).filter(|_| !idle).cloned(),
                };
                if let Some(entry) = entry {
                    remembered.insert(reference, entry);
                }
            }
        }
        self.state_dir.remembered = remembered;
    }

    /// PFs whose `sriov_drivers_autoprobe` is not what it was before we changed it.
    pub fn autoprobe_not_restored(&self) -> BTreeSet<PciAddress> {
        let differs = |(address, saved): (&PciAddress, &bool)| {
            self.kernel.pfs.get(address).is_some_and(|pf| pf.present && pf.autoprobe != *saved)
        };
        self.state_dir.saved_autoprobe.iter().filter(|entry| differs(*entry)).map(|(pf, _)| *pf).collect()
    }

    fn violate(&mut self, violation: Violation) {
        self.violations.push(violation);
    }
}

impl Node for SimNode {
    type Error = SimError;

    fn observe(&mut self) -> Result<Observed, SimError> {
        if self.crashed {
            return Err(SimError::Crashed);
        }
        self.kernel.late_netdevs_arrive();
        self.known_ifindex = self.kernel.next_ifindex.max(1000);
        let used = self.kernel.vfs().filter(|vf| self.kernel.in_use(*vf));
        self.known_in_use = used.map(|vf| (vf, !self.kernel.yields_to_force(vf))).collect();
        Ok(view::observed(&self.kernel, &self.state_dir))
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<SimError>> {
        if self.crashed {
            return Err(RunError::Failed(SimError::Crashed));
        }
        self.steps = self.steps.saturating_add(1);
        for event in self.schedule.at_step(self.steps) {
            self.happen(&event);
        }
        self.check(step)?;
        self.carry_out(step).map_err(RunError::Failed)
    }
}
