//! Random nodes: PFs of several families with VFs in all states, who uses them, and how the node is reached.

use std::net::IpAddr;

use portwright_core::desired::EswitchMode;
use portwright_core::id::{MacAddress, PciAddress, VfRef};
use portwright_core::observed::{
    DefaultRoute, FileKind, Holder, Link, NodeFacts, RememberedVf, Session, Sight,
};

use portwright_core::ovs::{Bridge, Interface, Ovs, Port};
use portwright_core::sim::{Event, Family, Kernel, SimNetdev, SimNode, SimPf, SimVf};

use crate::choices::Choices;

pub const PFS: [&str; 3] = ["0000:3b:00.0", "0000:5e:00.0", "0000:86:00.0"];
const FAMILIES: [Family; 10] = [
    Family::Igb,
    Family::Ice,
    Family::Mlx5,
    Family::Igb,
    Family::Ice,
    Family::Mlx5,
    Family::Generic,
    Family::Generic,
    Family::Cxgb4,
    Family::Mlx4,
];
const VF_DRIVERS: [&str; 6] = ["igbvf", "iavf", "mlx5_core", "simnicvf", "cxgb4vf", "mlx4_core"];

pub fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// A whole node.
pub fn node(choices: &mut Choices<'_>) -> SimNode {
    let mut kernel = Kernel { node: facts(choices), ..Kernel::default() };
    let count = 1 + choices.below(3);
    for text in PFS.iter().take(count) {
        let pf = pf(choices, address(text), &mut kernel);
        kernel.pfs.insert(address(text), pf);
    }
    let mut node = SimNode::new(kernel);
    for vf in node.kernel.vfs().collect::<Vec<_>>() {
        usage(choices, &mut node, vf);
    }
    for text in PFS.iter().take(count) {
        history(choices, &mut node, address(text));
    }
    if choices.chance(3) {
        node.kernel.sight = Sight::Partial { why: "/proc/1/fd cannot be read: EACCES".to_owned() };
    }
    if choices.chance(25) {
        management(choices, &mut node.kernel);
    }
    node
}

fn facts(choices: &mut Choices<'_>) -> NodeFacts {
    let mut facts = NodeFacts {
        kernel: "6.12.95".to_owned(),
        mac_seed: Some("5eed".to_owned()),
        iommu: (!choices.chance(10)).into(),
        modprobe: !choices.chance(10),
        ..NodeFacts::default()
    };
    facts.drivers = ["igb", "ice", "cxgb4", "simnic"].map(str::to_owned).into();
    for driver in VF_DRIVERS.into_iter().chain(["vfio-pci"]) {
        // 0: loaded; 1: a module; 2: neither.
        let state = if choices.chance(8) { 1 + choices.below(2) } else { 0 };
        // Drivers of PFs are there, and nobody could foresee that one without a known name is missing.
        let always = matches!(driver, "mlx5_core" | "mlx4_core" | "simnicvf");
        if state == 0 || always {
            facts.drivers.insert(driver.to_owned());
        }
        if state < 2 {
            facts.modules.insert(driver.replace('-', "_"));
        }
    }
    facts.udev_rule = match choices.below(4) {
        0 => None,
        1 => Some("# an older rule".to_owned()),
        _ => Some(portwright_core::udev_rule::content(&Default::default())),
    };
    facts
}

fn pf(choices: &mut Choices<'_>, address: PciAddress, kernel: &mut Kernel) -> SimPf {
    let family = choices.of(&FAMILIES);
    let total = if choices.chance(4) { 0 } else { choices.of(&[7, 4, 2, 8]) };
    let name = portwright_core::sim::event::slot_name(address);
    let mut pf = SimPf::new(address, family, total, &name);
    if choices.chance(4) {
        pf.driver = None;
        pf.netdev = None;
        return pf;
    }
    if let Some(netdev) = &mut pf.netdev {
        netdev.up = !choices.chance(30);
        netdev.mtu = choices.of(&[1500, 9000, 4000, 1500, 9000, 1400]);
    }
    if matches!(family, Family::Ice | Family::Mlx5) && choices.chance(20) {
        pf.eswitch = EswitchMode::Switchdev;
    }
    pf.cable = !choices.chance(5);
    pf.autoprobe = !choices.chance(8);
    let existing = if choices.chance(65) { choices.count(total) } else { 0 };
    for index in 0..existing {
        let vf = vf(choices, VfRef { pf: address, index }, &pf, kernel);
        pf.vfs.insert(index, vf);
    }
    pf
}

fn vf(choices: &mut Choices<'_>, reference: VfRef, pf: &SimPf, kernel: &mut Kernel) -> SimVf {
    let mut vf = SimVf::new(reference, true, pf.eswitch == EswitchMode::Switchdev);
    let traits = pf.family.traits();
    let kernel_driver = kernel.node.driver_loaded(traits.vf_driver).then(|| traits.vf_driver.to_owned());
    let vfio =
        (kernel.node.driver_loaded("vfio-pci") && kernel.node.iommu.is(&true)).then(|| "vfio-pci".to_owned());
    vf.driver = match choices.below(8) {
        0..=3 => kernel_driver.clone(),
        4..=6 => vfio.clone(),
        _ => None,
    };
    if vf.driver == vfio {
        vf.driver_override.clone_from(&vfio);
    }
    if choices.chance(50) {
        vf.admin.mac = if choices.chance(50) {
            portwright_core::mac::stable("5eed", reference)
        } else {
            MacAddress([2, 0, 0, 0, 0, u8::try_from(reference.index).unwrap()])
        };
        vf.admin.vlan.id = choices.of(&[0, 100, 7]);
        vf.admin.trust = choices.chance(30);
        vf.admin.spoof_check = !choices.chance(30);
        vf.admin.tx_rate.max = choices.of(&[0, 0, 500]);
    }
    if vf.driver.is_some() && vf.driver == kernel_driver {
        let takes = vf.admin.mac != MacAddress::ZERO && !choices.chance(10);
        let ifindex = kernel.take_ifindex();
        let pf_mtu = pf.netdev.as_ref().map_or(1500, |netdev| netdev.mtu);
        vf.netdev = Some(SimNetdev {
            name: format!("vf{:x}n{}", reference.pf.bus, reference.index),
            ifindex,
            mac: if takes { vf.admin.mac } else { MacAddress([0x0e, 1, 1, 1, 1, 1]) },
            mtu: choices.of(&[1500, 9000, 2000]).min(pf_mtu),
            up: false,
            master: None,
            addresses: Vec::new(),
            away: None,
        });
    }
    if choices.chance(2) {
        vf.group_peers.push(PciAddress { device: 31, ..reference.pf });
    }
    vf
}

pub fn open_file(choices: &mut Choices<'_>, vfio: bool) -> Holder {
    let (file, path) = match (vfio, choices.below(3)) {
        (true, 0) => (FileKind::VfioGroup, "/dev/vfio/17"),
        (true, 1) => (FileKind::VfioDevice, "anon_inode:[vfio-device]"),
        (true, _) => (FileKind::Iommufd, "/dev/iommu"),
        (false, _) => (FileKind::Uverbs, "/dev/infiniband/uverbs3"),
    };
    Holder::File {
        file,
        path: path.to_owned(),
        pid: 4242,
        command: "dpdk-testpmd".to_owned(),
        container: None,
        shared: choices.chance(10),
    }
}

/// Who uses a VF.
fn usage(choices: &mut Choices<'_>, node: &mut SimNode, vf: VfRef) {
    if !choices.chance(18) {
        return;
    }
    let sim = node.kernel.vf(vf).unwrap().clone();
    let vfio = sim.driver.as_deref() == Some("vfio-pci");
    let netdev = sim.netdev.is_some();
    match choices.below(7) {
        0 => node.happen(&Event::Allocated(vf, "web-0".to_owned())),
        1 if netdev => node.happen(&Event::NetdevLeaves(vf, "blue".to_owned())),
        2 if netdev => {
            node.happen(&Event::Allocated(vf, "web-1".to_owned()));
            node.happen(&Event::NetdevLeaves(vf, "cni-1234".to_owned()));
        }
        3 | 4 if sim.driver.is_some() => {
            let holder = open_file(choices, vfio);
            node.happen(&Event::Opened(vf, holder));
            if choices.chance(50) {
                node.happen(&Event::Allocated(vf, "dpdk-0".to_owned()));
            }
        }
        5 if netdev => stack(choices, node, vf),
        6 if netdev => {
            // As a pod leaves it.
            node.remember();
            node.happen(&Event::NetdevLeaves(vf, "gone".to_owned()));
            node.happen(&Event::NetdevReturns(vf));
        }
        _ => {}
    }
}

/// Something on the host uses the VF's netdev.
fn stack(choices: &mut Choices<'_>, node: &mut SimNode, vf: VfRef) {
    let kind = choices.below(3);
    let sim = node.kernel.pfs.get_mut(&vf.pf).unwrap().vfs.get_mut(&vf.index).unwrap();
    let netdev = sim.netdev.as_mut().filter(|netdev| netdev.in_host()).unwrap();
    match kind {
        0 => netdev.addresses.push("192.0.2.77".parse().unwrap()),
        1 => netdev.master = Some("ovs-system".to_owned()),
        _ => {
            let name = format!("{}.10", netdev.name);
            let lowers = vec![netdev.name.clone()];
            node.kernel.links.push(Link { name, kind: Some("vlan".to_owned()), lowers, ..Link::default() });
        }
    }
}

/// What earlier runs left in the state directory.
fn history(choices: &mut Choices<'_>, node: &mut SimNode, pf: PciAddress) {
    let sim = &node.kernel.pfs[&pf];
    if !sim.autoprobe && choices.chance(70) {
        node.state_dir.saved_autoprobe.insert(pf, true);
    }
    if !sim.vfs.is_empty() && choices.chance(60) {
        node.state_dir.made_by_us.insert(pf);
    }
    if choices.chance(40) {
        for (index, vf) in &sim.vfs {
            let reference = VfRef { pf, index: *index };
            if let Some(netdev) = vf.netdev.as_ref().filter(|netdev| netdev.in_host()) {
                node.state_dir.remembered.entry(reference).or_insert_with(|| RememberedVf {
                    name: netdev.name.clone(),
                    mac: Some(netdev.mac),
                    mtu: Some(netdev.mtu),
                    away: false,
                });
            }
        }
    }
}

/// How the node is reached: something with an address or a route, over one or two functions.
fn management(choices: &mut Choices<'_>, kernel: &mut Kernel) {
    let mut candidates: Vec<(PciAddress, Option<u16>)> = Vec::new();
    for (address, pf) in &kernel.pfs {
        if pf.netdev.is_some() {
            candidates.push((*address, None));
        }
        let on_host = |vf: &&SimVf| vf.netdev.as_ref().is_some_and(|n| n.in_host() && n.master.is_none());
        candidates.extend(pf.vfs.iter().filter(|(_, vf)| on_host(vf)).map(|(i, _)| (*address, Some(*i))));
    }
    if candidates.is_empty() {
        return;
    }
    let base = choices.of(&candidates);
    let topology = choices.below(6);
    let mut ends = vec![base];
    if (1..=3).contains(&topology) {
        // A second member of the bond.
        ends.extend(candidates.iter().filter(|(pf, _)| *pf != base.0).take(1));
    }
    let master = match topology {
        1..=3 => Some("bond0"),
        4 | 5 => Some("ovs-system"),
        _ => None,
    };
    let mut names = Vec::new();
    for (pf, index) in ends {
        let pf = kernel.pfs.get_mut(&pf).unwrap();
        let (address, netdev) = match index {
            None => (pf.shown.address, pf.netdev.as_mut().unwrap()),
            Some(index) => {
                let vf = pf.vfs.get_mut(&index).unwrap();
                (vf.address, vf.netdev.as_mut().unwrap())
            }
        };
        netdev.up = true;
        netdev.master = master.map(str::to_owned);
        names.push(netdev.name.clone());
        kernel.protected.insert(address);
    }
    let top = stack_up(kernel, topology, &names);
    evidence(choices, kernel, &top);
}

/// Puts what the topology wants on top of the netdevs; the answer is the netdev with the address.
fn stack_up(kernel: &mut Kernel, topology: usize, names: &[String]) -> String {
    let link = |name: &str, kind: &str, lowers: &[String], master: Option<&str>| Link {
        name: name.to_owned(),
        kind: Some(kind.to_owned()),
        lowers: lowers.to_vec(),
        master: master.map(str::to_owned),
        ..Link::default()
    };
    match topology {
        1 => kernel.links.push(link("bond0", "bond", names, None)),
        2 => {
            kernel.links.push(link("bond0", "bond", names, None));
            kernel.links.push(link("bond0.7", "vlan", &["bond0".to_owned()], None));
            return "bond0.7".to_owned();
        }
        3 => {
            kernel.links.push(link("bond0", "bond", names, Some("br0")));
            kernel.links.push(link("br0", "bridge", &["bond0".to_owned()], None));
            return "br0".to_owned();
        }
        4 | 5 => {
            kernel.links.push(link("br-ex", "openvswitch", &[], Some("ovs-system")));
            kernel.links.push(link("ovs-system", "openvswitch", &[], None));
            if topology == 4 {
                let mut ports = names.to_vec();
                ports.push("br-ex".to_owned());
                kernel.ovs = Some(ovs_of("br-ex", &ports));
            } else {
                // OVSDB has not been read: every port of the datapath counts.
                protect_all_ports(kernel);
            }
            return "br-ex".to_owned();
        }
        _ => return names[0].clone(),
    }
    "bond0".to_owned()
}

fn protect_all_ports(kernel: &mut Kernel) {
    let port = |netdev: &Option<SimNetdev>| {
        netdev
            .as_ref()
            .is_some_and(|netdev| netdev.master.as_deref() == Some("ovs-system") && netdev.in_host())
    };
    for (address, pf) in &kernel.pfs {
        kernel.protected.extend(port(&pf.netdev).then_some(*address));
        kernel.protected.extend(pf.vfs.values().filter(|vf| port(&vf.netdev)).map(|vf| vf.address));
    }
}

/// What shows that the node is reached over a netdev.
fn evidence(choices: &mut Choices<'_>, kernel: &mut Kernel, top: &str) {
    let address: IpAddr = "198.51.100.4".parse().unwrap();
    let session = |local_port, remote_port| Session {
        local: address,
        local_port,
        remote: "198.51.100.99".parse().unwrap(),
        remote_port,
    };
    let kind = choices.below(6);
    match kind {
        0 | 1 => {
            let family = if kind == 0 { 4 } else { 6 };
            kernel.management.default_routes.push(DefaultRoute { interface: top.to_owned(), family });
            return;
        }
        2 => kernel.management.node_addresses.push(address),
        3 => kernel.management.sessions.push(session(40_000, 6443)),
        4 => kernel.management.sessions.push(session(179, 50_000)),
        _ => kernel.management.sessions.push(session(22, 51_000)),
    }
    if let Some(link) = kernel.links.iter_mut().find(|link| link.name == top) {
        link.addresses.push(address);
        return;
    }
    for pf in kernel.pfs.values_mut() {
        let vfs = pf.vfs.values_mut().filter_map(|vf| vf.netdev.as_mut());
        for netdev in pf.netdev.iter_mut().chain(vfs).filter(|netdev| netdev.name == top) {
            netdev.addresses.push(address);
        }
    }
}

/// A switch with one bridge whose ports have one interface each.
fn ovs_of(bridge: &str, ports: &[String]) -> Ovs {
    let port = |name: &String| {
        let interface = Interface { name: name.clone(), ..Interface::default() };
        Port { name: name.clone(), interfaces: vec![interface], ..Port::default() }
    };
    let ports = ports.iter().map(port).collect();
    let bridge = Bridge { name: bridge.to_owned(), works: true, ports, ..Bridge::default() };
    Ovs { settled: true, bridges: vec![bridge], ..Ovs::default() }
}
