//! What only the running kernel's netlink tells: kinds and alternative names of links, addresses, routes of all tables and
//! the VF attributes of PF drivers.
//!
//! The inventory stays with sysfs; netlink adds to it. Where netlink fails, the tables in `proc/net` stand in, and a
//! problem says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portwright_core::drive::chain;
use portwright_core::observed::{DefaultRoute, Link, Netdev, Pf, Problem};
use portwright_core::{Fact, Object, PciAddress, PciId};

use super::functions::Functions;
use super::management::Evidence;
use crate::devlink::{Devlink, Handle};
use crate::netlink::{self, NetlinkError, RawLink};

/// Links of the running host by index.
#[derive(Debug, Default)]
pub(crate) struct Live {
    links: BTreeMap<u32, RawLink>,
    unread: Option<String>,
}

impl Live {
    /// Asks for all links.
    pub(crate) fn read() -> Live {
        match netlink::links() {
            Ok(links) => {
                let links = links.into_iter().map(|link| (link.ifindex, link)).collect();
                Live { links, unread: None }
            }
            Err(error) => Live { links: BTreeMap::new(), unread: Some(chain(&error)) },
        }
    }

    /// Whether this kernel names the devices that links belong to (5.14 and later).
    pub(crate) fn names_parents(&self) -> bool {
        self.links.values().any(|link| link.parent_device.is_some())
    }

    /// Replaces what the tables say of addresses and default routes. Where netlink fails the tables stay, and that they do
    /// not tell all is noted.
    pub(crate) fn improve(&self, evidence: &mut Evidence) {
        let tables = std::mem::take(&mut evidence.unread);
        evidence.unread.extend(self.unread.clone());
        match netlink::addresses() {
            // Without links nothing can be placed.
            Ok(_) if self.links.is_empty() => {}
            Ok(addresses) => {
                evidence.addresses.clear();
                for raw in addresses {
                    self.place(evidence, raw.ifindex, raw.address);
                }
            }
            Err(error) => evidence.unread.push(chain(&error)),
        }
        match netlink::default_routes() {
            Ok(routes) => {
                let named = routes.iter().filter_map(|route| {
                    let interface = self.links.get(&route.ifindex)?.name.clone();
                    Some(DefaultRoute { interface, family: route.family })
                });
                let known = std::mem::take(&mut evidence.management.default_routes);
                let all: BTreeSet<DefaultRoute> = known.into_iter().chain(named).collect();
                evidence.management.default_routes = all.into_iter().collect();
            }
            Err(error) => evidence.unread.push(chain(&error)),
        }
        if !evidence.unread.is_empty() {
            evidence.unread.extend(tables);
        }
    }

    fn place(&self, evidence: &mut Evidence, ifindex: u32, address: IpAddr) {
        if let Some(link) = self.links.get(&ifindex) {
            evidence.addresses.entry(link.name.clone()).or_default().insert(address);
        }
    }

    /// Adds kinds, masters and what links are made of.
    pub(crate) fn improve_links(&self, links: &mut [Link]) {
        for link in links {
            let Some(raw) = self.links.get(&link.ifindex).filter(|raw| raw.name == link.name) else {
                continue;
            };
            // Better an unknown kind than one that was guessed from folders.
            link.kind = raw.kind.clone();
            if let Some(master) = raw.master.and_then(|index| self.links.get(&index)) {
                link.master = Some(master.name.clone());
            }
            if let Some(lower) = raw.lower.and_then(|index| self.links.get(&index))
                && !link.lowers.contains(&lower.name)
            {
                link.lowers.push(lower.name.clone());
                link.lowers.sort();
            }
        }
    }

    /// Adds alternative names to the functions' netdevs.
    pub(crate) fn improve_functions(&self, functions: &mut Functions) {
        for raw in functions.values_mut().flat_map(|function| &mut function.netdevs) {
            self.improve_netdev(&mut raw.netdev);
        }
    }

    fn improve_netdev(&self, netdev: &mut Netdev) {
        if let Some(raw) = self.links.get(&netdev.ifindex).filter(|raw| raw.name == netdev.name) {
            netdev.alt_names.clone_from(&raw.alt_names);
        }
    }
}

/// Asks devlink for the e-switch mode of each PF. A write that hangs may keep the lock of the PF's devlink, so such a PF is
/// among those `locked`, which are not asked.
pub(crate) fn eswitch_modes(pfs: &mut [Pf], locked: &BTreeSet<PciAddress>, problems: &mut Vec<Problem>) {
    let mut devlink = match Devlink::open() {
        Ok(Some(devlink)) => devlink,
        // A kernel without devlink has no e-switch modes either.
        Ok(None) => {
            pfs.iter_mut().for_each(|pf| pf.eswitch = Fact::UNSUPPORTED);
            return;
        }
        Err(error) => {
            tell(problems, Object::Node, &error);
            return;
        }
    };
    for pf in pfs.iter_mut().filter(|pf| !locked.contains(&pf.address)) {
        match devlink.eswitch_mode(&Handle::from(pf.address)) {
            Ok(mode) => pf.eswitch = mode,
            Err(error) => tell(problems, pci(pf.address), &error),
        }
    }
}

/// Vendor whose NICs take DDP packages (Dynamic Device Personalization).
const DDP_VENDOR: PciId = PciId(0x8086);
/// What devlink calls the package that is loaded (Documentation/networking/devlink/ice.rst).
const DDP_NAME: &str = "fw.app.name";

/// Asks devlink which DDP package each PF has loaded. Other vendors' NICs are not asked: some take long to answer.
pub(crate) fn ddp_packages(
    pfs: &[Pf],
    locked: &BTreeSet<PciAddress>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<PciAddress, String> {
    let mut packages = BTreeMap::new();
    let asked: Vec<_> =
        pfs.iter().filter(|pf| pf.vendor == DDP_VENDOR && !locked.contains(&pf.address)).collect();
    // That devlink cannot be opened is told where e-switch modes are asked for.
    let Some(Ok(Some(mut devlink))) = (!asked.is_empty()).then(Devlink::open) else { return packages };
    for pf in asked {
        match devlink.info(&Handle::from(pf.address)) {
            Ok(info) => {
                let name = info.and_then(|mut info| info.versions.remove(DDP_NAME));
                packages.extend(name.map(|name| (pf.address, name)));
            }
            Err(error) => tell(problems, pci(pf.address), &error),
        }
    }
    packages
}

/// Asks each PF's driver for its VFs' attributes.
pub(crate) fn vf_attributes(pfs: &mut [Pf], problems: &mut Vec<Problem>) {
    for pf in pfs.iter_mut().filter(|pf| !pf.vfs.is_empty()) {
        let Some(ifindex) = pf.netdev().map(|netdev| netdev.ifindex) else { continue };
        match netlink::vf_attributes(ifindex) {
            Ok(mut attributes) => {
                for vf in &mut pf.vfs {
                    if let Some(admin) = attributes.remove(&vf.index) {
                        vf.admin = admin;
                    }
                }
            }
            Err(error) => tell(problems, pci(pf.address), &error),
        }
    }
}

fn pci(address: PciAddress) -> Object {
    Object::Pci(address)
}

fn tell(problems: &mut Vec<Problem>, object: Object, error: &NetlinkError) {
    problems.push(Problem { object, reason: chain(error) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_get_what_only_netlink_tells() {
        let raw = |ifindex, name: &str, kind: Option<&str>, lower, master| RawLink {
            ifindex,
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            lower,
            master,
            ..RawLink::default()
        };
        let raws = [
            raw(2, "eth0", None, None, Some(3)),
            raw(3, "bond0", Some("bond"), None, None),
            raw(4, "bond0.5", Some("vlan"), Some(3), None),
            raw(5, "renamed", Some("dummy"), None, None),
        ];
        let live = Live { links: raws.into_iter().map(|raw| (raw.ifindex, raw)).collect(), unread: None };
        let link = |ifindex, name: &str| Link { ifindex, name: name.to_owned(), ..Link::default() };
        let guessed = Link { kind: Some("openvswitch".to_owned()), ..link(4, "bond0.5") };
        let other = Link { kind: Some("tun".to_owned()), ..link(5, "tap0") };
        let mut links = [link(2, "eth0"), link(3, "bond0"), guessed, other];
        live.improve_links(&mut links);
        let [eth0, bond0, vlan, other] = links;
        assert_eq!((eth0.kind, eth0.master.as_deref()), (None, Some("bond0")));
        assert_eq!(bond0.kind.as_deref(), Some("bond"));
        assert_eq!((vlan.kind.as_deref(), vlan.lowers), (Some("vlan"), vec!["bond0".to_owned()]));
        // An index that has another name by now is another link.
        assert_eq!(other.kind.as_deref(), Some("tun"));
    }

    #[test]
    fn the_running_hosts_links_are_named_and_placed() {
        let live = Live::read();
        let mut evidence = Evidence::default();
        live.improve(&mut evidence);
        assert_eq!(evidence.unread, [] as [String; 0]);
        assert!(live.links.values().any(|link| link.name == "lo"));
        assert!(evidence.addresses.keys().all(|name| live.links.values().any(|link| link.name == *name)));
    }
}
