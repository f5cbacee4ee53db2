//! Whether a VF is in use. A VF in use is never touched unless the policy says `Force`, and then only if pods and
//! network namespaces are all that holds it.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::VfRef;
use crate::observed::{FileKind, Holder, Observed, Pf, Sight, Vf};

/// One thing that makes a VF count as in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A holder that was seen.
    Held(Holder),
    /// Its netdev is enslaved, has something stacked on it, or carries an address.
    Netdev {
        /// The netdev.
        netdev: String,
        /// `is a port of br0`, `has vlan10 on top`, `has the address 192.0.2.1`.
        what: String,
    },
    /// Not everything could be seen.
    Unseen {
        /// What was hidden.
        why: String,
    },
}

impl Use {
    /// Whether `disruption: Force` may take the VF away: only from pods and network namespaces.
    pub fn yields_to_force(&self) -> bool {
        match self {
            Use::Held(Holder::Pod { .. } | Holder::Namespace { .. }) => true,
            Use::Held(Holder::File { .. }) | Use::Netdev { .. } | Use::Unseen { .. } => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Use::Held(Holder::Pod { namespace, name, .. }) => {
                format!("drain or delete pod {namespace}/{name}, or let the policy leave this VF alone")
            }
            Use::Held(Holder::Namespace { .. }) => {
                "end the process or delete the network namespace, or wait for it to end".to_owned()
            }
            Use::Held(Holder::File { pid, .. }) => format!("end process {pid}, or wait for it to end"),
            Use::Netdev { netdev, .. } => {
                format!("free {netdev}: take it out of its master and remove its addresses")
            }
            Use::Unseen { .. } => {
                "run as root in the host's PID namespace with CAP_SYS_PTRACE and the host's /proc".to_owned()
            }
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Held(Holder::Pod { namespace, name, .. }) => write!(f, "is used by pod {namespace}/{name}"),
            Use::Held(Holder::Namespace { netns, pid, command, netdev, .. }) => {
                write!(f, "has its netdev")?;
                if let Some(netdev) = netdev {
                    write!(f, " {netdev}")?;
                }
                write!(f, " in network namespace {netns}")?;
                match (pid, command) {
                    (Some(pid), Some(command)) => write!(f, " (pid {pid}, {command})"),
                    (Some(pid), None) => write!(f, " (pid {pid})"),
                    (None, Some(_) | None) => Ok(()),
                }
            }
            Use::Held(Holder::File { file, path, pid, command, shared, .. }) => {
                let sort = match file {
                    FileKind::VfioGroup | FileKind::VfioDevice => "VFIO",
                    FileKind::Iommufd => "iommufd",
                    FileKind::Uverbs => "RDMA",
                    FileKind::VhostVdpa => "vDPA",
                    FileKind::Uio => "UIO",
                };
                let may = if *shared { "may be held" } else { "is held" };
                write!(f, "{may} through {sort} by pid {pid} ({command}), which has {path} open")
            }
            Use::Netdev { netdev, what } => write!(f, "has a netdev that is in use: {netdev} {what}"),
            Use::Unseen { why } => write!(f, "may be in use: {why}"),
        }
    }
}

/// The VFs that are connected by these interfaces of a switch, which are their netdevs or their representors.
pub fn connected(observed: &Observed, interfaces: &BTreeSet<&str>) -> Vec<VfRef> {
    let of_pf = |pf: &Pf| {
        let is_among = |vf: &&Vf| {
            let netdevs = vf.netdevs.iter().map(|netdev| netdev.name.as_str());
            netdevs
                .chain(vf.netdev.as_deref())
                .chain(vf.representor.as_deref())
                .any(|one| interfaces.contains(one))
        };
        let vfs = pf.vfs.iter().filter(is_among);
        vfs.map(|vf| VfRef { pf: pf.address, index: vf.index }).collect::<Vec<_>>()
    };
    observed.pfs.iter().flat_map(of_pf).collect()
}

/// Everything that makes an existing VF count as in use; empty means idle.
pub fn uses(observed: &Observed, vf: VfRef) -> Vec<Use> {
    uses_beside(observed, vf, &BTreeSet::new())
}

/// The same, without what these netdevs are a part of: for changes of the switch that they are in.
pub fn uses_beside(observed: &Observed, vf: VfRef, apart: &BTreeSet<&str>) -> Vec<Use> {
    let Some(found) = observed.vf(vf) else { return Vec::new() };
    // Pods come first: draining one is what helps, whatever else it holds.
    let mut holders = found.holders.clone();
    holders.sort();
    let mut uses: Vec<Use> = holders.into_iter().map(Use::Held).collect();
    let counts = |netdev: &&str| !apart.contains(netdev);
    for netdev in found.netdevs.iter().map(|netdev| netdev.name.as_str()).filter(counts) {
        uses.extend(
            netdev_uses(observed, netdev)
                .into_iter()
                .map(|what| Use::Netdev { netdev: netdev.to_owned(), what }),
        );
    }
    if let Some(representor) = found.representor.as_deref().filter(counts) {
        // A representor in a bridge means that somebody switches for this VF.
        uses.extend(
            netdev_uses(observed, representor)
                .into_iter()
                .map(|what| Use::Netdev { netdev: representor.to_owned(), what }),
        );
    }
    // Hidden users never yield: behind a pod that was seen there may be an open VFIO file that was not.
    let why = match (&observed.node.sight, &found.unseen) {
        (Sight::Partial { why }, _) | (Sight::Complete, Some(why)) => Some(why),
        (Sight::Complete, None) => None,
    };
    if uses.iter().all(Use::yields_to_force)
        && let Some(why) = why
    {
        uses.push(Use::Unseen { why: why.clone() });
    }
    uses
}

fn netdev_uses(observed: &Observed, netdev: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(link) = observed.link(netdev) {
        found.extend(link.master.iter().map(|master| format!("is a port of {master}")));
        found.extend(link.addresses.iter().map(|address| format!("has the address {address}")));
    }
    let uppers = observed.links.iter().filter(|link| link.lowers.iter().any(|lower| lower == netdev));
    // A master is already named above; what is left are VLANs, macvlans and the like.
    found.extend(
        uppers
            .filter(|upper| observed.link(netdev).and_then(|link| link.master.as_ref()) != Some(&upper.name))
            .map(|upper| format!("has {} on top", upper.name)),
    );
    found
}
