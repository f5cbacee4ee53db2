//! Texts of `proc` and of `lib/modules`, parsed. Pure functions of their text: they take what they understand line by line
//! and leave a line that is not what the kernel writes.

pub(crate) mod address;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod route;
pub(crate) mod tcp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address as `proc/net/route` and `tcp` print it: the four bytes read as one number of this machine. A tree that
/// was copied from a machine of another byte order is not understood.
pub(crate) fn native_v4(text: &str) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(word(text)?.to_ne_bytes()))
}

/// An IPv6 address as `proc/net/tcp6` prints it: four such numbers.
pub(crate) fn native_v6(text: &str) -> Option<Ipv6Addr> {
    if text.len() != 32 {
        return None;
    }
    let mut bytes = [0_u8; 16];
    for (part, place) in text.as_bytes().chunks_exact(8).zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word(std::str::from_utf8(part).ok()?)?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes))
}

/// An IPv6 address as `if_inet6` and `ipv6_route` print it: 32 digits in network order.
pub(crate) fn plain_v6(text: &str) -> Option<Ipv6Addr> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Ipv6Addr::from)
}

/// Whether an address is only good on its own link, so that it says nothing about who uses the netdev.
pub(crate) fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Eight hexadecimal digits.
fn word(text: &str) -> Option<u32> {
    let plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}
