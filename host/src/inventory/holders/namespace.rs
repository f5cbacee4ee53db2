//! VF netdevs that went to another network namespace: each namespace's links are listed from inside, and the function that
//! the kernel names as a link's parent tells whose it is.
//!
//! Kernels before 5.14 do not name parents. If such a kernel has hardware in another namespace, nobody can say whose it
//! is, and the sight is partial.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::errno::Errno;
use portwright_core::PciAddress;
use portwright_core::drive::chain;
use portwright_core::observed::Holder;

use super::Hidden;
use super::process::Processes;
use crate::inventory::functions::Functions;
use crate::inventory::live::Live;
use crate::netlink::{self, NetlinkError, RawLink};
use crate::proc::{mount, process};
use crate::root::Root;

/// Ten thousand mounts have about 2 MB.
const MOUNTS_LIMIT: usize = 32 << 20;
/// How many files that name one namespace are kept: more than one because a process may end at any time.
const HANDLES: usize = 8;

/// A network namespace other than ours.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    /// The first process that lives there.
    pub(crate) pid: Option<u32>,
    /// Files that name it.
    handles: Vec<PathBuf>,
    /// Its name below `/run/netns`.
    name: Option<String>,
}

impl Namespace {
    /// Takes note of a file that names it.
    pub(crate) fn note(&mut self, handle: impl FnOnce() -> PathBuf) {
        if self.handles.len() < HANDLES {
            self.handles.push(handle());
        }
    }
}

/// VFs whose netdev is elsewhere.
pub(crate) fn holders(
    root: &Root,
    functions: &Functions,
    mut processes: Processes,
    live: &Live,
    hidden: &mut Hidden,
) -> Vec<(PciAddress, Holder)> {
    if !functions.values().any(|raw| raw.is_vf) {
        return Vec::new();
    }
    let Some(own) = processes.own_network else {
        hidden.add("own namespace", || "the network namespace of this process cannot be read".to_owned());
        return Vec::new();
    };
    note_mounts(root, &mut processes, hidden);
    let mut found = Vec::new();
    for (inode, namespace) in processes.network.iter().filter(|(inode, _)| **inode != own) {
        let Some(links) = links(namespace, hidden) else { continue };
        let known = links.iter().filter_map(|link| Some((link, parent(link)?)));
        for (link, function) in
            known.filter(|(_, function)| functions.get(function).is_some_and(|raw| raw.is_vf))
        {
            found.push((function, holder(root, *inode, namespace, link)));
        }
        if let Some(link) = links.iter().find(|link| is_orphan(link)).filter(|_| !live.names_parents()) {
            hidden.add("parents", || {
                format!(
                    "this kernel does not say whose netdev {} in network namespace net:[{inode}] is",
                    link.name
                )
            });
        }
    }
    found
}

/// Adds namespaces that are kept by mounts, in any mount namespace.
fn note_mounts(root: &Root, processes: &mut Processes, hidden: &mut Hidden) {
    for pid in processes.mount.values() {
        let text = match root.document(format!("proc/{pid}/mountinfo"), MOUNTS_LIMIT) {
            Ok(text) => text,
            // The process has ended (EINVAL: its mount namespace is gone already).
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ESRCH | Errno::EINVAL)) => {
                continue;
            }
            Err(error) => {
                hidden.add("mounts", || chain(&error));
                continue;
            }
        };
        for mount in mount::namespaces(&text) {
            let namespace = processes.network.entry(mount.inode).or_default();
            if let Some(name) = mount.name() {
                namespace.name = Some(name.to_owned());
            }
            namespace.note(|| root.join(format!("proc/{pid}/root{}", mount.path)));
        }
    }
}

/// The links of a namespace, or nothing if it has gone or could not be entered.
fn links(namespace: &Namespace, hidden: &mut Hidden) -> Option<Vec<RawLink>> {
    let mut last = None;
    for handle in &namespace.handles {
        match netlink::links_in_netns(handle) {
            Ok(links) => return Some(links),
            Err(error) if has_gone(&error) => {}
            Err(error) => last = Some(error),
        }
    }
    if let Some(error) = last {
        hidden.add("namespace", || chain(&error));
    }
    None
}

fn has_gone(error: &NetlinkError) -> bool {
    let NetlinkError::Namespace { source, .. } = error else { return false };
    let errno = source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ESRCH))
}

/// The PCI function of a link.
fn parent(link: &RawLink) -> Option<PciAddress> {
    link.parent_device.as_deref()?.parse().ok()
}

/// Hardware whose parent is not named.
fn is_orphan(link: &RawLink) -> bool {
    const LOOPBACK: u16 = 772;
    link.kind.is_none() && link.parent_device.is_none() && link.link_type != LOOPBACK
}

fn holder(root: &Root, inode: u64, namespace: &Namespace, link: &RawLink) -> Holder {
    let dir = namespace.pid.and_then(|pid| root.dir(format!("proc/{pid}")).ok());
    let read = |name: &str| dir.as_ref().and_then(|dir| dir.attribute(name).ok());
    Holder::Namespace {
        netns: namespace.name.clone().unwrap_or_else(|| format!("net:[{inode}]")),
        pid: namespace.pid,
        command: read("comm"),
        netdev: Some(link.name.clone()),
        container: read("cgroup").as_deref().and_then(process::container),
    }
}

/// Namespaces by inode.
pub(crate) type Namespaces = BTreeMap<u64, Namespace>;
