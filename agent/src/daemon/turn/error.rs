//! What can go wrong in the talk with the API server.

use std::time::Duration;

/// A request that was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    /// The API server refused it, or could not be reached.
    #[error("cannot {verb} {object}")]
    Ask {
        /// What was attempted.
        verb: &'static str,
        /// On what, kind and name.
        object: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// No answer in time.
    #[error("cannot {verb} {object}: no answer within {limit:?}")]
    Slow {
        /// What was attempted.
        verb: &'static str,
        /// On what, kind and name.
        object: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The object cannot be written as JSON.
    #[error("cannot write {object} as JSON")]
    Form {
        /// Kind and name.
        object: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl TurnError {
    /// The API server's status code, if it answered.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            TurnError::Ask { source: kube::Error::Api(status), .. } => Some(status.code),
            TurnError::Ask { .. } | TurnError::Slow { .. } | TurnError::Form { .. } => None,
        }
    }

    /// It and why, in one clause.
    pub(super) fn words(&self) -> String {
        match self {
            TurnError::Ask { source: kube::Error::Api(status), .. } => format!("{self}: {}", status.message),
            TurnError::Ask { .. } | TurnError::Slow { .. } | TurnError::Form { .. } => {
                portwright_core::drive::chain(self)
            }
        }
    }
}
