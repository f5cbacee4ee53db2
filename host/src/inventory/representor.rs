//! Finds the representor of a VF: the port of the PF's switch that says it stands for that VF. Names of netdevs play no
//! part, because udev and NetworkManager change them.

use std::collections::BTreeMap;

use portwright_core::PciAddress;
use portwright_core::observed::{Netdev, Pf};

use crate::sysfs::parse::{self, VfPort};

/// Switch ports that stand for VFs: by switch and VF number.
#[derive(Debug, Default)]
pub(crate) struct Representors {
    ports: BTreeMap<(String, u16), Vec<Port>>,
}

#[derive(Debug)]
struct Port {
    netdev: String,
    /// Number of the PF in the port's name.
    pf: Option<u16>,
    /// PCI function that the netdev is a child of.
    parent: Option<PciAddress>,
}

/// Whether a netdev stands for a VF.
pub(crate) fn is_representor(netdev: &Netdev) -> bool {
    netdev.phys_switch_id.is_some() && netdev.phys_port_name.as_deref().and_then(parse::vf_port).is_some()
}

impl Representors {
    /// Takes note of a netdev if it is a representor.
    pub(crate) fn note(&mut self, netdev: &Netdev, parent: Option<PciAddress>) {
        let Some(switch) = netdev.phys_switch_id.as_ref() else { return };
        let Some(VfPort { pf, vf }) = netdev.phys_port_name.as_deref().and_then(parse::vf_port) else {
            return;
        };
        let port = Port { netdev: netdev.name.clone(), pf, parent };
        self.ports.entry((switch.clone(), vf)).or_default().push(port);
    }

    /// The representor of a VF of `pf`. Several PFs may share a switch (a bond of two ports of one card): then the one whose
    /// parent is this PF counts, else the one that names this PF's number; what stays open is not guessed.
    pub(crate) fn of(&self, address: PciAddress, pf: &Pf, index: u16) -> Option<String> {
        let uplink = pf.netdev()?;
        let ports = self.ports.get(&(uplink.phys_switch_id.clone()?, index))?;
        let own: Vec<&Port> = ports.iter().filter(|port| port.parent == Some(address)).collect();
        let orphans: Vec<&Port> = ports.iter().filter(|port| port.parent.is_none()).collect();
        let candidates = if own.is_empty() { orphans } else { own };
        if let [only] = candidates.as_slice() {
            return Some(only.netdev.clone());
        }
        let number = uplink.phys_port_name.as_deref().and_then(parse::uplink_port);
        let number = number.unwrap_or_else(|| u16::from(address.function));
        let mut named = candidates.iter().filter(|port| port.pf == Some(number));
        let first = named.next()?;
        named.next().is_none().then(|| first.netdev.clone())
    }
}
