//! Links: all of them, or one.

use portwright_core::MacAddress;

use super::attr::{Attr, Malformed, attrs};
use super::error::NetlinkError;
use super::socket::{Ask, Connection, Message};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
/// Length of `struct ifinfomsg`.
pub(super) const LINK_HEADER: usize = 16;

// `IFLA_*` of linux/if_link.h.
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const CARRIER: u16 = 33;
const PHYS_SWITCH_ID: u16 = 36;
const LINK_NETNSID: u16 = 37;
const PHYS_PORT_NAME: u16 = 38;
const PROP_LIST: u16 = 52;
const ALT_IFNAME: u16 = 53;
const PARENT_DEV_NAME: u16 = 56;
const PARENT_DEV_BUS_NAME: u16 = 57;
/// `IFLA_INFO_KIND`.
const INFO_KIND: u16 = 1;

/// Kinds whose `IFLA_LINK` is the other end of a pair, not an interface below.
const PAIRS: [&str; 3] = ["veth", "netkit", "vxcan"];

/// One link as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawLink {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Alternative names.
    pub alt_names: Vec<String>,
    /// Kind (`bond`, `vlan`, `veth`, …); absent for hardware.
    pub kind: Option<String>,
    /// Interface below (`IFLA_LINK`: a VLAN's or macvlan's parent), if it is in the same network namespace. The peer of a
    /// veth pair is not below it and therefore left out.
    pub lower: Option<u32>,
    /// Index of the interface below, if that is in another network namespace (a macvlan that was moved into a pod).
    pub lower_elsewhere: Option<u32>,
    /// Interface that it is enslaved to.
    pub master: Option<u32>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Carrier; the kernel does not say while the interface is down.
    pub carrier: Option<bool>,
    /// Hardware address, if it is an Ethernet one.
    pub mac: Option<MacAddress>,
    /// Link type (`ARPHRD_*`).
    pub link_type: u16,
    /// Switch that the port belongs to, in hexadecimal as sysfs prints it.
    pub phys_switch_id: Option<String>,
    /// Name of the port on that switch.
    pub phys_port_name: Option<String>,
    /// Device that it belongs to (`0000:3b:00.0`).
    pub parent_device: Option<String>,
    /// Bus of that device (`pci`).
    pub parent_bus: Option<String>,
}

/// All links of the present network namespace, in the kernel's order.
pub fn links() -> Result<Vec<RawLink>, NetlinkError> {
    links_on(&mut Connection::route()?)
}

/// The link of an index.
pub fn link(ifindex: u32) -> Result<RawLink, NetlinkError> {
    let ask = Ask::new("read", format!("ifindex {ifindex}"));
    let messages = Connection::route()?.request(&ask, RTM_GETLINK, 0, &header(ifindex))?;
    let first = messages.first().ok_or_else(|| ask.malformed("an empty answer"))?;
    decode(first).map_err(|Malformed(why)| ask.malformed(why))
}

pub(super) fn links_on(connection: &mut Connection) -> Result<Vec<RawLink>, NetlinkError> {
    let ask = Ask::new("list", "links");
    let messages = connection.list(&ask, RTM_GETLINK, &header(0))?;
    let of_links = messages.iter().filter(|message| message.kind == RTM_NEWLINK);
    of_links.map(|message| decode(message).map_err(|Malformed(why)| ask.malformed(why))).collect()
}

/// `struct ifinfomsg` of a request.
pub(super) fn header(ifindex: u32) -> Vec<u8> {
    let mut bytes = vec![0_u8; 4];
    bytes.extend_from_slice(&ifindex.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn decode(message: &Message) -> Result<RawLink, Malformed> {
    let short = || Malformed(format!("a link message of {} bytes", message.body.len()));
    let (head, rest) = message.body.split_first_chunk::<LINK_HEADER>().ok_or_else(short)?;
    let [_, _, type_low, type_high, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *head;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let mut link = RawLink {
        ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
        link_type: u16::from_ne_bytes([type_low, type_high]),
        up: flags & 1 != 0,
        ..RawLink::default()
    };
    let mut elsewhere = false;
    for attr in attrs(rest) {
        let attr = attr?;
        match attr.kind {
            ADDRESS => link.mac = attr.mac(),
            IFNAME => link.name = attr.text(),
            MTU => link.mtu = Some(attr.u32()?),
            LINK => link.lower = Some(attr.u32()?),
            MASTER => link.master = Some(attr.u32()?).filter(|index| *index != 0),
            LINKINFO => link.kind = kind_of(&attr)?,
            CARRIER => link.carrier = Some(attr.u8()? != 0),
            PHYS_SWITCH_ID => link.phys_switch_id = Some(attr.hex()).filter(|id| !id.is_empty()),
            LINK_NETNSID => elsewhere = true,
            PHYS_PORT_NAME => link.phys_port_name = Some(attr.text()),
            PROP_LIST => link.alt_names = alt_names(&attr)?,
            PARENT_DEV_NAME => link.parent_device = Some(attr.text()),
            PARENT_DEV_BUS_NAME => link.parent_bus = Some(attr.text()),
            _ => {}
        }
    }
    let is_pair = link.kind.as_deref().is_some_and(|kind| PAIRS.contains(&kind));
    let lower = link.lower.filter(|lower| !is_pair && *lower != 0);
    link.lower = lower.filter(|lower| !elsewhere && *lower != link.ifindex);
    link.lower_elsewhere = lower.filter(|_| elsewhere);
    // The kernel reports 1 for an interface that is down and never had a carrier.
    link.carrier = link.carrier.filter(|_| link.up);
    if link.name.is_empty() {
        return Err(Malformed(format!("link {} has no name", link.ifindex)));
    }
    Ok(link)
}

fn kind_of(info: &Attr<'_>) -> Result<Option<String>, Malformed> {
    let mut kind = None;
    for attr in info.nested() {
        let attr = attr?;
        if attr.kind == INFO_KIND {
            kind = Some(attr.text());
        }
    }
    Ok(kind)
}

fn alt_names(list: &Attr<'_>) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    for attr in list.nested() {
        let attr = attr?;
        if attr.kind == ALT_IFNAME {
            names.push(attr.text());
        }
    }
    Ok(names)
}
