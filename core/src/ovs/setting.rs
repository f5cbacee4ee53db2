//! Single settings of bridges and ports: which one, and its value.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::observed::{Policing, QosSetting, VlanSetting};

/// A setting of a bridge or a port with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Owner of the row: the name of a policy. None is a row of somebody else.
    Owner(Option<String>),
    /// Key of `other_config` of a bridge.
    OtherConfig(String, Option<String>),
    /// Key of `external_ids` of a bridge.
    ExternalId(String, Option<String>),
    /// What a bridge does without a controller.
    FailMode(Option<String>),
    /// Spanning tree of a bridge.
    Stp(bool),
    /// Rapid spanning tree of a bridge.
    Rstp(bool),
    /// Multicast snooping of a bridge.
    McastSnooping(bool),
    /// VLANs that a bridge floods.
    FloodVlans(BTreeSet<u16>),
    /// MTU of a bridge's own interface in bytes.
    MtuRequest(Option<u32>),
    /// Kind of a port's interface.
    Kind(String),
    /// Key of the interface's `options`.
    InterfaceOption(String, Option<String>),
    /// VLANs of a port.
    Vlan(VlanSetting),
    /// How a bond spreads traffic.
    BondMode(Option<String>),
    /// Link aggregation protocol of a bond.
    Lacp(Option<String>),
    /// Interfaces of a bond.
    Members(BTreeSet<String>),
    /// Queueing discipline of a port.
    Qos(Option<QosSetting>),
    /// Limit for what a port receives.
    Policing(Policing),
}

impl Setting {
    /// The setting in kebab-case, as a part of an action.
    pub fn action(&self) -> &'static str {
        match self {
            Setting::Owner(_) => "set-owner",
            Setting::OtherConfig(..) => "set-other-config",
            Setting::ExternalId(..) => "set-external-id",
            Setting::FailMode(_) => "set-fail-mode",
            Setting::Stp(_) => "set-stp",
            Setting::Rstp(_) => "set-rstp",
            Setting::McastSnooping(_) => "set-mcast-snooping",
            Setting::FloodVlans(_) => "set-flood-vlans",
            Setting::MtuRequest(_) => "set-mtu-request",
            Setting::Kind(_) => "set-interface-type",
            Setting::InterfaceOption(..) => "set-interface-option",
            Setting::Vlan(_) => "set-port-vlan",
            Setting::BondMode(_) => "set-bond-mode",
            Setting::Lacp(_) => "set-lacp",
            Setting::Members(_) => "set-bond-members",
            Setting::Qos(_) => "set-port-qos",
            Setting::Policing(_) => "set-policing",
        }
    }

    /// The same in words.
    pub fn words(&self) -> &'static str {
        match self {
            Setting::Owner(_) => "take over",
            Setting::OtherConfig(..) => "set other_config",
            Setting::ExternalId(..) => "set external_ids",
            Setting::FailMode(_) => "set fail mode",
            Setting::Stp(_) => "set STP",
            Setting::Rstp(_) => "set RSTP",
            Setting::McastSnooping(_) => "set multicast snooping",
            Setting::FloodVlans(_) => "set flooded VLANs",
            Setting::MtuRequest(_) => "set MTU",
            Setting::Kind(_) => "set type",
            Setting::InterfaceOption(..) => "set option",
            Setting::Vlan(_) => "set VLAN",
            Setting::BondMode(_) => "set bond mode",
            Setting::Lacp(_) => "set LACP",
            Setting::Members(_) => "set members",
            Setting::Qos(_) => "set QoS",
            Setting::Policing(_) => "set policing",
        }
    }

    /// The value as JSON; null means none. A key's value stands under its key.
    pub fn value(&self) -> Value {
        match self {
            Setting::Owner(text)
            | Setting::FailMode(text)
            | Setting::BondMode(text)
            | Setting::Lacp(text) => {
                json!(text)
            }
            Setting::OtherConfig(key, value)
            | Setting::ExternalId(key, value)
            | Setting::InterfaceOption(key, value) => json!({key: value}),
            Setting::Stp(on) | Setting::Rstp(on) | Setting::McastSnooping(on) => json!(on),
            Setting::FloodVlans(vlans) => json!(vlans),
            Setting::MtuRequest(mtu) => json!(mtu),
            Setting::Kind(kind) => json!(kind),
            Setting::Vlan(vlan) => json!(vlan),
            Setting::Members(members) => json!(members),
            Setting::Qos(qos) => json!(qos),
            Setting::Policing(policing) => json!(policing),
        }
    }

    /// The value as an operator reads it.
    pub fn text(&self) -> String {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".to_owned());
        match self {
            Setting::Owner(owner) => match owner {
                Some(owner) => format!("policy {owner}"),
                None => "(not ours)".to_owned(),
            },
            Setting::FailMode(text) | Setting::BondMode(text) | Setting::Lacp(text) => or_none(text),
            Setting::OtherConfig(key, value)
            | Setting::ExternalId(key, value)
            | Setting::InterfaceOption(key, value) => match value {
                Some(value) => format!("{key}={value}"),
                None => "(none)".to_owned(),
            },
            Setting::Stp(on) | Setting::Rstp(on) | Setting::McastSnooping(on) => {
                if *on { "on" } else { "off" }.to_owned()
            }
            Setting::FloodVlans(vlans) => list(vlans).unwrap_or_else(|| "(none)".to_owned()),
            Setting::MtuRequest(mtu) => mtu.map_or_else(|| "(none)".to_owned(), |mtu| mtu.to_string()),
            Setting::Kind(kind) => kind.clone(),
            Setting::Vlan(vlan) => vlan_text(vlan),
            Setting::Members(members) => members.iter().cloned().collect::<Vec<_>>().join(","),
            Setting::Qos(qos) => qos.as_ref().map_or_else(|| "(none)".to_owned(), qos_text),
            Setting::Policing(policing) => policing_text(*policing),
        }
    }
}

/// VLANs or other numbers in their shortest form; nothing for an empty set.
pub(super) fn list(numbers: &BTreeSet<u16>) -> Option<String> {
    crate::range::IndexSet::from_indexes(numbers.iter().copied()).map(|set| set.to_string())
}

/// `access 10`, `trunk`, `native-untagged 5 of 1-20`.
pub(super) fn vlan_text(vlan: &VlanSetting) -> String {
    let mut text = vlan.effective_mode().to_owned();
    if let Some(tag) = vlan.tag {
        text.push_str(&format!(" {tag}"));
    }
    for (set, word) in [(&vlan.trunks, "of"), (&vlan.cvlans, "for")] {
        if let Some(numbers) = list(set) {
            text.push_str(&format!(" {word} {numbers}"));
        }
    }
    text
}

pub(super) fn qos_text(qos: &QosSetting) -> String {
    let mut text = qos.kind.clone();
    for (key, value) in &qos.other_config {
        text.push_str(&format!(" {key}={value}"));
    }
    text
}

pub(super) fn policing_text(policing: Policing) -> String {
    match policing {
        Policing { rate: 0, .. } => "off".to_owned(),
        Policing { rate, burst: 0 } => format!("{rate} kbit/s"),
        Policing { rate, burst } => format!("{rate} kbit/s, burst {burst} kbit"),
    }
}
