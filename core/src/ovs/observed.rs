//! What Open vSwitch looks like, as data: bridges with their ports, interfaces and mirrors. References between rows are
//! resolved to names. Counters change by themselves, so nothing that is decided depends on them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::OWNER_KEY;
use super::health::{MirrorCounts, MirrorHealth};
use crate::fact::Fact;

/// Keys and values of a row's free-form column.
pub type Map = BTreeMap<String, String>;

/// A virtual switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ovs {
    /// Open vSwitch's version, if it is known.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether ovs-vswitchd answers on its control socket.
    #[serde(default)]
    pub vswitchd: Fact<bool>,
    /// Whether ovs-vswitchd has carried out everything that the database asks for.
    #[serde(default = "yes")]
    pub settled: bool,
    /// Datapaths that this build has; empty if it does not say.
    #[serde(default)]
    pub datapath_types: BTreeSet<String>,
    /// `other_config` of the switch.
    #[serde(default)]
    pub other_config: Map,
    /// Bridges by name, sorted.
    #[serde(default)]
    pub bridges: Vec<Bridge>,
}

fn yes() -> bool {
    true
}

fn system() -> String {
    "system".to_owned()
}

/// A bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// `system` or `netdev`.
    #[serde(default = "system")]
    pub datapath: String,
    /// Whether its datapath is there. Open vSwitch writes no error if it is not.
    #[serde(default = "yes")]
    pub works: bool,
    /// `standalone`, `secure`, or none, which means standalone.
    #[serde(default)]
    pub fail_mode: Option<String>,
    /// Spanning tree.
    #[serde(default)]
    pub stp: bool,
    /// Rapid spanning tree.
    #[serde(default)]
    pub rstp: bool,
    /// Multicast snooping.
    #[serde(default)]
    pub mcast_snooping: bool,
    /// VLANs that are flooded and not learned.
    #[serde(default)]
    pub flood_vlans: BTreeSet<u16>,
    /// Settings.
    #[serde(default)]
    pub other_config: Map,
    /// Notes of those who made or use it; our owner key is here.
    #[serde(default)]
    pub external_ids: Map,
    /// Its ports by name, sorted, its own among them.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Its mirrors, sorted by name; names need not be unique.
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
}

/// A port: one interface, or a bond of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name, unique in the whole switch.
    pub name: String,
    /// Its interfaces by name, sorted.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// How it treats VLANs.
    #[serde(default)]
    pub vlan: VlanSetting,
    /// How a bond spreads traffic; none is active-backup.
    #[serde(default)]
    pub bond_mode: Option<String>,
    /// Link aggregation protocol of a bond; none is off.
    #[serde(default)]
    pub lacp: Option<String>,
    /// Queueing discipline.
    #[serde(default)]
    pub qos: Option<QosSetting>,
    /// A bridge of one VLAN inside this one.
    #[serde(default)]
    pub fake_bridge: bool,
    /// Notes; our owner key and those of CNI plugins are here.
    #[serde(default)]
    pub external_ids: Map,
    /// For how many seconds its interface or its container's network namespace is known to be gone; absent if it is there.
    #[serde(default)]
    pub gone_for: Option<u64>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name; of type `system` it is the netdev's.
    pub name: String,
    /// `system`, `internal`, `patch`, `vxlan`, `geneve`, `dpdk`, …
    #[serde(rename = "type", default = "system")]
    pub kind: String,
    /// Options of its type.
    #[serde(default)]
    pub options: Map,
    /// OpenFlow port number; −1 if it could not be opened, absent if ovs-vswitchd has not got to it.
    #[serde(default)]
    pub ofport: Option<i32>,
    /// Why it does not work, in Open vSwitch's words.
    #[serde(default)]
    pub error: Option<String>,
    /// MTU that was asked for, in bytes.
    #[serde(default)]
    pub mtu_request: Option<u32>,
    /// Limit for what it receives.
    #[serde(default)]
    pub policing: Policing,
}

/// VLAN settings of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VlanSetting {
    /// `access`, `trunk`, `native-tagged`, `native-untagged`, `dot1q-tunnel`; none is decided by `tag`.
    #[serde(default)]
    pub mode: Option<String>,
    /// VLAN of its own.
    #[serde(default)]
    pub tag: Option<u16>,
    /// VLANs that it carries; empty is all.
    #[serde(default)]
    pub trunks: BTreeSet<u16>,
    /// Customer VLANs of a tunnel; empty is all.
    #[serde(default)]
    pub cvlans: BTreeSet<u16>,
}

impl VlanSetting {
    /// The mode in effect: Open vSwitch takes a port without mode for an access port if it has a tag, else for a trunk.
    pub fn effective_mode(&self) -> &str {
        match (&self.mode, self.tag) {
            (Some(mode), _) => mode,
            (None, Some(_)) => "access",
            (None, None) => "trunk",
        }
    }

    /// Whether both mean the same.
    pub fn means(&self, other: &VlanSetting) -> bool {
        self.effective_mode() == other.effective_mode()
            && self.tag == other.tag
            && self.trunks == other.trunks
            && self.cvlans == other.cvlans
    }
}

/// Queueing discipline of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QosSetting {
    /// `linux-htb` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Settings, such as `max-rate`.
    #[serde(default)]
    pub other_config: Map,
}

/// Limit for what an interface receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policing {
    /// kbit/s; 0 is none.
    #[serde(default)]
    pub rate: u32,
    /// kbit; 0 lets Open vSwitch choose.
    #[serde(default)]
    pub burst: u32,
}

/// A mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// What it copies and where to.
    #[serde(flatten)]
    pub copies: Copies,
    /// Notes; our owner key is here.
    #[serde(default)]
    pub external_ids: Map,
    /// What is counted about it, where somebody has asked.
    #[serde(default)]
    pub counts: Option<MirrorCounts>,
    /// How it fares, where somebody compares its counters. Planning does not look at it either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<MirrorHealth>,
}

/// What a mirror copies and where to: (all or from sources or to destinations) and in the VLANs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copies {
    /// Every frame.
    #[serde(default)]
    pub all: bool,
    /// Ports whose frames that enter the bridge are copied.
    #[serde(default)]
    pub sources: BTreeSet<String>,
    /// Ports whose frames that leave the bridge are copied.
    #[serde(default)]
    pub destinations: BTreeSet<String>,
    /// Only these VLANs; empty is all.
    #[serde(default)]
    pub vlans: BTreeSet<u16>,
    /// Port that gets the copies.
    #[serde(default)]
    pub output_port: Option<String>,
    /// VLAN that the copies are sent in.
    #[serde(default)]
    pub output_vlan: Option<u16>,
    /// Bytes of each frame that are copied; none is all.
    #[serde(default)]
    pub snaplen: Option<u32>,
}

impl Ovs {
    /// The policies that anything carries the name of.
    pub fn owners(&self) -> BTreeSet<&str> {
        fn of_bridge(bridge: &Bridge) -> impl Iterator<Item = &str> {
            let ports = bridge.ports.iter().filter_map(Port::owner);
            let mirrors = bridge.mirrors.iter().filter_map(Mirror::owner);
            bridge.owner().into_iter().chain(ports).chain(mirrors)
        }
        self.bridges.iter().flat_map(of_bridge).collect()
    }

    /// The bridge of a name.
    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The port of a name, with its bridge.
    pub fn port(&self, name: &str) -> Option<(&Bridge, &Port)> {
        self.bridges.iter().find_map(|bridge| Some((bridge, bridge.port(name)?)))
    }

    /// The interface of a name, with its port and bridge.
    pub fn interface(&self, name: &str) -> Option<(&Bridge, &Port, &Interface)> {
        let ports =
            self.bridges.iter().flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port)));
        ports.into_iter().find_map(|(bridge, port)| {
            let interface = port.interfaces.iter().find(|interface| interface.name == name)?;
            Some((bridge, port, interface))
        })
    }
}

impl Bridge {
    /// The policy that made or adopted it.
    pub fn owner(&self) -> Option<&str> {
        self.external_ids.get(OWNER_KEY).map(String::as_str)
    }

    /// The port of a name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// Its ports without its own.
    pub fn others(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| port.name != self.name)
    }

    /// Names of all interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.ports.iter().flat_map(|port| &port.interfaces)
    }

    /// MTU that was asked for its own interface.
    pub fn mtu_request(&self) -> Option<u32> {
        self.port(&self.name)?.interfaces.first()?.mtu_request
    }
}

impl Port {
    /// The policy that made or adopted it.
    pub fn owner(&self) -> Option<&str> {
        self.external_ids.get(OWNER_KEY).map(String::as_str)
    }

    /// Names of its interfaces.
    pub fn members(&self) -> BTreeSet<String> {
        self.interfaces.iter().map(|interface| interface.name.clone()).collect()
    }
}

impl Mirror {
    /// The policy that made it.
    pub fn owner(&self) -> Option<&str> {
        self.external_ids.get(OWNER_KEY).map(String::as_str)
    }
}
