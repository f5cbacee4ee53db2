//! Files that are ours, written so that a reader or a crash sees the old content or the new, never half of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct WriteError {
    /// `make the folder`, `write`, `sync`, `put in place`, `remove`.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Replaces the content of `path`: a new file beside it, synced, renamed over it, and the folder synced. Folders that are
/// missing are made with `folder_mode`.
pub fn replace(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> Result<(), WriteError> {
    put(path, content, mode, folder_mode, true)
}

/// As [`replace`] for a file that means nothing after a reboot (below `/run`): readers see it whole, and nothing waits for a
/// disk.
pub fn replace_volatile(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> Result<(), WriteError> {
    put(path, content, mode, folder_mode, false)
}

fn put(path: &Path, content: &[u8], mode: u32, folder_mode: u32, sync: bool) -> Result<(), WriteError> {
    let fail = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { operation, path, source }
    };
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    make_folder(folder, folder_mode)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The process id keeps two writers apart; one writer's leftover from a crash is overwritten.
    let fresh = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&fresh).map_err(fail("write", &fresh))?;
        file.write_all(content).map_err(fail("write", &fresh))?;
        if sync {
            file.sync_all().map_err(fail("sync", &fresh))?;
        }
        std::fs::rename(&fresh, path).map_err(fail("put in place", path))
    })();
    if written.is_err() {
        // What was attempted is the error to tell; a leftover is overwritten next time.
        std::fs::remove_file(&fresh).unwrap_or_default();
        return written;
    }
    if sync { sync_folder(folder) } else { Ok(()) }
}

/// Makes a folder and those above it, if they are missing.
pub fn make_folder(folder: &Path, mode: u32) -> Result<(), WriteError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
    made.map_err(|source| WriteError { operation: "make the folder", path: folder.to_owned(), source })
}

/// Removes a file; one that is not there is as good.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WriteError { operation: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), WriteError> {
    #[allow(clippy::disallowed_methods, reason = "this is the one writer; a folder is opened to sync it")]
    let synced = File::open(folder).and_then(|handle| handle.sync_all());
    synced.map_err(|source| WriteError { operation: "sync", path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests look at the files themselves")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn content_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        replace(&path, b"long old content", 0o600, 0o700).unwrap();
        replace(&path, b"new", 0o600, 0o700).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"kept").unwrap();
        let error = replace(&path, b"new", 0o600, 0o700).unwrap_err();
        assert_eq!((error.operation, error.path.as_path()), ("put in place", path.as_path()));
        assert_eq!(std::fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no leftover");
    }
}
