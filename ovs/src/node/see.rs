//! The rows of a virtual switch as the planner's model.

use std::collections::BTreeMap;

use portwright_core::Fact;
use portwright_core::ovs::{Bridge, Copies, Interface, Mirror, Ovs, Policing, Port, QosSetting, VlanSetting};

use crate::ovsdb::Uuid;
use crate::vswitch::{self, Ofport, Qos, Vswitch};

/// The planner's model of what was read. How long interfaces have been gone is for others to say.
#[must_use]
pub fn model(read: &Vswitch, vswitchd: Fact<bool>) -> Ovs {
    Ovs {
        version: read.ovs_version.clone(),
        vswitchd,
        settled: read.is_settled(),
        datapath_types: read.datapath_types.clone(),
        other_config: read.other_config.clone(),
        bridges: read.bridges.values().map(|one| bridge(one, &read.qos)).collect(),
    }
}

fn bridge(read: &vswitch::Bridge, qos: &BTreeMap<Uuid, Qos>) -> Bridge {
    Bridge {
        name: read.name.clone(),
        datapath: read.datapath_type.to_string(),
        works: read.works(),
        fail_mode: read.fail_mode.as_ref().map(ToString::to_string),
        stp: read.stp_enable,
        rstp: read.rstp_enable,
        mcast_snooping: read.mcast_snooping_enable,
        flood_vlans: read.flood_vlans.clone(),
        other_config: read.other_config.clone(),
        external_ids: read.external_ids.clone(),
        ports: read.ports.values().map(|one| port(one, qos)).collect(),
        mirrors: read.mirrors.iter().map(mirror).collect(),
    }
}

fn port(read: &vswitch::Port, qos: &BTreeMap<Uuid, Qos>) -> Port {
    let qos = read.qos.and_then(|uuid| qos.get(&uuid));
    Port {
        name: read.name.clone(),
        interfaces: read.interfaces.iter().map(interface).collect(),
        vlan: VlanSetting {
            mode: read.vlan_mode.as_ref().map(ToString::to_string),
            tag: read.tag,
            trunks: read.trunks.clone(),
            cvlans: read.cvlans.clone(),
        },
        bond_mode: read.bond_mode.as_ref().map(ToString::to_string),
        lacp: read.lacp.as_ref().map(ToString::to_string),
        qos: qos.map(|qos| QosSetting { kind: qos.kind.clone(), other_config: qos.other_config.clone() }),
        fake_bridge: read.fake_bridge,
        external_ids: read.external_ids.clone(),
        gone_for: None,
    }
}

fn interface(read: &vswitch::Interface) -> Interface {
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    Interface {
        name: read.name.clone(),
        kind: read.kind.clone(),
        options: read.options.clone(),
        ofport: match read.ofport {
            Ofport::Pending => None,
            Ofport::Failed => Some(-1),
            Ofport::Open(port) => Some(i32::from(port)),
        },
        error: read.error.clone(),
        mtu_request: read.mtu_request.map(number),
        policing: Policing { rate: number(read.policing_rate), burst: number(read.policing_burst) },
    }
}

pub(super) fn mirror(read: &vswitch::Mirror) -> Mirror {
    Mirror {
        name: read.name.clone(),
        copies: Copies {
            all: read.select_all,
            sources: read.select_src_port.clone(),
            destinations: read.select_dst_port.clone(),
            vlans: read.select_vlan.clone(),
            output_port: read.output_port.clone(),
            output_vlan: read.output_vlan,
            snaplen: read.snaplen,
        },
        external_ids: read.external_ids.clone(),
        counts: None,
        judged: None,
    }
}
