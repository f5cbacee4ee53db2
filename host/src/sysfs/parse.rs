//! The words that sysfs uses for its values. Each function takes the text without its line end and gives nothing if it is
//! not exactly what the kernel writes.

use std::str::FromStr;

use portwright_core::PciAddress;
use portwright_core::observed::Lockdown;

/// A decimal number without sign, blank or leading `+`.
pub(crate) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A decimal number where any negative one means "none" (`numa_node`, `speed`).
pub(crate) fn decimal_or_negative<T: FromStr>(text: &str) -> Option<Option<T>> {
    match text.strip_prefix('-') {
        Some(digits) => decimal::<u64>(digits).map(|_| None),
        None => decimal(text).map(Some),
    }
}

/// A hexadecimal number with `0x` before it.
pub(crate) fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// `0` or `1`.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// A PCI class, `0x020000`; given back as six lower-case digits.
pub(crate) fn class(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0x")?;
    let plain = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| digits.to_ascii_lowercase())
}

/// `driver_override`: a driver's name, or `(null)` where none is set.
pub(crate) fn driver_override(text: &str) -> Option<Option<String>> {
    Some((text != "(null)" && !text.is_empty()).then(|| text.to_owned()))
}

/// `/sys/kernel/security/lockdown`: all modes, the one that holds in brackets.
pub(crate) fn lockdown(text: &str) -> Option<Lockdown> {
    match text.split_whitespace().find(|word| word.starts_with('['))? {
        "[none]" => Some(Lockdown::None),
        "[integrity]" => Some(Lockdown::Integrity),
        "[confidentiality]" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

/// The PCI function that a device path runs through last
/// (`…/pci0000:00/0000:00:03.0/0000:01:10.1/vfio-dev/vfio0` → `0000:01:10.1`).
pub(crate) fn function_in_path(path: &str) -> Option<PciAddress> {
    path.rsplit('/').find_map(|part| part.parse().ok())
}

/// The number in a name of a known form (`virtfn12` → 12), without leading zeros so that each number has one name.
pub(crate) fn numbered<T: FromStr>(name: &str, prefix: &str) -> Option<T> {
    let digits = name.strip_prefix(prefix)?;
    let canonical = digits == "0" || !digits.starts_with('0');
    canonical.then(|| decimal(digits)).flatten()
}

/// `phys_port_name` of a representor: which VF of which PF. Ports of another host's functions (`c1pf0vf3`, as a DPU shows
/// them) are nobody's here.
pub(crate) fn vf_port(name: &str) -> Option<VfPort> {
    if let Some(rest) = name.strip_prefix("pf") {
        let (pf, vf) = rest.split_once("vf")?;
        return Some(VfPort { pf: Some(decimal(pf)?), vf: decimal(vf)? });
    }
    // Kernels before 5.2 gave the bare VF number (mlx5, bnxt).
    Some(VfPort { pf: None, vf: decimal(name)? })
}

/// What a representor's port name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VfPort {
    /// Number of the PF, where the name says it.
    pub(crate) pf: Option<u16>,
    /// Number of the VF.
    pub(crate) vf: u16,
}

/// Number of an uplink port (`p0` → 0).
pub(crate) fn uplink_port(name: &str) -> Option<u16> {
    decimal(name.strip_prefix('p')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_the_kernel_writes_them_and_not_otherwise() {
        assert_eq!(decimal::<u16>("7"), Some(7));
        for bad in ["", " ", "+7", "-1", "7 ", "0x7", "65536", "7\n", "٣"] {
            assert_eq!(decimal::<u16>(bad), None, "{bad:?}");
        }
        assert_eq!(decimal_or_negative::<u32>("-1"), Some(None));
        assert_eq!(decimal_or_negative::<u32>("25000"), Some(Some(25_000)));
        assert_eq!(decimal_or_negative::<u32>("--1"), None);
        assert_eq!(hex("0x1003"), Some(0x1003));
        for bad in ["1003", "0x", "0xg", "0x+1", "0x11111111111111111"] {
            assert_eq!(hex(bad), None, "{bad:?}");
        }
        assert_eq!(numbered::<u16>("virtfn12", "virtfn"), Some(12));
        for bad in ["virtfn", "virtfn01", "virtfn1x", "virtfn-1", "virtfn65536"] {
            assert_eq!(numbered::<u16>(bad, "virtfn"), None, "{bad:?}");
        }
    }

    #[test]
    fn classes_have_six_digits() {
        assert_eq!(class("0x020000").as_deref(), Some("020000"));
        assert_eq!(class("0x0C0330").as_deref(), Some("0c0330"));
        for bad in ["020000", "0x02", "0x0200000", "0x02000g", ""] {
            assert_eq!(class(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn representors_are_told_from_uplinks_and_other_hosts_ports() {
        assert_eq!(vf_port("pf0vf3"), Some(VfPort { pf: Some(0), vf: 3 }));
        assert_eq!(vf_port("pf1vf127"), Some(VfPort { pf: Some(1), vf: 127 }));
        assert_eq!(vf_port("5"), Some(VfPort { pf: None, vf: 5 }));
        for other in ["p0", "pf0", "pf0sf1", "c1pf0vf3", "pf0vf", "pfvf3", "pf0vf3x", ""] {
            assert_eq!(vf_port(other), None, "{other:?}");
        }
        assert_eq!(uplink_port("p12"), Some(12));
        assert_eq!(uplink_port("pf0vf3"), None);
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(lockdown("none [integrity] confidentiality"), Some(Lockdown::Integrity));
        assert_eq!(lockdown("[none] integrity confidentiality"), Some(Lockdown::None));
        assert_eq!(lockdown("none integrity confidentiality"), None);
        assert_eq!(lockdown("[strict]"), None);
    }

    #[test]
    fn the_last_function_of_a_path_owns_the_device() {
        let path = "../../devices/pci0000:00/0000:00:03.0/0000:01:10.1/vfio-dev/vfio0";
        assert_eq!(function_in_path(path), "0000:01:10.1".parse().ok());
        assert_eq!(function_in_path("/devices/virtual/net/br0"), None);
    }
}
