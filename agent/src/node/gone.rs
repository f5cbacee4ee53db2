//! Since when the interface of a port is gone. Nobody else remembers that, and it has to outlast the program and a reboot,
//! so `apply` keeps it in the state directory; verbs that only look read it there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use portwright_core::Observed;
use portwright_core::drive::chain;
use portwright_core::ovs::{OVS_CNI_NETNS_KEY, Ovs, Port};
use portwright_host::deadline::unix_seconds;
use portwright_host::write;

use crate::{input, output};

/// File name in the state directory.
const FILE: &str = "ovs-gone.json";
/// A node has some thousands of ports at most.
const LARGEST: u64 = 1024 * 1024;
/// The host's root folder, also as a container sees it that shares the host's processes.
const HOST: &str = "/proc/1/root";
/// As many symbolic links does the kernel follow in a path.
const MOST_LINKS: u32 = 40;

/// Whether what is found is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Written to the state directory.
    Yes,
    /// Only read: the verb changes nothing.
    No,
}

/// Ports whose interface is gone, with the time (Unix seconds) at which that was first seen.
#[derive(Debug)]
pub(super) struct Gone {
    file: PathBuf,
    keeping: Keeping,
    since: Option<BTreeMap<String, u64>>,
}

impl Gone {
    /// The ones remembered in a state directory.
    pub(super) fn new(state_dir: &Path, keeping: Keeping) -> Gone {
        Gone { file: state_dir.join(FILE), keeping, since: None }
    }

    /// Says on each port for how long its interface has been gone. `dead` are internal ports that have lost their device; those that the
    /// kernel's datapath has lost are marked already.
    pub(super) fn mark(&mut self, ovs: &mut Ovs, observed: &Observed, dead: &BTreeSet<String>) {
        let now = unix_seconds();
        let known = self.since.take().unwrap_or_else(|| self.read());
        let mut since = BTreeMap::new();
        for bridge in &mut ovs.bridges {
            let own = bridge.name.clone();
            for port in bridge.ports.iter_mut().filter(|port| port.name != own) {
                if port.gone_for.is_some() || dead.contains(&port.name) || is_gone(port, observed) {
                    // A clock that was put back makes nothing older than it is.
                    let first = known.get(&port.name).copied().filter(|first| *first <= now).unwrap_or(now);
                    port.gone_for = Some(now - first);
                    since.insert(port.name.clone(), first);
                }
            }
        }
        if since != known && self.keeping == Keeping::Yes {
            self.write(&since);
        }
        self.since = Some(since);
    }

    fn read(&self) -> BTreeMap<String, u64> {
        if !self.file.exists() {
            return BTreeMap::new();
        }
        // What cannot be read is forgotten: ports are collected later then, never earlier.
        let text = input::read_text(&self.file, LARGEST).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn write(&self, since: &BTreeMap<String, u64>) {
        let Ok(text) = output::json(since) else { return };
        if let Err(error) = write::replace(&self.file, text.as_bytes(), 0o600, 0o755) {
            output::stderr(&format!("warning: stale ports are not remembered: {}\n", chain(&error)));
        }
    }
}

/// Whether nothing is left of what was plugged: no netdev of that name, or the pod's network namespace is no more.
fn is_gone(port: &Port, observed: &Observed) -> bool {
    let netns = port.external_ids.get(OVS_CNI_NETNS_KEY);
    if netns.is_some_and(|path| is_no_more([HOST, "/"].map(Path::new), Path::new(path))) {
        return true;
    }
    // Without any link nobody has looked.
    let missing = |name: &str| !observed.links.is_empty() && observed.link(name).is_none();
    let of_system = port.interfaces.iter().all(|interface| interface.kind == "system");
    of_system
        && !port.interfaces.is_empty()
        && port.interfaces.iter().all(|interface| missing(&interface.name))
}

/// Whether a file was removed, by the first of these root folders (the host's, then ours) in which the folder that it was in
/// is seen. In a container the host's folders are not ours: where none is seen, nobody can tell.
fn is_no_more(roots: [&Path; 2], path: &Path) -> bool {
    let (true, Some(folder), Some(name)) = (path.is_absolute(), path.parent(), path.file_name()) else {
        return false;
    };
    let mut seen = roots.iter().filter_map(|root| below(root, folder)).filter(|folder| folder.is_dir());
    let removed = |folder: PathBuf| matches!(folder.join(name).symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
    !path.exists() && seen.next().is_some_and(removed)
}

/// Where a path of the host is as we see it; nothing if a part of it is not there. The kernel would follow an absolute link,
/// such as `/var/run`, from our own root.
fn below(host: &Path, path: &Path) -> Option<PathBuf> {
    let reversed = |path: &Path| path.iter().rev().map(OsStr::to_owned).collect::<Vec<_>>();
    let (mut due, mut found, mut links) = (reversed(path), host.to_owned(), 0);
    while let Some(part) = due.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir | Component::Prefix(_)) => host.clone_into(&mut found),
            Some(Component::ParentDir) if found != host => {
                found.pop();
            }
            Some(Component::ParentDir | Component::CurDir) | None => {}
            Some(Component::Normal(part)) => {
                let next = found.join(part);
                if next.symlink_metadata().ok()?.is_symlink() {
                    links += 1;
                    due.extend(reversed(&next.read_link().ok().filter(|_| links <= MOST_LINKS)?));
                } else {
                    found = next;
                }
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_gone_only_where_its_folder_is_seen() {
        let host = tempfile::tempdir().unwrap();
        let at = |path: &str| host.path().join(path);
        std::fs::create_dir_all(at("run/netns")).unwrap();
        std::fs::create_dir_all(at("var")).unwrap();
        // As distributions have it; followed from our own root it would lead elsewhere.
        std::os::unix::fs::symlink("/run", at("var/run")).unwrap();
        std::os::unix::fs::symlink("../../run/netns", at("var/relative")).unwrap();
        std::os::unix::fs::symlink("loop", at("var/loop")).unwrap();
        std::fs::File::create_new(at("run/netns/cni-there")).unwrap();
        let hidden = at("a-container-that-sees-nothing-of-the-host");
        for (path, gone) in [
            ("/run/netns/cni-there", false),
            ("/var/run/netns/cni-there", false),
            ("/var/relative/cni-there", false),
            ("/run/netns/cni-removed", true),
            ("/var/run/netns/cni-removed", true),
            ("/var/../run/netns/cni-removed", true),
            ("/var/relative/cni-removed", true),
            ("/run/elsewhere/cni-removed", false),
            ("/run/netns/cni-there/x", false),
            ("/var/loop/cni-removed", false),
            ("run/netns/cni-removed", false),
            ("", false),
            ("/", false),
        ] {
            assert_eq!(is_no_more([host.path(), &hidden], Path::new(path)), gone, "{path}");
            assert_eq!(is_no_more([&hidden, host.path()], Path::new(path)), gone, "{path}, with ours");
        }
        assert!(!is_no_more([&hidden, &hidden], Path::new("/var/run/netns/cni-removed")));
    }
}
