//! Why a file could not be read. Absent, unreadable and unparsable are different things: the first is often normal, the
//! second is a matter of rights or of a driver, the third is a surprise.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why a file below the [root](super::Root) gave no value.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("{} does not exist", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// It is there and the kernel refused.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It was read and does not hold what it should.
    #[error("{} holds `{}`, which is not {expected}", path.display(), shorten(text))]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
        /// What it should hold, with its article.
        expected: &'static str,
    },
    /// It is larger than such a file can be.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
}

impl ReadError {
    /// Makes the error of a failed system call.
    pub(crate) fn of(path: PathBuf, source: io::Error) -> ReadError {
        if source.kind() == io::ErrorKind::NotFound {
            ReadError::Absent { path }
        } else {
            ReadError::Unreadable { path, source }
        }
    }

    /// Whether the file is simply not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, ReadError::Absent { .. })
    }

    /// What the kernel said, if it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            ReadError::Absent { .. } => Some(Errno::ENOENT),
            ReadError::Unreadable { source, .. } => source.raw_os_error().map(Errno::from_raw),
            ReadError::Unparsable { .. } | ReadError::TooLarge { .. } => None,
        }
    }
}

/// Enough of a text to recognise it, on one line.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}
