//! All netdevs of the host's network namespace and how they are stacked, from `sys/class/net`; rtnetlink adds what folders
//! do not tell when the node is the running host.
//!
//! What a folder cannot tell is guessed only to the safe side: with the OVS kernel datapath present, a virtual netdev that
//! shows no kind of its own counts as an internal port of OVS, so that the management path through it is found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portwright_core::observed::{Link, Problem};
use portwright_core::{Object, PciAddress};

use super::functions::Functions;
use super::representor::Representors;
use crate::proc::is_link_local;
use crate::root::{EntryKind, Root};
use crate::sysfs::netdev::{self, Detail, RawNetdev, Shape};
use crate::sysfs::{Reasons, parse};

/// The netdev of the OVS kernel datapath, master of its ports.
const OVS_DATAPATH: &str = "ovs-system";
/// `ARPHRD_LOOPBACK` (`linux/if_arp.h`).
const LOOPBACK: u16 = 772;

/// The links and the representors among them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) links: Vec<Link>,
    pub(crate) representors: Representors,
}

/// Reads all netdevs; those that were read with their PCI function are not read again.
pub(crate) fn read(
    root: &Root,
    functions: &Functions,
    addresses: &BTreeMap<String, BTreeSet<IpAddr>>,
    problems: &mut Vec<Problem>,
) -> Links {
    let mut found = Links::default();
    let mut seen = BTreeSet::new();
    for (address, function) in functions {
        for raw in &function.netdevs {
            found.representors.note(&raw.netdev, Some(*address));
            found.links.push(link(raw, None, Some(*address), addresses));
            seen.insert(raw.netdev.name.clone());
        }
    }
    let (others, has_ovs) = virtual_netdevs(root, &seen, problems);
    for (raw, pci) in &others {
        found.representors.note(&raw.netdev, *pci);
        found.links.push(link(raw, kind(raw, has_ovs), *pci, addresses));
    }
    found.links.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Netdevs of `sys/class/net` that were not read yet, and whether OVS's datapath is there.
fn virtual_netdevs(
    root: &Root,
    seen: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> (Vec<(RawNetdev, Option<PciAddress>)>, bool) {
    let mut reasons = Reasons::default();
    let Some(mut class) = reasons.take(root.dir("sys/class/net")) else {
        tell(problems, &Object::Node, reasons);
        return (Vec::new(), false);
    };
    let mut names = Vec::new();
    // `bonding_masters` is a plain file in this folder.
    let listed = class.scan(|name, kind| {
        if kind != EntryKind::File {
            names.push(String::from_utf8(name.to_owned()));
        }
    });
    if let Err(error) = listed {
        reasons.add(&error);
    }
    let mut others = Vec::new();
    let mut has_ovs = false;
    for name in names {
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                let name = String::from_utf8_lossy(error.as_bytes()).into_owned();
                reasons.0.push(format!("the name of {} is not UTF-8", class.path().join(name).display()));
                continue;
            }
        };
        has_ovs |= name == OVS_DATAPATH;
        if seen.contains(&name) {
            continue;
        }
        let mut own = Reasons::default();
        match class.dir(&name) {
            Ok(mut dir) => {
                let raw = netdev::read(&mut dir, &name, Detail::Full, &mut own);
                // A sub-function's netdev hangs below an auxiliary device of its PF.
                let place = class.link(&name).ok();
                let pci = place.and_then(|path| path.to_str().and_then(parse::function_in_path));
                others.push((raw, pci));
            }
            // A netdev in a dangling link has just gone, or the tree was not copied whole.
            Err(error) => own.add(&error),
        }
        tell(problems, &Object::Named(format!("net/{name}")), own);
    }
    tell(problems, &Object::Node, reasons);
    (others, has_ovs)
}

fn link(
    raw: &RawNetdev,
    kind: Option<String>,
    pci: Option<PciAddress>,
    addresses: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> Link {
    let name = &raw.netdev.name;
    let (link_local, addresses) = addresses.get(name).into_iter().flatten().copied().partition(is_link_local);
    Link {
        name: name.clone(),
        ifindex: raw.netdev.ifindex,
        kind,
        lowers: raw.lowers.clone(),
        master: raw.master.clone(),
        addresses,
        link_local,
        pci,
    }
}

/// Kind as rtnetlink would name it, as far as a folder tells.
fn kind(raw: &RawNetdev, has_ovs: bool) -> Option<String> {
    let Shape { devtype, bond, bridge, tun, hardware } = &raw.shape;
    if *hardware {
        return None;
    }
    if let Some(devtype) = devtype {
        return Some(devtype.clone());
    }
    let told = [(*bond, "bond"), (*bridge, "bridge"), (*tun, "tun")];
    if let Some((_, kind)) = told.iter().find(|(is, _)| *is) {
        return Some((*kind).to_owned());
    }
    let plain = raw.lowers.is_empty() && raw.master.is_none() && raw.netdev.link_type != Some(LOOPBACK);
    (has_ovs && plain).then(|| "openvswitch".to_owned())
}

fn tell(problems: &mut Vec<Problem>, object: &Object, reasons: Reasons) {
    problems.extend(reasons.0.into_iter().map(|reason| Problem { object: object.clone(), reason }));
}
