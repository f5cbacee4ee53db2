//! What NICs a node has, as labels of its Node object, for selectors of policies and pods.
//!
//! | Label below the prefix | Value |
//! | --- | --- |
//! | `nic-pfs` | number of SR-IOV PFs |
//! | `nic-total-vfs` | how many VFs they can have at most |
//! | `nic-driver.<driver>` | number of PFs with this driver |
//! | `nic-device.<vendor>-<device>` | number of PFs with these PCI IDs |
//! | `nic-speed.<Mbit/s>` | number of PFs whose link has this speed now; ports without link are in none |
//!
//! Values are numbers, so that a node affinity can ask with `Gt`. At most [`MOST`] labels are given: of too many the last in
//! the order of the table are left out.

use std::collections::BTreeMap;

use crate::observed::{Observed, Pf};

/// The most labels that a node gets.
pub const MOST: usize = 32;
/// The longest name behind the prefix that a label may have.
const LONGEST_NAME: usize = 63;

/// The labels, by full name (`<prefix>/<name>`).
pub fn labels(observed: &Observed, prefix: &str) -> BTreeMap<String, String> {
    let pfs = &observed.pfs;
    let total: u64 = pfs.iter().map(|pf| u64::from(pf.total_vfs)).sum();
    let mut labels =
        vec![("nic-pfs".to_owned(), pfs.len().to_string()), ("nic-total-vfs".to_owned(), total.to_string())];
    let drivers = counts(pfs, |pf| Some(format!("nic-driver.{}", pf.driver.as_ref()?)));
    let devices = counts(pfs, |pf| Some(format!("nic-device.{}-{}", pf.vendor, pf.device)));
    let speeds = counts(pfs, |pf| Some(format!("nic-speed.{}", pf.netdev()?.speed?)));
    labels.extend(drivers.into_iter().chain(devices).chain(speeds));
    labels
        .into_iter()
        .filter(|(name, _)| is_legal(name))
        .take(MOST)
        .map(|(name, value)| (format!("{prefix}/{name}"), value))
        .collect()
}

/// How many PFs have each name.
fn counts(pfs: &[Pf], name: impl Fn(&Pf) -> Option<String>) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in pfs.iter().filter_map(name) {
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    counts.into_iter().map(|(name, count)| (name, count.to_string())).collect()
}

/// Whether Kubernetes takes it for a label's name (each begins with a letter).
fn is_legal(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = name.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= LONGEST_NAME && ends && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Netdev;

    fn pf(driver: Option<&str>, device: u16, speed: Option<u32>) -> Pf {
        Pf {
            driver: driver.map(str::to_owned),
            vendor: crate::PciId(0x8086),
            device: crate::PciId(device),
            total_vfs: 64,
            netdevs: vec![Netdev { speed, ..Netdev::default() }],
            ..Pf::default()
        }
    }

    fn told(pfs: Vec<Pf>) -> Vec<String> {
        let observed = Observed { pfs, ..Observed::default() };
        labels(&observed, "nic.example").into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn facts_become_numbers() {
        let pfs = vec![
            pf(Some("ice"), 0x159b, Some(25_000)),
            pf(Some("ice"), 0x159b, None),
            pf(None, 0x10c9, Some(1_000)),
        ];
        let wanted = [
            "nic.example/nic-device.8086-10c9=1",
            "nic.example/nic-device.8086-159b=2",
            "nic.example/nic-driver.ice=2",
            "nic.example/nic-pfs=3",
            "nic.example/nic-speed.1000=1",
            "nic.example/nic-speed.25000=1",
            "nic.example/nic-total-vfs=192",
        ];
        assert_eq!(told(pfs), wanted);
        assert_eq!(told(Vec::new()), ["nic.example/nic-pfs=0", "nic.example/nic-total-vfs=0"]);
    }

    #[test]
    fn there_are_never_too_many_and_never_illegal_ones() {
        let many = told((0..100).map(|device| pf(Some("ice"), device, None)).collect());
        assert_eq!(many.len(), MOST);
        assert!(many.contains(&"nic.example/nic-pfs=100".to_owned()), "the sums come first");
        let long = "x".repeat(60);
        for driver in ["", "a b", "ends_", "ü", long.as_str()] {
            assert_eq!(told(vec![pf(Some(driver), 1, None)]).len(), 3, "{driver:?}");
        }
    }
}
