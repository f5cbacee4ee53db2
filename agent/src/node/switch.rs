//! Open vSwitch as a part of the node: what is added to an observation, and how steps reach it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portwright_core::drive::{RunError, chain};
use portwright_core::observed::Problem;
use portwright_core::ovs::{Mirror, MirrorWatch, Ovs, Target};
use portwright_core::{Observed, Step};
use portwright_host::deadline::Stopwatch;
use portwright_host::root::Root;
use portwright_ovs::liveness::Liveness;
use portwright_ovs::node::{OvsError, OvsNode, Probed, Watch};
use portwright_ovs::ovsdb::Remote;

use super::eye::Look;
use super::gone::{Gone, Keeping};
use super::taps;

/// The virtual switch of a node, if one may be there.
#[derive(Debug)]
pub struct SwitchPart {
    node: Option<OvsNode>,
    remote: Option<Remote>,
    gone: Memory,
    mirrors: MirrorWatch,
    clock: Stopwatch,
}

/// What is remembered of ports whose interface is gone. It is asked also while the switch itself is busy.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Gone>>);

impl Memory {
    /// Adds what a look at the switch gave to an observation of the kernel.
    pub(super) fn add(&self, look: Look, observed: &mut Observed) {
        match look {
            Look::Absent => {}
            Look::Unreachable { why } => {
                observed.problems.push(Problem { object: Target::Switch.object(), reason: why });
            }
            Look::There { mut ovs, vswitchd } => {
                let dead = dead(vswitchd, &ovs, observed);
                self.0.lock().unwrap_or_else(PoisonError::into_inner).mark(&mut ovs, observed, &dead);
                observed.ovs = Some(*ovs);
            }
        }
    }
}

impl SwitchPart {
    /// A switch whose database is at `remote`; none on a tree that is not the running host.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(
        remote: Option<Remote>,
        within: Duration,
        state_dir: &Path,
        keeping: Keeping,
    ) -> Result<SwitchPart, OvsError> {
        let node = remote.clone().map(|remote| OvsNode::new(remote, within)).transpose()?;
        let gone = Memory(Arc::new(Mutex::new(Gone::new(state_dir, keeping))));
        Ok(SwitchPart { node, remote, gone, mirrors: MirrorWatch::default(), clock: Stopwatch::start() })
    }

    /// Adds what OVSDB says to an observation of the kernel.
    pub fn supplement(&mut self, observed: &mut Observed) {
        let look = self.look();
        self.gone.add(look, observed);
    }

    pub(super) fn memory(&self) -> Memory {
        self.gone.clone()
    }

    /// Looks at the switch. Mirrors are as they were judged last.
    pub fn look(&mut self) -> Look {
        let Some(node) = &mut self.node else { return Look::Absent };
        let seen = node.observe();
        let mut look = Look::of(seen, node.vswitchd_pid());
        if let Look::There { ovs, .. } = &mut look {
            self.mirrors.note(ovs);
        }
        look
    }

    /// Looks at the switch, and judges how our mirrors fare by comparing their counters with those of earlier calls. Only reads, and can
    /// be called at any rate; a mirror that does not copy is told after three looks, each six seconds or more after the one before.
    pub fn look_and_judge(&mut self) -> Look {
        let mut look = self.look();
        if let Look::There { ovs, .. } = &mut look {
            // Counters change by themselves: what is kept and compared is without them.
            let mut counted = (**ovs).clone();
            counted.bridges.iter_mut().for_each(|bridge| bridge.mirrors.retain(is_ours));
            self.count(&mut counted);
            self.mirrors.judge(&counted, self.clock.elapsed());
            self.mirrors.note(ovs);
        }
        look
    }

    /// The database's address, if there may be a switch.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Fills in what is counted about mirrors, for those who show it. Only reads; what cannot be read stays unknown.
    pub fn count(&mut self, ovs: &mut Ovs) {
        let Some(node) = &mut self.node else { return };
        if let Err(error) = node.count(ovs) {
            tracing::debug!(error = chain(&error), "counters of mirrors were not read");
        }
    }

    /// Tells when it is worth looking at the switch again; none if there is no switch to look at. The watch may be awaited in any runtime.
    pub fn watch(&self) -> Option<Watch> {
        self.node.as_ref().map(OvsNode::watch)
    }

    /// Carries out steps of one bridge.
    ///
    /// # Errors
    /// As [`OvsNode::run`].
    pub fn run(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        match &mut self.node {
            Some(node) => node.run(steps),
            None => {
                let step = steps.first().map(ToString::to_string).unwrap_or_default();
                Err(RunError::Failed(OvsError::Misplaced { step }))
            }
        }
    }

    /// Has ovs-vswitchd show of every mirror of ours whether it works; none if there is no switch to ask. This empties their counters,
    /// so only an operator asks for it.
    ///
    /// # Errors
    /// As [`OvsNode::probe`].
    pub fn probe(&mut self) -> Option<Result<Vec<Probed>, OvsError>> {
        self.node.as_mut().map(OvsNode::probe)
    }

    /// Asks both daemons whether they are alive; none if there is no switch to ask.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn ping(&mut self) -> Option<Result<Liveness, OvsError>> {
        self.node.as_mut().map(OvsNode::ping)
    }
}

/// Whether a mirror carries our owner key: how others' mirrors fare is their business.
pub(super) fn is_ours(mirror: &Mirror) -> bool {
    mirror.owner().is_some()
}

/// Internal ports that have lost their device. ovs-vswitchd's files are looked at only if some port is not where it was made.
fn dead(vswitchd: Option<u32>, ovs: &Ovs, observed: &Observed) -> BTreeSet<String> {
    let away = taps::away(ovs, observed);
    if away.is_empty() {
        return away;
    }
    let open = vswitchd.and_then(|pid| taps::open(&Root::new("/"), pid));
    open.map(|open| taps::dead(&away, &open)).unwrap_or_default()
}
