//! Addresses as Go's `net` package reads them, since that is what Multus checks them with.

use std::net::IpAddr;

/// `address/length`: decimal length without sign, at most 32 for IPv4 and 128 for IPv6 (Go's `net.ParseCIDR`).
pub fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let most: u32 = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u32>().is_ok_and(|length| length <= most)
}

/// 6, 8 or 20 bytes, in pairs of hex digits joined by `:` or `-`, or in groups of four joined by `.`
/// (Go's `net.ParseMAC`).
pub fn is_hardware_address(text: &str) -> bool {
    let groups = |separator: char, digits: usize| -> Option<usize> {
        let mut count = 0;
        for group in text.split(separator) {
            if group.len() != digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            count += 1;
        }
        Some(count)
    };
    let pairs = [':', '-'].into_iter().filter_map(|separator| groups(separator, 2));
    let quads = groups('.', 4).map(|count| count * 2);
    pairs.chain(quads).any(|bytes| matches!(bytes, 6 | 8 | 20))
}
