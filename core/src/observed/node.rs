//! What concerns the node as a whole.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::fact::Fact;

/// Facts about kernel and privileges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Kernel release, as `uname -r` prints it.
    #[serde(default)]
    pub kernel: String,
    /// Seed of stable MAC addresses: lower-case hex of a SHA-256 hash of the machine-id with a prefix of its own
    /// ([`crate::mac::seed`]). The machine-id itself is not shown.
    #[serde(default)]
    pub mac_seed: Option<String>,
    /// Whether an IOMMU translates for devices (`/sys/class/iommu` is not empty).
    #[serde(default)]
    pub iommu: Fact<bool>,
    /// Kernel lockdown (`/sys/kernel/security/lockdown`).
    #[serde(default)]
    pub lockdown: Fact<Lockdown>,
    /// PCI drivers that are registered now (`/sys/bus/pci/drivers`).
    #[serde(default)]
    pub drivers: BTreeSet<String>,
    /// Kernel modules that could be loaded for a network function (names with `_`), from `modules.dep` of the running
    /// kernel: network, VFIO, UIO and vDPA drivers only.
    #[serde(default)]
    pub modules: BTreeSet<String>,
    /// Whether there is a `modprobe` that the agent may run.
    #[serde(default)]
    pub modprobe: bool,
    /// Content of our udev rule file, if it is there.
    #[serde(default)]
    pub udev_rule: Option<String>,
    /// Whether the holders of VFs could all be seen.
    #[serde(default)]
    pub sight: Sight,
}

/// Kernel lockdown mode, see `man 7 kernel_lockdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lockdown {
    /// Not locked down.
    None,
    /// User space may not modify the running kernel.
    Integrity,
    /// Nor extract confidential information from it.
    Confidentiality,
}

/// Whether everything that a decision needs was visible: all holders of VFs, or all that the management path is found by. If
/// not, no VF counts as idle, and every port may be the one that the node is reached over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "seen")]
pub enum Sight {
    /// All of it was read.
    #[default]
    Complete,
    /// Something was hidden.
    Partial {
        /// What was missing, as a sentence (`/proc/1/fd cannot be read: …`).
        why: String,
    },
}

impl NodeFacts {
    /// Whether a driver of this name is registered now. `vfio-pci` and `vfio_pci` are one name.
    pub fn driver_loaded(&self, driver: &str) -> bool {
        self.drivers.iter().any(|name| module_name(name) == module_name(driver))
    }

    /// Whether a module of this name could be loaded.
    pub fn module_available(&self, driver: &str) -> bool {
        self.modules.contains(&module_name(driver))
    }
}

/// A driver's name as modules are named: `-` becomes `_`.
pub fn module_name(driver: &str) -> String {
    driver.replace('-', "_")
}
