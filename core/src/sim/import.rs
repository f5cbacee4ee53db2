//! From an observed node to a simulated one that looks the same, as far as what was observed goes: values that nobody
//! knew become those of a fresh device.

use super::family::Family;
use super::state::{Admin, Away, Kernel, SimNetdev, SimPf, SimVf, StateDir};
use crate::desired::EswitchMode;
use crate::id::{MacAddress, VfRef};
use crate::management::management_path;
use crate::observed::{Holder, Netdev, Observed, Pf, Vf};

/// The agent's state directory.
pub(super) fn state_dir(observed: &Observed) -> StateDir {
    let mut state = StateDir::default();
    for pf in &observed.pfs {
        state.saved_autoprobe.extend(pf.saved_autoprobe.map(|saved| (pf.address, saved)));
        state.made_by_us.extend(pf.made_by_us.then_some(pf.address));
        state.remembered.extend(pf.vfs.iter().filter_map(|vf| {
            let reference = VfRef { pf: pf.address, index: vf.index };
            vf.remembered.clone().map(|remembered| (reference, remembered))
        }));
    }
    state
}

/// The kernel.
pub(super) fn kernel(observed: &Observed) -> Kernel {
    let mut kernel = Kernel {
        node: observed.node.clone(),
        devices: observed.devices.clone(),
        management: observed.management.clone(),
        ovs: observed.ovs.clone(),
        protected: management_path(observed).functions.into_keys().collect(),
        sight: observed.node.sight.clone(),
        ..Kernel::default()
    };
    let hardware = |name: &str| {
        let has = |netdevs: &[Netdev]| netdevs.iter().any(|netdev| netdev.name == name);
        observed.pfs.iter().any(|pf| has(&pf.netdevs) || pf.vfs.iter().any(|vf| has(&vf.netdevs)))
    };
    kernel.links = observed.links.iter().filter(|link| !hardware(&link.name)).cloned().collect();
    let highest = observed.links.iter().map(|link| link.ifindex).max();
    kernel.next_ifindex = highest.unwrap_or(0);
    for pf in &observed.pfs {
        kernel.pfs.insert(pf.address, sim_pf(observed, pf));
        for vf in &pf.vfs {
            let pod = vf.holders.iter().find(|holder| matches!(holder, Holder::Pod { .. }));
            let reference = VfRef { pf: pf.address, index: vf.index };
            kernel.kubelet.extend(pod.map(|pod| (reference, pod.clone())));
        }
    }
    kernel
}

fn sim_pf(observed: &Observed, pf: &Pf) -> SimPf {
    let family = pf.driver.as_deref().map_or(Family::Generic, Family::of_driver);
    let mut sim = SimPf::new(pf.address, family, pf.total_vfs, "");
    sim.shown = Pf { vfs: Vec::new(), ..pf.clone() };
    sim.driver.clone_from(&pf.driver);
    sim.autoprobe = pf.autoprobe.known().copied().unwrap_or(true);
    sim.eswitch = pf.eswitch.known().copied().unwrap_or(EswitchMode::Legacy);
    sim.netdev = pf.netdev().map(|found| netdev(observed, found));
    sim.cable = pf.netdev().and_then(|found| found.carrier).unwrap_or(true);
    sim.stuck.clone_from(&pf.stuck);
    sim.vfs = pf.vfs.iter().map(|vf| (vf.index, sim_vf(observed, vf))).collect();
    sim
}

fn netdev(observed: &Observed, found: &Netdev) -> SimNetdev {
    let link = observed.link(&found.name);
    SimNetdev {
        name: found.name.clone(),
        ifindex: found.ifindex,
        mac: found.mac.unwrap_or(MacAddress::ZERO),
        mtu: found.mtu.known().copied().unwrap_or(1500),
        up: found.up.known().copied().unwrap_or(false),
        master: link.and_then(|link| link.master.clone()),
        addresses: link.map(|link| link.addresses.clone()).unwrap_or_default(),
        away: None,
    }
}

fn sim_vf(observed: &Observed, vf: &Vf) -> SimVf {
    let fresh = Admin::default();
    let admin = Admin {
        mac: vf.admin.mac.known().copied().unwrap_or(fresh.mac),
        vlan: vf.admin.vlan.known().copied().unwrap_or(fresh.vlan),
        spoof_check: vf.admin.spoof_check.known().copied().unwrap_or(fresh.spoof_check),
        trust: vf.admin.trust.known().copied().unwrap_or(fresh.trust),
        tx_rate: vf.admin.tx_rate.known().copied().unwrap_or(fresh.tx_rate),
        link_state: vf.admin.link_state.known().copied().unwrap_or(fresh.link_state),
    };
    let away = vf.holders.iter().find_map(|holder| match holder {
        Holder::Namespace { netns, pid, command, netdev, container } => {
            let name = netdev.clone().unwrap_or_else(|| "net1".to_owned());
            Some((
                name,
                Away {
                    netns: netns.clone(),
                    pid: pid.unwrap_or(0),
                    command: command.clone().unwrap_or_default(),
                    container: container.clone(),
                },
            ))
        }
        Holder::Pod { .. } | Holder::File { .. } => None,
    });
    let gone = away.map(|(name, away)| SimNetdev {
        name,
        ifindex: 0,
        mac: admin.mac,
        mtu: 1500,
        up: true,
        master: None,
        addresses: Vec::new(),
        away: Some(away),
    });
    SimVf {
        address: vf.address,
        driver: vf.driver.clone(),
        driver_override: vf.driver_override.clone(),
        netdev: vf.netdevs.first().map(|found| netdev(observed, found)).or(gone),
        late: false,
        admin,
        files: vf.holders.iter().filter(|holder| matches!(holder, Holder::File { .. })).cloned().collect(),
        iommu_group: vf.iommu_group,
        group_peers: vf.group_peers.clone(),
        representor: vf.representor.clone(),
    }
}
