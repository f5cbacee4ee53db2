//! VF netdevs that went to another network namespace: each namespace's links are listed from inside, and the function that
//! the kernel names as a link's parent tells whose it is.
//!
//! A link on top of a VF's netdev (macvlan, VLAN) that went to another namespace counts as well.
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
    let netdevs = vf_netdevs(functions);
    let mut found = Vec::new();
    for (inode, namespace) in processes.network.iter().filter(|(inode, _)| **inode != own) {
        let Some(links) = links(namespace, hidden) else { continue };
        for (function, link) in uses(&links, functions, &netdevs) {
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

/// VFs by the index of a netdev in our namespace.
fn vf_netdevs(functions: &Functions) -> BTreeMap<u32, PciAddress> {
    let vfs = functions.iter().filter(|(_, raw)| raw.is_vf);
    vfs.flat_map(|(address, raw)| raw.netdevs.iter().map(|raw| (raw.netdev.ifindex, *address))).collect()
}

/// Which VFs the links of another namespace belong to: a VF's own netdev, or a macvlan, VLAN and the like on top of one that
/// stayed here. The namespace below such a link is not resolved: an equal index in a third one is taken for ours.
fn uses<'a>(
    links: &'a [RawLink],
    functions: &Functions,
    netdevs: &BTreeMap<u32, PciAddress>,
) -> Vec<(PciAddress, &'a RawLink)> {
    let is_vf = |address: &PciAddress| functions.get(address).is_some_and(|raw| raw.is_vf);
    let owner = |link: &RawLink| {
        let below = || link.lower_elsewhere.and_then(|index| netdevs.get(&index).copied());
        parent(link).filter(is_vf).or_else(below)
    };
    links.iter().filter_map(|link| Some((owner(link)?, link))).collect()
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

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use nix::sched::{CloneFlags, unshare};
    use portwright_core::observed::{Netdev, Sight};

    use super::*;
    use crate::sysfs::function::RawFunction;
    use crate::sysfs::netdev::RawNetdev;

    fn vf(ifindex: Option<u32>) -> RawFunction {
        let netdev =
            |ifindex| RawNetdev { netdev: Netdev { ifindex, ..Netdev::default() }, ..RawNetdev::default() };
        RawFunction {
            is_vf: true,
            netdevs: ifindex.map(netdev).into_iter().collect(),
            ..RawFunction::default()
        }
    }

    #[test]
    fn links_elsewhere_are_told_by_parent_or_by_what_is_below_them() {
        let address = |text: &str| text.parse::<PciAddress>().unwrap();
        let (away, here, pf) = (address("0000:3b:01.0"), address("0000:3b:01.1"), address("0000:3b:00.0"));
        let functions =
            Functions::from([(away, vf(None)), (here, vf(Some(7))), (pf, RawFunction::default())]);
        let link = |name: &str, parent: Option<PciAddress>, below: Option<u32>| RawLink {
            name: name.to_owned(),
            parent_device: parent.map(|address| address.to_string()),
            lower_elsewhere: below,
            ..RawLink::default()
        };
        let links = [
            link("net1", Some(away), None),
            link("macvlan0", None, Some(7)),
            link("vlan0", None, Some(8)),
            link("uplink", Some(pf), None),
            RawLink { parent_device: Some("virtio3".to_owned()), ..link("eth0", None, None) },
            link("lo", None, None),
        ];
        let found = uses(&links, &functions, &vf_netdevs(&functions));
        let found: Vec<_> = found.iter().map(|(address, link)| (*address, link.name.as_str())).collect();
        assert_eq!(found, [(away, "net1"), (here, "macvlan0")]);
    }

    /// A process in a network namespace of its own, ended with the test.
    struct Guest(Child);

    impl Drop for Guest {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Starts `sleep` in a fresh network namespace that has a link `pw-blue`.
    #[allow(clippy::disallowed_methods, reason = "a test starts its own processes")]
    fn guest() -> Guest {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let added = Command::new("ip").args(["link", "add", "pw-blue", "type", "ifb"]).status().unwrap();
            assert!(added.success());
            Guest(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
        })
        .join()
        .unwrap()
    }

    #[test]
    fn a_real_namespace_is_found_through_its_process_and_listed_from_inside() {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let guest = guest();
        let pid = guest.0.id();
        let mut hidden = Hidden::default();
        let processes = Processes::read(&Root::default(), true, &mut hidden);
        let found = processes.network.iter().find(|(_, namespace)| namespace.pid == Some(pid));
        let (inode, namespace) = found.expect("the namespace of the child is among those found");
        assert_ne!(Some(*inode), processes.own_network);
        let mut hidden = Hidden::default();
        let links = links(namespace, &mut hidden).unwrap();
        assert!(links.iter().any(|link| link.name == "pw-blue"), "{links:?}");
        assert_eq!(hidden.sight(), Sight::Complete);
        let holder = holder(&Root::default(), *inode, namespace, &links[0]);
        let Holder::Namespace { netns, pid: named, .. } = holder else { panic!("{holder:?}") };
        assert_eq!((netns, named), (format!("net:[{inode}]"), Some(pid)));

        // A namespace whose last process has ended is no reason to see less.
        let mut namespace = Namespace::default();
        namespace.note(|| format!("/proc/{pid}/ns/net").into());
        drop(guest);
        assert!(super::links(&namespace, &mut hidden).is_none());
        assert_eq!(hidden.sight(), Sight::Complete);
    }

    #[test]
    fn a_namespace_that_cannot_be_entered_makes_the_sight_partial() {
        let mut namespace = Namespace::default();
        namespace.note(|| "/proc/self/status".into());
        let mut hidden = Hidden::default();
        assert!(links(&namespace, &mut hidden).is_none());
        let Sight::Partial { why } = hidden.sight() else { panic!("complete") };
        assert!(why.contains("/proc/self/status"), "{why}");
    }
}
