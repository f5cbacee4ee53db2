//! Single writes, with the kernel's rules (Linux 6.12, measured with igb).

use super::Errno;
use super::family::{EswitchRule, Traits};
use super::state::{Admin, Kernel, SimNetdev, SimPf, SimVf};
use super::violation::Violation;
use crate::desired::{EswitchMode, VlanProtocol};
use crate::id::{MacAddress, PciAddress, VfRef};
use crate::observed::module_name;
use crate::profile::VfAttribute;

/// A VF attribute as it is set by netlink on the PF's netdev.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute {
    Mac(MacAddress),
    Vlan(crate::desired::Vlan),
    SpoofCheck(bool),
    Trust(bool),
    Rate(crate::desired::TxRate),
    LinkState(crate::desired::LinkState),
}

impl Kernel {
    fn pf_mut(&mut self, address: PciAddress) -> Result<&mut SimPf, Errno> {
        let pf = self.pfs.get_mut(&address).filter(|pf| pf.present).ok_or(Errno::NoEntry)?;
        if pf.stuck.is_some() { Err(Errno::Blocks) } else { Ok(pf) }
    }

    fn vf_mut(&mut self, vf: VfRef) -> Result<(Traits, &mut SimVf), Errno> {
        let pf = self.pf_mut(vf.pf)?;
        let traits = pf.family.traits();
        pf.vfs.get_mut(&vf.index).map(|vf| (traits, vf)).ok_or(Errno::NoEntry)
    }

    fn busy(&mut self, what: String) -> Errno {
        self.faults.push(Violation::Busy { what });
        Errno::Busy
    }

    /// Netdevs that are gone have lost their places in bonds and bridges, their addresses and routes.
    pub(super) fn leave_path(&mut self, functions: impl IntoIterator<Item = PciAddress>) {
        for function in functions {
            if self.protected.remove(&function) {
                self.left_path.insert(function);
            }
        }
    }

    /// A write that waits until a holder goes. Nothing on the PF returns from here on.
    fn blocks(&mut self, address: PciAddress, what: String) -> Errno {
        if let Some(pf) = self.pfs.get_mut(&address) {
            pf.stuck = Some(what.clone());
        }
        self.faults.push(Violation::Blocking { what });
        Errno::Blocks
    }

    /// `sriov_numvfs`.
    pub(super) fn write_numvfs(&mut self, address: PciAddress, count: u16) -> Result<(), Errno> {
        let rule = self.node.udev_rule.is_some();
        let what = format!("writing {count} to sriov_numvfs of {address}");
        let pf = self.pf_mut(address)?;
        let there = u16::try_from(pf.vfs.len()).unwrap_or(u16::MAX);
        if count > pf.shown.total_vfs {
            return Err(Errno::Range);
        }
        if count == there {
            return Ok(());
        }
        if pf.driver.is_none() || !pf.family.traits().configurable {
            return Err(Errno::NoEntry);
        }
        if let Some(errno) = pf.refuses.take() {
            return Err(errno);
        }
        if count == 0 {
            if pf.vfs.values().any(|vf| !vf.files.is_empty()) {
                return Err(self.blocks(address, what));
            }
            let gone: Vec<PciAddress> = pf.vfs.values().map(|vf| vf.address).collect();
            pf.vfs.clear();
            self.leave_path(gone);
            return Ok(());
        }
        if there != 0 {
            return Err(self.busy(what));
        }
        let enabled = pf.enables.pop().map_or(count, |most| most.min(count));
        let (autoprobe, switchdev) = (pf.autoprobe, pf.eswitch == EswitchMode::Switchdev);
        let group = pf.shown.iommu_group.is_some() || self.node.iommu.is(&true);
        let pf = self.pf_mut(address)?;
        for index in 0..enabled {
            pf.vfs.insert(index, SimVf::new(VfRef { pf: address, index }, group, switchdev));
        }
        if !rule {
            self.faults.push(Violation::NoUdevRule { pf: address });
        }
        if autoprobe {
            for index in 0..enabled {
                self.drivers_probe(VfRef { pf: address, index })?;
            }
        }
        Ok(())
    }

    /// `sriov_drivers_autoprobe`.
    pub(super) fn write_autoprobe(&mut self, address: PciAddress, value: bool) -> Result<(), Errno> {
        self.pf_mut(address)?.autoprobe = value;
        Ok(())
    }

    /// E-switch mode by devlink.
    pub(super) fn set_eswitch(&mut self, address: PciAddress, mode: EswitchMode) -> Result<(), Errno> {
        let what = format!("setting the e-switch of {address} to {mode}");
        let pf = self.pf_mut(address)?;
        if pf.driver.is_none() {
            return Err(Errno::NoDevice);
        }
        let in_the_way = match pf.family.traits().eswitch {
            EswitchRule::Never => return Err(Errno::NotSupported),
            EswitchRule::WithoutVfs => !pf.vfs.is_empty(),
            EswitchRule::VfsUnbound => pf.vfs.values().any(|vf| vf.driver.is_some()),
        };
        if in_the_way {
            return Err(self.busy(what));
        }
        pf.eswitch = mode;
        for (index, vf) in &mut pf.vfs {
            vf.representor = SimVf::representor_name(VfRef { pf: address, index: *index }, mode);
        }
        Ok(())
    }

    /// `driver_override`.
    pub(super) fn write_override(&mut self, vf: VfRef, driver: Option<&str>) -> Result<(), Errno> {
        self.vf_mut(vf)?.1.driver_override = driver.map(str::to_owned);
        Ok(())
    }

    /// `unbind`. Waits for ever while a VFIO file is open.
    pub(super) fn unbind(&mut self, reference: VfRef) -> Result<(), Errno> {
        let (_, vf) = self.vf_mut(reference)?;
        if vf.driver.is_none() {
            return Err(Errno::NoDevice);
        }
        if !vf.files.is_empty() {
            return Err(self.blocks(reference.pf, format!("unbinding {reference}")));
        }
        vf.driver = None;
        vf.netdev = None;
        vf.late = false;
        let address = vf.address;
        self.leave_path([address]);
        Ok(())
    }

    /// `drivers_probe`: binds to the override or the kernel's driver. With autoprobe 0 and without an override it
    /// succeeds and does nothing; so it does if the driver is not registered or refuses.
    pub(super) fn drivers_probe(&mut self, reference: VfRef) -> Result<(), Errno> {
        let iommu = self.node.iommu.is(&true);
        let registered = self.node.drivers.clone();
        let pf = self.pf_mut(reference.pf)?;
        let (traits, autoprobe, pf_up) = (pf.family.traits(), pf.autoprobe, pf.up());
        let blameless = pf.netdev.is_none() || pf_up || pf.set_down;
        let late = pf.late_netdevs > 0;
        let vf = pf.vfs.get_mut(&reference.index).ok_or(Errno::NoEntry)?;
        let allowed = autoprobe || vf.driver_override.is_some();
        if vf.driver.is_some() || !allowed {
            return Ok(());
        }
        let driver = vf.driver_override.clone().unwrap_or_else(|| traits.vf_driver.to_owned());
        let known = registered.iter().any(|name| module_name(name) == module_name(&driver));
        let is_kernel = driver == traits.vf_driver;
        // vfio-pci without an IOMMU is refused by its probe; a driver that does not know the device as well.
        let takes = is_kernel || driver == "uio_pci_generic" || (driver == "vfio-pci" && iommu);
        if !known || !takes {
            return Ok(());
        }
        vf.driver = Some(driver);
        if is_kernel {
            vf.late = late;
            pf.late_netdevs = pf.late_netdevs.saturating_sub(u16::from(late));
            self.make_netdev(reference, traits, pf_up);
            if traits.probe_needs_pf_up && !blameless {
                self.faults.push(Violation::ProbedWhilePfDown { vf: reference });
            }
        }
        Ok(())
    }

    fn make_netdev(&mut self, reference: VfRef, traits: Traits, pf_up: bool) {
        let ifindex = self.take_ifindex();
        let pf_mtu = self.pf(reference.pf).and_then(|pf| pf.netdev.as_ref()).map(|netdev| netdev.mtu);
        let most = pf_mtu.filter(|_| traits.checks_vf_mtu).unwrap_or(u32::MAX);
        let Ok((_, vf)) = self.vf_mut(reference) else { return };
        let takes_admin = vf.admin.mac != MacAddress::ZERO && (pf_up || !traits.probe_needs_pf_up);
        let [_, _, high, low] = ifindex.to_be_bytes();
        let random = MacAddress([0x0e, 0xff, 0, 0, high, low]);
        vf.netdev = Some(SimNetdev {
            name: format!("vf{:x}n{}", vf_address(reference).bus, reference.index),
            ifindex,
            mac: if takes_admin { vf.admin.mac } else { random },
            mtu: most.min(1500),
            up: false,
            master: None,
            addresses: Vec::new(),
            away: None,
        });
    }

    /// A VF attribute by netlink, which goes through the PF's netdev.
    pub(super) fn set_attribute(&mut self, reference: VfRef, attribute: Attribute) -> Result<(), Errno> {
        let pf = self.pf_mut(reference.pf)?;
        let (traits, carrier) = (pf.family.traits(), pf.up() && pf.cable);
        if pf.netdev.is_none() {
            return Err(Errno::NotSupported);
        }
        let vf = pf.vfs.get_mut(&reference.index).ok_or(Errno::Invalid)?;
        let switchdev = pf.eswitch == EswitchMode::Switchdev;
        let refuses = |kind: VfAttribute| {
            traits.refuses.contains(&kind) || (switchdev && traits.refuses_in_switchdev.contains(&kind))
        };
        let Admin { mac, vlan, spoof_check, trust, tx_rate, link_state } = &mut vf.admin;
        match attribute {
            Attribute::Mac(to) => {
                *mac = to;
                if let Some(netdev) = vf.netdev.as_mut().filter(|_| traits.mac_at_once) {
                    netdev.mac = to;
                }
            }
            Attribute::Vlan(to)
                if to.protocol == VlanProtocol::Dot1ad && refuses(VfAttribute::VlanDot1ad) =>
            {
                return Err(Errno::NotSupported);
            }
            Attribute::Vlan(to) if to.id != 0 && refuses(VfAttribute::Vlan) => {
                return Err(Errno::NotSupported);
            }
            Attribute::Vlan(to) => *vlan = to,
            Attribute::SpoofCheck(to) => *spoof_check = to,
            Attribute::Trust(_) if refuses(VfAttribute::Trust) => return Err(Errno::NotSupported),
            Attribute::Trust(to) => *trust = to,
            Attribute::Rate(_) if traits.rate_needs_carrier && !carrier => return Err(Errno::Invalid),
            Attribute::Rate(to) if to.min != 0 && refuses(VfAttribute::MinRate) => {
                return Err(Errno::Invalid);
            }
            Attribute::Rate(to) => *tx_rate = to,
            Attribute::LinkState(_) if refuses(VfAttribute::LinkState) => return Err(Errno::NotSupported),
            Attribute::LinkState(to) => *link_state = to,
        }
        Ok(())
    }

    /// The PF netdev's administrative state.
    pub(super) fn set_pf_up(&mut self, address: PciAddress) -> Result<(), Errno> {
        let pf = self.pf_mut(address)?;
        pf.netdev.as_mut().ok_or(Errno::NoDevice)?.up = true;
        pf.set_down = false;
        Ok(())
    }

    /// The PF netdev's MTU.
    pub(super) fn set_pf_mtu(&mut self, address: PciAddress, mtu: u32) -> Result<(), Errno> {
        self.pf_mut(address)?.netdev.as_mut().ok_or(Errno::NoDevice)?.mtu = mtu;
        Ok(())
    }

    /// A VF netdev's MTU.
    pub(super) fn set_vf_mtu(&mut self, reference: VfRef, mtu: u32) -> Result<(), Errno> {
        let pf_mtu = self.pf_mut(reference.pf)?.netdev.as_ref().map(|netdev| netdev.mtu);
        let (traits, vf) = self.vf_mut(reference)?;
        let late = vf.late;
        let netdev = vf.netdev.as_mut().filter(|netdev| netdev.in_host() && !late).ok_or(Errno::NoDevice)?;
        if traits.checks_vf_mtu && pf_mtu.is_some_and(|most| mtu > most) {
            return Err(Errno::Invalid);
        }
        netdev.mtu = mtu;
        Ok(())
    }

    /// A VF netdev's name.
    pub(super) fn rename_vf(&mut self, reference: VfRef, name: &str) -> Result<(), Errno> {
        if self.netdev_names().any(|taken| taken == name) {
            return Err(Errno::Exists);
        }
        let (_, vf) = self.vf_mut(reference)?;
        let netdev = vf.netdev.as_mut().filter(|netdev| netdev.in_host()).ok_or(Errno::NoDevice)?;
        name.clone_into(&mut netdev.name);
        Ok(())
    }

    /// Names of all netdevs in the host's namespace.
    pub(super) fn netdev_names(&self) -> impl Iterator<Item = &str> {
        let present = || self.pfs.values().filter(|pf| pf.present);
        let pfs = present().filter_map(|pf| pf.netdev.as_ref());
        let vfs = present().flat_map(|pf| pf.vfs.values()).filter_map(|vf| vf.netdev.as_ref());
        let hardware = pfs.chain(vfs).filter(|netdev| netdev.in_host()).map(|netdev| netdev.name.as_str());
        hardware.chain(self.links.iter().map(|link| link.name.as_str()))
    }

    /// `modprobe`: registers the driver, which then takes the devices it finds, as autoprobe allows.
    pub(super) fn load_module(&mut self, module: &str) -> Result<(), Errno> {
        if !self.node.modprobe || !self.node.modules.contains(&module_name(module)) {
            return Err(Errno::NoEntry);
        }
        let driver =
            if module_name(module) == "vfio_pci" { "vfio-pci".to_owned() } else { module.to_owned() };
        let chosen = |vf: &SimVf, pf: &SimPf| {
            vf.driver_override.clone().unwrap_or_else(|| pf.family.traits().vf_driver.to_owned())
        };
        let wants = |reference: &VfRef| {
            let pf = self.pf(reference.pf);
            pf.is_some_and(|pf| pf.vfs.get(&reference.index).is_some_and(|vf| chosen(vf, pf) == driver))
        };
        let taken: Vec<VfRef> = self.vfs().filter(wants).collect();
        self.node.drivers.insert(driver);
        for vf in taken {
            self.drivers_probe(vf)?;
        }
        // Which PF is up is nobody's choice here: VFs of all PFs with this driver probe.
        self.faults.retain(|fault| !matches!(fault, Violation::ProbedWhilePfDown { .. }));
        Ok(())
    }

    /// Netdevs that were late appear.
    pub(super) fn late_netdevs_arrive(&mut self) {
        for vf in self.pfs.values_mut().flat_map(|pf| pf.vfs.values_mut()) {
            vf.late = false;
        }
    }
}

impl SimVf {
    /// A VF as the kernel makes it.
    pub fn new(reference: VfRef, iommu: bool, switchdev: bool) -> SimVf {
        let mode = if switchdev { EswitchMode::Switchdev } else { EswitchMode::Legacy };
        SimVf {
            address: vf_address(reference),
            driver: None,
            driver_override: None,
            netdev: None,
            late: false,
            admin: Admin::default(),
            files: Vec::new(),
            iommu_group: iommu.then(|| u32::from(reference.pf.bus) * 1000 + u32::from(reference.index)),
            group_peers: Vec::new(),
            representor: Self::representor_name(reference, mode),
        }
    }

    pub(super) fn representor_name(reference: VfRef, mode: EswitchMode) -> Option<String> {
        match mode {
            EswitchMode::Legacy => None,
            EswitchMode::Switchdev => Some(format!("rep{:x}_{}", reference.pf.bus, reference.index)),
        }
    }
}

/// Where a VF appears: on the PF's bus (ARI), eight to a device number.
fn vf_address(vf: VfRef) -> PciAddress {
    let [_, low] = (16 + (vf.index >> 3)).to_be_bytes();
    let [_, function] = (vf.index & 7).to_be_bytes();
    // Two ports of one card have their VFs on buses of their own.
    PciAddress { bus: vf.pf.bus.wrapping_add(vf.pf.function), device: low & 31, function, ..vf.pf }
}
