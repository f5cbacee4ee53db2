//! Open vSwitch as tables: bridges, their ports, their mirrors.

use portwright_core::Fact;
use portwright_core::ovs::{Bridge, Mirror, Ovs, Port};

use super::table::table;

/// Everything of it.
pub fn render(ovs: &Ovs) -> Vec<String> {
    let bridges = ovs.bridges.iter().map(|bridge| {
        vec![
            bridge.name.clone(),
            bridge.datapath.clone(),
            bridge.fail_mode.clone().unwrap_or_default(),
            bridge.others().count().to_string(),
            bridge.mirrors.len().to_string(),
            bridge.owner().unwrap_or_default().to_owned(),
            if bridge.works { "works" } else { "no datapath" }.to_owned(),
        ]
    });
    let ports = ovs.bridges.iter().flat_map(|bridge| bridge.others().map(move |port| port_row(bridge, port)));
    let mirrors = ovs
        .bridges
        .iter()
        .flat_map(|bridge| bridge.mirrors.iter().map(move |mirror| mirror_row(bridge, mirror)));
    vec![
        summary(ovs),
        table(&["BRIDGE", "DATAPATH", "FAIL MODE", "PORTS", "MIRRORS", "POLICY", "STATE"], bridges),
        table(&["PORT", "BRIDGE", "TYPE", "VLAN", "POLICY", "STATE"], ports),
        table(&["MIRROR", "BRIDGE", "FROM", "TO", "VLANS", "OUTPUT", "POLICY", "COPIED", "STATE"], mirrors),
    ]
}

fn summary(ovs: &Ovs) -> String {
    let daemon = match ovs.vswitchd {
        Fact::Known(true) => "ovs-vswitchd answers",
        Fact::Known(false) => "ovs-vswitchd does not answer",
        Fact::Absent(_) => "ovs-vswitchd was not asked",
    };
    let behind = if ovs.settled { "" } else { ", and is behind what the database asks for" };
    let version = ovs.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("Open vSwitch{version}: {daemon}{behind}\n")
}

fn port_row(bridge: &Bridge, port: &Port) -> Vec<String> {
    let kind = match port.interfaces.as_slice() {
        [only] => only.kind.clone(),
        several => format!("bond of {}", several.len()),
    };
    let failed = port.interfaces.iter().find_map(|interface| interface.error.clone());
    let state = match (port.gone_for, failed) {
        (Some(seconds), _) => format!("interface gone for {seconds} s"),
        (None, Some(error)) => error,
        (None, None) => String::new(),
    };
    let tag = port.vlan.tag.map(|tag| format!(" {tag}")).unwrap_or_default();
    vec![
        port.name.clone(),
        bridge.name.clone(),
        kind,
        format!("{}{tag}", port.vlan.effective_mode()),
        port.owner().unwrap_or_default().to_owned(),
        state,
    ]
}

fn mirror_row(bridge: &Bridge, mirror: &Mirror) -> Vec<String> {
    let copies = &mirror.copies;
    let names = |set: &std::collections::BTreeSet<String>| {
        if copies.all { "all".to_owned() } else { set.iter().cloned().collect::<Vec<_>>().join(",") }
    };
    let vlans: Vec<String> = copies.vlans.iter().map(ToString::to_string).collect();
    let output = match (&copies.output_port, copies.output_vlan) {
        (Some(port), _) => port.clone(),
        (None, Some(vlan)) => format!("VLAN {vlan}"),
        (None, None) => "nowhere".to_owned(),
    };
    vec![
        mirror.name.clone(),
        bridge.name.clone(),
        names(&copies.sources),
        names(&copies.destinations),
        vlans.join(","),
        output,
        mirror.owner().unwrap_or_default().to_owned(),
        mirror.counts.and_then(|counts| counts.copied).map(|frames| frames.to_string()).unwrap_or_default(),
        mirror.health().words().to_owned(),
    ]
}
