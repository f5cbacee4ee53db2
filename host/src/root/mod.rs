//! Where the node's files are: a directory below which `sys`, `proc`, `dev`, `run`, `var`, `etc` and `lib/modules` are
//! read. It is `/` on a node and any folder in a test or on an operator's desk.
//!
//! Files of the kernel are read one descriptor at a time, relative to the folder's own descriptor: that is cheap, and a
//! device that goes away while it is read gives an error instead of another device's values. Every read has a limit, a
//! named pipe never blocks, and what was read is counted, so that a bench can prove that no file is read twice.

mod dir;
mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use dir::{Dir, EntryKind};
pub use error::ReadError;

/// The folder that stands for a node's `/`, with a counter of the files read below it. Clones share the counter.
#[derive(Debug, Clone)]
pub struct Root {
    path: Arc<Path>,
    meter: Arc<Meter>,
}

/// What was read.
#[derive(Debug, Default)]
struct Meter {
    reads: AtomicU64,
    audit: Option<Mutex<BTreeMap<PathBuf, u32>>>,
}

impl Default for Root {
    /// The running host.
    fn default() -> Self {
        Root::new("/")
    }
}

impl Root {
    /// A node's files below `path`.
    pub fn new(path: impl Into<PathBuf>) -> Root {
        Root { path: path.into().into(), meter: Arc::default() }
    }

    /// As [`Root::new`], and it remembers how often each file was read. For benches and tests: it costs memory.
    pub fn audited(path: impl Into<PathBuf>) -> Root {
        let meter = Meter { reads: AtomicU64::new(0), audit: Some(Mutex::default()) };
        Root { path: path.into().into(), meter: Arc::new(meter) }
    }

    /// Whether it is the running host's own `/`, so that netlink, devlink and `/dev` belong to it.
    pub fn is_host(&self) -> bool {
        &*self.path == Path::new("/")
    }

    /// The folder itself.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// A path below it; `below` is relative (`sys/class/net`).
    pub fn join(&self, below: impl AsRef<Path>) -> PathBuf {
        self.path.join(below)
    }

    /// Opens a folder below it.
    pub fn dir(&self, below: impl AsRef<Path>) -> Result<Dir<'_>, ReadError> {
        Dir::open(self, self.join(below))
    }

    /// Reads a whole document (a file of `proc/net`, `modules.dep`) of at most `limit` bytes. What is not UTF-8 in it is
    /// replaced, because one odd name must not hide the other lines.
    pub fn document(&self, below: impl AsRef<Path>, limit: usize) -> Result<String, ReadError> {
        dir::document(self, &self.join(below), limit)
    }

    /// The names in a folder, sorted. A folder that does not exist is an error of its own kind, see
    /// [`ReadError::is_absent`].
    pub fn names(&self, below: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        self.dir(below)?.scan(|name, _| names.push(String::from_utf8_lossy(name).into_owned()))?;
        names.sort();
        Ok(names)
    }

    /// Whether a file that can be run is there. It is not run and counts as no read.
    pub fn has_program(&self, below: impl AsRef<Path>) -> bool {
        dir::is_program(&self.join(below))
    }

    /// How many files were read so far. Folders and links are not counted.
    pub fn reads(&self) -> u64 {
        self.meter.reads.load(Ordering::Relaxed)
    }

    /// How often each file was read, if this is an [audited](Root::audited) root.
    pub fn audit(&self) -> Option<BTreeMap<PathBuf, u32>> {
        let audit = self.meter.audit.as_ref()?;
        Some(audit.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    /// Counts one file.
    fn count(&self, path: impl FnOnce() -> PathBuf) {
        self.meter.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(audit) = &self.meter.audit {
            let mut audit = audit.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let times = audit.entry(path()).or_insert(0);
            *times = times.saturating_add(1);
        }
    }
}
