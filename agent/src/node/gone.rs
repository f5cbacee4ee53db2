//! Since when the interface of a port is gone. Nobody else remembers that, and it has to outlast the program and a reboot,
//! so `apply` keeps it in the state directory; verbs that only look read it there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
    if netns.is_some_and(|path| path.starts_with('/') && !Path::new(path).exists()) {
        return true;
    }
    // Without any link nobody has looked.
    let missing = |name: &str| !observed.links.is_empty() && observed.link(name).is_none();
    let of_system = port.interfaces.iter().all(|interface| interface.kind == "system");
    of_system
        && !port.interfaces.is_empty()
        && port.interfaces.iter().all(|interface| missing(&interface.name))
}
