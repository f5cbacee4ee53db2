//! How netdevs are stacked, and what the management path is found by.

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
