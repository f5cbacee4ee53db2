//! What can go wrong, as values. A caller rarely needs to know which variant it is: [`Error::class`] says whether the
//! same call may simply be made again, whether the world has to be looked at first, or whether it never will work.

use std::sync::Arc;
use std::time::Duration;

use super::monitor::SchemaMismatch;
use super::remote::Remote;
use super::replica::apply::Inconsistent;
use super::txn::TxnError;
use super::wire::{MessageError, SplitError};

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing happened; the same call may work later.
    Retry,
    /// The database is not what the call assumed, or it is unknown whether the change happened: read again, decide
    /// again.
    Conflict,
    /// The same call will fail for ever.
    Permanent,
}

/// A call on a session failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There was no connection until the deadline.
    #[error("{what}: no connection to {remote} within {within:?}")]
    NotConnected {
        /// The call.
        what: String,
        /// The server.
        remote: Remote,
        /// How long we waited.
        within: Duration,
        /// Why the last attempt failed, if one did.
        #[source]
        source: Option<Arc<LinkError>>,
    },
    /// The server did not answer a call that changes nothing.
    #[error("{what}: no answer from {remote} within {within:?}")]
    TimedOut {
        /// The call.
        what: String,
        /// The server.
        remote: Remote,
        /// How long we waited.
        within: Duration,
    },
    /// The connection broke before the server answered a call that changes nothing.
    #[error("{what}: the connection to {remote} broke")]
    ConnectionLost {
        /// The call.
        what: String,
        /// The server.
        remote: Remote,
        /// Why.
        #[source]
        source: Arc<LinkError>,
    },
    /// A transaction was sent and its answer never came: it may be committed or not.
    #[error("a transaction was sent to {remote} and not answered: it may have happened")]
    OutcomeUnknown {
        /// The server.
        remote: Remote,
        /// Why, if the connection broke.
        #[source]
        source: Option<Arc<LinkError>>,
    },
    /// A row is not as the transaction assumed; nothing was changed.
    #[error("the database changed: {believed} no longer holds")]
    GuardFailed {
        /// What the guard said.
        believed: String,
    },
    /// An operation on one row met none or several. With the guards this means the server is wrong.
    #[error("{what} met {count} rows instead of 1")]
    Miscounted {
        /// The operation.
        what: String,
        /// How many rows it met.
        count: i64,
    },
    /// The transaction needs a lock that somebody else has.
    #[error("the lock {name:?} is not ours")]
    LockNotHeld {
        /// The lock.
        name: String,
    },
    /// The server refused the transaction; nothing was changed.
    #[error("the server refused {during}: {tag}{}{details}", if details.is_empty() { "" } else { ": " })]
    Refused {
        /// Which operation, or the commit.
        during: String,
        /// The server's error, a fixed text such as `constraint violation`.
        tag: String,
        /// Its explanation.
        details: String,
    },
    /// The server refused another call.
    #[error("the server refused {method}: {tag}{}{details}", if details.is_empty() { "" } else { ": " })]
    CallRefused {
        /// The method.
        method: String,
        /// The server's error.
        tag: String,
        /// Its explanation.
        details: String,
    },
    /// The transaction does not fit this server's schema.
    #[error("the transaction does not fit the server's schema")]
    Txn {
        /// What does not fit.
        #[source]
        source: TxnError,
    },
    /// The answer is not what the protocol says.
    #[error("the answer to {method} cannot be read: {start}")]
    Answer {
        /// The method.
        method: String,
        /// The answer's first characters.
        start: String,
        /// What is wrong.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The answer has the wrong shape.
    #[error("{what}")]
    Unexpected {
        /// What is wrong.
        what: String,
    },
    /// Something that was waited for did not happen.
    #[error("{what} did not happen within {within:?}")]
    DidNotHappen {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// The session's task has ended, because the runtime is shutting down.
    #[error("{what}: the session has ended")]
    Ended {
        /// The call.
        what: String,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            // A schema that lacks what we need does not get better by asking again.
            Self::NotConnected { source: Some(why), .. } if matches!(**why, LinkError::Schema { .. }) => {
                Class::Permanent
            }
            Self::NotConnected { .. }
            | Self::TimedOut { .. }
            | Self::ConnectionLost { .. }
            | Self::DidNotHappen { .. } => Class::Retry,
            Self::OutcomeUnknown { .. }
            | Self::GuardFailed { .. }
            | Self::Miscounted { .. }
            | Self::LockNotHeld { .. } => Class::Conflict,
            Self::Refused { tag, .. } | Self::CallRefused { tag, .. } => class_of(tag),
            Self::Txn { .. } | Self::Answer { .. } | Self::Unexpected { .. } | Self::Ended { .. } => {
                Class::Permanent
            }
        }
    }
}

/// The class of the server's fixed error texts (RFC 7047 §3.1, §4.1.3, §5.2 and ovsdb-server's own).
fn class_of(tag: &str) -> Class {
    match tag {
        "I/O error" | "resources exhausted" | "canceled" | "timed out" | "not leader" => Class::Retry,
        "referential integrity violation" | "not owner" => Class::Conflict,
        _ => Class::Permanent,
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server cannot be reached.
    #[error("cannot connect to {remote}")]
    Connect {
        /// The server.
        remote: Remote,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Connecting took too long.
    #[error("cannot connect to {remote}: no answer within {within:?}")]
    ConnectTimedOut {
        /// The server.
        remote: Remote,
        /// How long we waited.
        within: Duration,
    },
    /// Reading or writing failed.
    #[error("the connection failed")]
    Io {
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The server closed the connection.
    #[error("the server closed the connection{}", if *mid_message { " in the middle of a message" } else { "" })]
    Closed {
        /// Whether part of a message had arrived.
        mid_message: bool,
    },
    /// The server answers nothing, not even an echo.
    #[error("the server has been silent for {silent:?} and did not answer an echo")]
    Silent {
        /// For how long.
        silent: Duration,
    },
    /// The greeting (schema, first snapshot) took too long.
    #[error("the server did not answer {method} within {within:?}")]
    Greeting {
        /// The call that was not answered.
        method: &'static str,
        /// How long we waited.
        within: Duration,
    },
    /// The server refused a call of the greeting.
    #[error("the server refused {method}: {tag}{}{details}", if details.is_empty() { "" } else { ": " })]
    GreetingRefused {
        /// The call.
        method: &'static str,
        /// The server's error.
        tag: String,
        /// Its explanation.
        details: String,
    },
    /// The byte stream is not OVSDB.
    #[error("the server does not speak OVSDB")]
    Split {
        /// What is wrong.
        #[source]
        source: SplitError,
    },
    /// A message is not OVSDB.
    #[error("the server does not speak OVSDB")]
    Message {
        /// What is wrong.
        #[source]
        source: MessageError,
    },
    /// A message of the right form has contents that cannot be read.
    #[error("{what} cannot be read")]
    Contents {
        /// The message.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// An update does not fit our copy.
    #[error("our copy no longer agrees with the server")]
    Inconsistent {
        /// How.
        #[source]
        source: Inconsistent,
    },
    /// The server's schema lacks what we need.
    #[error("the server's schema is not enough")]
    Schema {
        /// What it lacks.
        #[source]
        source: SchemaMismatch,
    },
}
