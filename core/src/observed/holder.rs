//! Who holds a VF. A holder is evidence; whether the VF counts as in use is decided in [`crate::usage`].

use serde::{Deserialize, Serialize};

/// One holder of a VF.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Holder {
    /// kubelet has given it to a pod.
    Pod {
        /// Pod namespace.
        namespace: String,
        /// Pod name.
        name: String,
        /// Container name.
        #[serde(default)]
        container: String,
        /// Resource name (`portwright.dev/dpdk`).
        #[serde(default)]
        resource: String,
    },
    /// Its netdev is in another network namespace.
    Namespace {
        /// Name under `/run/netns`, or `net:[inode]`.
        netns: String,
        /// A process that lives there.
        #[serde(default)]
        pid: Option<u32>,
        /// That process's command (`comm`).
        #[serde(default)]
        command: Option<String>,
        /// The netdev's name there.
        #[serde(default)]
        netdev: Option<String>,
        /// Container ID of the process, from its cgroup.
        #[serde(default)]
        container: Option<String>,
    },
    /// A process holds a device file open.
    File {
        /// What sort of file.
        file: FileKind,
        /// Its path, as `/proc/PID/fd` shows it.
        path: String,
        /// The process.
        pid: u32,
        /// Its command (`comm`).
        #[serde(default)]
        command: String,
        /// Container ID of the process, from its cgroup.
        #[serde(default)]
        container: Option<String>,
        /// Whether the file could be any of several VFs': then each of them counts as held.
        #[serde(default)]
        shared: bool,
    },
}

/// Device files that give a process hold of a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// `/dev/vfio/<group>`.
    VfioGroup,
    /// `/dev/vfio/devices/vfioN` or the anonymous inode of a VFIO device.
    VfioDevice,
    /// `/dev/iommu`.
    Iommufd,
    /// `/dev/infiniband/uverbsN`.
    Uverbs,
    /// `/dev/vhost-vdpa-N`.
    VhostVdpa,
    /// `/dev/uioN`.
    Uio,
}
