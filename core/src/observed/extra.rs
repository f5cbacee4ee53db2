//! What only pools ask for: sub-functions, vDPA devices, and details of single functions. Few nodes have any of it.

use serde::{Deserialize, Serialize};

use crate::id::PciAddress;

/// An auxiliary device of a PCI function (`mlx5_core.sf.4`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subfunction {
    /// Name on the auxiliary bus.
    pub name: String,
    /// The PCI function that it is a part of.
    pub parent: PciAddress,
    /// `sfnum`, which is not the number in its name.
    #[serde(default)]
    pub number: Option<u32>,
    /// Its netdev in the host's network namespace.
    #[serde(default)]
    pub netdev: Option<String>,
    /// Link type of that netdev (`ARPHRD_*`).
    #[serde(default)]
    pub link_type: Option<u16>,
    /// RDMA devices.
    #[serde(default)]
    pub rdma: Vec<String>,
}

impl Subfunction {
    /// The middle part of its name (`sf`).
    pub fn kind(&self) -> Option<&str> {
        self.name.rsplit('.').nth(1)
    }
}

/// A vDPA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VdpaDevice {
    /// Name on the vDPA bus.
    pub name: String,
    /// The PCI function that it belongs to.
    pub parent: PciAddress,
    /// Bound driver (`vhost_vdpa`, `virtio_vdpa`).
    #[serde(default)]
    pub driver: Option<String>,
}

/// Details of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDetail {
    /// PCI address.
    pub address: PciAddress,
    /// `acpi_index` of a VF.
    #[serde(default)]
    pub acpi_index: Option<u32>,
    /// Partition key at index 0 of port 1 of its first RDMA device, as sysfs writes it (`0xffff`); InfiniBand only.
    #[serde(default)]
    pub p_key: Option<String>,
    /// DDP package that is loaded (devlink's running `fw.app.name`).
    #[serde(default)]
    pub ddp: Option<String>,
}
