//! `proc/net/route` and `proc/net/ipv6_route`: default routes, and the networks that are directly connected.
//!
//! Both files show the main table only (and `ipv6_route` the local one); other tables are seen by netlink.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use portwright_core::observed::DefaultRoute;

use super::native_v4;

/// `RTF_UP` (`linux/route.h`).
const UP: u32 = 0x1;
/// `RTF_GATEWAY`.
const GATEWAY: u32 = 0x2;
/// `RTF_REJECT`.
const REJECT: u32 = 0x200;

/// An IPv4 route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route4 {
    pub(crate) interface: String,
    pub(crate) destination: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    gateway: bool,
}

impl Route4 {
    /// Length of the mask in bits.
    pub(crate) fn prefix(&self) -> u32 {
        self.mask.to_bits().count_ones()
    }

    /// Whether an address is in the network of an interface itself.
    pub(crate) fn connects(&self, address: Ipv4Addr) -> bool {
        let mask = self.mask.to_bits();
        !self.gateway && mask != 0 && address.to_bits() & mask == self.destination.to_bits() & mask
    }
}

/// Parses `proc/net/route`: tab-separated, with a line of titles.
pub(crate) fn routes4(text: &str) -> Vec<Route4> {
    text.lines().skip(1).filter_map(route4).collect()
}

fn route4(line: &str) -> Option<Route4> {
    let mut fields = line.split_ascii_whitespace();
    let interface = fields.next()?.to_owned();
    let destination = native_v4(fields.next()?)?;
    fields.next()?; // gateway
    let flags = fields.next().and_then(hex)?;
    let mask = native_v4(fields.nth(3)?)?;
    let usable = flags & UP != 0 && flags & REJECT == 0 && interface != "*";
    usable.then_some(Route4 { interface, destination, mask, gateway: flags & GATEWAY != 0 })
}

/// Default routes of both families, from the texts of `proc/net/route` and `proc/net/ipv6_route`.
pub(crate) fn default_routes(routes: &[Route4], ipv6_route: &str) -> Vec<DefaultRoute> {
    let is_default = |route: &&Route4| route.mask.is_unspecified() && route.destination.is_unspecified();
    let v4 = routes.iter().filter(is_default).map(|route| route.interface.clone());
    let v4 = v4.map(|interface| DefaultRoute { interface, family: 4 });
    let v6 = ipv6_route.lines().filter_map(default_route6);
    let v6 = v6.map(|interface| DefaultRoute { interface, family: 6 });
    let all: BTreeSet<DefaultRoute> = v4.chain(v6).collect();
    all.into_iter().collect()
}

/// The interface of a line of `ipv6_route`, if it is a default route:
/// destination, its prefix, source, its prefix, gateway, metric, counters, flags, interface.
fn default_route6(line: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let destination = fields.next()?;
    let prefix = fields.next()?;
    let flags = fields.nth(6).and_then(hex)?;
    let interface = fields.next()?;
    let all = destination.len() == 32 && destination.bytes().all(|byte| byte == b'0') && prefix == "00";
    let usable = flags & UP != 0 && flags & REJECT == 0;
    (all && usable).then(|| interface.to_owned())
}

fn hex(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand after `fs/proc` of Linux 6.12, for a little-endian machine.
    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        bond0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        bond0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
        *\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n\
        garbage\n\
        eth9\tzz\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";

    /// Written by hand: an ordinary default route, the kernel's own unreachable one, and a network.
    const ROUTE6: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n\
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth2\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn default_routes_of_both_families_are_found() {
        let routes = routes4(ROUTE);
        let found = default_routes(&routes, ROUTE6);
        let found: Vec<(&str, u8)> =
            found.iter().map(|route| (route.interface.as_str(), route.family)).collect();
        assert_eq!(found, [("bond0", 4), ("eth1", 6)]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn connected_networks_are_told_from_routed_ones() {
        let routes = routes4(ROUTE);
        let connects = |address: &str| {
            let address = address.parse().unwrap();
            routes.iter().filter(|route| route.connects(address)).map(Route4::prefix).collect::<Vec<_>>()
        };
        assert_eq!(connects("192.0.2.7"), [24]);
        assert_eq!(connects("198.51.100.1"), [] as [u32; 0]);
    }
}
