//! The virtual switch as a part of a node: looked at as the planner wants it ([`see`]), and changed by the planner's steps.
//!
//! Steps of one bridge are one transaction ([`build`]): guarded by what the steps expect and by our owner key, counted,
//! and done when ovs-vswitchd has carried it out. Whether the result is as wanted is not decided here: planning again
//! decides it. A change of mirrors is followed by a look at every cached flow ([`flows`]), because Open vSwitch goes on
//! with the old mirrors on busy flows.

mod blocking;
mod build;
mod columns;
mod count;
mod error;
mod flows;
mod lost;
mod parts;
mod probe;
mod replug;
mod see;
mod watch;

use std::time::Duration;

use portwright_core::drive::RunError;
use portwright_core::ovs::{self, Change, Ovs, Target};
use portwright_core::{Fact, Step, step};
use tokio::net::UnixStream;
use tokio::sync::watch as channel;

pub use blocking::OvsNode;
pub use error::OvsError;
pub use probe::Probed;
pub use see::model;
pub use watch::{Watch, Woken};

use crate::ovsdb::{Deadline, Error, Options, Remote, Session};
use crate::unixctl::Unixctl;
use crate::vswitch::{Switch, SwitchError, Vswitch};

/// What looking for Open vSwitch gave.
#[derive(Debug)]
pub enum Seen {
    /// There is no socket: a node without Open vSwitch.
    Absent,
    /// It is there and cannot be read.
    Unreachable(Box<OvsError>),
    /// What it looks like.
    There(Box<Ovs>),
}

/// A connection to a virtual switch that looks and acts. Everything it does ends within its time.
#[derive(Debug)]
pub struct OvsClient {
    remote: Remote,
    within: Duration,
    switch: Option<Switch>,
    /// Tells those who [`OvsClient::watch`] that there is a session.
    sessions: channel::Sender<Option<Session>>,
}

/// How long ovs-vswitchd may take to answer. It does so between two turns of its main loop, which last seconds on a node that is
/// short of processors.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// How long a look waits for changes of others that are on their way.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

impl OvsClient {
    /// A client that connects when it is first used. Each call may take `within`.
    #[must_use]
    pub fn new(remote: Remote, within: Duration) -> Self {
        Self { remote, within, switch: None, sessions: channel::Sender::new(None) }
    }

    /// The database's address.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.within)
    }

    /// Hears from now on when it is worth looking again. It becomes lively with the first look that finds a server.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.remote.clone(), self.sessions.subscribe())
    }

    fn switch(&mut self) -> Switch {
        let connect = || {
            let switch = Switch::connect(self.remote.clone(), Options::default());
            self.sessions.send_replace(Some(switch.session().clone()));
            switch
        };
        self.switch.get_or_insert_with(connect).clone()
    }

    /// Looks at the switch.
    pub async fn observe(&mut self) -> Seen {
        match self.knock().await {
            Knock::Nobody => return Seen::Absent,
            Knock::Refused(source) => {
                let remote = self.remote.clone();
                return Seen::Unreachable(Box::new(OvsError::NobodyListens { remote, source }));
            }
            Knock::Perhaps => {}
        }
        let alive = self.vswitchd_lives().await;
        let switch = self.switch();
        let read = async {
            settle_copy(&switch, self.deadline()).await;
            let first = switch.read(self.deadline()).await?;
            if first.is_settled() || alive == Some(false) {
                return Ok(first);
            }
            // Somebody's change is on its way; a plan made of half of it would be wrong.
            let settled = |view: &crate::ovsdb::View| Vswitch::read(view).ok().filter(Vswitch::is_settled);
            match switch
                .session()
                .wait_for(
                    "ovs-vswitchd keeping up",
                    Deadline::after(SETTLED_WITHIN.min(self.within)),
                    settled,
                )
                .await
            {
                Ok(read) => Ok(read),
                Err(_still_behind) => switch.read(self.deadline()).await,
            }
        };
        match read.await {
            Ok(read) => {
                let mut seen = model(&read, alive.map_or(Fact::UNKNOWN, Fact::Known));
                if alive == Some(true) && seen.settled {
                    self.drop_works_of_the_dead(&mut seen).await;
                    self.mark_lost(&read, &mut seen).await;
                }
                Seen::There(Box::new(seen))
            }
            Err(source) => Seen::Unreachable(Box::new(OvsError::Read { source: Box::new(source) })),
        }
    }

    /// Fills in what is counted about every mirror. Reads only.
    ///
    /// # Errors
    /// [`OvsError::Read`]; nothing is filled in then.
    pub async fn count(&mut self, ovs: &mut Ovs) -> Result<(), OvsError> {
        let switch = self.switch();
        let counted = count::count(&switch, ovs, self.deadline()).await;
        counted.map_err(|source| OvsError::Read { source: Box::new(source) })
    }

    /// Has ovs-vswitchd show of every mirror of ours whether it works, by emptying its counters: see [`crate::vswitch::MirrorHealth`].
    /// Changes no setting; takes up to six seconds, or a second more than Open vSwitch's own `stats-update-interval`.
    ///
    /// # Errors
    /// [`OvsError::Read`] if the switch cannot be read.
    pub async fn probe(&mut self) -> Result<Vec<Probed>, OvsError> {
        let switch = self.switch();
        let read = current(&switch, self.deadline()).await?;
        Ok(probe::probe(&switch, &read, self.within).await)
    }

    /// Whether anybody is there at all, found out at once.
    async fn knock(&self) -> Knock {
        let Remote::Unix(path) = &self.remote else { return Knock::Perhaps };
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Knock::Nobody,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Knock::Refused(error),
            Ok(_) | Err(_) => Knock::Perhaps,
        }
    }

    /// The process of ovs-vswitchd; none if its control socket is not beside the database's.
    pub async fn vswitchd_pid(&self) -> Option<u32> {
        Unixctl::of_vswitchd(self.remote.directory()?).await.ok()?.pid().await
    }

    async fn must_listen(&self) -> Result<(), OvsError> {
        let source = match self.knock().await {
            Knock::Nobody => std::io::ErrorKind::NotFound.into(),
            Knock::Refused(source) => source,
            Knock::Perhaps => return Ok(()),
        };
        Err(OvsError::NobodyListens { remote: self.remote.clone(), source })
    }

    async fn vswitchd_lives(&self) -> Option<bool> {
        let control = Unixctl::of_vswitchd(self.remote.directory()?).await;
        match control {
            Ok(control) => {
                Some(control.version(Deadline::after(ALIVE_WITHIN.min(self.within))).await.is_ok())
            }
            // It may have stopped, or have its socket elsewhere.
            Err(_nothing_there) => None,
        }
    }

    /// A bridge whose datapath was changed to one that cannot be made keeps its old values in the database for ever; only
    /// ovs-vswitchd itself knows that it is no more.
    async fn drop_works_of_the_dead(&self, seen: &mut Ovs) {
        let Some(directory) = self.remote.directory() else { return };
        let Ok(control) = Unixctl::of_vswitchd(directory).await else { return };
        let deadline = Deadline::after(ALIVE_WITHIN.min(self.within));
        let Ok(list) = control.call("ofproto/list", &[], deadline).await else { return };
        for bridge in &mut seen.bridges {
            bridge.works &= list.lines().any(|name| name.trim() == bridge.name);
        }
    }

    /// Ports that the kernel's datapath has lost are gone, since now as far as anybody knows here. Only where an internal port is not
    /// where it was made can one be lost.
    async fn mark_lost(&self, read: &Vswitch, seen: &mut Ovs) {
        if !lost::possible(read) {
            return;
        }
        let Some(directory) = self.remote.directory() else { return };
        let Ok(control) = Unixctl::of_vswitchd(directory).await else { return };
        let deadline = Deadline::after(ALIVE_WITHIN.min(self.within));
        let Ok(believed) = control.call("dpif/show", &[], deadline).await else { return };
        let Ok(there) = control.call("dpctl/show", &[], deadline).await else { return };
        let lost = lost::lost(&believed, &there);
        for port in seen.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports) {
            if lost.contains(&port.name) {
                port.gone_for = Some(0);
            }
        }
    }

    /// Carries out steps of one bridge (or of the switch) in one transaction.
    ///
    /// # Errors
    /// [`RunError::Stale`] if the switch is not as the steps expect; nothing was changed then.
    pub async fn run(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        let jobs: Vec<Job<'_>> =
            steps.iter().map(Job::of).collect::<Result<_, _>>().map_err(RunError::Failed)?;
        let switch = self.switch();
        let deadline = self.deadline();
        let found = current(&switch, deadline).await.map_err(failed)?;
        let mut expected = model(&found, Fact::UNKNOWN);
        for job in &jobs {
            // Whoever looked from outside knows that an interface is gone; here only the owner can be checked.
            if let Change::CollectPort { gone_for, .. } = job.change {
                mark_gone(&mut expected, &job.target, *gone_for);
            }
            if let Some(found) = ovs::conflict(&expected, &job.target, job.owner, job.change) {
                return Err(RunError::Stale { found });
            }
            ovs::perform(&mut expected, &job.target, job.owner, job.change);
        }
        if let [Job { target, owner, change: Change::ReplugPort { to, .. } }] = jobs.as_slice() {
            return replug::replug(&switch, &found, target, owner, *to, deadline).await.map_err(ended);
        }
        let txn = build::transaction(&found, &jobs);
        switch.apply(txn, deadline).await.map_err(|source| ended(what_failed(&jobs, source)))?;
        let bridge = jobs.iter().find(|job| job.change.moves_mirrors()).and_then(Job::bridge);
        match bridge {
            Some(bridge) => flows::look_again(&switch, &found, bridge, deadline).await.map_err(failed),
            None => Ok(()),
        }
    }
}

fn mark_gone(expected: &mut Ovs, target: &Target, gone_for: u64) {
    let Target::Bridge(bridge, ovs::Part::Port(port)) = target else { return };
    let ports = expected.bridges.iter_mut().filter(|one| one.name == *bridge).flat_map(|one| &mut one.ports);
    for port in ports.filter(|one| one.name == *port) {
        port.gone_for = Some(gone_for);
    }
}

/// Has the server answer once, so that our copy has every change that was committed before. If it does not answer, what
/// follows fails on its own.
async fn settle_copy(switch: &Switch, deadline: Deadline) {
    if switch.session().echo(deadline).await.is_err() {}
}

async fn current(switch: &Switch, deadline: Deadline) -> Result<Vswitch, OvsError> {
    settle_copy(switch, deadline).await;
    switch.read(deadline).await.map_err(|source| OvsError::Read { source: Box::new(source) })
}

enum Knock {
    Nobody,
    Refused(std::io::Error),
    Perhaps,
}

fn what_failed(jobs: &[Job<'_>], source: SwitchError) -> OvsError {
    let target = jobs.first().map(|job| match &job.target {
        Target::Bridge(bridge, _) => format!("bridge/{bridge}"),
        Target::Switch => "ovs".to_owned(),
    });
    OvsError::Change { target: target.unwrap_or_default(), source: Box::new(source) }
}

fn failed(error: OvsError) -> RunError<OvsError> {
    RunError::Failed(error)
}

/// A row that is not as believed is a stale step: nothing was changed.
fn ended(error: OvsError) -> RunError<OvsError> {
    if let OvsError::Change { source, .. } = &error
        && let SwitchError::Database { source, .. } = &**source
        && let Error::GuardFailed { believed } | Error::Miscounted { what: believed, .. } = source
    {
        return RunError::Stale { found: format!("another program changed it meanwhile ({believed})") };
    }
    RunError::Failed(error)
}

/// A step that is of Open vSwitch.
#[derive(Debug, Clone)]
pub(crate) struct Job<'a> {
    pub(crate) target: Target,
    pub(crate) owner: &'a str,
    pub(crate) change: &'a Change,
}

impl<'a> Job<'a> {
    fn of(step: &'a Step) -> Result<Job<'a>, OvsError> {
        match (Target::of(&step.object), &step.change) {
            (Some(target), step::Change::Ovs { owner, change }) => Ok(Job { target, owner, change }),
            (Some(_) | None, _) => Err(OvsError::Misplaced { step: step.to_string() }),
        }
    }

    pub(crate) fn bridge(&self) -> Option<&str> {
        match &self.target {
            Target::Bridge(bridge, _) => Some(bridge),
            Target::Switch => None,
        }
    }
}
