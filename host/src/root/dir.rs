//! One folder, open.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::{ReadError, Root};

/// The kernel gives an attribute at most one page.
const PAGE: usize = 4096;

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
    inner: nix::dir::Dir,
    path: PathBuf,
}

impl<'r> Dir<'r> {
    pub(super) fn open(root: &'r Root, path: PathBuf) -> Result<Self, ReadError> {
        match nix::dir::Dir::open(&path, folder_flags(), Mode::empty()) {
            Ok(inner) => Ok(Dir { root, inner, path }),
            Err(errno) => Err(ReadError::of(path, errno)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in it; a link to a folder is followed.
    pub fn dir(&self, name: &str) -> Result<Dir<'r>, ReadError> {
        let path = self.path.join(name);
        match nix::dir::Dir::openat(self.inner.as_fd(), name, folder_flags(), Mode::empty()) {
            Ok(inner) => Ok(Dir { root: self.root, inner, path }),
            Err(errno) => Err(ReadError::of(path, errno)),
        }
    }

    /// Tells each entry's name (bytes: the kernel lets a netdev have any) and kind, `.` and `..` left out.
    pub fn scan(&mut self, mut tell: impl FnMut(&[u8], EntryKind)) -> Result<(), ReadError> {
        for entry in self.inner.iter() {
            let entry = entry.map_err(|errno| ReadError::of(self.path.clone(), errno))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(Type::Directory) => EntryKind::Dir,
                Some(Type::Symlink) => EntryKind::Link,
                Some(Type::File | Type::Fifo | Type::CharacterDevice | Type::BlockDevice | Type::Socket) => {
                    EntryKind::File
                }
                None => EntryKind::Unknown,
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
        let mut buffer = [0_u8; PAGE];
        let read = openat(self.inner.as_fd(), name, file_flags(), Mode::empty())
            .and_then(|file| nix::unistd::read(&file, &mut buffer));
        let length = read.map_err(|errno| ReadError::of(self.path.join(name), errno))?;
        if length == PAGE {
            return Err(ReadError::TooLarge { path: self.path.join(name), limit: PAGE - 1 });
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        let value = std::str::from_utf8(bytes).ok().map(str::trim).and_then(parse);
        value.ok_or_else(|| ReadError::Unparsable {
            path: self.path.join(name),
            text: String::from_utf8_lossy(bytes).trim().to_owned(),
            expected,
        })
    }

    /// Where a link in it points to.
    pub fn link(&self, name: &str) -> Result<PathBuf, ReadError> {
        match nix::fcntl::readlinkat(self.inner.as_fd(), name) {
            Ok(target) => Ok(target.into()),
            Err(errno) => Err(ReadError::of(self.path.join(name), errno)),
        }
    }

    /// The last part of where a link in it points to (`driver` → `igb`).
    pub fn link_name(&self, name: &str) -> Result<String, ReadError> {
        let target = self.link(name)?;
        let last = target.file_name().and_then(|last| last.to_str());
        last.map(str::to_owned).ok_or_else(|| ReadError::Unparsable {
            path: self.path.join(name),
            text: target.to_string_lossy().into_owned(),
            expected: "a link to a named object",
        })
    }
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

/// `O_NONBLOCK`: a named pipe in a tree must not stop us.
fn file_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY
}

/// Reads a document of at most `limit` bytes. Files of `proc` come in pieces, so it reads until the end.
pub(super) fn document(root: &Root, path: &Path, limit: usize) -> Result<String, ReadError> {
    root.count(|| path.to_owned());
    let fail = |errno| ReadError::of(path.to_owned(), errno);
    let file: OwnedFd = nix::fcntl::open(path, file_flags(), Mode::empty()).map_err(fail)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut buffer = vec![0_u8; 16 * PAGE];
    loop {
        let length = match nix::unistd::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if bytes.len() > limit {
            return Err(ReadError::TooLarge { path: path.to_owned(), limit });
        }
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Whether it is a plain file that somebody may run.
pub(super) fn is_program(path: &Path) -> bool {
    let Ok(stat) = nix::sys::stat::stat(path) else { return false };
    let plain = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
    plain && stat.st_mode & 0o111 != 0
}
