//! The control sockets of Open vSwitch's daemons (ovs-appctl(8)): the same JSON-RPC, one command per connection. It is
//! the one safe way to see whether ovs-vswitchd lives: asking for its database lock would be granted while it is down
//! and would then keep it from starting.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout_at;

use crate::ovsdb::wire::message::{Incoming, shorten};
use crate::ovsdb::{Deadline, MessageError, SplitError, Splitter};

/// The longest answer that is accepted, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A command to a daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum UnixctlError {
    /// No control socket of that daemon.
    #[error("{daemon} is not running: no {daemon}.<pid>.ctl in {}", directory.display())]
    NotRunning {
        /// The daemon.
        daemon: String,
        /// Where we looked.
        directory: PathBuf,
    },
    /// The folder cannot be read.
    #[error("cannot look for control sockets in {}", directory.display())]
    Directory {
        /// Where we looked.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody listens on the socket: the daemon died without removing it.
    #[error("cannot reach {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection failed.
    #[error("{command} on {}: the connection failed", socket.display())]
    Io {
        /// The command.
        command: String,
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer in time: the daemon is stopped or stuck.
    #[error("{command} on {}: no answer within {within:?}", socket.display())]
    TimedOut {
        /// The command.
        command: String,
        /// The socket.
        socket: PathBuf,
        /// How long we waited.
        within: Duration,
    },
    /// The daemon refused the command.
    #[error("{command} on {}: {said}", socket.display())]
    Refused {
        /// The command.
        command: String,
        /// The socket.
        socket: PathBuf,
        /// What it said.
        said: String,
    },
    /// The answer is not an answer.
    #[error("{command} on {}: the answer cannot be read", socket.display())]
    Answer {
        /// The command.
        command: String,
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        #[source]
        source: AnswerError,
    },
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The byte stream is not JSON-RPC.
    #[error("not JSON-RPC")]
    Split {
        /// What is wrong.
        #[source]
        source: SplitError,
    },
    /// The message is not an answer.
    #[error("not an answer")]
    Message {
        /// What is wrong.
        #[source]
        source: MessageError,
    },
    /// Something else than an answer with a text.
    #[error("expected an answer with a text, got {start}")]
    Shape {
        /// Its first characters.
        start: String,
    },
}

/// A daemon's control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unixctl {
    socket: PathBuf,
}

impl Unixctl {
    /// A socket that is known.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket of ovs-vswitchd in Open vSwitch's run directory. A daemon that was killed leaves its socket behind,
    /// so the one that the pid file names is preferred.
    ///
    /// # Errors
    /// [`UnixctlError::NotRunning`] or [`UnixctlError::Directory`].
    pub async fn of_vswitchd(run_directory: &Path) -> Result<Self, UnixctlError> {
        Self::of(run_directory, "ovs-vswitchd").await
    }

    async fn of(run_directory: &Path, daemon: &str) -> Result<Self, UnixctlError> {
        let directory = || run_directory.to_owned();
        let failed = |source| UnixctlError::Directory { directory: directory(), source };
        let pid =
            tokio::fs::read_to_string(run_directory.join(format!("{daemon}.pid"))).await.unwrap_or_default();
        let named = format!("{daemon}.{}.ctl", pid.trim());
        let mut entries = tokio::fs::read_dir(run_directory).await.map_err(failed)?;
        let mut found = None;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let number =
                name.strip_prefix(daemon).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".ctl"));
            if number.is_some_and(|number| number.parse::<u32>().is_ok())
                && (found.is_none() || name == named)
            {
                found = Some(entry.path());
            }
        }
        match found {
            Some(socket) => Ok(Self { socket }),
            None => Err(UnixctlError::NotRunning { daemon: daemon.to_owned(), directory: directory() }),
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process that listens, as the kernel knows it in this process's own namespace; none if nobody does.
    pub async fn pid(&self) -> Option<u32> {
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        u32::try_from(stream.peer_cred().ok()?.pid()?).ok().filter(|pid| *pid != 0)
    }

    /// The daemon's version, such as `ovs-vswitchd (Open vSwitch) 3.1.0`.
    ///
    /// # Errors
    /// [`UnixctlError`].
    pub async fn version(&self, deadline: Deadline) -> Result<String, UnixctlError> {
        let text = self.call("version", &[], deadline).await?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Forgets learned addresses of a bridge, which makes ovs-vswitchd look at every cached flow again. Before Open
    /// vSwitch 3.1.6, and for the removal of a mirror in every version, only this makes busy flows follow a change of
    /// mirrors.
    ///
    /// # Errors
    /// [`UnixctlError::Refused`] if there is no such bridge.
    pub async fn flush_fdb(&self, bridge: &str, deadline: Deadline) -> Result<(), UnixctlError> {
        self.call("fdb/flush", &[bridge], deadline).await.map(drop)
    }

    /// Runs a command and gives its output.
    ///
    /// # Errors
    /// [`UnixctlError`].
    pub async fn call(
        &self,
        command: &str,
        args: &[&str],
        deadline: Deadline,
    ) -> Result<String, UnixctlError> {
        match timeout_at(deadline.at, self.exchange(command, args)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(UnixctlError::TimedOut {
                command: command.to_owned(),
                socket: self.socket.clone(),
                within: deadline.within(),
            }),
        }
    }

    async fn exchange(&self, command: &str, args: &[&str]) -> Result<String, UnixctlError> {
        let socket = || self.socket.clone();
        let io = |source| UnixctlError::Io { command: command.to_owned(), socket: socket(), source };
        let unreadable =
            |source| UnixctlError::Answer { command: command.to_owned(), socket: socket(), source };
        let mut stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| UnixctlError::Connect { socket: socket(), source })?;
        let request = json!({"id": 0, "method": command, "params": args}).to_string();
        stream.write_all(request.as_bytes()).await.map_err(io)?;
        let mut splitter = Splitter::new(MAX_ANSWER);
        let message = loop {
            let next = splitter.next_message().map_err(|source| unreadable(AnswerError::Split { source }))?;
            if let Some(message) = next {
                break message;
            }
            if stream.read_buf(splitter.buffer()).await.map_err(io)? == 0 {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let shape = || AnswerError::Shape { start: shorten(&String::from_utf8_lossy(&message)) };
        match Incoming::parse(&message).map_err(|source| unreadable(AnswerError::Message { source }))? {
            Incoming::Reply { result: Ok(text), .. } => {
                text.and_then(|raw| serde_json::from_str(raw.get()).ok()).ok_or_else(|| unreadable(shape()))
            }
            Incoming::Reply { result: Err(error), .. } => Err(UnixctlError::Refused {
                command: command.to_owned(),
                socket: socket(),
                said: error.tag.trim().to_owned(),
            }),
            Incoming::Request { .. } | Incoming::Notification { .. } => Err(unreadable(shape())),
        }
    }
}
