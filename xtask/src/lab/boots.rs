//! The machines that the lab boots.
//!
//! Which scenarios run in which boot is the guest program's knowledge (`lab-guest --list BOOT`).

use std::time::Duration;

/// One boot of the lab.
#[derive(Debug)]
pub(super) struct Boot {
    /// Its name on the guest's kernel command line and in log files.
    pub(super) name: &'static str,
    /// For people.
    pub(super) about: &'static str,
    /// Whether the machine has an IOMMU.
    pub(super) iommu: bool,
    /// Number of Intel 82576 cards, each with one port and up to 7 VFs.
    pub(super) cards: u8,
    /// Whether the cards are on one wire; otherwise each is on its own.
    pub(super) one_wire: bool,
    /// Further words on the kernel command line.
    pub(super) kernel_args: &'static [&'static str],
    /// When it is stopped.
    pub(super) limit: Duration,
}

/// Every scenario that needs VFs and an IOMMU.
pub(super) const IOMMU: Boot = Boot {
    name: "iommu",
    about: "3 igb cards, IOMMU on",
    iommu: true,
    cards: 3,
    one_wire: false,
    kernel_args: &["intel_iommu=on", "iommu=pt"],
    limit: Duration::from_secs(1200),
};
/// The same hardware with the IOMMU left off, netdevsim for devlink, and cards that hear each other for Open vSwitch.
pub(super) const PLAIN: Boot = Boot {
    name: "plain",
    about: "2 igb cards on one wire, IOMMU off, netdevsim",
    iommu: true,
    cards: 2,
    one_wire: true,
    kernel_args: &["intel_iommu=off"],
    limit: Duration::from_secs(600),
};
/// The guided tour.
pub(super) const DEMO: Boot = Boot { name: "demo", cards: 2, about: "2 igb cards, IOMMU on", ..IOMMU };
/// Nothing but a way to user space.
pub(super) const PROBE: Boot = Boot {
    name: "probe",
    about: "does KVM work",
    iommu: false,
    cards: 0,
    one_wire: false,
    kernel_args: &[],
    limit: IOMMU.limit,
};

impl Boot {
    /// QEMU's arguments for the cards: one root port each, since igb's VFs need ARI.
    pub(super) fn device_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut device = |text: String| args.extend(["-device".to_owned(), text]);
        if self.iommu {
            device("intel-iommu,intremap=on".to_owned());
        }
        for card in 1..=self.cards {
            device(format!("pcie-root-port,id=port{card},slot={card},chassis={card}"));
            // The first card has a firmware index, as on-board NICs do.
            let index = if card == 1 { ",acpi-index=1" } else { "" };
            device(format!("igb,bus=port{card},netdev=net{card},mac=52:54:00:00:00:{card:02x}{index}"));
        }
        let hub = |card| if self.one_wire { 1 } else { card };
        let nets = (1..=self.cards).map(|card| format!("hubport,hubid={},id=net{card}", hub(card)));
        nets.flat_map(|net| ["-netdev".to_owned(), net]).chain(args).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{IOMMU, PLAIN, PROBE};

    #[test]
    fn each_card_has_its_own_root_port_and_address() {
        let args = IOMMU.device_args().join(" ");
        for card in 1..=IOMMU.cards {
            assert!(
                args.contains(&format!("igb,bus=port{card},netdev=net{card},mac=52:54:00:00:00:0{card}")),
                "{args}"
            );
        }
        assert!(PROBE.device_args().is_empty());
    }

    #[test]
    fn cards_hear_each_other_only_on_one_wire() {
        let hubs = |boot: &super::Boot| {
            let args = boot.device_args();
            let on = args.iter().filter_map(|arg| arg.strip_prefix("hubport,hubid=")?.chars().next());
            on.collect::<String>()
        };
        assert_eq!((hubs(&IOMMU).as_str(), hubs(&PLAIN).as_str()), ("123", "11"));
    }
}
