//! The real node: [`Node`] over kernel, netlink and devlink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use portwright_core::drive::{Node, RunError};
use portwright_core::management::{ManagementPath, management_path};
use portwright_core::observed::{Pf, Problem};
use portwright_core::profile::Profile;
use portwright_core::{Change, Disruption, Object, Observed, PciAddress, Profiles, Step, VfRef};

use crate::child::{ChildError, Claim, Command, Launcher, Refusal, Writer, busy, claimed};
use crate::deadline::Deadline;
use crate::inventory::Observer;
use crate::journal::{Journal, JournalError};
use crate::lock::WriterLock;
use crate::root::Root;
use crate::run::{self, Checked, Done, HostError, Look};
use crate::stuck;

/// How long a write may take where the profile does not say.
const WRITE_WITHIN: Duration = Duration::from_secs(120);
/// How long a VF's netdev may take to appear where the profile does not say.
const NETDEV_WITHIN: Duration = Duration::from_secs(10);

/// How long carrier may take where the profile does not say.
const CARRIER_WITHIN: Duration = Duration::from_secs(5);
/// How long a writer that an earlier agent left behind may take to end before its PF counts as stuck.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(30);

/// Adds to an observation what the kernel does not know: pods, and what OVSDB says.
pub type Supplement = Box<dyn FnMut(&mut Observed) + Send>;

/// The node that the program runs on. Whoever has one is the node's only writer.
pub struct HostNode {
    observer: Observer,
    profiles: Profiles,
    launcher: Launcher,
    supplement: Option<Supplement>,
    pub(crate) journal: Journal,
    /// One writer process per PF, started when it is first needed.
    writers: BTreeMap<PciAddress, Writer>,
    /// Writers that have not returned.
    stuck: BTreeMap<PciAddress, (Writer, String)>,
    /// The node as last seen: the profile of a PF is found by what it is.
    seen: Observed,
    /// What the node was reached over when it was last observed: what was planned takes care of that.
    path: Option<ManagementPath>,
    /// PFs whose VFs were made since then. Nobody had them when the plan was made, and what they get belongs to it.
    fresh: BTreeSet<PciAddress>,
    /// The VF of the step before, with nobody on it or taken by force: its next step needs no look of its own.
    at: Option<VfRef>,
    _lock: WriterLock,
}

impl HostNode {
    /// Takes the node's lock and reads the journal in `state_dir`. Writers are started by `launcher`.
    pub fn open(
        root: Root,
        state_dir: impl Into<PathBuf>,
        profiles: Profiles,
        launcher: Launcher,
    ) -> Result<HostNode, HostError> {
        let lock = WriterLock::take(&root).map_err(|source| HostError::Lock { source })?;
        let state_dir = state_dir.into();
        // An agent that was killed may have left a write half-way. Nothing is looked at before that has ended.
        let deadline = Deadline::after(PREDECESSOR_WITHIN);
        for pf in claimed(&root) {
            match claim(&root, pf, deadline.remaining()) {
                // One that is stuck is that PF's trouble, and marked as such.
                Ok(_) | Err(HostError::Stuck { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let journal = Journal::read(&root, &state_dir);
        let live = root.is_host();
        Ok(HostNode {
            observer: Observer::new(root, live, state_dir),
            profiles,
            launcher,
            supplement: None,
            journal,
            writers: BTreeMap::new(),
            stuck: BTreeMap::new(),
            seen: Observed::default(),
            path: None,
            fresh: BTreeSet::new(),
            at: None,
            _lock: lock,
        })
    }

    /// Lets `supplement` add to each observation, also to those that are made right before a disruptive step.
    pub fn set_supplement(&mut self, supplement: Supplement) {
        self.supplement = Some(supplement);
    }

    /// The root.
    pub fn root(&self) -> &Root {
        self.observer.root()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Keeps the PFs of `observed` named by `verified` as their last good state, and what their VFs' netdevs look like:
    /// what is put back after a pod. To be called after a verification that found nothing left to do on them.
    pub fn remember(
        &mut self,
        observed: &Observed,
        verified: impl IntoIterator<Item = PciAddress>,
    ) -> Result<(), JournalError> {
        let pfs = verified.into_iter().filter_map(|address| observed.pf(address));
        pfs.into_iter().try_for_each(|pf| self.journal.remember(self.observer.root(), pf))
    }

    pub(crate) fn look(&self) -> Look<'_> {
        Look::new(self.observer.root())
    }

    fn profile(&self, pf: PciAddress) -> Option<&Profile> {
        self.seen.pf(pf).and_then(|pf| self.profiles.find(pf).0)
    }

    /// How long one write of `sriov_numvfs` may take on a PF.
    pub(crate) fn numvfs_deadline(&self, pf: PciAddress) -> Duration {
        let millis = self.profile(pf).and_then(|profile| profile.numvfs_deadline_ms.as_ref());
        millis.map_or(WRITE_WITHIN, |millis| Duration::from_millis(millis.value))
    }

    /// How long the netdev of a PF's VF may take to appear.
    pub(crate) fn netdev_deadline(&self, pf: PciAddress) -> Duration {
        let millis = self.profile(pf).and_then(|profile| profile.netdev_deadline_ms.as_ref());
        millis.map_or(NETDEV_WITHIN, |millis| Duration::from_millis(millis.value))
    }

    /// How long to wait for a PF's carrier before a rate is set: not at all, unless its driver takes rates only then.
    pub(crate) fn rate_deadline(&self, pf: PciAddress) -> Duration {
        let needs = |profile: &&Profile| profile.rate_needs_carrier.as_ref().is_some_and(|needs| needs.value);
        let Some(profile) = self.profile(pf).filter(needs) else { return Duration::ZERO };
        let millis = profile.carrier_deadline_ms.as_ref();
        millis.map_or(CARRIER_WITHIN, |millis| Duration::from_millis(millis.value))
    }

    /// Carries out a command in the PF's writer process.
    pub(crate) fn in_child(
        &mut self,
        pf: PciAddress,
        command: &Command,
        meaning: impl FnOnce(ChildError) -> HostError,
    ) -> Done {
        self.in_child_within(pf, command, WRITE_WITHIN, meaning)
    }

    /// The same with a deadline of its own. A write that does not return makes the PF stuck and nothing else.
    pub(crate) fn in_child_within(
        &mut self,
        pf: PciAddress,
        command: &Command,
        within: Duration,
        meaning: impl FnOnce(ChildError) -> HostError,
    ) -> Done {
        let mut writer = match self.writers.remove(&pf) {
            Some(writer) => writer,
            None => {
                let claim = claim(self.root(), pf, Duration::ZERO)?;
                match self.launcher.start_for(claim) {
                    Ok(writer) => writer,
                    Err(error) => return Err(meaning(error)),
                }
            }
        };
        match writer.carry_out(command, within) {
            Ok(()) => {
                self.writers.insert(pf, writer);
                Ok(())
            }
            Err(error @ ChildError::Stuck { .. }) => {
                let mut what = error.to_string();
                // The file is for other processes and later ones; this one knows by itself.
                if let Err(error) = stuck::mark(self.root(), pf, writer.pid(), command.target()) {
                    what = format!("{what} ({})", portwright_core::drive::chain(&error));
                }
                self.stuck.insert(pf, (writer, what.clone()));
                Err(HostError::Stuck { pf, what })
            }
            Err(error @ ChildError::Refused { .. }) => {
                self.writers.insert(pf, writer);
                Err(meaning(error))
            }
            Err(error @ (ChildError::Start { .. } | ChildError::Ended { .. })) => Err(meaning(error)),
        }
    }

    /// A PF on which a write has not returned, if there is one. The PF itself may have gone; its write still waits then.
    fn any_stuck(&mut self) -> Option<(PciAddress, String)> {
        let mut pfs: BTreeSet<PciAddress> = self.stuck.keys().copied().collect();
        pfs.extend(stuck::marked(self.root()));
        let known = pfs.into_iter().find_map(|pf| Some((pf, self.stuck(pf)?)));
        known.or_else(|| busy(self.root(), &self.own_writers()).into_iter().next())
    }

    /// PFs whose writer is ours and has nothing to do at the moment: between steps, none has.
    fn own_writers(&self) -> BTreeSet<PciAddress> {
        self.writers.keys().copied().collect()
    }

    /// Why a PF is stuck; a mark whose process has gone is taken away.
    fn stuck(&mut self, pf: PciAddress) -> Option<String> {
        if let Some((writer, what)) = self.stuck.get_mut(&pf) {
            if !writer.has_ended() {
                return Some(what.clone());
            }
            self.stuck.remove(&pf);
        }
        match stuck::clear(self.root(), pf) {
            Ok(true) => None,
            Ok(false) => stuck::look(self.root(), pf),
            Err(error) => Some(portwright_core::drive::chain(&error)),
        }
    }

    /// Waits until the write that a PF is stuck with has returned; whether it has.
    pub fn wait_for_stuck(&mut self, pf: PciAddress, within: Duration) -> bool {
        if let Some((writer, _)) = self.stuck.get_mut(&pf)
            && !writer.wait_for_end(Deadline::after(within))
        {
            return false;
        }
        self.stuck(pf).is_none()
    }

    fn look_at_all(&mut self) -> Result<Observed, HostError> {
        let mut observed = self
            .observer
            .observe_beside(&self.own_writers())
            .map_err(|source| HostError::Observe { source })?;
        if let Some(supplement) = &mut self.supplement {
            supplement(&mut observed);
        }
        self.note_away(&mut observed);
        Ok(observed)
    }

    /// Notes which VFs somebody has, or whose netdevs are away. What cannot be noted is a problem: nothing will be put back
    /// that the journal does not know of.
    fn note_away(&mut self, observed: &mut Observed) {
        for pf in &mut observed.pfs {
            if let Err(error) = self.journal.note_away(pf) {
                let reason = portwright_core::drive::chain(&error);
                observed.problems.push(Problem { object: Object::Pci(pf.address), reason });
            }
            for vf in &mut pf.vfs {
                vf.remembered = self.journal.remembered(VfRef { pf: pf.address, index: vf.index }).cloned();
            }
        }
    }

    /// Forgets a saved autoprobe value that is back: a crash came between writing and noting it. Kept, it would one day be
    /// put back over what an operator has set since.
    fn settle_autoprobe(&mut self, pf: &Pf) -> Result<(), JournalError> {
        match self.journal.saved_autoprobe(pf.address) {
            Some(saved) if pf.autoprobe.is(&saved) => self.journal.autoprobe_restored(pf.address),
            Some(_) | None => Ok(()),
        }
    }

    /// Everything that is looked at before a step is carried out.
    fn check(&mut self, step: &Step) -> Checked<()> {
        if let Some(pf) = step.object.pf()
            && let Some(what) = self.stuck(pf)
        {
            return Err(RunError::Failed(HostError::Stuck { pf, what }));
        }
        // All resizing takes one lock of the kernel. A second write would hang too, and be carried out whenever the first
        // one's VF is let go: long after anybody looked at who holds the VFs.
        if let Change::SetNumVfs { .. } | Change::SetEswitch { .. } = step.change
            && let Some((pf, what)) = self.any_stuck()
        {
            return Err(RunError::Failed(HostError::Stuck { pf, what }));
        }
        run::still_holds(self.observer.root(), step)?;
        let last = self.at.take();
        let may_cut_off = run::may_cut_off(step);
        if may_cut_off || (!self.is_free(last, step) && run::touches_vfs(self.look(), step)?) {
            self.seen = self.look_at_all().map_err(RunError::Failed)?;
            run::check_holders(&self.seen, step)?;
        }
        if let Some(path) = self.path.as_ref().filter(|_| may_cut_off) {
            run::check_management(path, &management_path(&self.seen), step)?;
        }
        self.at = if let Object::Vf(vf) = step.object { Some(vf) } else { None };
        Ok(())
    }

    /// Whether a step that disrupts nobody is on a VF that nobody was on a moment ago, or that is new.
    fn is_free(&self, last: Option<VfRef>, step: &Step) -> bool {
        let Object::Vf(vf) = step.object else { return false };
        step.disruption == Disruption::None && (last == Some(vf) || self.fresh.contains(&vf.pf))
    }

    /// Runs a step between two journal entries, if it is one whose interruption leaves something to explain.
    fn journalled(&mut self, step: &Step) -> Done {
        let pf = match (&step.object, &step.change) {
            (
                Object::Pci(pf),
                Change::SetAutoprobe { .. } | Change::SetNumVfs { .. } | Change::SetEswitch { .. },
            ) => *pf,
            (Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Vf(_) | Object::Named(_), _) => {
                return run::carry_out(self, step);
            }
        };
        self.journal.set_doing(pf, Some(step.to_string())).map_err(|source| HostError::Journal { source })?;
        if let Change::SetNumVfs { .. } = step.change {
            self.fresh.insert(pf);
        }
        let done = run::carry_out(self, step);
        let noted = self.journal.set_doing(pf, None).map_err(|source| HostError::NotJournalled { source });
        done.and(noted)
    }
}

impl Node for HostNode {
    type Error = HostError;

    fn observe(&mut self) -> Result<Observed, HostError> {
        let mut observed = self.look_at_all()?;
        for pf in &mut observed.pfs {
            pf.stuck = self.stuck(pf.address);
            if let Err(error) = self.settle_autoprobe(pf) {
                // The value is as it should be; that it is noted still troubles nobody else.
                let reason = portwright_core::drive::chain(&error);
                observed.problems.push(Problem { object: Object::Pci(pf.address), reason });
            }
        }
        self.seen = observed.clone();
        self.path = Some(management_path(&observed));
        self.fresh.clear();
        self.at = None;
        Ok(observed)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<HostError>> {
        self.check(step)?;
        self.journalled(step).map_err(RunError::Failed)
    }
}

/// The claim on a PF. A writer that does not give it up makes the PF stuck.
fn claim(root: &Root, pf: PciAddress, within: Duration) -> Result<Claim, HostError> {
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

/// What a look inside a step found. That something has gone meanwhile is an error here: the step has begun.
pub(crate) fn unless_stale<T>(object: Object, looked: Checked<T>) -> Result<T, HostError> {
    looked.map_err(|error| match error {
        RunError::Stale { found } | RunError::Stopped { because: found } => HostError::Gone { object, found },
        RunError::Failed(error) => error,
    })
}
