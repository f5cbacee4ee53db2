//! Whether a netdev has got the name that it keeps.
//!
//! The kernel gives a new netdev a name of its own (`eth6`); udevd gives it another some milliseconds later (`ens1f0v6`) and
//! then notes it in its database. A name remembered too early would be put back over udevd's.

use std::collections::BTreeSet;

use portwright_core::observed::Netdev;

use crate::root::Root;
use crate::sysfs::parse;

/// udevd's socket is here while it runs.
const FOLDER: &str = "run/udev";
/// One file for each device that udevd is done with; a netdev's is `n<ifindex>`.
const DATABASE: &str = "run/udev/data";

/// What udevd is done with.
#[derive(Debug)]
pub(super) struct Named {
    /// Interface indexes; `None` if there is no udevd.
    done: Option<BTreeSet<u32>>,
}

impl Named {
    pub(super) fn read(root: &Root) -> Named {
        let runs = match root.names(FOLDER) {
            Ok(names) => names.iter().any(|name| name == "control"),
            Err(error) => !error.is_absent(),
        };
        // Without a database nothing is known to be done.
        let files = || root.names(DATABASE).unwrap_or_default();
        let index = |name: &String| parse::decimal::<u32>(name.strip_prefix('n')?);
        Named { done: runs.then(|| files().iter().filter_map(index).collect()) }
    }

    /// Whether the netdev keeps the name that it was seen with. It may have got another one since.
    pub(super) fn is_final(&self, root: &Root, netdev: &Netdev) -> bool {
        let Some(done) = &self.done else { return true };
        let folder = root.dir("sys/class/net").and_then(|net| net.dir(&netdev.name));
        let now =
            folder.and_then(|folder| folder.parsed("ifindex", "an interface index", parse::decimal::<u32>));
        done.contains(&netdev.ifindex) && now.ok() == Some(netdev.ifindex)
    }
}
