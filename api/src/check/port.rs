//! Checks of `spec.bridges[].ports`: what each type of port needs and cannot have, and which VLAN fields go together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portwright_core::range::{IndexSet, RangeError};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::check::Errors;
use crate::check::bridge::SwitchNames;
use crate::names;
use crate::policy::{Bridge, Datapath, Policing, Port, PortQos, PortType, PortVlan, PortVlanMode};
use crate::schema::closest;
use crate::tree::shortened;

/// Queueing disciplines that Open vSwitch knows (`QoS` table of ovs-vswitchd.conf.db(5)).
const QOS_TYPES: &[&str] = &[
    "egress-policer",
    "linux-codel",
    "linux-fq_codel",
    "linux-hfsc",
    "linux-htb",
    "linux-netem",
    "linux-noop",
    "linux-sfq",
    "trtcm-policer",
];

pub(super) fn check(
    port: &Port,
    datapath: Option<Datapath>,
    path: &str,
    names: &mut SwitchNames,
    errors: &mut Errors,
) {
    let Port { name, type_, peer, vlan, qos, policing, options } = port;
    let named = format!("{path}.name");
    let rule = match type_ {
        PortType::System | PortType::Internal => names::interface(name),
        // These have no network interface of the kernel behind them.
        PortType::Patch | PortType::Vxlan | PortType::Geneve | PortType::Dpdk => names::port(name),
    };
    errors.rule(named.clone(), rule);
    names.take(name, &named, errors);
    if let Some(peer) = peer.as_ref().filter(|_| *type_ != PortType::Patch) {
        let what =
            format!("`{}` means nothing here: only a port of type `patch` has a peer", shortened(peer));
        errors.add(format!("{path}.peer"), what);
    }
    if let Some(vlan) = vlan {
        check_vlan(vlan, &format!("{path}.vlan"), errors);
    }
    if let Some(PortQos { type_: kind, other_config: _ }) = qos {
        qos_type(kind, &format!("{path}.qos.type"), errors);
    }
    if let Some(Policing { rate: 0, burst: 1.. }) = policing {
        errors.add(format!("{path}.policing.burst"), "has no effect without a rate");
    }
    type_needs(*type_, port, datapath, path, errors);
    for key in options.keys() {
        errors.rule(format!("{path}.options[{key}]"), names::column_key(key));
    }
}

/// What a type of port needs, and what it cannot have.
fn type_needs(kind: PortType, port: &Port, datapath: Option<Datapath>, path: &str, errors: &mut Errors) {
    let options = &port.options;
    let mut no_limits = || {
        for (given, field) in [(port.qos.is_some(), "qos"), (port.policing.is_some(), "policing")] {
            if given {
                let what = "is impossible on a port without a network interface of its own";
                errors.add(format!("{path}.{field}"), what);
            }
        }
    };
    match kind {
        PortType::System => {}
        PortType::Internal => no_options(options, path, errors),
        PortType::Patch => {
            no_limits();
            patch(port, path, errors);
        }
        PortType::Vxlan | PortType::Geneve => {
            no_limits();
            tunnel(options, path, errors);
        }
        PortType::Dpdk => {
            if datapath != Some(Datapath::Netdev) {
                let hint = "write `datapath: netdev` on the bridge";
                errors.add_with_hint(
                    format!("{path}.type"),
                    "a DPDK port needs the userspace datapath",
                    hint,
                );
            }
            if !options.contains_key("dpdk-devargs") {
                let hint = "write the PCI address of the device there, such as \"0000:3b:00.0\"";
                errors.add_with_hint(format!("{path}.options"), "lacks `dpdk-devargs`", hint);
            }
        }
    }
}

fn no_options(options: &BTreeMap<String, String>, path: &str, errors: &mut Errors) {
    if let Some(key) = options.keys().next() {
        errors.add(format!("{path}.options[{key}]"), "means nothing on a port of this type");
    }
}

fn patch(port: &Port, path: &str, errors: &mut Errors) {
    no_options(&port.options, path, errors);
    match &port.peer {
        None => {
            let hint = "name the port at the other end: `peer: patch-b`";
            errors.add_with_hint(format!("{path}.peer"), "is missing; a patch port has a peer", hint);
        }
        Some(peer) => {
            errors.rule(format!("{path}.peer"), names::port(peer));
            if *peer == port.name {
                errors.add(format!("{path}.peer"), "is the port itself");
            }
        }
    }
}

fn tunnel(options: &BTreeMap<String, String>, path: &str, errors: &mut Errors) {
    match options.get("remote_ip") {
        None => {
            let hint = "name the other end's address, or `flow` if flows choose it";
            errors.add_with_hint(format!("{path}.options"), "lacks `remote_ip`, which a tunnel needs", hint);
        }
        Some(remote) if remote != "flow" && remote.parse::<IpAddr>().is_err() => {
            let what = format!("`{}` is neither an IP address nor `flow`", shortened(remote));
            errors.add(format!("{path}.options[remote_ip]"), what);
        }
        Some(_) => {}
    }
    if let Some(local) = options.get("local_ip")
        && local != "flow"
        && local.parse::<IpAddr>().is_err()
    {
        let what = format!("`{}` is neither an IP address nor `flow`", shortened(local));
        errors.add(format!("{path}.options[local_ip]"), what);
    }
    if let Some(key) = options.get("key")
        && key != "flow"
        && !key.parse::<u32>().is_ok_and(|number| number < 1 << 24)
    {
        let what =
            format!("`{}` is neither a network identifier from 0 to 16777215 nor `flow`", shortened(key));
        errors.add(format!("{path}.options[key]"), what);
    }
}

/// Patch ports whose peers are in the policy name each other.
pub(super) fn patch_pairs(bridges: &[Bridge], errors: &mut Errors) {
    let mut by_name: BTreeMap<&str, (String, &Port)> = BTreeMap::new();
    let all = || {
        bridges.iter().enumerate().flat_map(|(b, bridge)| {
            let path = move |p: usize| format!("spec.bridges[{b}].ports[{p}]");
            bridge.ports.iter().enumerate().map(move |(p, port)| (path(p), port))
        })
    };
    for (path, port) in all() {
        by_name.entry(&port.name).or_insert((path, port));
    }
    for (path, port) in all().filter(|(_, port)| port.type_ == PortType::Patch) {
        let Some(peer) = port.peer.as_deref().filter(|peer| *peer != port.name) else { continue };
        let Some((other_path, other)) = by_name.get(peer) else { continue };
        if other.type_ != PortType::Patch {
            let what = format!("`{peer}` ({other_path}) is not of type `patch`");
            errors.add(format!("{path}.peer"), what);
        } else if other.peer.as_deref().is_some_and(|back| back != port.name) {
            let what = format!("`{peer}` ({other_path}) has another peer");
            errors.add_with_hint(format!("{path}.peer"), what, "the two ends of a patch name each other");
        }
    }
}

fn check_vlan(vlan: &PortVlan, path: &str, errors: &mut Errors) {
    let PortVlan { mode, tag, trunks, cvlans } = vlan;
    if let Some(tag) = tag.filter(|tag| !(1..=4094).contains(tag)) {
        errors.add(format!("{path}.tag"), format!("{tag} is not a VLAN from 1 to 4094"));
    }
    let (needs_tag, takes_trunks, takes_cvlans, word) = match mode {
        PortVlanMode::Access => (true, false, false, "access"),
        PortVlanMode::Trunk => (false, true, false, "trunk"),
        PortVlanMode::NativeTagged => (true, true, false, "native-tagged"),
        PortVlanMode::NativeUntagged => (true, true, false, "native-untagged"),
        PortVlanMode::Dot1qTunnel => (true, false, true, "dot1q-tunnel"),
    };
    if needs_tag && tag.is_none() {
        errors.add(format!("{path}.tag"), format!("is missing; mode {word} needs it"));
    }
    if !needs_tag && tag.is_some() {
        let hint = "for a trunk with an untagged VLAN use mode native-untagged";
        errors.add_with_hint(format!("{path}.tag"), format!("has no meaning in mode {word}"), hint);
    }
    for (taken, list, field) in [(takes_trunks, trunks, "trunks"), (takes_cvlans, cvlans, "cvlans")] {
        if !taken && !list.is_empty() {
            errors.add(format!("{path}.{field}"), format!("has no meaning in mode {word}"));
        }
        vlan_list(list, &format!("{path}.{field}"), errors);
    }
}

/// Single VLANs and ranges, 0 to 4094; 0 stands for frames without a VLAN.
fn vlan_list(list: &[IntOrString], path: &str, errors: &mut Errors) {
    let mut seen: Vec<IndexSet> = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let text = match entry {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        let set = match text.parse::<IndexSet>() {
            Ok(set) => set,
            Err(RangeError::Backwards { part, .. }) => {
                errors.add(
                    path,
                    format!("`{}` runs backwards; write the smaller number first", shortened(&part)),
                );
                continue;
            }
            Err(RangeError::Empty { .. } | RangeError::NotANumber { .. } | RangeError::Twice { .. }) => {
                let what = format!(
                    "`{}` is neither a VLAN from 0 to 4094 nor a range such as `20-29`",
                    shortened(&text)
                );
                errors.add(path, what);
                continue;
            }
        };
        if let Some(last) = set.last().filter(|last| *last > 4094) {
            errors.add(path, format!("{last} is not a VLAN from 0 to 4094"));
            continue;
        }
        if let Some(vlan) = seen.iter().find_map(|other| other.overlap(&set)) {
            errors.add(path, format!("VLAN {vlan} is named twice"));
        }
        seen.push(set);
    }
}

fn qos_type(kind: &str, path: &str, errors: &mut Errors) {
    if QOS_TYPES.contains(&kind) {
        return;
    }
    let what = format!("`{}` is not one of {}", shortened(kind), QOS_TYPES.join(", "));
    match closest(kind, QOS_TYPES.iter().copied()) {
        Some(meant) => errors.add_with_hint(path, what, format!("did you mean `{meant}`?")),
        None => errors.add(path, what),
    }
}
