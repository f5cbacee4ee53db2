//! One writer per node: whoever changes the node holds the lock, whatever its state directory is.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::root::Root;
use crate::write::{WriteError, make_folder};

/// Path of the lock file, below the host's root.
pub const PATH: &str = "run/portwright/lock";

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is held by {}", path.display(), holder(.pid, .command))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, if it could be read.
        pid: Option<u32>,
        /// Its command.
        command: Option<String>,
    },
    /// The folder could not be made.
    #[error("the lock cannot be taken")]
    Folder {
        /// Why.
        #[source]
        source: WriteError,
    },
    /// The file could not be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>, command: &Option<String>) -> String {
    match (pid, command) {
        (Some(pid), Some(command)) => format!("pid {pid} ({command})"),
        (Some(pid), None) => format!("pid {pid}"),
        (None, _) => "another process".to_owned(),
    }
}

impl LockError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            LockError::Held { .. } => Some(
                "one process changes the node at a time: wait until that one has ended, or stop it first"
                    .to_owned(),
            ),
            LockError::Folder { .. } | LockError::File { .. } => Some("run as root".to_owned()),
        }
    }
}

/// The lock; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct WriterLock {
    _file: Flock<File>,
}

impl WriterLock {
    /// Takes the lock, or says at once who has it.
    pub fn take(root: &Root) -> Result<WriterLock, LockError> {
        let path = root.join(PATH);
        if let Some(folder) = path.parent() {
            make_folder(folder, 0o755).map_err(|source| LockError::Folder { source })?;
        }
        let fail = |source| LockError::File { path: path.clone(), source };
        // Not truncated here: until the lock is ours the content is its holder's.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = options.open(&path).map_err(fail)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = root.document(PATH, 64).ok().and_then(|text| text.trim().parse().ok());
                let command = pid.and_then(|pid: u32| {
                    let text = root.document(format!("proc/{pid}/cmdline"), 4096).ok()?;
                    Some(text.trim_end_matches('\0').replace('\0', " ")).filter(|text| !text.is_empty())
                });
                return Err(LockError::Held { path, pid, command });
            }
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        let mut name_us = || {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        name_us().map_err(fail)?;
        Ok(WriterLock { _file: file })
    }
}
