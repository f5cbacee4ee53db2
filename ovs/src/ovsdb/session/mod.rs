//! A connection that stays: the handle that the rest of the program holds. It can be cloned freely; when the last
//! clone is gone the connection is closed.

mod call;
mod connection;
mod greeting;
mod lock;
mod options;
mod owner;
mod serve;
mod state;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use call::{Answered, Call, Command};
pub use greeting::MonitorMethod;
pub use lock::{InvalidLockName, Lock, LockName, LockState};
pub use options::{Deadline, Options};
pub use state::{Batch, Cause, Changes, Event, Link, State};

use super::error::{Error, LinkError};
use super::monitor::Monitor;
use super::remote::Remote;
use super::replica::View;
use super::txn::{Committed, Selected, Target, Txn};
use super::wire::message::shorten;

/// Calls that wait for the owner task; more wait in their callers.
const QUEUE: usize = 256;
/// Batches that a slow listener may be behind before it is told that it missed some.
const EVENTS: usize = 256;

/// A lasting connection to an OVSDB server with a copy of the followed tables.
#[derive(Debug, Clone)]
pub struct Session {
    remote: Remote,
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<Arc<State>>,
    changes: broadcast::WeakSender<Arc<Batch>>,
}

/// Whether a call can change the database, which decides what its missing answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Change,
}

impl Session {
    /// Starts connecting and returns at once. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(remote: Remote, monitor: Monitor, options: Options) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        let first = State { link: Link::Down { failed: 0, why: None }, view: None, generation: 0 };
        let (state_sender, state) = watch::channel(Arc::new(first));
        let changes_sender = broadcast::Sender::new(EVENTS);
        let changes = changes_sender.downgrade();
        let owner = owner::Owner {
            remote: remote.clone(),
            monitor,
            options,
            commands: queue,
            publish: owner::Publisher { state: state_sender, changes: changes_sender },
            locks: lock::Locks::default(),
            round: 0,
        };
        // The task ends by itself when the last handle is dropped.
        drop(tokio::spawn(owner.run()));
        Self { remote, commands, state, changes }
    }

    /// The server's address.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Connection and view as they are now.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits until connection or view are not as in `seen` any more; false if the session has ended.
    pub async fn state_changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Hears of changes from now on. Read [`Session::state`] afterwards for the view to start from.
    #[must_use]
    pub fn changes(&self) -> Changes {
        // Without a sender the owner is gone; a closed channel says so.
        let sender = self.changes.upgrade().unwrap_or_else(|| broadcast::Sender::new(1));
        Changes { receiver: sender.subscribe() }
    }

    /// Waits for a connection with a current view.
    ///
    /// # Errors
    /// [`Error::NotConnected`] with the last attempt's reason.
    pub async fn synced(&self, deadline: Deadline) -> Result<Arc<View>, Error> {
        self.up("waiting for the first snapshot", deadline).await
    }

    /// Waits until a look at the view gives something, and returns that.
    ///
    /// # Errors
    /// [`Error::DidNotHappen`] at the deadline, or [`Error::NotConnected`] if there is no connection then.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        deadline: Deadline,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T, Error> {
        let mut state = self.state.clone();
        loop {
            let now = Arc::clone(&state.borrow_and_update());
            if let (true, Some(view)) = (now.link.is_up(), &now.view)
                && let Some(found) = look(view)
            {
                return Ok(found);
            }
            drop(now);
            match timeout_at(deadline.at, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_ended)) => return Err(Error::Ended { what: what.to_owned() }),
                Err(_elapsed) if self.state().link.is_up() => {
                    return Err(Error::DidNotHappen { what: what.to_owned(), within: deadline.within() });
                }
                Err(_elapsed) => return Err(self.not_connected(what, deadline)),
            }
        }
    }

    /// Commits a transaction: all of it or nothing.
    ///
    /// # Errors
    /// See [`Error::class`]. After [`Error::OutcomeUnknown`] it may have happened.
    pub async fn commit(&self, txn: &Txn, deadline: Deadline) -> Result<Committed, Error> {
        self.transact(txn, false, deadline).await
    }

    /// Has the server check a transaction and throw it away. Errors that only show at commit (references, duplicate
    /// names) are not found.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub async fn dry_run(&self, txn: &Txn, deadline: Deadline) -> Result<Committed, Error> {
        self.transact(txn, true, deadline).await
    }

    async fn transact(&self, txn: &Txn, dry_run: bool, deadline: Deadline) -> Result<Committed, Error> {
        let view = self.up("transact", deadline).await?;
        let encoded = txn.encode(view.schema(), dry_run).map_err(|source| Error::Txn { source })?;
        drop(view);
        let effect = if dry_run || txn.is_empty() { Effect::None } else { Effect::Change };
        let raw = self.call("transact", encoded.params, effect, deadline).await?;
        super::txn::read_answer(&raw, &encoded.expected)
    }

    /// Reads columns of one row, also such as are not followed (`statistics`).
    ///
    /// # Errors
    /// [`Error::GuardFailed`] if the row is not there.
    pub async fn read(
        &self,
        target: Target,
        columns: &[&str],
        deadline: Deadline,
    ) -> Result<Selected, Error> {
        let mut txn = Txn::reading();
        txn.read(target, columns);
        let committed = self.commit(&txn, deadline).await?;
        let row = committed.into_reads().into_iter().flatten().next();
        row.ok_or_else(|| Error::Unexpected { what: "a select gave no row".to_owned() })
    }

    /// Reads columns of all rows of a table, also such as are not followed.
    ///
    /// # Errors
    /// As every call.
    pub async fn select(
        &self,
        table: &str,
        columns: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Selected>, Error> {
        let mut txn = Txn::reading();
        txn.read_all(table, columns);
        let committed = self.commit(&txn, deadline).await?;
        Ok(committed.into_reads().into_iter().flatten().collect())
    }

    /// Sends an echo and tells how long the answer took.
    ///
    /// # Errors
    /// As every call.
    pub async fn echo(&self, deadline: Deadline) -> Result<Duration, Error> {
        self.up("echo", deadline).await?;
        let start = Instant::now();
        self.call("echo", json!([]), Effect::None, deadline).await?;
        Ok(start.elapsed())
    }

    /// The databases that the server has.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_dbs(&self, deadline: Deadline) -> Result<Vec<String>, Error> {
        let raw = self.call("list_dbs", json!([]), Effect::None, deadline).await?;
        serde_json::from_str(raw.get()).map_err(|source| Error::Answer {
            method: "list_dbs".to_owned(),
            start: shorten(raw.get()),
            source: source.into(),
        })
    }

    /// Asks for a lock, and keeps asking after reconnections, until the [`Lock`] is dropped.
    ///
    /// # Errors
    /// [`Error::Ended`], or [`Error::NotConnected`] if the session takes no calls until the deadline.
    pub async fn lock(&self, name: &LockName, deadline: Deadline) -> Result<Lock, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Lock { name: name.to_string(), reply };
        let what = "lock";
        match timeout_at(deadline.at, async {
            self.commands.send(command).await.ok()?;
            answer.await.ok()
        })
        .await
        {
            Ok(Some(state)) => Ok(Lock { name: name.clone(), state }),
            Ok(None) => Err(Error::Ended { what: what.to_owned() }),
            Err(_elapsed) => Err(self.not_connected(what, deadline)),
        }
    }

    /// Lets go of a lock now. Dropping it does the same a little later.
    pub async fn unlock(&self, lock: Lock) {
        drop(lock);
        // If the session has ended the server has forgotten the lock already.
        drop(self.commands.send(Command::Unlocked).await);
    }

    async fn up(&self, what: &str, deadline: Deadline) -> Result<Arc<View>, Error> {
        self.wait_for_view(deadline).await.ok_or_else(|| self.not_connected(what, deadline))
    }

    async fn wait_for_view(&self, deadline: Deadline) -> Option<Arc<View>> {
        let mut state = self.state.clone();
        let up = timeout_at(deadline.at, state.wait_for(|state| state.link.is_up())).await;
        up.ok()?.ok()?.view.clone()
    }

    async fn call(
        &self,
        method: &'static str,
        params: Json,
        effect: Effect,
        deadline: Deadline,
    ) -> Result<Box<RawValue>, Error> {
        let sent = Arc::new(AtomicBool::new(false));
        let (reply, answer) = oneshot::channel();
        let call = Call { method, params, deadline, sent: Arc::clone(&sent), reply };
        let asked = async {
            self.commands.send(Command::Call(call)).await.ok()?;
            answer.await.ok()
        };
        let outcome = timeout_at(deadline.at, asked).await;
        let was_sent = sent.load(Ordering::Acquire);
        match outcome {
            Ok(Some(Answered::Result(raw))) => Ok(raw),
            Ok(Some(Answered::Refused(error))) => {
                Err(Error::CallRefused { method: method.to_owned(), tag: error.tag, details: error.details })
            }
            Ok(Some(Answered::Broken(why))) => Err(self.broken(method, effect, why)),
            Ok(None) => Err(Error::Ended { what: method.to_owned() }),
            Err(_elapsed) if !was_sent => Err(self.not_connected(method, deadline)),
            Err(_elapsed) if effect == Effect::Change => {
                Err(Error::OutcomeUnknown { remote: self.remote.clone(), source: None })
            }
            Err(_elapsed) => Err(Error::TimedOut {
                what: method.to_owned(),
                remote: self.remote.clone(),
                within: deadline.within(),
            }),
        }
    }

    fn broken(&self, method: &str, effect: Effect, why: Arc<LinkError>) -> Error {
        let remote = self.remote.clone();
        if effect == Effect::Change {
            Error::OutcomeUnknown { remote, source: Some(why) }
        } else {
            Error::ConnectionLost { what: method.to_owned(), remote, source: why }
        }
    }

    fn not_connected(&self, what: &str, deadline: Deadline) -> Error {
        let source = match &self.state.borrow().link {
            Link::Down { why, .. } => why.clone(),
            Link::Up { .. } => None,
        };
        Error::NotConnected {
            what: what.to_owned(),
            remote: self.remote.clone(),
            within: deadline.within(),
            source,
        }
    }
}
