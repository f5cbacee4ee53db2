//! What a node looks like, as tables: the node, its PFs, their VFs, other network functions, what could not be read.

use portwright_core::management::{ManagementPath, management_path};
use portwright_core::observed::{Device, Lockdown, NodeFacts, Pf, Sight, Vf};
use portwright_core::profile::GENERIC;
use portwright_core::{Fact, Observed, Profiles, VfRef, usage};

use super::table::table;

/// The whole node.
pub fn render(observed: &Observed, profiles: &Profiles) -> String {
    let management = management_path(observed);
    let mut text = node(&observed.node);
    if observed.pfs.is_empty() {
        text.push_str("\nno function with SR-IOV\n");
    }
    section(&mut text, &pfs(observed, profiles, &management));
    section(&mut text, &vfs(observed));
    section(&mut text, &devices(&observed.devices));
    section(&mut text, &reached_over(&management));
    for part in observed.ovs.iter().flat_map(super::ovs::render) {
        section(&mut text, &part);
    }
    let problems =
        observed.problems.iter().map(|problem| vec![problem.object.to_string(), problem.reason.clone()]);
    section(&mut text, &table(&["PROBLEM WITH", "REASON"], problems));
    text
}

fn section(text: &mut String, rows: &str) {
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(rows);
    }
}

fn node(node: &NodeFacts) -> String {
    let mut text = format!(
        "kernel {}, IOMMU {}",
        if node.kernel.is_empty() { "unknown" } else { node.kernel.as_str() },
        fact(&node.iommu, |on| if *on { "on" } else { "off" }.to_owned()),
    );
    let lockdown = match node.lockdown {
        Fact::Known(Lockdown::Integrity) => ", locked down (integrity)",
        Fact::Known(Lockdown::Confidentiality) => ", locked down (confidentiality)",
        Fact::Known(Lockdown::None) | Fact::Absent(_) => "",
    };
    text.push_str(lockdown);
    text.push('\n');
    if let Sight::Partial { why } = &node.sight {
        text.push_str(&format!("holders of VFs cannot all be seen, so none counts as idle: {why}\n"));
    }
    text
}

fn pfs(observed: &Observed, profiles: &Profiles, management: &ManagementPath) -> String {
    let rows = observed.pfs.iter().map(|pf| {
        let netdev = pf.netdev();
        vec![
            pf.address.to_string(),
            pf.name.clone().unwrap_or_default(),
            format!("{}:{}", pf.vendor, pf.device),
            pf.driver.clone().unwrap_or_default(),
            profiles.find(pf).0.map_or(GENERIC, |profile| profile.name.as_str()).to_owned(),
            pf.numa_node.map(|node| node.to_string()).unwrap_or_default(),
            format!("{} of {}", pf.num_vfs(), pf.total_vfs),
            netdev.map(|netdev| fact(&netdev.mtu, u32::to_string)).unwrap_or_default(),
            link(pf),
            fact(&pf.eswitch, ToString::to_string),
            state(pf, management),
        ]
    });
    table(&["PF", "NAME", "ID", "DRIVER", "PROFILE", "NUMA", "VFS", "MTU", "LINK", "E-SWITCH", "STATE"], rows)
}

/// `up 1000`, `up, no carrier`, `down`.
fn link(pf: &Pf) -> String {
    let Some(netdev) = pf.netdev() else { return String::new() };
    match (&netdev.up, netdev.carrier) {
        (Fact::Known(true), Some(false)) => "up, no carrier".to_owned(),
        (Fact::Known(true), Some(true) | None) => match netdev.speed {
            Some(speed) => format!("up {speed} Mbit/s"),
            None => "up".to_owned(),
        },
        (Fact::Known(false), Some(_) | None) => "down".to_owned(),
        (Fact::Absent(_), Some(_) | None) => "?".to_owned(),
    }
}

fn state(pf: &Pf, management: &ManagementPath) -> String {
    let mut parts = Vec::new();
    if management.why(pf.address).is_some() {
        parts.push("management path".to_owned());
    }
    if let Some(stuck) = &pf.stuck {
        parts.push(format!("stuck: {stuck}"));
    }
    if pf.saved_autoprobe.is_some() {
        parts.push("autoprobe to be restored".to_owned());
    }
    parts.join(", ")
}

fn vfs(observed: &Observed) -> String {
    let all = observed.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let rows = all.map(|(pf, vf)| vf_row(observed, VfRef { pf: pf.address, index: vf.index }, vf));
    table(
        &["VF", "ADDRESS", "DRIVER", "NETDEV", "MAC", "VLAN", "TRUST", "SPOOF CHECK", "RATE", "IN USE"],
        rows,
    )
}

fn vf_row(observed: &Observed, name: VfRef, vf: &Vf) -> Vec<String> {
    let uses = usage::uses(observed, name);
    // One line per VF: the first use tells why it is left alone, the number of others that there is more to free.
    let first = uses.first().map(ToString::to_string).unwrap_or_else(|| "no".to_owned());
    let in_use = match uses.len() {
        0 | 1 => first,
        more => format!("{first}, and {} more", more - 1),
    };
    vec![
        name.to_string(),
        vf.address.to_string(),
        vf.driver.clone().unwrap_or_default(),
        vf.netdev.clone().unwrap_or_default(),
        fact(&vf.admin.mac, ToString::to_string),
        fact(&vf.admin.vlan, ToString::to_string),
        fact(&vf.admin.trust, on_off),
        fact(&vf.admin.spoof_check, on_off),
        fact(&vf.admin.tx_rate, ToString::to_string),
        in_use,
    ]
}

fn devices(devices: &[Device]) -> String {
    let rows = devices.iter().map(|device| {
        let netdevs: Vec<&str> = device.netdevs.iter().map(|netdev| netdev.name.as_str()).collect();
        vec![
            device.address.to_string(),
            netdevs.join(","),
            format!("{}:{}", device.vendor, device.device),
            device.driver.clone().unwrap_or_default(),
            if device.hidden_pf { "VF of a PF that is not here" } else { "no SR-IOV" }.to_owned(),
        ]
    });
    table(&["DEVICE", "NETDEVS", "ID", "DRIVER", "SORT"], rows)
}

fn reached_over(management: &ManagementPath) -> String {
    let rows = management.netdevs.iter().map(|(name, why)| vec![name.clone(), why.clone()]);
    table(&["NODE IS REACHED OVER", "WHY"], rows)
}

fn on_off(value: &bool) -> String {
    if *value { "on" } else { "off" }.to_owned()
}

/// A value; `?` if nobody could tell, `-` if there is no such thing.
fn fact<T>(fact: &Fact<T>, show: impl Fn(&T) -> String) -> String {
    match fact {
        Fact::Known(value) => show(value),
        Fact::Absent(portwright_core::fact::Absence::Unknown) => "?".to_owned(),
        Fact::Absent(portwright_core::fact::Absence::Unsupported) => "-".to_owned(),
    }
}
