//! `spec.pools`: settings of resource pools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of one resource pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// Name of the pool, as VF groups write it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Resource prefix: pods ask for `<prefix>/<name>`. Absent: the agent's prefix, which is `portwright.dev` unless
    /// set on its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 244))]
    pub prefix: Option<String>,
    /// Do not tell kubelet the NUMA node of the devices.
    #[serde(default)]
    pub exclude_topology: bool,
    /// Give pods `/dev/vhost-net` and `/dev/net/tun` with each device.
    #[serde(default)]
    pub vhost_net: bool,
    /// Only VFs with an RDMA device are in the pool, and pods are given it.
    #[serde(default)]
    pub rdma: bool,
    /// Which devices to prefer when several are free: `pack` (fill one PF before the next), `spread` (over PFs) or `none`.
    /// Absent: `pack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Prefer>,
    /// Give pods the device's iommufd character device in place of its VFIO group.
    #[serde(default)]
    pub iommufd: bool,
    /// A device whose PF has no link is unhealthy.
    #[serde(default)]
    pub carrier: bool,
}

/// Which devices to prefer when several are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// Fill one PF before the next.
    Pack,
    /// Spread over PFs.
    Spread,
    /// No preference.
    None,
}
