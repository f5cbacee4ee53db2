//! What a session shows to those who look: whether there is a connection, and the last consistent view.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::greeting::MonitorMethod;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::replica::{Change, View};

/// The connection.
#[derive(Debug, Clone)]
pub enum Link {
    /// Not connected: connecting, waiting to try again, or fetching the first snapshot.
    Down {
        /// Attempts that failed since the last success.
        failed: u32,
        /// Why the last one failed or the last connection broke.
        why: Option<Arc<LinkError>>,
    },
    /// Connected, and the view is current.
    Up {
        /// The server's id, which changes when it restarts; none if it does not say.
        server_id: Option<String>,
        /// How updates come.
        method: MonitorMethod,
    },
}

impl Link {
    /// Whether there is a connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            Self::Up { .. } => true,
            Self::Down { .. } => false,
        }
    }
}

/// A session at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// The connection.
    pub link: Link,
    /// The last consistent view; stays while the connection is down. None until the first snapshot.
    pub view: Option<Arc<View>>,
    /// Counts views; a reader that remembers it knows whether there is a newer one.
    pub generation: u64,
}

/// Why there is a new view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The first snapshot of this session: every row is new.
    First,
    /// A transaction, ours or another's.
    Update,
    /// A snapshot after a lost connection or a changed schema, compared with what we had.
    Resync,
}

/// Everything that changed from one view to the next.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Why.
    pub cause: Cause,
    /// The view's number, see [`State::generation`].
    pub generation: u64,
    /// The rows, in order of table and identity.
    pub changes: Vec<Change>,
}

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Event {
    /// Rows changed.
    Changed(Arc<Batch>),
    /// The listener was too slow and missed batches; the view itself has everything.
    Missed {
        /// How many batches.
        batches: u64,
    },
}

/// Hears of changes in order. A slow listener is told that it missed some; it never slows the session down.
#[derive(Debug)]
pub struct Changes {
    pub(super) receiver: broadcast::Receiver<Arc<Batch>>,
}

impl Changes {
    /// The next event; none when the session has ended. May be dropped while waiting without losing anything.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(batch) => Some(Event::Changed(batch)),
            Err(broadcast::error::RecvError::Lagged(batches)) => Some(Event::Missed { batches }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
