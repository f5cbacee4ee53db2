//! Asks the daemon of this node.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use portwright_api::NodeStateContent;
use tokio::net::UnixStream;

/// A state has at most a megabyte; anything much larger is something else.
const LARGEST: usize = 16 << 20;
/// How long an answer may take that needs no waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no daemon answers at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the daemon at `{}` broke off its answer", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("the daemon at `{}` has not answered within {} s", path.display(), within.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        within: Duration,
    },
    /// It answered that it cannot.
    #[error("the daemon refused: {answer}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        answer: String,
    },
    /// The answer is not what this version reads.
    #[error("the daemon's answer cannot be read")]
    Format {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl AskError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            AskError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root: only root may speak with the daemon"
            }
            AskError::Connect { .. } => {
                "start it (`systemctl start portwright`, or `portwright run`); in a cluster look at the agent's pod on this node"
            }
            AskError::Refused { status: 504, .. } => {
                "`portwright status` shows how far it is; `--timeout` waits longer"
            }
            AskError::Broken { .. } | AskError::Silent { .. } | AskError::Refused { .. } => {
                "look at the daemon's log (`journalctl -u portwright`)"
            }
            AskError::Format { .. } => "use the program of the daemon's version",
        }
    }
}

/// How things are.
///
/// # Errors
/// There is no daemon, or it does not answer.
pub async fn state(path: &Path) -> Result<NodeStateContent, AskError> {
    ask(path, Method::GET, "/state", ANSWER_WITHIN).await
}

/// Starts a round and waits for its end, at most `seconds`.
///
/// # Errors
/// There is no daemon, it does not answer, or the round takes longer.
pub async fn reconcile(path: &Path, seconds: u64) -> Result<NodeStateContent, AskError> {
    let within = Duration::from_secs(seconds).saturating_add(ANSWER_WITHIN);
    ask(path, Method::POST, &format!("/reconcile?within={seconds}"), within).await
}

async fn ask(
    path: &Path,
    method: Method,
    what: &str,
    within: Duration,
) -> Result<NodeStateContent, AskError> {
    let (status, body) = match tokio::time::timeout(within, exchange(path, method, what)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(AskError::Silent { path: path.to_owned(), within }),
    };
    if status != StatusCode::OK {
        let answer = String::from_utf8_lossy(&body).trim_end().to_owned();
        return Err(AskError::Refused { status: status.as_u16(), answer });
    }
    serde_json::from_slice(&body).map_err(|source| AskError::Format { source })
}

async fn exchange(path: &Path, method: Method, what: &str) -> Result<(StatusCode, Bytes), AskError> {
    let broken =
        |source: Box<dyn std::error::Error + Send + Sync>| AskError::Broken { path: path.to_owned(), source };
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| AskError::Connect { path: path.to_owned(), source })?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(error.into()))?;
    let request = Request::builder().method(method).uri(what).header(HOST, "agent");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(error.into()))?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    };
    // The connection moves the bytes; what goes wrong on it is told by the answer.
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => {
            ended.map_err(|error| broken(error.into()))?;
            talk.await
        }
    }
}
