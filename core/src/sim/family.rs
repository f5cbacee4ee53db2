//! How NIC families differ, as the simulator needs it. Sources: Linux 6.12 driver sources, and for igb measurements on
//! the driver itself.

use crate::id::PciId;
use crate::profile::VfAttribute;

/// A NIC family that the simulator can play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Intel igb: no e-switch, PF must be up when VFs probe, rates only with carrier.
    Igb,
    /// Intel ice: e-switch mode only without VFs.
    Ice,
    /// NVIDIA mlx5: e-switch mode with VFs that no driver has.
    Mlx5,
    /// NVIDIA mlx4: no `sriov_configure` callback.
    Mlx4,
    /// Chelsio cxgb4: the PFs that make VFs have no netdev.
    Cxgb4,
    /// Anything else that behaves as most do.
    Generic,
}

/// When a driver takes another e-switch mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EswitchRule {
    /// It has no modes.
    Never,
    /// Only while there is no VF.
    WithoutVfs,
    /// While no VF has a driver.
    VfsUnbound,
}

/// What is different about a family.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// PF driver.
    pub pf_driver: &'static str,
    /// The kernel's driver for its VFs.
    pub vf_driver: &'static str,
    /// Vendor, PF and VF device ID.
    pub ids: (PciId, PciId, PciId),
    /// Whether `sriov_numvfs` can be written.
    pub configurable: bool,
    /// Whether the PF has a netdev.
    pub netdev: bool,
    /// E-switch mode.
    pub eswitch: EswitchRule,
    /// Whether an administrative MAC reaches the VF's netdev at once instead of at probe.
    pub mac_at_once: bool,
    /// Whether a VF that probes while the PF is down ignores its administrative MAC.
    pub probe_needs_pf_up: bool,
    /// Whether rates are refused without carrier.
    pub rate_needs_carrier: bool,
    /// Whether VFs keep their traffic while the PF's MTU is changed; else the port is reset under them.
    pub mtu_keeps_vfs: bool,
    /// Whether a VF MTU above the PF's is refused (else it is taken and frames drop).
    pub checks_vf_mtu: bool,
    /// VF attributes that are refused.
    pub refuses: &'static [VfAttribute],
    /// Those that are refused in switchdev mode.
    pub refuses_in_switchdev: &'static [VfAttribute],
}

impl Family {
    /// All of them.
    pub const ALL: &'static [Family] =
        &[Family::Igb, Family::Ice, Family::Mlx5, Family::Cxgb4, Family::Mlx4, Family::Generic];

    /// The family that a PF driver belongs to.
    pub fn of_driver(driver: &str) -> Family {
        Family::ALL
            .iter()
            .copied()
            .find(|family| family.traits().pf_driver == driver)
            .unwrap_or(Family::Generic)
    }

    /// What is different about it.
    pub fn traits(self) -> Traits {
        let plain = Traits {
            pf_driver: "simnic",
            vf_driver: "simnicvf",
            ids: (PciId(0x1234), PciId(0x0001), PciId(0x0002)),
            configurable: true,
            netdev: true,
            eswitch: EswitchRule::Never,
            mac_at_once: false,
            probe_needs_pf_up: false,
            rate_needs_carrier: false,
            mtu_keeps_vfs: false,
            checks_vf_mtu: true,
            refuses: &[],
            refuses_in_switchdev: &[],
        };
        match self {
            Family::Igb => Traits {
                pf_driver: "igb",
                vf_driver: "igbvf",
                ids: (PciId(0x8086), PciId(0x10c9), PciId(0x10ca)),
                probe_needs_pf_up: true,
                rate_needs_carrier: true,
                checks_vf_mtu: false,
                refuses: &[VfAttribute::VlanDot1ad, VfAttribute::LinkState, VfAttribute::MinRate],
                ..plain
            },
            Family::Ice => Traits {
                pf_driver: "ice",
                vf_driver: "iavf",
                ids: (PciId(0x8086), PciId(0x159b), PciId(0x1889)),
                eswitch: EswitchRule::WithoutVfs,
                mtu_keeps_vfs: true,
                mac_at_once: true,
                refuses_in_switchdev: &[VfAttribute::Trust],
                ..plain
            },
            Family::Mlx5 => Traits {
                pf_driver: "mlx5_core",
                vf_driver: "mlx5_core",
                ids: (PciId(0x15b3), PciId(0x1017), PciId(0x1018)),
                eswitch: EswitchRule::VfsUnbound,
                mtu_keeps_vfs: true,
                refuses_in_switchdev: &[VfAttribute::Vlan, VfAttribute::VlanDot1ad],
                ..plain
            },
            Family::Mlx4 => Traits {
                pf_driver: "mlx4_core",
                vf_driver: "mlx4_core",
                ids: (PciId(0x15b3), PciId(0x1003), PciId(0x1004)),
                configurable: false,
                ..plain
            },
            Family::Cxgb4 => Traits {
                pf_driver: "cxgb4",
                vf_driver: "cxgb4vf",
                ids: (PciId(0x1425), PciId(0x5401), PciId(0x5801)),
                netdev: false,
                ..plain
            },
            Family::Generic => plain,
        }
    }
}
