//! What can go wrong with netlink, in words that name operation, object and errno.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// A netlink request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a {family} netlink socket")]
    Open {
        /// `route`, `generic` or `uevent`.
        family: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The request could not be sent or the answer not be received.
    #[error("{operation} {object}: the netlink socket failed")]
    Transfer {
        /// What was attempted (`read VFs of`).
        operation: &'static str,
        /// On what (`ens1f0`, `ifindex 3`).
        object: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel did not answer in time.
    #[error("{operation} {object}: the kernel did not answer within {millis} ms")]
    Deadline {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// Deadline in milliseconds.
        millis: u128,
    },
    /// The kernel said no.
    #[error("{operation} {object}: {errno}{}", sentence(.text))]
    Refused {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// The error number.
        errno: Errno,
        /// The extended acknowledgement: the driver's own sentence.
        text: Option<String>,
    },
    /// The answer is not what it should be. Nothing is concluded from it.
    #[error("{operation} {object}: the kernel's answer cannot be decoded: {why}")]
    Malformed {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// Attribute and what is wrong with it.
        why: String,
    },
    /// The answer did not fit into the buffer.
    #[error("{operation} {object}: the kernel's answer of {length} bytes does not fit into the buffer")]
    Truncated {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// Length of the whole answer in bytes.
        length: usize,
    },
    /// What is listed changed again and again while it was being listed.
    #[error("{operation} {object}: the list changed while it was read, {attempts} times in a row")]
    Unsteady {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A network namespace could not be entered.
    #[error("cannot enter the network namespace {}", path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What helps against which error numbers.
const HINTS: [(&[Errno], &str); 7] = [
    (&[Errno::EPERM, Errno::EACCES], "run as root with CAP_NET_ADMIN in the host's network namespace"),
    (&[Errno::EOPNOTSUPP], "the driver does not have this setting; leave it out of the policy"),
    (&[Errno::ENODEV], "the interface is gone; the next reconcile starts from what is there then"),
    (&[Errno::EBUSY], "something else is using the interface; set it down or end that use"),
    (
        &[Errno::EINVAL, Errno::ERANGE],
        "the driver does not take this value, or not in its present state; the kernel log (dmesg) may say why",
    ),
    (&[Errno::EADDRNOTAVAIL], "the driver does not take this hardware address; a unicast address is needed"),
    (&[Errno::EMFILE, Errno::ENFILE], "too many open files: raise the limit of the process or the node"),
];

fn sentence(text: &Option<String>) -> String {
    text.as_ref().map_or_else(String::new, |text| format!(" (the kernel says: {text})"))
}

impl NetlinkError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { errno, .. } => Some(*errno),
            NetlinkError::Open { source, .. }
            | NetlinkError::Transfer { source, .. }
            | NetlinkError::Namespace { source, .. } => source.raw_os_error().map(Errno::from_raw),
            NetlinkError::Deadline { .. }
            | NetlinkError::Malformed { .. }
            | NetlinkError::Truncated { .. }
            | NetlinkError::Unsteady { .. } => None,
        }
    }

    /// Whether the object is not there (any more).
    pub fn is_gone(&self) -> bool {
        self.errno() == Some(Errno::ENODEV)
    }

    /// Whether driver or kernel lack what was asked for.
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(Errno::EOPNOTSUPP)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let errno = self.errno()?;
        HINTS.iter().find(|(of, _)| of.contains(&errno)).map(|(_, hint)| (*hint).to_owned())
    }
}
