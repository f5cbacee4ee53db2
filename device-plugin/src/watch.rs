//! Tells when something in some folders changes, also folders that do not exist yet or are made anew.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// How often to look where the kernel gives no watch.
const WITHOUT_WATCH: Duration = Duration::from_secs(5);

/// Gives the descriptor away as the runtime wants it.
#[derive(Debug)]
struct Watcher(Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Watches folders by inotify. Of a folder that is missing the deepest one above it that exists is watched.
#[derive(Debug)]
pub struct FolderWatch {
    folders: Vec<PathBuf>,
    inotify: Option<AsyncFd<Watcher>>,
}

impl FolderWatch {
    /// Begins to watch. Where inotify cannot be had it looks at the folders every few seconds.
    pub fn new(folders: Vec<PathBuf>) -> FolderWatch {
        #[allow(
            deprecated,
            reason = "its successor is `unsafe`; this descriptor is owned and lives as long as the value"
        )]
        let open = || -> io::Result<AsyncFd<Watcher>> {
            AsyncFd::new(Watcher(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
        };
        let inotify = match open() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                tracing::warn!(%error, "inotify cannot be had; folders are looked at every 5 s");
                None
            }
        };
        let mut watch = FolderWatch { folders, inotify };
        watch.arm();
        watch
    }

    /// Watches what exists now. Watches that are there already stay.
    fn arm(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for folder in &self.folders {
            // What appears between the look and the watch is found by looking again after the watch is set.
            let mut watched: Option<&Path> = None;
            while let Some(there) = folder.ancestors().find(|path| path.is_dir()) {
                if watched == Some(there) || inotify.get_ref().0.add_watch(there, flags).is_err() {
                    break;
                }
                watched = Some(there);
            }
        }
    }

    /// Waits until something has changed, once for a burst of changes: the names that did, nothing if it cannot be said.
    pub async fn changed(&mut self) -> Option<BTreeSet<String>> {
        let mut names = Some(BTreeSet::new());
        match &self.inotify {
            None => {
                drop(tokio::time::timeout(WITHOUT_WATCH, std::future::pending::<()>()).await);
                names = None;
            }
            Some(inotify) => {
                if let Ok(mut guard) = inotify.readable().await {
                    while let Ok(events) = inotify.get_ref().0.read_events()
                        && !events.is_empty()
                    {
                        for event in events {
                            let name = event.name.and_then(|name| name.into_string().ok());
                            match (name, &mut names) {
                                (Some(name), Some(names)) => {
                                    names.insert(name);
                                }
                                // The folder itself, or events were lost.
                                (None, names) => *names = None,
                                (Some(_), None) => {}
                            }
                        }
                    }
                    guard.clear_ready();
                }
            }
        }
        self.arm();
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests write files")]

    use super::*;

    async fn fires(watch: &mut FolderWatch, what: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(5), watch.changed()).await;
        assert!(waited.is_ok(), "{what} was not noticed");
    }

    #[tokio::test]
    async fn a_folder_is_watched_before_it_exists_and_after_it_is_made_anew() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b/c");
        let mut watch = FolderWatch::new(vec![folder.clone()]);
        for round in 0..3 {
            std::fs::create_dir_all(&folder).unwrap();
            fires(&mut watch, "the folder").await;
            std::fs::write(folder.join("file"), "x").unwrap();
            fires(&mut watch, "a file").await;
            std::fs::remove_dir_all(top.path().join("a")).unwrap();
            fires(&mut watch, "its removal").await;
            assert!(!folder.exists(), "round {round}");
        }
    }
}
