//! The management path: the netdevs that the node is reached over. They are never touched unless the policy says so by
//! name.
//!
//! It starts at the netdevs below a default route or below an address that counts (kubelet's node address, the local end
//! of a session to the API server, of BGP or of SSH) and goes down through bonds, bridges, VLANs, macvlans and OVS bridges
//! to the PCI functions.
//!
//! Routes and addresses go away with the carrier, at the end of a DHCP lease, and are not there yet when a node boots. So a
//! path that was seen stays protected while nothing shows another one, and while a port that it ran over is dark.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::id::{PciAddress, VfRef};
use crate::observed::{Link, Netdev, Observed, PathSeen, Session, Sight, Vf};
use crate::ovs::Bridge;

/// API server port that counts without configuration.
const API_SERVER: u16 = 6443;
/// BGP (RFC 4271).
const BGP: u16 = 179;
/// SSH (RFC 4253).
const SSH: u16 = 22;

/// What the node is reached over, each with the reason as a clause (`carries the default route (IPv4) through bond0`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManagementPath {
    /// Netdevs.
    pub netdevs: BTreeMap<String, String>,
    /// PCI functions.
    pub functions: BTreeMap<PciAddress, String>,
    /// Why the path may run over any function: not everything that shows it could be read.
    pub unseen: Option<String>,
}

impl ManagementPath {
    /// Why the function is protected, if it is known to be on the path.
    pub fn why(&self, address: PciAddress) -> Option<&str> {
        self.functions.get(&address).map(String::as_str)
    }

    /// The same for a PF, which also is protected while nobody can tell what the path runs over. (An idle VF has no
    /// address that could carry it.)
    pub fn why_pf(&self, address: PciAddress) -> Option<&str> {
        self.why(address).or(self.unseen.as_deref())
    }
}

/// Finds the management path: what shows itself now, and what was last seen as far as that counts.
pub fn management_path(observed: &Observed) -> ManagementPath {
    let mut path = shown(observed);
    let last = still_counts(observed, &path);
    let worded = |why: &String| format!("{why}, as last seen");
    for (name, why) in &last.netdevs {
        path.netdevs.entry(name.clone()).or_insert_with(|| worded(why));
    }
    for (address, why) in &last.functions {
        path.functions.entry(*address).or_insert_with(|| worded(why));
    }
    path
}

/// What is to be remembered of the path for observations to come: functions, and the bridges, bonds and the like above them.
/// What is only protected because nobody can tell is not added.
pub fn to_remember(observed: &Observed) -> PathSeen {
    let path = shown(observed);
    let mut seen = still_counts(observed, &path);
    let guessed = observed.ovs.is_none() && observed.links.iter().any(is_ovs_internal);
    if path.unseen.is_none() && !guessed {
        let pods = |name: &String| {
            let link = observed.link(name);
            link.is_some_and(|link| matches!(link.kind.as_deref(), Some("veth" | "tun")))
        };
        seen.netdevs.extend(path.netdevs.into_iter().filter(|(name, _)| !pods(name)));
        seen.functions.extend(path.functions);
    }
    seen
}

/// What of the path that was last seen still counts: all of it while nothing shows a path; else the functions that are there
/// and have lost their carrier, with what is above them. Whatever ran over those may come back with the cable.
fn still_counts(observed: &Observed, shown: &ManagementPath) -> PathSeen {
    let Some(last) = &observed.management.last_seen else { return PathSeen::default() };
    if shown.netdevs.is_empty() || shown.unseen.is_some() {
        return last.clone();
    }
    let dark = |address: &PciAddress| !shown.functions.contains_key(address) && is_dark(observed, *address);
    let functions: BTreeMap<PciAddress, String> =
        last.functions.iter().filter(|(address, _)| dark(address)).map(owned).collect();
    let above = |name: &str| {
        let mut under = BTreeMap::new();
        descend(observed, name, "", &mut under);
        under.keys().filter_map(|name| function_of(observed, name)).any(|one| functions.contains_key(&one))
    };
    let netdevs = last.netdevs.iter().filter(|(name, _)| above(name)).map(owned).collect();
    PathSeen { netdevs, functions }
}

fn owned<K: Clone>((key, why): (&K, &String)) -> (K, String) {
    (key.clone(), why.clone())
}

/// Whether a port or VF is set up and has no carrier. Of functions that are neither it is not known.
fn is_dark(observed: &Observed, address: PciAddress) -> bool {
    let netdevs = observed.pfs.iter().find_map(|pf| {
        let of_vf = || pf.vfs.iter().find(|vf| vf.address == address).map(|vf| vf.netdevs.as_slice());
        if pf.address == address { Some(pf.netdevs.as_slice()) } else { of_vf() }
    });
    let lost = |netdev: &Netdev| netdev.up.is(&true) && netdev.carrier != Some(true);
    netdevs.and_then(<[Netdev]>::first).is_some_and(lost)
}

/// The function that a netdev is of.
fn function_of(observed: &Observed, name: &str) -> Option<PciAddress> {
    observed.link(name).and_then(|link| link.pci).or_else(|| owner(observed, name))
}

fn shown(observed: &Observed) -> ManagementPath {
    let mut path = ManagementPath::default();
    if let Sight::Partial { why } = &observed.management.sight {
        path.unseen = Some(format!("may carry the node's own traffic ({why})"));
    }
    let starts = starts(observed);
    for (name, why) in &starts {
        descend(observed, name, why, &mut path.netdevs);
    }
    // What it starts at says so, also where it is below another start.
    path.netdevs.extend(starts);
    for (name, why) in &path.netdevs {
        if let Some(address) = function_of(observed, name) {
            path.functions.entry(address).or_insert_with(|| why.clone());
        }
    }
    path
}

/// The functions that netdevs are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Below {
    /// PFs whose own netdevs are among them.
    pub(crate) ports: BTreeSet<PciAddress>,
    /// VFs whose netdevs or representors are.
    pub(crate) vfs: BTreeSet<VfRef>,
}

impl Below {
    /// All PFs, also those of VFs.
    pub(crate) fn pfs(&self) -> BTreeSet<PciAddress> {
        self.ports.iter().copied().chain(self.vfs.iter().map(|vf| vf.pf)).collect()
    }
}

/// What netdevs are on, down through bonds, VLANs and bridges of the kernel. What is on the same Open vSwitch bridge is not below.
pub(crate) fn below<'a>(observed: &Observed, netdevs: impl Iterator<Item = &'a str>) -> Below {
    let mut due: Vec<String> = netdevs.map(ToOwned::to_owned).collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut below = Below::default();
    while let Some(name) = due.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        due.extend(made_of(observed, &name));
        let function = function_of(observed, &name);
        for pf in &observed.pfs {
            let is_of = |vf: &&Vf| vf.representor.as_ref() == Some(&name) || function == Some(vf.address);
            match pf.vfs.iter().find(is_of) {
                Some(vf) => drop(below.vfs.insert(VfRef { pf: pf.address, index: vf.index })),
                None if function == Some(pf.address) => drop(below.ports.insert(pf.address)),
                None => {}
            }
        }
    }
    below
}

/// The function whose netdev it is, for documents whose `links` do not say so.
fn owner(observed: &Observed, name: &str) -> Option<PciAddress> {
    let has = |netdevs: &[crate::observed::Netdev]| netdevs.iter().any(|netdev| netdev.name == name);
    let in_pf = |pf: &crate::observed::Pf| {
        if has(&pf.netdevs) || pf.name.as_deref() == Some(name) {
            return Some(pf.address);
        }
        pf.vfs.iter().find(|vf| has(&vf.netdevs) || vf.netdev.as_deref() == Some(name)).map(|vf| vf.address)
    };
    observed.pfs.iter().find_map(in_pf)
}

/// The netdevs where the path starts, with the reason.
fn starts(observed: &Observed) -> BTreeMap<String, String> {
    let evidence = &observed.management;
    let mut starts = BTreeMap::new();
    for route in &evidence.default_routes {
        starts
            .entry(route.interface.clone())
            .or_insert_with(|| format!("carries the default route (IPv{})", route.family));
    }
    let mut by_address: BTreeMap<IpAddr, String> = BTreeMap::new();
    for address in &evidence.node_addresses {
        by_address.entry(*address).or_insert_with(|| format!("has the node's address {address}"));
    }
    for session in &evidence.sessions {
        if let Some(what) = protected_session(session, &evidence.api_servers) {
            by_address.entry(session.local).or_insert(what);
        }
    }
    for link in &observed.links {
        for address in link.addresses.iter().chain(&link.link_local) {
            if let Some(why) = by_address.get(address) {
                starts.entry(link.name.clone()).or_insert_with(|| why.clone());
            }
        }
    }
    starts
}

/// What makes a session count, if anything does.
fn protected_session(session: &Session, api_servers: &[(IpAddr, u16)]) -> Option<String> {
    let remote = session.remote;
    if session.remote_port == API_SERVER || api_servers.contains(&(remote, session.remote_port)) {
        Some(format!("carries a session to the API server {remote}:{}", session.remote_port))
    } else if session.remote_port == BGP || session.local_port == BGP {
        Some(format!("carries a BGP session with {remote}"))
    } else if session.local_port == SSH {
        Some(format!("carries an SSH session from {remote}"))
    } else {
        None
    }
}

/// Adds a netdev and everything below it.
fn descend(observed: &Observed, name: &str, why: &str, found: &mut BTreeMap<String, String>) {
    let mut due = vec![(name.to_owned(), why.to_owned())];
    while let Some((name, why)) = due.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let below_why = if why.contains(" through ") { why.clone() } else { format!("{why} through {name}") };
        for lower in lowers(observed, &name) {
            due.push((lower, below_why.clone()));
        }
        found.insert(name, why);
    }
}

/// What a netdev is made of, as the kernel knows it.
fn made_of(observed: &Observed, name: &str) -> BTreeSet<String> {
    let members = observed.links.iter().filter(|link| link.master.as_deref() == Some(name));
    let lowers = observed.link(name).into_iter().flat_map(|link| link.lowers.iter().cloned());
    members.map(|link| link.name.clone()).chain(lowers).collect()
}

/// The same and what is on the same Open vSwitch bridge.
fn lowers(observed: &Observed, name: &str) -> BTreeSet<String> {
    let mut lowers = made_of(observed, name);
    let link = observed.link(name);
    match &observed.ovs {
        Some(ovs) => {
            let holds = |bridge: &&Bridge| bridge.interfaces().any(|interface| interface.name == name);
            for interface in ovs.bridges.iter().filter(holds).flat_map(Bridge::interfaces) {
                lowers.insert(interface.name.clone());
                lowers.extend(interface.options.get("peer").filter(|_| interface.kind == "patch").cloned());
            }
        }
        // Until OVSDB is read nobody knows which port belongs to which bridge, so all of them count.
        None if link.is_some_and(is_ovs_internal) => {
            let ports = observed.links.iter().filter(|link| link.master.as_deref() == Some("ovs-system"));
            lowers.extend(ports.map(|link| link.name.clone()));
        }
        None => {}
    }
    lowers
}

/// Whether the netdev is an internal port of the OVS kernel datapath.
fn is_ovs_internal(link: &Link) -> bool {
    link.kind.as_deref() == Some("openvswitch")
}
