//! Open vSwitch as plain values, and transactions that are done only when ovs-vswitchd has carried them out.
//!
//! A commit proves little: the database takes a port that can never work, and a stopped ovs-vswitchd shows its last
//! state for ever. So [`Switch::apply`] counts the configuration up in the same transaction and waits until
//! ovs-vswitchd reports that number (ovs-vswitchd.conf.db(5), `next_cfg`); whether the rows then show what was wanted
//! is read from a fresh [`Vswitch`].

mod columns;
mod model;
mod read;
mod statistics;

use std::time::Duration;

pub use columns::{DATABASE, monitor};
pub use model::{
    BondMode, Bridge, DatapathType, FailMode, Has, Interface, Lacp, Map, Mirror, Ofport, Port, Qos, Queue,
    VlanMode, Vswitch,
};
pub use read::ReadError;
pub use statistics::{MirrorHealth, StatisticsError};

use crate::ovsdb::{Class, Committed, Deadline, Error, Mutation, Options, Remote, Session, Target, Txn};

/// A session with a virtual switch's database.
#[derive(Debug, Clone)]
pub struct Switch {
    session: Session,
}

/// Reading or changing the switch failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SwitchError {
    /// The database could not be reached, or refused.
    #[error("{what} on {remote} failed")]
    Database {
        /// What was attempted.
        what: &'static str,
        /// The server.
        remote: Remote,
        /// Why.
        #[source]
        source: Error,
    },
    /// The database is not that of a virtual switch.
    #[error("{remote} is not the database of a virtual switch")]
    Unreadable {
        /// The server.
        remote: Remote,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The change is in the database and ovs-vswitchd did not act on it: it is not running, or stuck.
    #[error(
        "accepted by {remote}, not applied: ovs-vswitchd is at configuration {current} and not at {wanted} after {within:?}"
    )]
    NotApplied {
        /// The server.
        remote: Remote,
        /// The configuration that the change belongs to.
        wanted: i64,
        /// The last one that was carried out.
        current: i64,
        /// How long we waited.
        within: Duration,
        /// What the commit did.
        committed: Box<Committed>,
    },
}

impl SwitchError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Database { source, .. } => source.class(),
            Self::Unreadable { .. } => Class::Permanent,
            // It may be carried out any moment; only a fresh look tells.
            Self::NotApplied { .. } => Class::Conflict,
        }
    }
}

/// A change that ovs-vswitchd has carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What the commit did.
    pub committed: Committed,
    /// The configuration's number.
    pub config: i64,
}

impl Switch {
    /// Starts connecting and returns at once. Must be called within a tokio runtime.
    #[must_use]
    pub fn connect(remote: Remote, options: Options) -> Self {
        Self { session: Session::start(remote, monitor(), options) }
    }

    /// The session below.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Reads the switch as it is; waits for a connection first.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub async fn read(&self, deadline: Deadline) -> Result<Vswitch, SwitchError> {
        let view = self.session.synced(deadline).await.map_err(|source| self.failed("reading", source))?;
        Vswitch::read(&view).map_err(|source| self.unreadable(source))
    }

    /// Commits, and waits until ovs-vswitchd has carried the change out. A transaction that changes nothing is not
    /// sent.
    ///
    /// # Errors
    /// [`SwitchError`]; after [`SwitchError::NotApplied`] the change is in the database.
    pub async fn apply(&self, mut txn: Txn, deadline: Deadline) -> Result<Applied, SwitchError> {
        let before = self.read(deadline).await?;
        if txn.is_empty() {
            return Ok(Applied { committed: Committed::default(), config: before.cur_cfg });
        }
        let root = Target::row("Open_vSwitch", before.uuid);
        txn.mutate(root.clone(), [Mutation::add("next_cfg", 1)]);
        txn.read(root, &["next_cfg"]);
        let committed =
            self.session.commit(&txn, deadline).await.map_err(|source| self.failed("a change", source))?;
        let Some(wanted) = next_config(&committed) else {
            let what = "the answer to a change has no next_cfg".to_owned();
            return Err(self.failed("a change", Error::Unexpected { what }));
        };
        match self.reached(wanted, deadline).await {
            Ok(()) => Ok(Applied { committed, config: wanted }),
            Err(Error::DidNotHappen { .. }) => Err(SwitchError::NotApplied {
                remote: self.session.remote().clone(),
                wanted,
                current: self.current_config().unwrap_or(before.cur_cfg),
                within: deadline.within(),
                committed: Box::new(committed),
            }),
            Err(source) => Err(self.failed("waiting for ovs-vswitchd", source)),
        }
    }

    async fn reached(&self, wanted: i64, deadline: Deadline) -> Result<(), Error> {
        let look = |view: &crate::ovsdb::View| (Vswitch::config(view)? >= wanted).then_some(());
        self.session.wait_for("ovs-vswitchd carrying out the change", deadline, look).await
    }

    fn current_config(&self) -> Option<i64> {
        Vswitch::config(self.session.state().view.as_ref()?)
    }

    fn failed(&self, what: &'static str, source: Error) -> SwitchError {
        SwitchError::Database { what, remote: self.session.remote().clone(), source }
    }

    fn unreadable(&self, source: ReadError) -> SwitchError {
        SwitchError::Unreadable { remote: self.session.remote().clone(), source }
    }
}

/// The number that the transaction's last read gave.
fn next_config(committed: &Committed) -> Option<i64> {
    committed.reads().last()?.first()?.get("next_cfg")?.scalar()?.as_integer()
}
