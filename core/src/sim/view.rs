//! The simulated node as the agent sees it.

use super::family::EswitchRule;
use super::state::{Kernel, SimNetdev, SimPf, SimVf, StateDir};
use crate::fact::Fact;
use crate::id::{PciAddress, VfRef};
use crate::observed::{Holder, Link, Netdev, Observed, Pf, Sight, Vf, VfAdmin};
use crate::profile::VfAttribute;

/// Looks at everything.
pub(super) fn observed(kernel: &Kernel, state: &StateDir) -> Observed {
    let mut node = kernel.node.clone();
    node.sight = kernel.sight.clone();
    let pfs: Vec<Pf> =
        kernel.pfs.iter().filter(|(_, pf)| pf.present).map(|(a, pf)| shown(kernel, state, *a, pf)).collect();
    Observed {
        node,
        pfs,
        devices: kernel.devices.clone(),
        links: links(kernel),
        management: kernel.management.clone(),
        ovs: kernel.ovs.clone(),
        problems: Vec::new(),
        ..Observed::default()
    }
}

fn shown(kernel: &Kernel, state: &StateDir, address: PciAddress, pf: &SimPf) -> Pf {
    let traits = pf.family.traits();
    let netdevs: Vec<Netdev> = pf.netdev.iter().map(|netdev| netdev_of_pf(pf, netdev)).collect();
    let see =
        |(index, vf): (&u16, &SimVf)| seen_vf(kernel, state, VfRef { pf: address, index: *index }, pf, vf);
    Pf {
        name: pf.netdev.as_ref().map(|netdev| netdev.name.clone()),
        driver: pf.driver.clone(),
        autoprobe: pf.autoprobe.into(),
        // A value that is back already is not due any more, even if a crash kept that from being noted.
        saved_autoprobe: state.saved_autoprobe.get(&address).copied().filter(|saved| *saved != pf.autoprobe),
        eswitch: if pf.driver.is_none() || traits.eswitch == EswitchRule::Never {
            Fact::UNSUPPORTED
        } else {
            pf.eswitch.into()
        },
        made_by_us: state.made_by_us.contains(&address) && !pf.vfs.is_empty(),
        stuck: pf.stuck.clone(),
        netdevs,
        vfs: pf.vfs.iter().map(see).collect(),
        ..pf.shown.clone()
    }
}

fn netdev_of_pf(pf: &SimPf, netdev: &SimNetdev) -> Netdev {
    Netdev { carrier: netdev.up.then_some(pf.cable), ..plain(netdev) }
}

fn plain(netdev: &SimNetdev) -> Netdev {
    Netdev {
        name: netdev.name.clone(),
        ifindex: netdev.ifindex,
        mac: Some(netdev.mac),
        mtu: netdev.mtu.into(),
        up: netdev.up.into(),
        link_type: Some(1),
        ..Netdev::default()
    }
}

fn seen_vf(kernel: &Kernel, state: &StateDir, reference: VfRef, pf: &SimPf, vf: &SimVf) -> Vf {
    let shown = vf.netdev.as_ref().filter(|netdev| netdev.in_host() && !vf.late);
    let netdevs: Vec<Netdev> = shown.iter().map(|netdev| plain(netdev)).collect();
    Vf {
        index: reference.index,
        address: vf.address,
        device: pf.shown.vf_device,
        driver: vf.driver.clone(),
        driver_override: vf.driver_override.clone(),
        iommu_group: vf.iommu_group,
        group_peers: vf.group_peers.clone(),
        numa_node: pf.shown.numa_node,
        netdev: netdevs.first().map(|netdev| netdev.name.clone()),
        netdevs,
        representor: vf.representor.clone(),
        rdma: Vec::new(),
        vdpa: Vec::new(),
        admin: admin(pf, vf),
        holders: holders(kernel, reference, vf),
        unseen: None,
        remembered: state.remembered.get(&reference).cloned(),
    }
}

/// What netlink on the PF's netdev says. Without a netdev nobody can ask.
fn admin(pf: &SimPf, vf: &SimVf) -> VfAdmin {
    if pf.netdev.is_none() {
        return VfAdmin {
            mac: Fact::UNSUPPORTED,
            vlan: Fact::UNSUPPORTED,
            spoof_check: Fact::UNSUPPORTED,
            trust: Fact::UNSUPPORTED,
            tx_rate: Fact::UNSUPPORTED,
            link_state: Fact::UNSUPPORTED,
        };
    }
    let has_link_state = !pf.family.traits().refuses.contains(&VfAttribute::LinkState);
    VfAdmin {
        mac: vf.admin.mac.into(),
        vlan: vf.admin.vlan.into(),
        spoof_check: vf.admin.spoof_check.into(),
        trust: vf.admin.trust.into(),
        tx_rate: vf.admin.tx_rate.into(),
        link_state: if has_link_state { vf.admin.link_state.into() } else { Fact::UNSUPPORTED },
    }
}

fn holders(kernel: &Kernel, reference: VfRef, vf: &SimVf) -> Vec<Holder> {
    let pod = kernel.kubelet.get(&reference).cloned();
    if kernel.sight != Sight::Complete {
        // kubelet tells of pods all the same; what takes privileges is hidden.
        return pod.into_iter().collect();
    }
    let namespace = vf.netdev.as_ref().and_then(|netdev| {
        netdev.away.as_ref().map(|away| Holder::Namespace {
            netns: away.netns.clone(),
            pid: Some(away.pid),
            command: Some(away.command.clone()),
            netdev: Some(netdev.name.clone()),
            container: away.container.clone(),
        })
    });
    pod.into_iter().chain(namespace).chain(vf.files.iter().cloned()).collect()
}

fn links(kernel: &Kernel) -> Vec<Link> {
    let of = |netdev: &SimNetdev, pci: PciAddress| Link {
        name: netdev.name.clone(),
        ifindex: netdev.ifindex,
        kind: None,
        lowers: Vec::new(),
        master: netdev.master.clone(),
        addresses: netdev.addresses.clone(),
        link_local: Vec::new(),
        pci: Some(pci),
    };
    let mut links = kernel.links.clone();
    for (address, pf) in kernel.pfs.iter().filter(|(_, pf)| pf.present) {
        links.extend(pf.netdev.iter().map(|netdev| of(netdev, *address)));
        for vf in pf.vfs.values() {
            let visible = vf.netdev.iter().filter(|netdev| netdev.in_host() && !vf.late);
            links.extend(visible.map(|netdev| of(netdev, vf.address)));
        }
    }
    links.sort_by(|a, b| a.name.cmp(&b.name));
    links
}
