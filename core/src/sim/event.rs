//! What happens to a node while the agent works: crashes, other people, hardware.

use std::collections::BTreeMap;

use super::Errno;
use super::SimNode;
use super::state::{Away, SimPf};
use crate::id::{MacAddress, PciAddress, VfRef};
use crate::observed::Holder;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent is killed: the write at hand is not made.
    Crash,
    /// The PF is gone: removed, or its slot lost power.
    PfVanishes(PciAddress),
    /// It comes back as after boot, with its driver.
    PfReturns(PciAddress),
    /// Its driver is unbound: VFs and netdev go.
    PfDriverUnbound(PciAddress),
    /// Its driver is bound again: no VFs, default values.
    PfDriverBound(PciAddress),
    /// Somebody sets the PF's netdev down.
    PfDown(PciAddress),
    /// The next write of a number of VFs enables at most so many.
    EnablesAtMost(PciAddress, u16),
    /// The next write of a number of VFs fails.
    NumVfsFails(PciAddress, Errno),
    /// The next netdevs of its VFs come late.
    LateNetdevs(PciAddress, u16),
    /// kubelet gives the VF to a pod.
    Allocated(VfRef, String),
    /// kubelet has it back.
    Freed(VfRef),
    /// Its netdev goes into a network namespace.
    NetdevLeaves(VfRef, String),
    /// The namespace is gone: the netdev is back, with the name, MAC and MTU it had there.
    NetdevReturns(VfRef),
    /// A process opens a device file.
    Opened(VfRef, Holder),
    /// All device files of the VF are closed.
    Closed(VfRef),
}

/// Which event happens when.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    /// Before the step of a number (the first is 1) and what is looked at before it.
    pub before_step: BTreeMap<u32, Vec<Event>>,
    /// In place of the write of a number (the first is 1), or just before it if the agent lives on.
    pub before_write: BTreeMap<u32, Vec<Event>>,
}

impl Schedule {
    /// Takes the events that are due before a step.
    pub(super) fn at_step(&mut self, step: u32) -> Vec<Event> {
        self.before_step.remove(&step).unwrap_or_default()
    }

    /// Takes the events that are due before a write.
    pub(super) fn at_write(&mut self, write: u32) -> Vec<Event> {
        self.before_write.remove(&write).unwrap_or_default()
    }

    /// Whether nothing is left to happen.
    pub fn is_empty(&self) -> bool {
        self.before_step.is_empty() && self.before_write.is_empty()
    }
}

impl SimNode {
    /// Makes an event happen now.
    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Crash => self.crashed = true,
            Event::PfVanishes(pf) => {
                self.leave_path(*pf);
                self.with_pf(*pf, |pf| {
                    pf.present = false;
                    pf.vfs.clear();
                });
            }
            Event::PfReturns(pf) => self.with_pf(*pf, |pf| {
                if !pf.present {
                    *pf = as_after_boot(pf);
                }
            }),
            Event::PfDriverUnbound(pf) => {
                self.leave_path(*pf);
                self.with_pf(*pf, |pf| {
                    pf.driver = None;
                    pf.netdev = None;
                    pf.vfs.clear();
                });
            }
            Event::PfDriverBound(pf) => self.with_pf(*pf, |pf| {
                if pf.driver.is_none() && pf.present {
                    let autoprobe = pf.autoprobe;
                    *pf = as_after_boot(pf);
                    // It belongs to the PCI device, not to the driver.
                    pf.autoprobe = autoprobe;
                }
            }),
            Event::PfDown(pf) => self.with_pf(*pf, |pf| {
                pf.set_down = true;
                if let Some(netdev) = &mut pf.netdev {
                    netdev.up = false;
                }
            }),
            Event::EnablesAtMost(pf, most) => self.with_pf(*pf, |pf| pf.enables.push(*most)),
            Event::NumVfsFails(pf, errno) => self.with_pf(*pf, |pf| pf.refuses = Some(*errno)),
            Event::LateNetdevs(pf, count) => self.with_pf(*pf, |pf| pf.late_netdevs = *count),
            Event::Allocated(..)
            | Event::Freed(_)
            | Event::NetdevLeaves(..)
            | Event::NetdevReturns(_)
            | Event::Opened(..)
            | Event::Closed(_) => self.happen_to_vf(event),
        }
    }

    fn happen_to_vf(&mut self, event: &Event) {
        match event {
            Event::Allocated(vf, pod) => {
                if self.kernel.vf(*vf).is_some() {
                    let holder = Holder::Pod {
                        namespace: "default".to_owned(),
                        name: pod.clone(),
                        container: "main".to_owned(),
                        resource: "portwright.dev/net".to_owned(),
                    };
                    self.kernel.kubelet.insert(*vf, holder);
                }
            }
            Event::Freed(vf) => {
                self.kernel.kubelet.remove(vf);
            }
            Event::NetdevLeaves(vf, netns) => {
                let address = self.kernel.vf(*vf).map(|vf| vf.address);
                let mut left = false;
                self.with_vf(*vf, |vf| {
                    if let Some(netdev) = vf.netdev.as_mut().filter(|netdev| netdev.master.is_none()) {
                        // A CNI plugin gives it the pod's name, MAC and MTU.
                        // Container runtimes name a pod's namespace so.
                        let container = netns.starts_with("cni-").then(|| netns.clone());
                        let command = "app".to_owned();
                        netdev.away = Some(Away { netns: netns.clone(), pid: 4711, command, container });
                        netdev.addresses.clear();
                        let [_, _, c, d, e, f] = netdev.mac.0;
                        netdev.mac = MacAddress([0x0a, 0x58, c, d, e, f ^ 0x55]);
                        netdev.mtu = 1400;
                        netdev.up = true;
                        vf.late = false;
                        left = true;
                    }
                });
                self.kernel.leave_path(address.filter(|_| left));
            }
            Event::NetdevReturns(vf) => {
                let names: Vec<String> = self.kernel.netdev_names().map(str::to_owned).collect();
                let free = (1..).map(|n| format!("net{n}")).find(|name| !names.contains(name));
                self.with_vf(*vf, |vf| {
                    if let (Some(netdev), Some(name)) = (vf.netdev.as_mut().filter(|n| !n.in_host()), free) {
                        netdev.name = name;
                        netdev.away = None;
                        netdev.up = false;
                    }
                });
            }
            Event::Opened(vf, holder) => self.with_vf(*vf, |vf| vf.files.push(holder.clone())),
            Event::Closed(vf) => self.with_vf(*vf, |vf| vf.files.clear()),
            Event::Crash
            | Event::PfVanishes(_)
            | Event::PfReturns(_)
            | Event::PfDriverUnbound(_)
            | Event::PfDriverBound(_)
            | Event::PfDown(_)
            | Event::EnablesAtMost(..)
            | Event::NumVfsFails(..)
            | Event::LateNetdevs(..) => {}
        }
    }

    /// The PF's netdevs are gone, and with them their places in bonds and bridges, their addresses and routes.
    fn leave_path(&mut self, address: PciAddress) {
        let vfs = self.kernel.vfs().filter(|vf| vf.pf == address).filter_map(|vf| self.kernel.vf(vf));
        let functions: Vec<PciAddress> = vfs.map(|vf| vf.address).chain([address]).collect();
        self.kernel.leave_path(functions);
    }

    fn with_pf(&mut self, address: PciAddress, change: impl FnOnce(&mut SimPf)) {
        if let Some(pf) = self.kernel.pfs.get_mut(&address) {
            change(pf);
        }
    }

    fn with_vf(&mut self, vf: VfRef, change: impl FnOnce(&mut super::state::SimVf)) {
        self.with_pf(vf.pf, |pf| {
            if let Some(vf) = pf.vfs.get_mut(&vf.index) {
                change(vf);
            }
        });
    }
}

/// The same hardware after its driver has probed it anew.
fn as_after_boot(pf: &SimPf) -> SimPf {
    let mut fresh = SimPf::new(pf.shown.address, pf.family, pf.shown.total_vfs, "");
    if let Some(netdev) = &mut fresh.netdev {
        // udev names it after its slot, so the name is the same.
        netdev.name = pf.netdev.as_ref().map_or_else(|| slot_name(pf.shown.address), |old| old.name.clone());
    }
    fresh.shown = pf.shown.clone();
    fresh.cable = pf.cable;
    fresh
}

/// A predictable interface name.
pub fn slot_name(address: PciAddress) -> String {
    format!("enp{}s{}", address.bus, address.device)
}
