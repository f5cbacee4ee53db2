//! One value at a time, read right before a step: what the whole inventory would be too slow for.

use portwright_core::desired::EswitchMode;
use portwright_core::drive::RunError;
use portwright_core::observed::{Netdev, primary_netdev};
use portwright_core::{Fact, Object, PciAddress, VfRef};

use super::error::HostError;
use super::{Checked, stale};
use crate::devlink::{Devlink, Handle};
use crate::netlink::{self, RawLink};
use crate::root::{Dir, ReadError, Root};

/// Looks below a root.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    root: &'a Root,
}

impl<'a> Look<'a> {
    pub(crate) fn new(root: &'a Root) -> Look<'a> {
        Look { root }
    }

    fn function(&self, address: PciAddress) -> Checked<Dir<'a>> {
        match self.root.dir(folder(address)) {
            Ok(dir) => Ok(dir),
            Err(error) if error.is_absent() => stale(format!("{address} is not there")),
            Err(source) => unreadable(address, source),
        }
    }

    /// Address of a VF.
    pub(crate) fn vf(&self, vf: VfRef) -> Checked<PciAddress> {
        let link = format!("virtfn{}", vf.index);
        match self.function(vf.pf)?.link_name(&link) {
            Ok(name) => name.parse().or_else(|_| stale(format!("{vf} leads to `{name}`"))),
            Err(error) if error.is_absent() => stale(format!("{vf} is not there")),
            Err(source) => unreadable(vf.pf, source),
        }
    }

    /// How many VFs there are, by their links. `sriov_numvfs` itself is never read: that waits for a write on it.
    pub(crate) fn vf_count(&self, pf: PciAddress) -> Checked<u16> {
        let mut count: u16 = 0;
        let counted = self.function(pf)?.scan(|name, _| {
            let digits = name.strip_prefix(b"virtfn");
            if digits.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)) {
                count = count.saturating_add(1);
            }
        });
        counted.map(|()| count).or_else(|source| unreadable(pf, source))
    }

    /// `sriov_drivers_autoprobe`.
    pub(crate) fn autoprobe(&self, pf: PciAddress) -> Checked<bool> {
        let parse = |text: &str| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        };
        let read = self.function(pf)?.parsed("sriov_drivers_autoprobe", "0 or 1", parse);
        read.or_else(|source| unreadable(pf, source))
    }

    /// Bound driver.
    pub(crate) fn driver(&self, address: PciAddress) -> Checked<Option<String>> {
        match self.function(address)?.link_name("driver") {
            Ok(name) => Ok(Some(name)),
            Err(error) if error.is_absent() => Ok(None),
            Err(source) => unreadable(address, source),
        }
    }

    /// The netdev of a function in this network namespace: the port's own, not a representor's.
    pub(crate) fn netdev(&self, address: PciAddress) -> Checked<Option<RawLink>> {
        let function = self.function(address)?;
        let mut names = Vec::new();
        let listed = match function.dir("net") {
            Ok(mut net) => net.scan(|name, _| names.push(String::from_utf8_lossy(name).into_owned())),
            Err(error) => Err(error),
        };
        match listed {
            Ok(()) => {}
            Err(error) if error.is_absent() => return Ok(None),
            Err(source) => return unreadable(address, source),
        }
        names.sort();
        let mut links = Vec::new();
        for name in names {
            let index = function.dir("net").and_then(|net| {
                net.dir(&name)?.parsed("ifindex", "an interface index", |text| text.parse::<u32>().ok())
            });
            // An interface that goes away or is renamed while we look is not there.
            let Ok(index) = index else { continue };
            match netlink::link(index) {
                Ok(link) => links.push(link),
                Err(error) if error.is_gone() => {}
                Err(source) => {
                    return Err(RunError::Failed(HostError::netlink(Object::Pci(address), source)));
                }
            }
        }
        let netdevs: Vec<Netdev> = links.iter().map(as_netdev).collect();
        let primary = primary_netdev(&netdevs).map(|netdev| netdev.ifindex);
        Ok(links.into_iter().find(|link| Some(link.ifindex) == primary))
    }

    /// Whether a PCI driver of this name (`-` and `_` being one) is registered.
    pub(crate) fn driver_registered(&self, driver: &str) -> Checked<bool> {
        let wanted = portwright_core::observed::module_name(driver);
        match self.root.names("sys/bus/pci/drivers") {
            Ok(names) => Ok(names.iter().any(|name| portwright_core::observed::module_name(name) == wanted)),
            Err(source) => Err(RunError::Failed(HostError::Read { object: Object::Node, source })),
        }
    }

    /// Content of a file of ours, if it is there.
    pub(crate) fn text(&self, path: &str) -> Checked<Option<String>> {
        match self.root.document(path, 1024 * 1024) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_absent() => Ok(None),
            Err(source) => Err(RunError::Failed(HostError::Read { object: Object::Node, source })),
        }
    }

    /// E-switch mode.
    pub(crate) fn eswitch(&self, pf: PciAddress) -> Checked<Fact<EswitchMode>> {
        let mode = Devlink::open().and_then(|devlink| match devlink {
            Some(mut devlink) => devlink.eswitch_mode(&Handle::from(pf)),
            None => Ok(Fact::UNSUPPORTED),
        });
        mode.map_err(|source| RunError::Failed(HostError::netlink(Object::Pci(pf), source)))
    }
}

/// Folder of a PCI function, below the root.
pub(crate) fn folder(address: PciAddress) -> String {
    format!("sys/bus/pci/devices/{address}")
}

fn unreadable<T>(address: PciAddress, source: ReadError) -> Checked<T> {
    Err(RunError::Failed(HostError::Read { object: Object::Pci(address), source }))
}

fn as_netdev(link: &RawLink) -> Netdev {
    Netdev {
        name: link.name.clone(),
        ifindex: link.ifindex,
        phys_port_name: link.phys_port_name.clone(),
        ..Netdev::default()
    }
}
