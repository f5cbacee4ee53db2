//! How netdevs are stacked, and what the management path is found by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::node::Sight;
use crate::id::PciAddress;

/// A netdev of the host's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Interface name.
    pub name: String,
    /// Interface index.
    #[serde(default)]
    pub ifindex: u32,
    /// Kind as rtnetlink names it (`bond`, `bridge`, `vlan`, `macvlan`, `openvswitch`, …); absent for hardware.
    #[serde(default)]
    pub kind: Option<String>,
    /// Interfaces that it is made of (a VLAN's parent, a bond's or bridge's members).
    #[serde(default)]
    pub lowers: Vec<String>,
    /// Interface that it is enslaved to (`ovs-system` for ports of the OVS kernel datapath).
    #[serde(default)]
    pub master: Option<String>,
    /// Addresses that are not link-local.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Link-local addresses: no sign of use, but a session may end at one (BGP unnumbered, RFC 5549).
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// PCI function that it belongs to.
    #[serde(default)]
    pub pci: Option<PciAddress>,
}

/// What the management path starts from; which links it runs over is decided in [`crate::management`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagementEvidence {
    /// Default routes of both families, all tables.
    #[serde(default)]
    pub default_routes: Vec<DefaultRoute>,
    /// Addresses that the node is known by: kubelet's `--node-ip`, and the Node's `status.addresses` in cluster mode.
    #[serde(default)]
    pub node_addresses: Vec<IpAddr>,
    /// Address and port of the API server, if one is configured.
    #[serde(default)]
    pub api_servers: Vec<(IpAddr, u16)>,
    /// Established TCP sessions that are not on loopback.
    #[serde(default)]
    pub sessions: Vec<Session>,
    /// Whether all of this could be read. If not, every port may be the one that the node is reached over.
    #[serde(default)]
    pub sight: Sight,
    /// The path as it was last seen, if the state directory knows: a cable that is pulled takes routes and addresses with
    /// it, and a port is no less the node's for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<PathSeen>,
}

/// The management path at some time: what it ran over, each with the reason as a clause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathSeen {
    /// Netdevs by name.
    #[serde(default)]
    pub netdevs: BTreeMap<String, String>,
    /// PCI functions.
    #[serde(default)]
    pub functions: BTreeMap<PciAddress, String>,
}

impl PathSeen {
    /// Whether both run over the same, for whatever reason.
    pub fn runs_as(&self, other: &PathSeen) -> bool {
        self.netdevs.keys().eq(other.netdevs.keys()) && self.functions.keys().eq(other.functions.keys())
    }
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultRoute {
    /// Outgoing interface.
    pub interface: String,
    /// 4 or 6.
    pub family: u8,
}

/// An established TCP session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Local address.
    pub local: IpAddr,
    /// Local port.
    pub local_port: u16,
    /// Remote address.
    pub remote: IpAddr,
    /// Remote port.
    pub remote_port: u16,
}
