//! A PF's writer holds the PF's claim for as long as it lives, whoever its parent was.
//!
//! The node's lock ends with the agent; a writer that an agent left behind may still be in the middle of a write then. So
//! the writer itself holds a lock on `/run/portwright/writers/<pf>`: the file is its standard error, and the lock goes when
//! the process does. Who comes next waits for it, and if that takes too long, the PF is stuck.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use portwright_core::PciAddress;

use crate::root::Root;
use crate::write::{self, WriteError};

/// Who only looks whether a claim is held keeps it from nobody for longer than this.
const GLANCE: Duration = Duration::from_secs(1);
/// Folder of the files, below the host's root.
const FOLDER: &str = "run/portwright/writers";

/// A claim that could not be had.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A writer of an earlier agent has it.
    Held {
        /// That writer, if it could be read.
        pid: Option<u32>,
    },
    /// The file could not be used.
    File(WriteError),
}

/// The claim on a PF.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
}

impl Claim {
    /// Takes the claim, waiting for an earlier writer to end.
    pub(crate) fn take(root: &Root, pf: PciAddress, within: Duration) -> Result<Claim, Refusal> {
        let path = root.join(FOLDER).join(pf.to_string());
        let fail = |source| Refusal::File(WriteError { operation: "lock", path: path.clone(), source });
        write::make_folder(&root.join(FOLDER), 0o755).map_err(Refusal::File)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Claim { file }),
            Err(TryLockError::Error(source)) => Err(fail(source)),
            Err(TryLockError::WouldBlock) => match wait(file, within.max(GLANCE)) {
                Some(locked) => locked.map(|file| Claim { file }).map_err(fail),
                None => Err(Refusal::Held { pid: read_pid(root, pf) }),
            },
        }
    }

    /// Names the process that the claim is handed to.
    pub(crate) fn name(&self, pid: u32) -> io::Result<()> {
        self.file.set_len(0)?;
        let mut file = &self.file;
        writeln!(file, "{pid}")
    }

    /// A copy for the process that the claim is handed to.
    pub(crate) fn copy(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// PFs that had a writer in this boot.
pub(crate) fn claimed(root: &Root) -> Vec<PciAddress> {
    let names = root.names(FOLDER).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// PFs that a writer which is none of `own` may be writing to, and what to say of each. Whatever takes a lock of the kernel
/// is not asked of such a PF: it would wait as long as the write does.
pub(crate) fn busy(root: &Root, own: &BTreeSet<PciAddress>) -> BTreeMap<PciAddress, String> {
    let others = claimed(root).into_iter().filter(|pf| !own.contains(pf));
    others.filter_map(|pf| Some((pf, held(root, pf)?))).collect()
}

/// Who has the claim on a PF, in words. Looking takes a shared lock for a moment.
fn held(root: &Root, pf: PciAddress) -> Option<String> {
    match OpenOptions::new().read(true).open(root.join(FOLDER).join(pf.to_string())) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => Some(read_pid(root, pf).map_or_else(
                || "a writer is at work".to_owned(),
                |pid| format!("a writer is at work, process {pid}"),
            )),
            Err(TryLockError::Error(error)) => Some(format!("a writer may be at work: {error}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("a writer may be at work: {error}")),
    }
}

fn read_pid(root: &Root, pf: PciAddress) -> Option<u32> {
    let text = root.document(PathBuf::from(FOLDER).join(pf.to_string()), 4096).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Waits for the lock. If it comes too late, it is given back as soon as it comes.
fn wait(file: File, within: Duration) -> Option<io::Result<File>> {
    let (tell, told) = mpsc::channel();
    let waiter = std::thread::Builder::new().name("claim".to_owned());
    let started = waiter.spawn(move || {
        let locked = file.lock().map(|()| file);
        // Nobody listens any more: dropping the file gives the lock back.
        tell.send(locked).unwrap_or_default();
    });
    match started {
        Ok(_) => told.recv_timeout(within).ok(),
        Err(error) => Some(Err(error)),
    }
}
