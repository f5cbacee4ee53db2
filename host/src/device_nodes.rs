//! Which device nodes a container needs for a function, read from sysfs at the moment it is asked: IOMMU groups change over
//! reboots, RDMA and UIO numbers with every binding.

use portwright_core::PciAddress;
use portwright_core::pools::answer::{Node, Resolved};
use portwright_core::pools::spec::Vdpa;

use crate::root::{Dir, ReadError, Root};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The function, or a sub-function's parent.
    pub address: PciAddress,
    /// Name of the sub-function, if it is one.
    pub aux: Option<&'a str>,
    /// The driver that it was last seen with; another one now is an error.
    pub driver: Option<&'a str>,
    /// With RDMA character devices.
    pub rdma: bool,
    /// With vhost-net.
    pub vhost_net: bool,
    /// With this vDPA device.
    pub vdpa: Option<(Vdpa, &'a str)>,
    /// With iommufd's device file in place of the VFIO group.
    pub iommufd: bool,
}

/// Why a device cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// The function or sub-function has gone.
    #[error("it is not there any more")]
    Gone {
        /// What was tried.
        #[source]
        source: ReadError,
    },
    /// It was bound to another driver since it was verified.
    #[error("its driver is now {}, {} was verified", found.as_deref().unwrap_or("none"), verified.as_deref().unwrap_or("none"))]
    Driver {
        /// Driver now.
        found: Option<String>,
        /// Driver when it was last looked at.
        verified: Option<String>,
    },
    /// Something that the pool promises is not there.
    #[error("it has {missing} no more")]
    Missing {
        /// What, with its article.
        missing: &'static str,
    },
}

/// What a container needs, and the netdevs that the function has in the host's network namespace now.
pub fn resolve(root: &Root, question: &Question<'_>) -> Result<(Resolved, Vec<String>), NodesError> {
    let Question { address, aux, driver, rdma, vhost_net, vdpa, iommufd } = *question;
    let folder = format!("sys/bus/pci/devices/{address}");
    let function = root.dir(&folder).map_err(|source| NodesError::Gone { source })?;
    let found = function.link_name("driver").ok();
    if found.as_deref() != driver {
        return Err(NodesError::Driver { found, verified: driver.map(str::to_owned) });
    }
    let folder = aux.map_or(folder.clone(), |aux| format!("{folder}/{aux}"));
    let own = root.dir(&folder).map_err(|source| NodesError::Gone { source })?;
    let mut resolved = Resolved::default();
    match driver {
        Some(driver) if driver.contains("vfio") => vfio(root, &function, &folder, iommufd, &mut resolved)?,
        Some("uio" | "igb_uio") => uio(root, &folder, &mut resolved)?,
        Some(_) | None => {}
    }
    if rdma {
        infiniband(root, &own, &folder, &mut resolved)?;
    }
    if vhost_net {
        vhost(root, &mut resolved);
    }
    if let Some((kind, name)) = vdpa {
        vdpa_file(root, kind, name, &mut resolved)?;
    }
    Ok((resolved, root.names(format!("{folder}/net")).unwrap_or_default()))
}

fn vfio(
    root: &Root,
    function: &Dir<'_>,
    folder: &str,
    iommufd: bool,
    resolved: &mut Resolved,
) -> Result<(), NodesError> {
    if iommufd {
        let names = root.names(format!("{folder}/vfio-dev")).unwrap_or_default();
        let device = names.first().ok_or(NodesError::Missing { missing: "a VFIO device (`vfio-dev`)" })?;
        let path = format!("/dev/vfio/devices/{device}");
        resolved.tell("vfio", "mount", "/dev/iommu");
        resolved.tell("vfio", "dev-mount", &path);
        resolved.nodes.extend([Node::same("/dev/iommu"), Node::same(path)]);
        return Ok(());
    }
    let group = function.link_name("iommu_group").ok();
    let group = group.ok_or(NodesError::Missing { missing: "an IOMMU group" })?;
    let path = format!("/dev/vfio/{group}");
    resolved.tell("vfio", "mount", "/dev/vfio/vfio");
    resolved.tell("vfio", "dev-mount", &path);
    let without_iommu = root
        .dir(format!("sys/kernel/iommu_groups/{group}"))
        .and_then(|dir| dir.attribute("name"))
        .is_ok_and(|name| name == "vfio-noiommu");
    let host = if without_iommu { format!("/dev/vfio/noiommu-{group}") } else { path.clone() };
    resolved.nodes.extend([Node::same("/dev/vfio/vfio"), Node { host, container: path }]);
    Ok(())
}

fn uio(root: &Root, folder: &str, resolved: &mut Resolved) -> Result<(), NodesError> {
    let names = root.names(format!("{folder}/uio")).unwrap_or_default();
    let name = names.first().ok_or(NodesError::Missing { missing: "a UIO device" })?;
    let path = format!("/dev/{name}");
    resolved.tell("uio", "mount", &path);
    resolved.nodes.push(Node::same(path));
    Ok(())
}

/// All character devices of the function's RDMA devices.
fn infiniband(root: &Root, own: &Dir<'_>, folder: &str, resolved: &mut Resolved) -> Result<(), NodesError> {
    let names = |class: &str| {
        own.dir(class).map(drop).ok()?;
        root.names(format!("{folder}/{class}")).ok()
    };
    resolved.rdma = names("infiniband").unwrap_or_default();
    let first = resolved.rdma.first().cloned();
    let first = first.ok_or(NodesError::Missing { missing: "an RDMA device in the host's namespace" })?;
    resolved.tell("rdma", "rdma_dev", first);
    for (class, kind) in [
        ("infiniband_cm", "ucm"),
        ("infiniband_mad", "issm"),
        ("infiniband_mad", "umad"),
        ("infiniband_verbs", "uverbs"),
    ] {
        for name in names(class).unwrap_or_default().into_iter().filter(|name| name.starts_with(kind)) {
            let path = format!("/dev/infiniband/{name}");
            if kind != "ucm" {
                resolved.tell("rdma", kind, &path);
            }
            resolved.nodes.push(Node::same(path));
        }
    }
    if root.join("dev/infiniband/rdma_cm").exists() {
        resolved.tell("rdma", "rdma_cm", "/dev/infiniband/rdma_cm");
        resolved.nodes.push(Node::same("/dev/infiniband/rdma_cm"));
    }
    Ok(())
}

/// Both nodes or none: a container with one of them can do nothing.
fn vhost(root: &Root, resolved: &mut Resolved) {
    let (net, tun) = ("/dev/vhost-net", "/dev/net/tun");
    if [net, tun].iter().all(|path| root.join(path.trim_start_matches('/')).exists()) {
        resolved.tell("vhost", "net-mount", net);
        resolved.tell("vhost", "tun-mount", tun);
        resolved.nodes.extend([Node::same(net), Node::same(tun)]);
    }
}

fn vdpa_file(root: &Root, kind: Vdpa, name: &str, resolved: &mut Resolved) -> Result<(), NodesError> {
    resolved.info.entry("vdpa".to_owned()).or_default();
    match kind {
        Vdpa::Virtio => Ok(()),
        Vdpa::Vhost => {
            let inside = root.names(format!("sys/bus/vdpa/devices/{name}")).unwrap_or_default();
            let file = inside.into_iter().find(|file| file.starts_with("vhost-vdpa-"));
            let file = file.ok_or(NodesError::Missing { missing: "a vhost-vDPA device" })?;
            let path = format!("/dev/{file}");
            resolved.tell("vdpa", "mount", &path);
            resolved.vdpa_path = Some(path.clone());
            resolved.nodes.push(Node::same(path));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test makes a tree of its own")]

    use super::*;

    #[test]
    fn iommufd_takes_the_place_of_the_group() {
        let tree = tempfile::tempdir().unwrap();
        let device = tree.path().join("sys/bus/pci/devices/0000:3b:02.0");
        std::fs::create_dir_all(device.join("vfio-dev/vfio3")).unwrap();
        std::fs::create_dir_all(tree.path().join("sys/bus/pci/drivers/vfio-pci")).unwrap();
        std::fs::create_dir_all(tree.path().join("sys/kernel/iommu_groups/17")).unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, device.join(name)).unwrap();
        link("../../drivers/vfio-pci", "driver");
        link("../../../../kernel/iommu_groups/17", "iommu_group");
        let question = Question {
            address: "0000:3b:02.0".parse().unwrap(),
            aux: None,
            driver: Some("vfio-pci"),
            rdma: false,
            vhost_net: false,
            vdpa: None,
            iommufd: true,
        };
        let hosts = |question: &Question<'_>| {
            let (resolved, _) = resolve(&Root::new(tree.path()), question).unwrap();
            resolved.nodes.into_iter().map(|node| node.host).collect::<Vec<_>>()
        };
        assert_eq!(hosts(&question), ["/dev/iommu", "/dev/vfio/devices/vfio3"]);
        assert_eq!(hosts(&Question { iommufd: false, ..question }), ["/dev/vfio/vfio", "/dev/vfio/17"]);
        std::fs::remove_dir(device.join("vfio-dev/vfio3")).unwrap();
        let refused = resolve(&Root::new(tree.path()), &question).unwrap_err();
        assert!(refused.to_string().contains("vfio-dev"), "{refused}");
    }
}
