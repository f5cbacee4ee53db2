//! The writer processes of a node, one per PF, and what became of their writes. Everybody who works on the node at the same
//! time shares one crew, so that nobody takes another's writer for a stranger's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portwright_core::PciAddress;
use portwright_core::drive::chain;

use crate::child::{ChildError, Claim, Command, Refusal, Writer, busy};
use crate::deadline::Deadline;
use crate::root::Root;
use crate::run::HostError;
use crate::stuck;

/// Writers and the ports that somebody is on.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// Writers that wait for work.
    idle: BTreeMap<PciAddress, Writer>,
    /// PFs whose writer is at work.
    at_work: BTreeSet<PciAddress>,
    /// Writers that have not returned.
    stuck: BTreeMap<PciAddress, (Writer, String)>,
    /// PFs that steps are being carried out on, beside whatever else is done.
    pub(super) worked_on: BTreeSet<PciAddress>,
}

impl Crew {
    /// The writer of a PF, if there is one that waits for work. It is at work from now on, also one that has to be started.
    pub(super) fn take(&mut self, pf: PciAddress) -> Option<Writer> {
        self.at_work.insert(pf);
        self.idle.remove(&pf)
    }

    /// No writer could be started.
    pub(super) fn not_started(&mut self, pf: PciAddress) {
        self.at_work.remove(&pf);
    }

    /// A writer has done its work, or not. One that has not returned makes its PF stuck.
    pub(super) fn give(
        &mut self,
        root: &Root,
        pf: PciAddress,
        writer: Writer,
        work: Work<'_>,
    ) -> Option<HostError> {
        self.at_work.remove(&pf);
        match work {
            Work { ended: Ok(()) | Err(ChildError::Refused { .. }), .. } => {
                self.idle.insert(pf, writer);
                None
            }
            Work { ended: Err(error @ ChildError::Stuck { .. }), command } => {
                let mut what = error.to_string();
                // The file is for other processes and later ones; this one knows by itself.
                if let Err(error) = stuck::mark(root, pf, writer.pid(), command.target()) {
                    what = format!("{what} ({})", chain(&error));
                }
                self.stuck.insert(pf, (writer, what.clone()));
                Some(HostError::Stuck { pf, what })
            }
            Work { ended: Err(ChildError::Start { .. } | ChildError::Ended { .. }), .. } => None,
        }
    }

    /// PFs whose writer is ours and has nothing to do, and that nobody but the asker works on.
    pub(super) fn at_rest(&self, mine: &BTreeSet<PciAddress>) -> BTreeSet<PciAddress> {
        let others = self.of_others(mine);
        self.idle.keys().filter(|pf| !others.contains(pf)).copied().collect()
    }

    /// PFs that somebody else than the asker works on.
    pub(super) fn of_others(&self, mine: &BTreeSet<PciAddress>) -> BTreeSet<PciAddress> {
        self.worked_on.difference(mine).copied().collect()
    }

    /// A PF on which a write has not returned, if there is one. The PF itself may have gone; its write still waits then.
    pub(super) fn any_stuck(&mut self, root: &Root) -> Option<(PciAddress, String)> {
        let mut pfs: BTreeSet<PciAddress> = self.stuck.keys().copied().collect();
        pfs.extend(stuck::marked(root));
        let known = pfs.into_iter().find_map(|pf| Some((pf, self.stuck(root, pf)?)));
        let ours: BTreeSet<PciAddress> = self.idle.keys().chain(&self.at_work).copied().collect();
        known.or_else(|| busy(root, &ours).into_iter().next())
    }

    /// Why a PF is stuck; a mark whose process has gone is taken away.
    pub(super) fn stuck(&mut self, root: &Root, pf: PciAddress) -> Option<String> {
        if let Some((writer, what)) = self.stuck.get_mut(&pf) {
            if !writer.has_ended() {
                return Some(what.clone());
            }
            self.stuck.remove(&pf);
        }
        match stuck::clear(root, pf) {
            Ok(true) => None,
            Ok(false) => stuck::look(root, pf),
            Err(error) => Some(chain(&error)),
        }
    }

    /// Waits until the write that a PF is stuck with has returned; whether it has.
    pub(super) fn wait_for_stuck(&mut self, root: &Root, pf: PciAddress, deadline: Deadline) -> bool {
        if let Some((writer, _)) = self.stuck.get_mut(&pf)
            && !writer.wait_for_end(deadline)
        {
            return false;
        }
        self.stuck(root, pf).is_none()
    }
}

/// What a writer was told to do, and how that ended.
pub(super) struct Work<'a> {
    /// What it was told.
    pub(super) command: &'a Command,
    /// How it ended.
    pub(super) ended: &'a Result<(), ChildError>,
}

/// The claim on a PF. A writer that does not give it up makes the PF stuck.
pub(super) fn claim(root: &Root, pf: PciAddress, within: Duration) -> Result<Claim, HostError> {
    match Claim::take(root, pf, within) {
        Ok(claim) => Ok(claim),
        Err(Refusal::File(source)) => Err(HostError::Claim { pf, source }),
        Err(Refusal::Held { pid }) => {
            let mut what = "a writer of an earlier agent has not ended".to_owned();
            if let Some(pid) = pid {
                what = format!("{what}: process {pid}");
                // The file is for other processes; this one knows by itself.
                stuck::mark(root, pf, pid, "a write of an earlier agent".to_owned())
                    .map(drop)
                    .unwrap_or_default();
            }
            Err(HostError::Stuck { pf, what })
        }
    }
}
