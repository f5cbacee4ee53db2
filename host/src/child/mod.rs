//! Writes that may never return are made in a process of their own.
//!
//! A write of `sriov_numvfs`, an unbind or an e-switch change can wait for as long as somebody holds a VF, and cannot be
//! killed meanwhile. So a child makes it: the program runs itself again with a hidden first argument, takes commands on its
//! standard input, one JSON document a line, and answers one line each. The parent waits for the answer until a deadline;
//! then the child is left alone, its PF counts as stuck, and everything else goes on. A child whose parent has died finds
//! its input closed and ends.

mod claim;
mod serve;
mod writer;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use portwright_core::desired::EswitchMode;

pub use crate::program::{HOST_ARGUMENT, become_the_hosts};
pub(crate) use claim::{Claim, Refusal, busy, claimed};
pub use serve::child_main;
pub use writer::{Launcher, Writer};

/// First argument that makes the program a writer.
pub const WRITER_ARGUMENT: &str = "__writer";

/// One command to a writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Command {
    /// Writes `text` to an existing file in one go.
    Write {
        /// The file.
        path: PathBuf,
        /// What is written.
        text: String,
    },
    /// Sets an e-switch mode by devlink.
    Eswitch {
        /// `bus/name`.
        device: String,
        /// The mode.
        mode: EswitchMode,
    },
}

impl Command {
    /// What the command is about, for messages: the file, or the devlink device.
    pub fn target(&self) -> String {
        match self {
            Command::Write { path, .. } => path.display().to_string(),
            Command::Eswitch { device, .. } => format!("e-switch of {device}"),
        }
    }

    fn words(&self) -> String {
        match self {
            Command::Write { path, text } => format!("writing `{text}` to {}", path.display()),
            Command::Eswitch { device, mode } => format!("setting the e-switch of {device} to {mode}"),
        }
    }
}

/// A writer's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
enum Answer {
    Done,
    /// The kernel refused.
    Refused {
        /// Error number; 0 if there is none.
        errno: i32,
        /// The kernel's or our own words.
        text: String,
    },
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process could not be started.
    #[error("cannot start a writer process from {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{what}: {text}")]
    Refused {
        /// `writing `7` to /sys/…/sriov_numvfs`.
        what: String,
        /// Error number, if there is one.
        errno: Option<Errno>,
        /// The kernel's words: `EBUSY: Device or resource busy`.
        text: String,
    },
    /// The write has not returned. It may still do so.
    #[error("{what} has not returned after {} s; process {pid} waits for it and cannot be killed", after.as_secs())]
    Stuck {
        /// What was attempted.
        what: String,
        /// The writer.
        pid: u32,
        /// The deadline that has passed.
        after: Duration,
    },
    /// The writer ended without an answer.
    #[error("{what}: the writer process {pid} ended without an answer")]
    Ended {
        /// What was attempted.
        what: String,
        /// The writer.
        pid: u32,
        /// Why, if it is known.
        #[source]
        source: Option<io::Error>,
    },
}

impl ChildError {
    /// The kernel's error number, if it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            ChildError::Refused { errno, .. } => *errno,
            ChildError::Start { source, .. } => source.raw_os_error().map(Errno::from_raw),
            ChildError::Stuck { .. } | ChildError::Ended { .. } => None,
        }
    }
}
