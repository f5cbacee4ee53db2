//! Everything that can be done to Open vSwitch.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::observed::{Copies, Map, Policing, QosSetting, VlanSetting};
use super::setting::{Setting, list, vlan_text};

/// A key of `external_ids` with its value, which a row must carry to be touched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// A bridge to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewBridge {
    /// `system` or `netdev`.
    pub datapath: String,
    /// What it does without a controller.
    pub fail_mode: Option<String>,
    /// Spanning tree.
    pub stp: bool,
    /// Rapid spanning tree.
    pub rstp: bool,
    /// Multicast snooping.
    pub mcast_snooping: bool,
    /// VLANs that are flooded.
    pub flood_vlans: BTreeSet<u16>,
    /// MTU of its own interface.
    pub mtu_request: Option<u32>,
    /// Settings.
    pub other_config: Map,
    /// Notes, without our owner key.
    pub external_ids: Map,
}

/// A port to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewPort {
    /// Kind of its interfaces.
    #[serde(rename = "type")]
    pub kind: String,
    /// Names of its interfaces; one of the port's own name unless it is a bond.
    pub interfaces: BTreeSet<String>,
    /// Options of its interface.
    pub options: Map,
    /// VLANs; absent leaves Open vSwitch's default, a trunk of all.
    pub vlan: Option<VlanSetting>,
    /// How a bond spreads traffic.
    pub bond_mode: Option<String>,
    /// Link aggregation protocol of a bond.
    pub lacp: Option<String>,
    /// Queueing discipline.
    pub qos: Option<QosSetting>,
    /// Limit for what it receives.
    pub policing: Option<Policing>,
    /// Interface index of the netdev that is plugged.
    pub ifindex: Option<u32>,
}

impl NewPort {
    fn text(&self) -> String {
        let mut text = self.kind.clone();
        if self.interfaces.len() > 1 {
            let members: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
            text = format!("bond of {}", members.join(","));
        }
        if let Some(vlan) = &self.vlan {
            text.push_str(&format!(", {}", vlan_text(vlan)));
        }
        text
    }
}

/// A change of Open vSwitch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set `other_config:hw-offload` of the switch. On, ovs-vswitchd acts at once, on all ports; off takes effect when it is
    /// restarted, which we never do.
    SetHwOffload {
        /// Present value.
        from: Option<bool>,
        /// Wanted value.
        to: bool,
    },
    /// Make a bridge.
    CreateBridge {
        /// Its settings.
        to: NewBridge,
    },
    /// Set the datapath of a bridge. Open vSwitch makes the bridge anew: the traffic of every port is cut.
    SetDatapath {
        /// Present datapath.
        from: String,
        /// Wanted datapath.
        to: String,
        /// Ports whose traffic is cut.
        cuts: BTreeSet<String>,
    },
    /// Set one setting of a bridge or port.
    Set {
        /// Present value.
        from: Setting,
        /// Wanted value.
        to: Setting,
    },
    /// Remove a bridge with everything on it; nothing on it belongs to anybody else.
    RemoveBridge {
        /// Its ports, its own left out.
        from: BTreeSet<String>,
    },
    /// Make a port.
    AddPort {
        /// Its settings.
        to: NewPort,
    },
    /// Take a port out and put it in again, because its netdev was made anew. Two transactions: in one, Open vSwitch sees
    /// no change.
    ReplugPort {
        /// Interface index that was plugged.
        from: Option<u32>,
        /// Interface index of the netdev now.
        to: u32,
    },
    /// Remove a port that the policy no longer lists.
    RemovePort {
        /// Kind of its interface.
        from: String,
    },
    /// Remove a port whose netdev or network namespace is gone.
    CollectPort {
        /// Whose port it is.
        owner: Key,
        /// For how many seconds it has been gone.
        gone_for: u64,
    },
    /// Make a mirror.
    AddMirror {
        /// What it copies.
        to: Copies,
    },
    /// Change what a mirror copies or where to.
    SetMirror {
        /// What it copies now.
        from: Copies,
        /// What it shall copy.
        to: Copies,
    },
    /// Remove a mirror, and every other one of its name that is ours.
    RemoveMirror {
        /// What it copies.
        from: Copies,
    },
}

impl Change {
    /// The variant in kebab-case.
    pub fn action(&self) -> &'static str {
        match self {
            Change::SetHwOffload { .. } => "set-hw-offload",
            Change::CreateBridge { .. } => "create-bridge",
            Change::SetDatapath { .. } => "set-datapath",
            Change::Set { to, .. } => to.action(),
            Change::RemoveBridge { .. } => "remove-bridge",
            Change::AddPort { .. } => "add-port",
            Change::ReplugPort { .. } => "replug-port",
            Change::RemovePort { .. } => "remove-port",
            Change::CollectPort { .. } => "collect-port",
            Change::AddMirror { .. } => "add-mirror",
            Change::SetMirror { .. } => "set-mirror",
            Change::RemoveMirror { .. } => "remove-mirror",
        }
    }

    /// The same in words, without object and values.
    pub fn words(&self) -> &'static str {
        match self {
            Change::SetHwOffload { .. } => "set hw-offload",
            Change::CreateBridge { .. } => "create bridge",
            Change::SetDatapath { .. } => "set datapath",
            Change::Set { to, .. } => to.words(),
            Change::RemoveBridge { .. } => "remove bridge",
            Change::AddPort { .. } | Change::AddMirror { .. } => "add",
            Change::ReplugPort { .. } => "plug again",
            Change::RemovePort { .. } | Change::RemoveMirror { .. } => "remove",
            Change::CollectPort { .. } => "collect",
            Change::SetMirror { .. } => "set selection",
        }
    }

    /// What it expects to find and what it makes of it.
    pub fn values(&self) -> (Value, Value) {
        match self {
            Change::SetHwOffload { from, to } => (json!(from), json!(to)),
            Change::CreateBridge { to } => (Value::Null, json!(to)),
            Change::SetDatapath { from, to, cuts: _ } => (json!(from), json!(to)),
            Change::Set { from, to } => (from.value(), to.value()),
            Change::RemoveBridge { from } => (json!({"ports": from}), Value::Null),
            Change::AddPort { to } => (Value::Null, json!(to)),
            Change::ReplugPort { from, to } => (json!(from), json!(to)),
            Change::RemovePort { from } => (json!(from), Value::Null),
            Change::CollectPort { owner, gone_for } => {
                (json!({"owner": owner.value, "goneFor": gone_for}), Value::Null)
            }
            Change::AddMirror { to } => (Value::Null, json!(to)),
            Change::SetMirror { from, to } => (json!(from), json!(to)),
            Change::RemoveMirror { from } => (json!(from), Value::Null),
        }
    }

    /// The same as an operator reads it.
    pub fn texts(&self) -> (String, String) {
        let none = || "(none)".to_owned();
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        match self {
            Change::SetHwOffload { from, to } => (from.map_or_else(none, on_off), on_off(*to)),
            Change::CreateBridge { to } => (none(), format!("datapath {}", to.datapath)),
            Change::SetDatapath { from, to, cuts } => {
                let cuts: Vec<&str> = cuts.iter().map(String::as_str).collect();
                let cuts = if cuts.is_empty() { String::new() } else { format!(", cuts {}", cuts.join(",")) };
                (from.clone(), format!("{to}{cuts}"))
            }
            Change::Set { from, to } => (from.text(), to.text()),
            Change::RemoveBridge { from } => (format!("{} ports", from.len()), none()),
            Change::AddPort { to } => (none(), to.text()),
            Change::ReplugPort { from, to } => {
                (from.map_or_else(none, |from| format!("interface {from}")), format!("interface {to}"))
            }
            Change::RemovePort { from } => (from.clone(), none()),
            Change::CollectPort { owner, gone_for } => {
                (format!("gone for {gone_for} s ({})", owner.value), none())
            }
            Change::AddMirror { to } => (none(), copies_text(to)),
            Change::SetMirror { from, to } => (copies_text(from), copies_text(to)),
            Change::RemoveMirror { from } => (copies_text(from), none()),
        }
    }

    /// Whether it is carried out in one transaction with its neighbours on the same bridge.
    pub fn joins(&self) -> bool {
        match self {
            Change::ReplugPort { .. } | Change::SetHwOffload { .. } => false,
            Change::CreateBridge { .. }
            | Change::SetDatapath { .. }
            | Change::Set { .. }
            | Change::RemoveBridge { .. }
            | Change::AddPort { .. }
            | Change::RemovePort { .. }
            | Change::CollectPort { .. }
            | Change::AddMirror { .. }
            | Change::SetMirror { .. }
            | Change::RemoveMirror { .. } => true,
        }
    }

    /// Whether busy flows have to be looked at again for it to take effect.
    pub fn moves_mirrors(&self) -> bool {
        match self {
            Change::AddMirror { .. } | Change::SetMirror { .. } | Change::RemoveMirror { .. } => true,
            Change::SetHwOffload { .. }
            | Change::CreateBridge { .. }
            | Change::SetDatapath { .. }
            | Change::Set { .. }
            | Change::RemoveBridge { .. }
            | Change::AddPort { .. }
            | Change::ReplugPort { .. }
            | Change::RemovePort { .. }
            | Change::CollectPort { .. } => false,
        }
    }
}

/// `from veth1,veth2, to veth1, VLAN 10 → mon0, 128 bytes`, in short.
fn copies_text(copies: &Copies) -> String {
    let Copies { all, sources, destinations, vlans, output_port, output_vlan, snaplen } = copies;
    let names = |set: &BTreeSet<String>| match set.len() {
        0..=4 => set.iter().cloned().collect::<Vec<_>>().join(","),
        more => format!("{more} ports"),
    };
    let mut parts = Vec::new();
    if *all {
        parts.push("all".to_owned());
    }
    if sources == destinations && !sources.is_empty() {
        parts.push(format!("of {}", names(sources)));
    } else {
        for (set, word) in [(sources, "from"), (destinations, "to")] {
            if !set.is_empty() {
                parts.push(format!("{word} {}", names(set)));
            }
        }
    }
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    if let Some(vlans) = list(vlans) {
        parts.push(format!("in VLAN {vlans}"));
    }
    match (output_port, output_vlan) {
        (Some(port), _) => parts.push(format!("to port {port}")),
        (None, Some(vlan)) => parts.push(format!("to VLAN {vlan}")),
        (None, None) => parts.push("to nowhere".to_owned()),
    }
    if let Some(bytes) = snaplen {
        parts.push(format!("{bytes} bytes"));
    }
    parts.join(" ")
}
