//! Why a step was not done, with what to do about it.

use std::io;
use std::path::PathBuf;

use portwright_core::{Object, PciAddress, VfRef};

use crate::child::ChildError;
use crate::inventory::ObserveError;
use crate::journal::JournalError;
use crate::lock::LockError;
use crate::netlink::NetlinkError;
use crate::root::ReadError;
use crate::write::WriteError;

use super::hint;

/// A node that could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another process changes the node.
    #[error("the node cannot be changed now")]
    Lock {
        /// Who.
        #[source]
        source: LockError,
    },
    /// There is no inventory.
    #[error("the node cannot be looked at")]
    Observe {
        /// Why.
        #[source]
        source: ObserveError,
    },
    /// One file could not be read.
    #[error("{object} cannot be looked at")]
    Read {
        /// What was looked at.
        object: Object,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// netlink, devlink or the event sockets failed or refused.
    #[error("a netlink request for {object} failed")]
    Netlink {
        /// What it is about.
        object: Object,
        /// Why.
        #[source]
        source: Box<NetlinkError>,
    },
    /// The kernel refused a write.
    #[error("{sentence}")]
    Refused {
        /// What was not possible and what that usually means.
        sentence: String,
        /// What to do.
        hint: Option<&'static str>,
        /// File, value and error number.
        #[source]
        source: Box<ChildError>,
    },
    /// A write has not returned.
    #[error("{pf} is stuck: {what}")]
    Stuck {
        /// The PF.
        pf: PciAddress,
        /// What has not returned, since when, and which process waits.
        what: String,
    },
    /// The driver made fewer VFs than asked and reported success.
    #[error("{pf}: {wanted} VFs were asked for and the driver made {made}, reporting success")]
    PartialEnable {
        /// The PF.
        pf: PciAddress,
        /// Asked for.
        wanted: u16,
        /// There.
        made: u16,
    },
    /// The kernel accepted a write and nothing, or something else, came of it.
    #[error("{object}: {what} was accepted, but then there was {found} instead of {wanted}")]
    NotReadBack {
        /// What it is about.
        object: Object,
        /// What was done (`probing its driver`).
        what: &'static str,
        /// What should be there.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A VF's driver is bound and its netdev has not come.
    #[error("{vf}: driver {driver} is bound, but no netdev appeared within {millis} ms")]
    NoNetdev {
        /// The VF.
        vf: VfRef,
        /// Its driver.
        driver: String,
        /// The profile's deadline in milliseconds.
        millis: u64,
    },
    /// What the step works on went away while it ran.
    #[error("{object} changed while the step ran: {found}")]
    Gone {
        /// What went away.
        object: Object,
        /// What was found.
        found: String,
    },
    /// The PF or VF has no netdev to set something on.
    #[error("{object} has no netdev in this network namespace")]
    NetdevGone {
        /// The PF or VF.
        object: Object,
    },
    /// The journal could not be written, so the change was not made.
    #[error("nothing was changed, because it could not be journalled first")]
    Journal {
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The journal could not be written after a change.
    #[error("the node was changed, but the journal could not be told how far the step came")]
    NotJournalled {
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The claim on a PF could not be taken.
    #[error("{pf} cannot be claimed for writing")]
    Claim {
        /// The PF.
        pf: PciAddress,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// A file of ours could not be written.
    #[error("the udev rule was not written")]
    Write {
        /// Why.
        #[source]
        source: WriteError,
    },
    /// A program of the host could not be run.
    #[error("{program} cannot be run")]
    Program {
        /// The program (`modprobe`).
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("`{command}` failed: {text}")]
    ProgramFailed {
        /// The command with its arguments.
        command: String,
        /// What it wrote, or how it ended.
        text: String,
    },
    /// There is no such program on the host.
    #[error("there is no {program} on this host (looked for {})", paths(.looked_for))]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        looked_for: Vec<PathBuf>,
    },
    /// A change on an object that cannot have it.
    #[error("`{action}` is not a change of {object}")]
    Misplaced {
        /// The object.
        object: Object,
        /// The change.
        action: &'static str,
    },
}

fn paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

impl HostError {
    /// netlink failed or refused on an object.
    pub(crate) fn netlink(object: Object, source: NetlinkError) -> HostError {
        HostError::Netlink { object, source: Box::new(source) }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            HostError::Lock { source } => source.hint(),
            HostError::Netlink { source, .. } => source.hint(),
            HostError::Refused { hint, source, .. } => {
                hint.map(str::to_owned).or_else(|| hint::of_errno(source.errno()?))
            }
            HostError::Stuck { .. } => Some(
                "find and end what holds its VFs (a VM, a DPDK process); a reboot is the last resort"
                    .to_owned(),
            ),
            HostError::PartialEnable { made, .. } => Some(format!(
                "ask for {made} VFs, or raise the limit in the NIC's firmware; the kernel log says why it made fewer"
            )),
            HostError::NotReadBack { .. } => {
                Some("the kernel log (dmesg) says why the driver did not take the device".to_owned())
            }
            HostError::NoNetdev { .. } => Some(
                "see the kernel log; if the driver is only slow, raise netdev-deadline-ms in its profile"
                    .to_owned(),
            ),
            HostError::NetdevGone { .. } => Some(
                "it may be in a pod's network namespace, or its driver has no network interface".to_owned(),
            ),
            HostError::Journal { .. } | HostError::NotJournalled { .. } => {
                Some("make the state directory writable, or name another".to_owned())
            }
            HostError::Claim { .. } => Some("run as root, with /run writable".to_owned()),
            HostError::Write { .. } => Some("make /etc/udev/rules.d of the host writable".to_owned()),
            HostError::Read { source, .. } => hint::of_errno(source.errno()?),
            HostError::NoProgram { program: "modprobe", .. } => {
                Some("load the module on the host, for example through /etc/modules-load.d".to_owned())
            }
            HostError::Gone { .. } => Some("the next reconcile starts from what is there then".to_owned()),
            HostError::ProgramFailed { .. }
            | HostError::Program { .. }
            | HostError::NoProgram { .. }
            | HostError::Observe { .. }
            | HostError::Misplaced { .. } => None,
        }
    }
}
