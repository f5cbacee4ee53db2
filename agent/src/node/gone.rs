//! Since when the interface of a port is gone. Nobody else remembers that, and it has to outlast the program, so `apply`
//! keeps it in the state directory; verbs that only look read it there. It is counted by the time since boot, which does not
//! jump; another boot counts from its own beginning, so that a port is collected later than its grace time or just then, and
//! never earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use portwright_core::Observed;
use portwright_core::drive::chain;
use portwright_core::ovs::{OVS_CNI_NETNS_KEY, Ovs, Port};
use portwright_host::boot::Moment;
use portwright_host::root::Root;
use portwright_host::write;
use serde::{Deserialize, Serialize};

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

/// Ports whose interface is gone.
#[derive(Debug)]
pub(super) struct Gone {
    file: PathBuf,
    keeping: Keeping,
    since: Option<Since>,
}

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    /// The boot in which they were seen.
    boot: String,
    /// Seconds since that boot at which each was first seen without interface.
    ports: BTreeMap<String, u64>,
}

impl Since {
    /// What holds for ports that are gone now.
    fn then(&self, gone: BTreeSet<String>, now: &Moment) -> Since {
        let known = |port: &String| {
            let first = self.ports.get(port).filter(|_| self.boot == now.boot).copied();
            // Whatever stands in the file, nothing is of the future.
            first.filter(|first| *first <= now.up).unwrap_or(now.up)
        };
        let ports = gone.into_iter().map(|port| (port.clone(), known(&port))).collect();
        Since { boot: now.boot.clone(), ports }
    }
}

impl Gone {
    /// The ones remembered in a state directory.
    pub(super) fn new(state_dir: &Path, keeping: Keeping) -> Gone {
        Gone { file: state_dir.join(FILE), keeping, since: None }
    }

    /// Says on each port for how long its interface has been gone. `dead` are internal ports that have lost their device; those that the
    /// kernel's datapath has lost are marked already.
    pub(super) fn mark(&mut self, ovs: &mut Ovs, observed: &Observed, dead: &BTreeSet<String>) {
        // Where nobody knows how long the machine has been up, nothing has been gone for any time.
        let now = Moment::now(&Root::new("/")).unwrap_or_else(|| Moment { boot: String::new(), up: 0 });
        self.mark_at(&now, ovs, observed, dead);
    }

    fn mark_at(&mut self, now: &Moment, ovs: &mut Ovs, observed: &Observed, dead: &BTreeSet<String>) {
        let known = self.since.take().unwrap_or_else(|| self.read());
        let is =
            |port: &Port| port.gone_for.is_some() || dead.contains(&port.name) || is_gone(port, observed);
        let ports = ovs.bridges.iter().flat_map(|bridge| {
            bridge
                .ports
                .iter()
                .filter(|port| port.name != bridge.name && is(port))
                .map(|port| port.name.clone())
        });
        let since = known.then(ports.collect(), now);
        for bridge in &mut ovs.bridges {
            let own = bridge.name.clone();
            for port in bridge.ports.iter_mut().filter(|port| port.name != own) {
                if let Some(first) = since.ports.get(&port.name) {
                    port.gone_for = Some(now.up.saturating_sub(*first));
                }
            }
        }
        // An empty file and none say the same, in whichever boot.
        let differs = since != known && !(since.ports.is_empty() && known.ports.is_empty());
        if differs && self.keeping == Keeping::Yes {
            self.write(&since);
        }
        self.since = Some(since);
    }

    fn read(&self) -> Since {
        if !self.file.exists() {
            return Since::default();
        }
        // What cannot be read is forgotten: ports are collected later then, never earlier.
        let text = input::read_text(&self.file, LARGEST).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn write(&self, since: &Since) {
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
    use portwright_core::ovs::Bridge;

    use super::*;

    /// A switch with one port whose interface the kernel has lost, and one that is well.
    fn switch() -> Ovs {
        let port =
            |name: &str, gone_for: Option<u64>| Port { name: name.to_owned(), gone_for, ..Port::default() };
        let ports = vec![port("br0", Some(0)), port("lost", Some(0)), port("well", None)];
        Ovs { bridges: vec![Bridge { name: "br0".to_owned(), ports, ..Bridge::default() }], ..Ovs::default() }
    }

    /// For how long each port is said to be gone by a new process, in a boot and at a time of it.
    fn marked(state: &Path, boot: &str, up: u64) -> Vec<Option<u64>> {
        let mut ovs = switch();
        let now = Moment { boot: boot.to_owned(), up };
        Gone::new(state, Keeping::Yes).mark_at(&now, &mut ovs, &Observed::default(), &BTreeSet::new());
        ovs.bridges[0].ports[1..].iter().map(|port| port.gone_for).collect()
    }

    #[test]
    fn time_is_counted_within_a_boot_and_never_too_long() {
        let state = tempfile::tempdir().unwrap();
        for (what, boot, up, gone) in [
            ("first seen", "a", 1000, 0),
            ("another process", "a", 1299, 299),
            ("a later boot counts anew", "b", 40, 0),
            ("and goes on", "b", 340, 300),
            ("the first boot is forgotten", "a", 5000, 0),
            ("nobody knows", "", 0, 0),
        ] {
            assert_eq!(marked(state.path(), boot, up), [Some(gone), None], "{what}");
        }
        // As it was kept before, by the time of day; of the future; and nonsense.
        for text in [r#"{"lost": 1}"#, r#"{"boot": "a", "ports": {"lost": 9999}}"#, "[", "{}"] {
            write::replace(&state.path().join(FILE), text.as_bytes(), 0o600, 0o755).unwrap();
            assert_eq!(marked(state.path(), "a", 5000), [Some(0), None], "{text}");
            assert_eq!(marked(state.path(), "a", 5300), [Some(300), None], "{text}");
        }
    }

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
