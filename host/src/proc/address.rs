//! Which interface has which address, from `proc/net/fib_trie` and `proc/net/if_inet6`.
//!
//! `fib_trie` lists the node's IPv4 addresses without their interfaces. An address is given to every interface that the
//! longest connected route to it names, so that an address is rather seen twice than not at all; one that no connected
//! route covers (a /32 on `lo`, `noprefixroute`) cannot be placed and is left out. On a running host netlink is asked
//! instead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::plain_v6;
use super::route::Route4;

/// Addresses by interface.
pub(crate) type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// Puts the addresses of both families together.
pub(crate) fn addresses(fib_trie: &str, routes: &[Route4], if_inet6: &str) -> Addresses {
    let mut found = Addresses::new();
    for address in local4(fib_trie) {
        for interface in interfaces_of(address, routes) {
            add(&mut found, interface, IpAddr::V4(address));
        }
    }
    for (interface, address) in if_inet6.lines().filter_map(inet6) {
        add(&mut found, interface, address);
    }
    found
}

fn add(found: &mut Addresses, interface: &str, address: IpAddr) {
    found.entry(interface.to_owned()).or_default().insert(address);
}

/// The node's own addresses: a leaf `|-- 192.0.2.2` with a line `/32 host LOCAL` below it.
fn local4(fib_trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut leaf = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        } else if !line.starts_with('/') {
            leaf = None;
        }
    }
    found
}

fn interfaces_of(address: Ipv4Addr, routes: &[Route4]) -> BTreeSet<&str> {
    if address.is_loopback() {
        return BTreeSet::from(["lo"]);
    }
    let connected = || routes.iter().filter(|route| route.connects(address));
    let longest = connected().map(Route4::prefix).max();
    connected()
        .filter(|route| Some(route.prefix()) == longest)
        .map(|route| route.interface.as_str())
        .collect()
}

/// A line of `if_inet6`: address, index, prefix, scope, flags, interface.
fn inet6(line: &str) -> Option<(&str, IpAddr)> {
    let mut fields = line.split_ascii_whitespace();
    let address = plain_v6(fields.next()?)?;
    let interface = fields.nth(4)?;
    Some((interface, IpAddr::V6(address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::route::routes4;

    /// Captured from a machine with one interface.
    const FIB_TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
";

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_placed_by_connected_routes() {
        let routes = routes4(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
             eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n\
             eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        );
        let inet6 = "20010db8000000000000000000000005 02 40 00 80     eth0\n\
                     fe800000000000005054005454000001 02 40 20 80     eth0\n\
                     00000000000000000000000000000001 01 80 10 80       lo\nshort 01\n";
        let found = addresses(FIB_TRIE, &routes, inet6);
        let text: Vec<String> = found.iter().map(|(name, list)| format!("{name} {list:?}")).collect();
        assert_eq!(text, ["eth0 {192.0.2.2, 2001:db8::5, fe80::5054:54:5400:1}", "lo {127.0.0.1, ::1}"]);
    }

    #[test]
    fn an_address_without_a_connected_route_is_not_placed() {
        assert!(addresses(FIB_TRIE, &[], "").keys().eq(["lo"]));
    }
}
