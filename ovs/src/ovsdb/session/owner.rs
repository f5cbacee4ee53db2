//! The one task that owns connection, copy and open calls. Nothing here is shared or locked: handles send commands,
//! the task publishes states. It connects, greets, serves until something breaks, and starts again.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::call::Command;
use super::connection::Connection;
use super::greeting::{self, Met};
use super::lock::Locks;
use super::options::Options;
use super::serve::Serving;
use super::state::{Batch, Cause, Link, State};
use crate::ovsdb::backoff::Backoff;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::monitor::Monitor;
use crate::ovsdb::remote::Remote;
use crate::ovsdb::replica::apply::Inconsistent;
use crate::ovsdb::replica::decode::TableUpdate;
use crate::ovsdb::replica::{Change, View};

pub(super) struct Owner {
    pub(super) remote: Remote,
    pub(super) monitor: Monitor,
    pub(super) options: Options,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) publish: Publisher,
    pub(super) locks: Locks,
    /// Numbers the monitors of this session, so that a late update of an old one is recognised.
    pub(super) round: u64,
}

/// Shows views and events to whoever listens.
pub(super) struct Publisher {
    pub(super) state: watch::Sender<Arc<State>>,
    pub(super) changes: broadcast::Sender<Arc<Batch>>,
}

impl Publisher {
    /// Shows a whole new view together with the link that it came over.
    fn snapshot(&self, view: View, link: Link) {
        let (mut generation, mut cause, mut changes) = (0, Cause::First, Vec::new());
        let heard = self.changes.receiver_count() > 0;
        self.state.send_modify(|state| {
            let next = Arc::make_mut(state);
            if heard {
                changes = view.changes_since(next.view.as_deref());
            }
            if next.view.is_some() {
                cause = Cause::Resync;
            }
            next.view = Some(Arc::new(view));
            next.link = link;
            next.generation += 1;
            generation = next.generation;
        });
        self.tell(cause, generation, changes);
    }

    /// Applies an update to the view in place; readers that hold the old one keep it.
    pub(super) fn update(&self, updates: Vec<TableUpdate>) -> Result<(), Inconsistent> {
        let mut outcome = Ok((0, Vec::new()));
        self.state.send_if_modified(|state| {
            let next = Arc::make_mut(state);
            let Some(view) = next.view.as_mut() else { return false };
            outcome = Arc::make_mut(view).apply(updates).map(|changes| {
                next.generation += 1;
                (next.generation, changes)
            });
            outcome.is_ok()
        });
        let (generation, changes) = outcome?;
        self.tell(Cause::Update, generation, changes);
        Ok(())
    }

    fn tell(&self, cause: Cause, generation: u64, changes: Vec<Change>) {
        if !changes.is_empty() {
            // Nobody listening is fine.
            drop(self.changes.send(Arc::new(Batch { cause, generation, changes })));
        }
    }

    fn link(&self, link: Link) {
        self.state.send_modify(|state| Arc::make_mut(state).link = link);
    }

    pub(super) fn view(&self) -> Option<Arc<View>> {
        self.state.borrow().view.clone()
    }
}

impl Owner {
    /// Runs until the last handle is gone.
    pub(super) async fn run(mut self) {
        let listeners = self.publish.state.clone();
        tokio::select! {
            () = listeners.closed() => {}
            () = self.keep_connected() => {}
        }
    }

    async fn keep_connected(&mut self) {
        let mut backoff = Backoff::new(self.options.backoff_first, self.options.backoff_most);
        let mut failed = 0_u32;
        loop {
            let error = match self.meet().await {
                Ok((connection, met)) => {
                    info!(remote = %self.remote, server_id = met.server_id, method = met.method.name(),
                          "connected to OVSDB");
                    backoff.reset();
                    failed = 0;
                    let error = Serving::new(self, connection, met).run_to_end().await;
                    warn!(remote = %self.remote, error = %chain(&error), "lost the connection to OVSDB");
                    error
                }
                Err(error) => {
                    // Said once per outage; the state has every attempt.
                    if failed == 0 {
                        warn!(remote = %self.remote, error = %chain(&error), "cannot reach OVSDB, trying on");
                    } else {
                        debug!(remote = %self.remote, error = %chain(&error), failed, "cannot reach OVSDB");
                    }
                    failed = failed.saturating_add(1);
                    Arc::new(error)
                }
            };
            self.locks.lost();
            self.publish.link(Link::Down { failed, why: Some(error) });
            sleep_until(Instant::now() + backoff.next_wait()).await;
        }
    }

    async fn meet(&mut self) -> Result<(Connection, Met), LinkError> {
        let mut connection = Connection::open(&self.remote, &self.options).await?;
        let met = self.greet(&mut connection).await?;
        Ok((connection, met))
    }

    /// Greets, or greets again after the schema changed, and shows the new view with what is different.
    pub(super) async fn greet(&mut self, connection: &mut Connection) -> Result<Met, LinkError> {
        self.round += 1;
        let (met, view) = greeting::greet(connection, &self.monitor, &self.options, self.round).await?;
        let link = Link::Up { server_id: met.server_id.clone(), method: met.method };
        self.publish.snapshot(view, link);
        Ok(met)
    }
}

/// An error with its causes, for a log line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
