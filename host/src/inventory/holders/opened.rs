//! Which open files give a process hold of a PCI function.

use portwright_core::PciAddress;

use crate::sysfs::parse;

/// An open file that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// `/dev/vfio/<group>`.
    Group(u32),
    /// `/dev/vfio/devices/<name>`.
    VfioDevice(String),
    /// `anon_inode:[vfio-device]`, with its function where the kernel says it (Linux 6.18, `fdinfo`).
    AnonymousVfio(Option<PciAddress>),
    /// `/dev/iommu`.
    Iommufd,
    /// `/dev/infiniband/<name>`.
    Uverbs(String),
    /// `/dev/<name>` of a vDPA device for a user.
    VhostVdpa(String),
    /// `/dev/<name>` of a UIO device.
    Uio(String),
}

/// Tells what an open file is from the text that `/proc/<pid>/fd` shows. A process in a container or a chroot shows its
/// own path, so only what follows the last `/dev/` counts.
pub(crate) fn classify(path: &str) -> Option<Opened> {
    if let Some(inode) = path.strip_prefix("anon_inode:") {
        return match inode {
            "[vfio-device]" => Some(Opened::AnonymousVfio(None)),
            other if other.starts_with("[iommufd") => Some(Opened::Iommufd),
            _ => None,
        };
    }
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let (_, device) = path.rsplit_once("/dev/")?;
    if device == "iommu" {
        return Some(Opened::Iommufd);
    }
    if let Some(vfio) = device.strip_prefix("vfio/") {
        if let Some(name) = vfio.strip_prefix("devices/") {
            return Some(Opened::VfioDevice(name.to_owned()));
        }
        // `/dev/vfio/vfio` is the container; it holds a device only together with a group.
        return parse::decimal(vfio.strip_prefix("noiommu-").unwrap_or(vfio)).map(Opened::Group);
    }
    if let Some(name) = device.strip_prefix("infiniband/") {
        return parse::numbered::<u32>(name, "uverbs").map(|_| Opened::Uverbs(name.to_owned()));
    }
    if parse::numbered::<u32>(device, "vhost-vdpa-").is_some() {
        return Some(Opened::VhostVdpa(device.to_owned()));
    }
    parse::numbered::<u32>(device, "uio").map(|_| Opened::Uio(device.to_owned()))
}

/// The inode of a network namespace in a text such as `net:[4026531840]`.
pub(crate) fn namespace(text: &str) -> Option<u64> {
    parse::decimal(text.strip_prefix("net:[")?.strip_suffix(']')?)
}

/// The function of a VFIO device in its `fdinfo`.
pub(crate) fn function_in_fdinfo(text: &str) -> Option<PciAddress> {
    let path = text.lines().find_map(|line| line.strip_prefix("vfio-device-syspath:"))?;
    parse::function_in_path(path.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_a_function_are_known_by_their_path() {
        let name = |text: &str| text.to_owned();
        let cases = [
            ("/dev/vfio/12", Some(Opened::Group(12))),
            ("/dev/vfio/noiommu-3", Some(Opened::Group(3))),
            ("/dev/vfio/12 (deleted)", Some(Opened::Group(12))),
            ("/var/lib/chroot/dev/vfio/7", Some(Opened::Group(7))),
            ("/dev/vfio/vfio", None),
            ("/dev/vfio/devices/vfio4", Some(Opened::VfioDevice(name("vfio4")))),
            ("anon_inode:[vfio-device]", Some(Opened::AnonymousVfio(None))),
            ("anon_inode:[eventfd]", None),
            ("anon_inode:[iommufd_fault]", Some(Opened::Iommufd)),
            ("/dev/iommu", Some(Opened::Iommufd)),
            ("/dev/infiniband/uverbs0", Some(Opened::Uverbs(name("uverbs0")))),
            ("/dev/infiniband/rdma_cm", None),
            ("/dev/vhost-vdpa-1", Some(Opened::VhostVdpa(name("vhost-vdpa-1")))),
            ("/dev/vhost-net", None),
            ("/dev/uio0", Some(Opened::Uio(name("uio0")))),
            ("/dev/uinput", None),
            ("/home/vfio/12", None),
            ("socket:[123]", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(classify(path), expected, "{path}");
        }
    }

    #[test]
    fn namespaces_and_fdinfo_are_parsed() {
        assert_eq!(namespace("net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(namespace("mnt:[4026531840]"), None);
        assert_eq!(namespace("net:[x]"), None);
        let fdinfo = "pos:\t0\nflags:\t02000002\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:02.0/0000:3b:01.1\n";
        assert_eq!(function_in_fdinfo(fdinfo), "0000:3b:01.1".parse().ok());
        assert_eq!(function_in_fdinfo("pos:\t0\n"), None);
    }
}
