//! One request with one deadline, and an error that says what it was for.

use std::future::Future;
use std::time::Duration;

/// How long a request may take from its first byte to the answer's last.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The API server's refusal, or the way to it.
    #[error("cannot {what}")]
    Api {
        /// What was attempted on what.
        what: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// No complete answer in time.
    #[error("cannot {what}: no answer within {} s", DEADLINE.as_secs())]
    NoAnswer {
        /// What was attempted on what.
        what: String,
    },
}

impl AskError {
    /// The HTTP status, if the API server gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            AskError::Api { source, .. } => {
                if let kube::Error::Api(status) = source.as_ref() {
                    Some(status.code)
                } else {
                    None
                }
            }
            AskError::NoAnswer { .. } => None,
        }
    }

    /// The field that the resource's definition does not declare, if that is why something that was applied was refused. The
    /// API server answers HTTP 500 then, without a reason, although asking again does not help.
    pub fn undeclared(&self) -> Option<&str> {
        let AskError::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = source.as_ref() else { return None };
        let (before, _) = status.message.split_once(": field not declared in schema")?;
        before.split_whitespace().next_back().filter(|_| status.code == 500)
    }
}

/// Waits for an answer, but not for ever.
///
/// # Errors
/// There is none, or it is a refusal.
pub async fn ask<T>(
    what: impl Into<String>,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, AskError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(AskError::Api { what: what.into(), source: Box::new(source) }),
        Err(_) => Err(AskError::NoAnswer { what: what.into() }),
    }
}

/// Logs the first of several failures in a row, and that they are over.
#[derive(Debug, Default)]
pub struct Trouble {
    lasting: bool,
}

impl Trouble {
    /// It failed.
    pub fn failed(&mut self, error: &AskError) {
        let error = portwright_core::drive::chain(error);
        if std::mem::replace(&mut self.lasting, true) {
            tracing::debug!(error, "still failing");
        } else {
            tracing::warn!(error, "will be tried again");
        }
    }

    /// It worked.
    pub fn over(&mut self, what: &str) {
        if std::mem::take(&mut self.lasting) {
            tracing::info!(what, "works again");
        }
    }
}
