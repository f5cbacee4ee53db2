//! Changes to links and to VFs through their PF.

use netlink_packet_core::Emitable;
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate,
    VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfLinkState, VfVlan, VfVlanInfo,
};
use nix::errno::Errno;

use portwright_core::MacAddress;
use portwright_core::desired::{LinkState, TxRate, Vlan, VlanProtocol};

use super::error::NetlinkError;
use super::link::link;
use super::socket::{Ask, Connection};

const RTM_SETLINK: u16 = 19;

/// An interface: its index decides, its name is for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port<'a> {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: &'a str,
}

/// Sets the MTU in bytes.
pub fn set_mtu(port: Port<'_>, mtu: u32) -> Result<(), NetlinkError> {
    let ask = Ask::new("set MTU of", format!("{} to {mtu}", port.name));
    change(&ask, port, vec![LinkAttribute::Mtu(mtu)])
}

/// Sets the interface administratively up or down.
pub fn set_up(port: Port<'_>, up: bool) -> Result<(), NetlinkError> {
    let ask = Ask::new(if up { "set up" } else { "set down" }, port.name);
    let mut message = LinkMessage::default();
    message.header.index = port.ifindex;
    message.header.change_mask = LinkFlags::Up;
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    send(&ask, &message)
}

/// Renames the interface. Kernels that refuse this while it is up get it down for the moment.
pub fn rename(port: Port<'_>, to: &str) -> Result<(), NetlinkError> {
    let ask = Ask::new("rename", format!("{} to {to}", port.name));
    let attempt = || change(&ask, port, vec![LinkAttribute::IfName(to.to_owned())]);
    match attempt() {
        Err(error) if error.errno() == Some(Errno::EBUSY) && link(port.ifindex)?.up => {
            set_up(port, false)?;
            let renamed = attempt();
            // It is set up again whether or not it has a new name; the first error is the one that tells more.
            let restored = set_up(port, true);
            renamed.and(restored)
        }
        other => other,
    }
}

/// Sets an interface's own hardware address.
pub fn set_address(port: Port<'_>, mac: MacAddress) -> Result<(), NetlinkError> {
    let ask = Ask::new("set address of", format!("{} to {mac}", port.name));
    change(&ask, port, vec![LinkAttribute::Address(mac.0.to_vec())])
}

/// Sets a VF's administrative MAC.
pub fn set_vf_mac(pf: Port<'_>, vf: u16, mac: MacAddress) -> Result<(), NetlinkError> {
    // struct ifla_vf_mac holds 32 bytes of address, of which Ethernet uses six.
    change_vf("set MAC of", pf, vf, VfInfo::Mac(VfInfoMac::new(vf.into(), &mac.0)))
}

/// Sets a VF's VLAN; id and priority 0 clear it.
pub fn set_vf_vlan(pf: Port<'_>, vf: u16, vlan: Vlan) -> Result<(), NetlinkError> {
    let (index, id, qos) = (u32::from(vf), u32::from(vlan.id), u32::from(vlan.qos));
    let info = match vlan.protocol {
        // Drivers know this form the longest; it means 802.1q.
        VlanProtocol::Dot1q => VfInfo::Vlan(VfInfoVlan::new(index, id, qos)),
        VlanProtocol::Dot1ad => {
            let protocol = netlink_packet_route::link::VlanProtocol::Ieee8021Ad;
            VfInfo::VlanList(vec![VfVlan::Info(VfVlanInfo::new(index, id, qos, protocol))])
        }
    };
    change_vf("set VLAN of", pf, vf, info)
}

/// Sets a VF's source address check.
pub fn set_vf_spoof_check(pf: Port<'_>, vf: u16, on: bool) -> Result<(), NetlinkError> {
    change_vf("set spoof check of", pf, vf, VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf.into(), on)))
}

/// Sets a VF's trust.
pub fn set_vf_trust(pf: Port<'_>, vf: u16, on: bool) -> Result<(), NetlinkError> {
    change_vf("set trust of", pf, vf, VfInfo::Trust(VfInfoTrust::new(vf.into(), on)))
}

/// Sets a VF's transmit rates in Mbit/s; 0 means no limit.
pub fn set_vf_rate(pf: Port<'_>, vf: u16, rate: TxRate) -> Result<(), NetlinkError> {
    change_vf("set rate of", pf, vf, VfInfo::Rate(VfInfoRate::new(vf.into(), rate.min, rate.max)))
}

/// Sets a VF's link state control.
pub fn set_vf_link_state(pf: Port<'_>, vf: u16, state: LinkState) -> Result<(), NetlinkError> {
    let state = match state {
        LinkState::Auto => VfLinkState::Auto,
        LinkState::Enable => VfLinkState::Enable,
        LinkState::Disable => VfLinkState::Disable,
    };
    change_vf("set link state of", pf, vf, VfInfo::LinkState(VfInfoLinkState::new(vf.into(), state)))
}

fn change_vf(operation: &'static str, pf: Port<'_>, vf: u16, info: VfInfo) -> Result<(), NetlinkError> {
    let ask = Ask::new(operation, format!("VF {vf} of {}", pf.name));
    change(&ask, pf, vec![LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])])])
}

fn change(ask: &Ask, port: Port<'_>, attributes: Vec<LinkAttribute>) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = port.ifindex;
    message.attributes = attributes;
    send(ask, &message)
}

fn send(ask: &Ask, message: &LinkMessage) -> Result<(), NetlinkError> {
    let mut body = vec![0_u8; message.buffer_len()];
    message.emit(&mut body);
    Connection::route()?.request(ask, RTM_SETLINK, 0, &body).map(drop)
}
