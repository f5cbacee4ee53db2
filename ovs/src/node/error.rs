//! How looking at the switch or changing it fails, and what to do about it.

use crate::ovsdb::{Error, Remote};
use crate::vswitch::{ReadError, SwitchError};

/// Open vSwitch could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    /// No thread can be started for the connection.
    #[error("cannot start the OVSDB client")]
    Runtime {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is a socket, and no server behind it.
    #[error("ovsdb-server does not listen on {remote}")]
    NobodyListens {
        /// The server.
        remote: Remote,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The switch could not be read.
    #[error("Open vSwitch could not be read")]
    Read {
        /// Why.
        #[source]
        source: Box<SwitchError>,
    },
    /// A change was refused, or not carried out.
    #[error("changing {target} failed")]
    Change {
        /// The bridge.
        target: String,
        /// Why.
        #[source]
        source: Box<SwitchError>,
    },
    /// The mirrors are changed, and busy flows could not be made to follow.
    #[error("the mirrors of bridge {bridge} are changed, but busy flows may not follow")]
    Flows {
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: Box<SwitchError>,
    },
    /// A step that is not of Open vSwitch. The planner makes none; a step is only data.
    #[error("`{step}` is no change of Open vSwitch")]
    Misplaced {
        /// The step.
        step: String,
    },
}

impl OvsError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Runtime { .. } => "raise the limit of threads and of open files",
            Self::NobodyListens { .. } => "start ovsdb-server, or name its socket with `--ovsdb`",
            Self::Misplaced { .. } => return None,
            Self::Read { source } | Self::Change { source, .. } | Self::Flows { source, .. } => {
                of_switch(source)?
            }
        };
        Some(hint.to_owned())
    }
}

fn of_switch(error: &SwitchError) -> Option<&'static str> {
    match error {
        SwitchError::NotApplied { .. } => Some(
            "start ovs-vswitchd, or look into its log; it carries out what the database holds as soon as it runs",
        ),
        SwitchError::Unreadable { source: ReadError::NotInitialised, .. } => {
            Some("run `ovs-vsctl --no-wait init`, or start Open vSwitch with its own script")
        }
        SwitchError::Database { source, .. } => of_database(source),
    }
}

fn of_database(error: &Error) -> Option<&'static str> {
    match error {
        Error::Refused { tag, .. } => match tag.as_str() {
            "I/O error" => Some("free space on the disk that holds Open vSwitch's conf.db, then apply again"),
            "not allowed" => {
                Some("this ovsdb-server is read-only (a backup); name the active one with `--ovsdb`")
            }
            "constraint violation" => Some("a row of that name is there; run `portwright plan` again"),
            _ => None,
        },
        Error::NotConnected { .. } | Error::TimedOut { .. } | Error::ConnectionLost { .. } => {
            Some("`portwright ovs ping` tells which daemon answers; `--timeout` gives more time")
        }
        Error::OutcomeUnknown { .. } => Some("run `portwright plan` to see whether it happened"),
        // These say all there is to say.
        Error::GuardFailed { .. }
        | Error::Miscounted { .. }
        | Error::LockNotHeld { .. }
        | Error::CallRefused { .. }
        | Error::Txn { .. }
        | Error::Answer { .. }
        | Error::Unexpected { .. }
        | Error::DidNotHappen { .. }
        | Error::Ended { .. } => None,
    }
}
