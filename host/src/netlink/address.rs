//! Addresses and default routes of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attr::{Attr, Malformed, attrs};
use super::error::NetlinkError;
use super::nexthop::NextHops;
use super::socket::{Ask, Connection};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// Length of `struct rtnexthop`.
const NEXTHOP_HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_NH_ID: u16 = 30;
/// `RTN_UNICAST`: neither local nor blackhole.
const UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `RTM_F_CLONED`: a cached route, not a configured one.
const CLONED: u32 = 0x200;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawAddress {
    /// Interface index.
    pub ifindex: u32,
    /// The interface's own address (not a peer's).
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// A default route's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawRoute {
    /// Outgoing interface.
    pub ifindex: u32,
    /// 4 or 6.
    pub family: u8,
}

/// All addresses of the present network namespace, link-local ones included.
pub fn addresses() -> Result<Vec<RawAddress>, NetlinkError> {
    let ask = Ask::new("list", "addresses");
    let messages = Connection::route()?.list(&ask, RTM_GETADDR, &[0; ADDRESS_HEADER])?;
    let of_addresses = messages.iter().filter(|message| message.kind == RTM_NEWADDR);
    let decoded: Result<Vec<_>, Malformed> =
        of_addresses.map(|message| decode_address(&message.body)).collect();
    Ok(decoded.map_err(|Malformed(why)| ask.malformed(why))?.into_iter().flatten().collect())
}

/// Default routes of all tables and both families, each outgoing interface of a multipath route or of a group of next hops
/// on its own. A route that leads nobody knows where is an error.
pub fn default_routes() -> Result<Vec<RawRoute>, NetlinkError> {
    let ask = Ask::new("list", "routes");
    let mut connection = Connection::route()?;
    let malformed = |Malformed(why)| ask.malformed(why);
    let (mut routes, mut by_object) = (Vec::new(), Vec::new());
    for family in [AF_INET, AF_INET6] {
        let mut body = [0_u8; ROUTE_HEADER];
        body[0] = family;
        let messages = match connection.list(&ask, RTM_GETROUTE, &body) {
            // A kernel without IPv6 has no such routes.
            Err(error) if family == AF_INET6 && error.is_unsupported() => continue,
            other => other?,
        };
        for message in messages.iter().filter(|message| message.kind == RTM_NEWROUTE) {
            match decode_route(&message.body).map_err(malformed)? {
                Ways::Interfaces(found) => routes.extend(found),
                Ways::Object { id, family } => by_object.push((id, family)),
            }
        }
    }
    if !by_object.is_empty() {
        let hops = NextHops::read(&mut connection)?;
        for (id, family) in by_object {
            let interfaces = hops.interfaces(id).map_err(malformed)?;
            routes.extend(interfaces.into_iter().map(|ifindex| RawRoute { ifindex, family }));
        }
    }
    routes.sort_unstable();
    routes.dedup();
    Ok(routes)
}

fn decode_address(body: &[u8]) -> Result<Option<RawAddress>, Malformed> {
    let short = || Malformed(format!("an address message of {} bytes", body.len()));
    let (head, rest) = body.split_first_chunk::<ADDRESS_HEADER>().ok_or_else(short)?;
    let [family, prefix, _, _, index @ ..] = *head;
    let (mut local, mut address) = (None, None);
    for attr in attrs(rest) {
        let attr = attr?;
        match attr.kind {
            IFA_LOCAL => local = ip(family, &attr)?,
            IFA_ADDRESS => address = ip(family, &attr)?,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; elsewhere IPv6 has IFA_ADDRESS only.
    let ifindex = u32::from_ne_bytes(index);
    Ok(local.or(address).map(|address| RawAddress { ifindex, address, prefix }))
}

fn ip(family: u8, attr: &Attr<'_>) -> Result<Option<IpAddr>, Malformed> {
    Ok(match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(attr.bytes::<4>()?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(attr.bytes::<16>()?))),
        _ => None,
    })
}

/// Where a route leads.
enum Ways {
    Interfaces(Vec<RawRoute>),
    /// Where this next-hop object does.
    Object {
        id: u32,
        family: u8,
    },
}

fn decode_route(body: &[u8]) -> Result<Ways, Malformed> {
    let short = || Malformed(format!("a route message of {} bytes", body.len()));
    let (head, rest) = body.split_first_chunk::<ROUTE_HEADER>().ok_or_else(short)?;
    let [family, destination_bits, _, _, _, _, _, kind, flags @ ..] = *head;
    let cached = u32::from_ne_bytes(flags) & CLONED != 0;
    if destination_bits != 0 || kind != UNICAST || cached {
        return Ok(Ways::Interfaces(Vec::new()));
    }
    let family = if family == AF_INET6 { 6 } else { 4 };
    let (mut routes, mut object) = (Vec::new(), None);
    for attr in attrs(rest) {
        let attr = attr?;
        match attr.kind {
            RTA_NH_ID => object = Some(attr.u32()?),
            RTA_OIF => routes.push(RawRoute { ifindex: attr.u32()?, family }),
            RTA_MULTIPATH => {
                routes.extend(nexthops(attr.value)?.into_iter().map(|ifindex| RawRoute { ifindex, family }))
            }
            _ => {}
        }
    }
    // The kernel may tell both; then the interfaces are the object's.
    Ok(match object {
        Some(id) if routes.is_empty() => Ways::Object { id, family },
        Some(_) | None => Ways::Interfaces(routes),
    })
}

/// Outgoing interfaces of a list of `struct rtnexthop`.
fn nexthops(mut list: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut indexes = Vec::new();
    while let Some(head) = list.first_chunk::<NEXTHOP_HEADER>() {
        let [low, high, _, _, index @ ..] = *head;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        if length < NEXTHOP_HEADER || length > list.len() {
            return Err(Malformed(format!("a next hop of {length} bytes in {} bytes", list.len())));
        }
        indexes.push(u32::from_ne_bytes(index));
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(indexes)
}
