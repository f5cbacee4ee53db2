//! The Open vSwitch part of a policy as the planner wants it. It was checked before: what cannot be is not here.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portwright_core::ovs::{
    Advertise, Bond, BondMode, BridgeOptions, BridgeWish, Collect, Datapath, Direction, FailMode, Lacp,
    MirrorWish, Output, PodSelect, Policing, PortKind, PortWish, QosSetting, Uplink, UplinkTo, VlanSetting,
    Wishes,
};
use portwright_core::range::IndexSet;

use crate::check::Errors;
use crate::convert::{pattern, selector};
use crate::policy::{self, NodePolicySpec, PortType, PortVlanMode};

/// `spec.ovs`, `spec.bridges` and `spec.mirrors`.
pub(crate) fn wishes(spec: &NodePolicySpec) -> Wishes {
    let settings = spec.ovs.as_ref();
    Wishes {
        hw_offload: settings.and_then(|ovs| ovs.hw_offload),
        collect: settings.and_then(|ovs| ovs.collect.as_ref()).map(|collect| Collect {
            owners: collect.owners.clone(),
            grace_seconds: u64::from(collect.grace_seconds),
        }),
        bridges: (0_usize..).zip(&spec.bridges).map(|(index, written)| bridge(index, written)).collect(),
        mirrors: (0_usize..).zip(&spec.mirrors).map(|(index, written)| mirror(index, written)).collect(),
    }
}

fn bridge(index: usize, written: &policy::Bridge) -> BridgeWish {
    let policy::Bridge { name, datapath, fail_mode, uplinks, ports, options, adopt, advertise } = written;
    let path = format!("spec.bridges[{index}]");
    BridgeWish {
        name: name.clone(),
        datapath: datapath.map(|datapath| match datapath {
            policy::Datapath::System => Datapath::System,
            policy::Datapath::Netdev => Datapath::Netdev,
        }),
        fail_mode: fail_mode.map(|mode| match mode {
            policy::FailMode::Standalone => FailMode::Standalone,
            policy::FailMode::Secure => FailMode::Secure,
        }),
        uplinks: (0_usize..)
            .zip(uplinks)
            .filter_map(|(index, written)| uplink(&format!("{path}.uplinks[{index}]"), written))
            .collect(),
        ports: (0_usize..)
            .zip(ports)
            .map(|(index, written)| port(format!("{path}.ports[{index}]"), written))
            .collect(),
        options: options.as_ref().map(bridge_options).unwrap_or_default(),
        adopt: *adopt,
        advertise: advertise
            .as_ref()
            .map(|advertise| Advertise { prefix: advertise.prefix.clone(), capacity: advertise.capacity }),
        path,
    }
}

fn bridge_options(written: &policy::BridgeOptions) -> BridgeOptions {
    let policy::BridgeOptions { stp, rstp, mcast_snooping, mtu_request, other_config, external_ids } =
        written;
    BridgeOptions {
        stp: *stp,
        rstp: *rstp,
        mcast_snooping: *mcast_snooping,
        mtu_request: *mtu_request,
        other_config: other_config.clone(),
        external_ids: external_ids.clone(),
    }
}

/// An uplink; one that names nothing was refused before.
fn uplink(path: &str, written: &policy::Uplink) -> Option<Uplink> {
    let policy::Uplink { interface, select, bond, allow_management_path } = written;
    let to = if let Some(bond) = bond {
        UplinkTo::Bond(bonded(bond))
    } else if let Some(select) = select {
        UplinkTo::Select(Box::new(selector(select, path, &mut Errors::default())))
    } else {
        UplinkTo::Interface(interface.clone()?)
    };
    Some(Uplink { path: path.to_owned(), to, allow_management_path: *allow_management_path })
}

fn bonded(written: &policy::Bond) -> Bond {
    let policy::Bond { name, mode, lacp, interfaces } = written;
    Bond {
        name: name.clone(),
        mode: mode.map(|mode| match mode {
            policy::BondMode::ActiveBackup => BondMode::ActiveBackup,
            policy::BondMode::BalanceSlb => BondMode::BalanceSlb,
            policy::BondMode::BalanceTcp => BondMode::BalanceTcp,
        }),
        lacp: lacp.map(|lacp| match lacp {
            policy::Lacp::Active => Lacp::Active,
            policy::Lacp::Passive => Lacp::Passive,
            policy::Lacp::Off => Lacp::Off,
        }),
        interfaces: interfaces.iter().cloned().collect(),
    }
}

fn port(path: String, written: &policy::Port) -> PortWish {
    let policy::Port { name, type_, peer, vlan, qos, policing, options } = written;
    let mut options = options.clone();
    options.extend(peer.iter().map(|peer| ("peer".to_owned(), peer.clone())));
    PortWish {
        path,
        name: name.clone(),
        kind: match type_ {
            PortType::System => PortKind::System,
            PortType::Internal => PortKind::Internal,
            PortType::Patch => PortKind::Patch,
            PortType::Vxlan => PortKind::Vxlan,
            PortType::Geneve => PortKind::Geneve,
            PortType::Dpdk => PortKind::Dpdk,
        },
        options,
        vlan: vlan.as_ref().map(port_vlan),
        qos: qos
            .as_ref()
            .map(|qos| QosSetting { kind: qos.type_.clone(), other_config: qos.other_config.clone() }),
        policing: policing.as_ref().map(|limit| Policing { rate: limit.rate, burst: limit.burst }),
    }
}

fn port_vlan(written: &policy::PortVlan) -> VlanSetting {
    let policy::PortVlan { mode, tag, trunks, cvlans } = written;
    let mode = match mode {
        PortVlanMode::Access => "access",
        PortVlanMode::Trunk => "trunk",
        PortVlanMode::NativeTagged => "native-tagged",
        PortVlanMode::NativeUntagged => "native-untagged",
        PortVlanMode::Dot1qTunnel => "dot1q-tunnel",
    };
    VlanSetting { mode: Some(mode.to_owned()), tag: *tag, trunks: vlans(trunks), cvlans: vlans(cvlans) }
}

fn vlans(written: &[IntOrString]) -> BTreeSet<u16> {
    let numbers = |entry: &IntOrString| {
        let text = match entry {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        text.parse::<IndexSet>().ok()
    };
    written.iter().filter_map(numbers).flat_map(|set| set.iter().collect::<Vec<u16>>()).collect()
}

fn mirror(index: usize, written: &policy::Mirror) -> MirrorWish {
    let policy::Mirror { name, bridge, select, output, snaplen } = written;
    let policy::MirrorSelect { ports, pods, vlans, all, direction } = select;
    MirrorWish {
        path: format!("spec.mirrors[{index}]"),
        name: name.clone(),
        bridge: bridge.clone(),
        ports: ports.iter().filter_map(|text| pattern(text).ok()).collect(),
        pods: pods.as_ref().map(|pods| PodSelect {
            namespace: pods.namespace.clone(),
            match_labels: pods.match_labels.clone(),
        }),
        vlans: vlans.iter().copied().collect(),
        all: *all,
        direction: match direction {
            policy::Direction::Both => Direction::Both,
            policy::Direction::Ingress => Direction::Ingress,
            policy::Direction::Egress => Direction::Egress,
        },
        output: match (&output.port, output.vlan) {
            (Some(port), _) => Output::Port(port.clone()),
            // One of the two is there.
            (None, vlan) => Output::Vlan(vlan.unwrap_or_default()),
        },
        snaplen: *snaplen,
    }
}
