//! The real node: [`Node`] over kernel, netlink and devlink.

mod crew;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::drive::{Node, RunError};
use portwright_core::management::{ManagementPath, management_path};
use portwright_core::observed::{Pf, Problem};
use portwright_core::profile::Profile;
use portwright_core::{Change, Disruption, Object, Observed, PciAddress, Profiles, Step, VfRef};

use self::crew::{Crew, Work, claim};
use crate::child::{ChildError, Command, Launcher, Writer, claimed};
use crate::deadline::Deadline;
use crate::inventory::{Beside, Observer};
use crate::journal::{Journal, JournalError, note_path};
use crate::lock::WriterLock;
use crate::root::Root;
use crate::run::{self, Checked, Done, HostError, Look};

/// How long a write may take where the profile does not say.
const WRITE_WITHIN: Duration = Duration::from_secs(120);
/// How long a VF's netdev may take to appear where the profile does not say.
const NETDEV_WITHIN: Duration = Duration::from_secs(10);

/// How long carrier may take where the profile does not say.
const CARRIER_WITHIN: Duration = Duration::from_secs(5);
/// How long a writer that an earlier agent left behind may take to end before its PF counts as stuck.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(30);

/// Adds to an observation what the kernel does not know: pods, and what OVSDB says.
pub type Supplement = Arc<dyn Fn(&mut Observed) + Send + Sync>;

/// The node that the program runs on. Whoever has one is, together with the [hands](HostNode::hand) made of it, the node's
/// only writer.
pub struct HostNode {
    shared: Arc<Shared>,
    supplement: Option<Supplement>,
    /// The ports that this hand is for; none for the node itself.
    on: BTreeSet<PciAddress>,
    /// The node as last seen: the profile of a PF is found by what it is.
    seen: Arc<Observed>,
    /// What the node was reached over when it was last observed: what was planned takes care of that.
    path: Option<ManagementPath>,
    /// PFs whose VFs were made since then. Nobody had them when the plan was made, and what they get belongs to it.
    fresh: BTreeSet<PciAddress>,
    /// The VF of the step before, with nobody on it or taken by force: its next step needs no look of its own.
    at: Option<VfRef>,
}

/// What all hands on a node have together.
struct Shared {
    observer: Observer,
    profiles: Profiles,
    launcher: Launcher,
    journal: Mutex<Journal>,
    crew: Mutex<Crew>,
    /// All resizing takes one lock of the kernel: who comes second waits here, where it can still be seen, and looks at
    /// holders afterwards.
    resizing: Mutex<()>,
    _lock: WriterLock,
}

/// A panic in one hand leaves nothing half-done in there.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for HostNode {
    fn drop(&mut self) {
        if !self.on.is_empty() {
            locked(&self.shared.crew).worked_on.retain(|pf| !self.on.contains(pf));
        }
    }
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
        let shared = Shared {
            observer: Observer::new(root, live, state_dir),
            profiles,
            launcher,
            journal: Mutex::new(journal),
            crew: Mutex::default(),
            resizing: Mutex::default(),
            _lock: lock,
        };
        Ok(HostNode {
            shared: Arc::new(shared),
            supplement: None,
            on: BTreeSet::new(),
            seen: Arc::default(),
            path: None,
            fresh: BTreeSet::new(),
            at: None,
        })
    }

    /// Another hand on the same node, which carries out steps on these ports and on no others, beside hands on other ports. It
    /// goes by what was seen last. Until it is dropped, whatever takes a lock of the kernel is not asked of its ports by
    /// anybody else, and nothing is noted of them.
    pub fn hand(&self, ports: BTreeSet<PciAddress>) -> HostNode {
        locked(&self.shared.crew).worked_on.extend(&ports);
        HostNode {
            shared: Arc::clone(&self.shared),
            supplement: self.supplement.clone(),
            on: ports,
            seen: Arc::clone(&self.seen),
            path: self.path.clone(),
            fresh: BTreeSet::new(),
            at: None,
        }
    }

    /// Lets `supplement` add to each observation, also to those that are made right before a disruptive step.
    pub fn set_supplement(&mut self, supplement: Supplement) {
        self.supplement = Some(supplement);
    }

    /// The root.
    pub fn root(&self) -> &Root {
        self.shared.observer.root()
    }

    /// The journal, which is not written while this is held.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        locked(&self.shared.journal)
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        locked(&self.shared.crew)
    }

    /// Keeps the PFs of `observed` named by `verified` as their last good state, and what their VFs' netdevs look like:
    /// what is put back after a pod. To be called after a verification that found nothing left to do on them.
    pub fn remember(
        &mut self,
        observed: &Observed,
        verified: impl IntoIterator<Item = PciAddress>,
    ) -> Result<(), JournalError> {
        let pfs = verified.into_iter().filter_map(|address| observed.pf(address));
        let mut journal = self.journal();
        pfs.into_iter().try_for_each(|pf| journal.remember(self.root(), pf))
    }

    pub(crate) fn look(&self) -> Look<'_> {
        Look::new(self.root())
    }

    fn profile(&self, pf: PciAddress) -> Option<&Profile> {
        self.seen.pf(pf).and_then(|pf| self.shared.profiles.find(pf).0)
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
        let waiting = self.crew().take(pf);
        let mut writer = match waiting.map_or_else(|| self.start(pf), |writer| Ok(Ok(writer))) {
            Ok(Ok(writer)) => writer,
            Ok(Err(error)) => return Err(meaning(error)),
            Err(error) => return Err(error),
        };
        let ended = writer.carry_out(command, within);
        let stuck = self.crew().give(self.root(), pf, writer, Work { command, ended: &ended });
        match (stuck, ended) {
            (Some(stuck), _) => Err(stuck),
            (None, ended) => ended.map_err(meaning),
        }
    }

    /// Starts the writer of a PF.
    fn start(&self, pf: PciAddress) -> Result<Result<Writer, ChildError>, HostError> {
        let claim = claim(self.root(), pf, Duration::ZERO);
        let started = claim.map(|claim| self.shared.launcher.start_for(claim));
        if !matches!(started, Ok(Ok(_))) {
            self.crew().not_started(pf);
        }
        started
    }

    /// Waits until the write that a PF is stuck with has returned; whether it has.
    pub fn wait_for_stuck(&mut self, pf: PciAddress, within: Duration) -> bool {
        self.crew().wait_for_stuck(self.root(), pf, Deadline::after(within))
    }

    /// The node, and the ports that others worked on when the look began.
    fn look_at_all(&self) -> Result<(Observed, BTreeSet<PciAddress>), HostError> {
        let beside = {
            let crew = self.crew();
            Beside { at_rest: crew.at_rest(&self.on), worked_on: crew.of_others(&self.on) }
        };
        let looked = self.shared.observer.observe_beside(&beside);
        let mut observed = looked.map_err(|source| HostError::Observe { source })?;
        if let Some(supplement) = &self.supplement {
            supplement(&mut observed);
        }
        self.note_away(&mut observed, &beside.worked_on);
        Ok((observed, beside.worked_on))
    }

    /// Notes which VFs somebody has, or whose netdevs are away. What cannot be noted is a problem: nothing will be put back
    /// that the journal does not know of. A VF whose netdev steps take away for a moment has not been given to anybody.
    fn note_away(&self, observed: &mut Observed, worked_on: &BTreeSet<PciAddress>) {
        let mut journal = self.journal();
        for pf in &mut observed.pfs {
            if !worked_on.contains(&pf.address)
                && let Err(error) = journal.note_away(pf)
            {
                let reason = portwright_core::drive::chain(&error);
                observed.problems.push(Problem { object: Object::Pci(pf.address), reason });
            }
            for vf in &mut pf.vfs {
                vf.remembered = journal.remembered(VfRef { pf: pf.address, index: vf.index }).cloned();
            }
        }
    }

    /// Forgets a saved autoprobe value that is back: a crash came between writing and noting it. Kept, it would one day be
    /// put back over what an operator has set since. Steps that are at it right now will note it themselves.
    fn settle_autoprobe(&self, pf: &Pf) -> Result<(), JournalError> {
        if self.crew().worked_on.contains(&pf.address) {
            return Ok(());
        }
        let mut journal = self.journal();
        match journal.saved_autoprobe(pf.address) {
            Some(saved) if pf.autoprobe.is(&saved) => journal.autoprobe_restored(pf.address),
            Some(_) | None => Ok(()),
        }
    }

    /// Everything that is looked at before a step is carried out.
    fn check(&mut self, step: &Step) -> Checked<()> {
        if let Some(pf) = step.object.pf()
            && let Some(what) = self.crew().stuck(self.root(), pf)
        {
            return Err(RunError::Failed(HostError::Stuck { pf, what }));
        }
        // A write beside one that hangs would hang too, and be carried out whenever the first one's VF is let go: long after
        // anybody looked at who holds the VFs.
        if resizes(step)
            && let Some((pf, what)) = self.crew().any_stuck(self.root())
        {
            return Err(RunError::Failed(HostError::Stuck { pf, what }));
        }
        run::still_holds(self.root(), step)?;
        let last = self.at.take();
        let may_cut_off = run::may_cut_off(step);
        if may_cut_off || (!self.is_free(last, step) && run::touches_vfs(self.look(), step)?) {
            self.seen = Arc::new(self.look_at_all().map_err(RunError::Failed)?.0);
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
        self.journal()
            .set_doing(pf, Some(step.to_string()))
            .map_err(|source| HostError::Journal { source })?;
        if let Change::SetNumVfs { .. } = step.change {
            self.fresh.insert(pf);
        }
        let done = run::carry_out(self, step);
        let noted = self.journal().set_doing(pf, None).map_err(|source| HostError::NotJournalled { source });
        done.and(noted)
    }
}

impl Node for HostNode {
    type Error = HostError;

    fn observe(&mut self) -> Result<Observed, HostError> {
        let (mut observed, worked_on) = self.look_at_all()?;
        for pf in &mut observed.pfs {
            pf.stuck = self.crew().stuck(self.root(), pf.address);
            if !worked_on.contains(&pf.address)
                && let Err(error) = self.settle_autoprobe(pf)
            {
                // The value is as it should be; that it is noted still troubles nobody else.
                let reason = portwright_core::drive::chain(&error);
                observed.problems.push(Problem { object: Object::Pci(pf.address), reason });
            }
        }
        note_path(self.shared.observer.state_dir(), &mut observed);
        self.seen = Arc::new(observed.clone());
        self.path = Some(management_path(&observed));
        self.fresh.clear();
        self.at = None;
        Ok(observed)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<HostError>> {
        let shared = Arc::clone(&self.shared);
        let _alone = resizes(step).then(|| locked(&shared.resizing));
        self.check(step)?;
        self.journalled(step).map_err(RunError::Failed)
    }
}

/// Whether a step makes or removes VFs.
fn resizes(step: &Step) -> bool {
    matches!(step.change, Change::SetNumVfs { .. } | Change::SetEswitch { .. })
}

/// What a look inside a step found. That something has gone meanwhile is an error here: the step has begun.
pub(crate) fn unless_stale<T>(object: Object, looked: Checked<T>) -> Result<T, HostError> {
    looked.map_err(|error| match error {
        RunError::Stale { found } | RunError::Stopped { because: found } => HostError::Gone { object, found },
        RunError::Failed(error) => error,
    })
}
