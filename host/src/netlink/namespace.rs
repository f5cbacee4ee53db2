//! Links of another network namespace.

use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use super::error::NetlinkError;
use super::link::{RawLink, links_on};
use super::socket::Connection;

/// All links of the network namespace that `path` names (`/run/netns/x`, `/proc/PID/ns/net`).
///
/// A thread of its own enters the namespace and opens the socket there; the socket stays in that namespace, and this
/// thread never leaves its own. Needs `CAP_SYS_ADMIN`.
pub fn links_in_netns(path: &Path) -> Result<Vec<RawLink>, NetlinkError> {
    let refuse = |source| NetlinkError::Namespace { path: path.to_owned(), source };
    #[allow(
        clippy::disallowed_methods,
        reason = "a namespace file is a handle, not content; /proc has no other root"
    )]
    let file = std::fs::File::open(path).map_err(refuse)?;
    let opener = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok::<_, nix::errno::Errno>(Connection::route())
    });
    let connection = opener
        .map_err(refuse)?
        .join()
        .map_err(|_| refuse(io::Error::other("the helper thread ended early")))?
        .map_err(|errno| refuse(errno.into()))?;
    links_on(&mut connection?)
}
