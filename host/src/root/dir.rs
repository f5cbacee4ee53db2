//! One folder, open.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;

use super::{ReadError, Root};

/// The kernel gives an attribute at most one page.
const PAGE: usize = 4096;
/// Nearly every attribute is shorter.
const SHORT: usize = 256;
/// The longest path that the kernel takes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// What sort of entry a folder has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A symbolic link.
    Link,
    /// Anything else.
    File,
    /// The file system does not say.
    Unknown,
}

/// An open folder below a [`Root`].
#[derive(Debug)]
pub struct Dir<'r> {
    root: &'r Root,
    file: OwnedFd,
    path: PathBuf,
}

impl<'r> Dir<'r> {
    pub(super) fn open(root: &'r Root, path: PathBuf) -> Result<Self, ReadError> {
        match openat(CWD, &path, folder_flags(), Mode::empty()) {
            Ok(file) => Ok(Dir { root, file, path }),
            Err(errno) => Err(fail(path, errno)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in it; a link to a folder is followed.
    pub fn dir(&self, name: &str) -> Result<Dir<'r>, ReadError> {
        let path = self.path.join(name);
        match openat(&self.file, name, folder_flags(), Mode::empty()) {
            Ok(file) => Ok(Dir { root: self.root, file, path }),
            Err(errno) => Err(fail(path, errno)),
        }
    }

    /// Tells each entry's name (bytes: the kernel lets a netdev have any) and kind, `.` and `..` left out. The folder is
    /// read once: a second scan finds nothing.
    pub fn scan(&mut self, mut tell: impl FnMut(&[u8], EntryKind)) -> Result<(), ReadError> {
        let mut buffer = [MaybeUninit::uninit(); 2 * PAGE];
        let mut entries = RawDir::new(self.file.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| fail(self.path.clone(), errno))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Directory => EntryKind::Dir,
                FileType::Symlink => EntryKind::Link,
                FileType::Unknown => EntryKind::Unknown,
                FileType::RegularFile
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice => EntryKind::File,
            };
            tell(name, kind);
        }
        Ok(())
    }

    /// Reads an attribute: a file of less than a page, without the white space around it.
    pub fn attribute(&self, name: &str) -> Result<String, ReadError> {
        self.parsed(name, "text in UTF-8", |text| Some(text.to_owned()))
    }

    /// Reads an attribute and parses it; `expected` says what it should be, with its article.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ReadError> {
        self.root.count(|| self.path.join(name));
        let refuse = |errno| fail(self.path.join(name), errno);
        let file = openat(&self.file, name, file_flags(), Mode::empty()).map_err(refuse)?;
        let mut short = [MaybeUninit::uninit(); SHORT];
        let (bytes, rest) = rustix::io::read(&file, &mut short).map_err(refuse)?;
        if rest.is_empty() {
            return self.long(name, expected, &file, bytes, parse);
        }
        self.value(name, expected, bytes, parse)
    }

    /// The rest of an attribute that is not short.
    fn long<T>(
        &self,
        name: &str,
        expected: &'static str,
        file: &OwnedFd,
        start: &[u8],
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ReadError> {
        let mut bytes = start.to_vec();
        let mut rest = [MaybeUninit::uninit(); PAGE - SHORT];
        let (more, _) =
            rustix::io::read(file, &mut rest).map_err(|errno| fail(self.path.join(name), errno))?;
        bytes.extend_from_slice(more);
        if bytes.len() == PAGE {
            return Err(ReadError::TooLarge { path: self.path.join(name), limit: PAGE - 1 });
        }
        self.value(name, expected, &bytes, parse)
    }

    fn value<T>(
        &self,
        name: &str,
        expected: &'static str,
        bytes: &[u8],
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ReadError> {
        let value = std::str::from_utf8(bytes).ok().map(str::trim).and_then(parse);
        value.ok_or_else(|| ReadError::Unparsable {
            path: self.path.join(name),
            text: String::from_utf8_lossy(bytes).trim().to_owned(),
            expected,
        })
    }

    /// Where a link in it points to.
    pub fn link(&self, name: &str) -> Result<PathBuf, ReadError> {
        self.target(name, |bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec())))
    }

    /// The last part of where a link in it points to (`driver` → `igb`).
    pub fn link_name(&self, name: &str) -> Result<String, ReadError> {
        let last = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| String::from_utf8_lossy(bytes).into_owned())?;
            let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if matches!(last, "" | "." | "..") { Err(text.to_owned()) } else { Ok(last.to_owned()) }
        };
        self.target(name, last)?.map_err(|text| ReadError::Unparsable {
            path: self.path.join(name),
            text,
            expected: "a link to a named object",
        })
    }

    fn target<T>(&self, name: &str, take: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
        let mut buffer = [MaybeUninit::uninit(); LONGEST_PATH];
        match readlinkat_raw(&self.file, name, &mut buffer) {
            Ok((target, _)) => Ok(take(target)),
            Err(errno) => Err(fail(self.path.join(name), errno)),
        }
    }
}

fn fail(path: PathBuf, errno: Errno) -> ReadError {
    ReadError::of(path, errno.into())
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// `NONBLOCK`: a named pipe in a tree must not stop us.
fn file_flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY
}

/// Reads a document of at most `limit` bytes. Files of `proc` come in pieces, so it reads until the end.
pub(super) fn document(root: &Root, path: &Path, limit: usize) -> Result<String, ReadError> {
    root.count(|| path.to_owned());
    let refuse = |errno| fail(path.to_owned(), errno);
    let file = openat(CWD, path, file_flags(), Mode::empty()).map_err(refuse)?;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        bytes.reserve(4 * PAGE);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(refuse(errno)),
        }
        if bytes.len() > limit {
            return Err(ReadError::TooLarge { path: path.to_owned(), limit });
        }
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Whether it is a plain file that somebody may run.
pub(super) fn is_program(path: &Path) -> bool {
    let Ok(stat) = rustix::fs::stat(path) else { return false };
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
}
