//! Class devices of functions: which PCI function a `vfio0`, `uverbs3`, `uio0` or `vhost-vdpa-1` belongs to, and the vDPA
//! devices by their own bus (they may have any name).

use std::collections::BTreeMap;

use portwright_core::PciAddress;

use super::functions::Functions;
use crate::root::{Dir, EntryKind, Root};
use crate::sysfs::parse;

/// Owners of class devices, by the device's name.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// `sys/class/vfio-dev`.
    pub(crate) vfio: BTreeMap<String, PciAddress>,
    /// `sys/class/infiniband_verbs`.
    pub(crate) verbs: BTreeMap<String, PciAddress>,
    /// `sys/class/uio`.
    pub(crate) uio: BTreeMap<String, PciAddress>,
    /// `sys/bus/vdpa/devices`.
    pub(crate) vdpa: BTreeMap<String, PciAddress>,
    /// `vhost-vdpa-N` inside vDPA devices.
    pub(crate) vhost_vdpa: BTreeMap<String, PciAddress>,
}

impl Children {
    /// Reads them; a class that does not exist is empty.
    pub(crate) fn read(root: &Root) -> Children {
        let mut children = Children {
            vfio: owners(root, "sys/class/vfio-dev"),
            verbs: owners(root, "sys/class/infiniband_verbs"),
            uio: owners(root, "sys/class/uio"),
            vdpa: owners(root, "sys/bus/vdpa/devices"),
            vhost_vdpa: BTreeMap::new(),
        };
        for (name, owner) in &children.vdpa {
            let inside = root.names(format!("sys/bus/vdpa/devices/{name}")).unwrap_or_default();
            let files = inside.into_iter().filter(|name| name.starts_with("vhost-vdpa-"));
            children.vhost_vdpa.extend(files.map(|file| (file, *owner)));
        }
        children
    }

    /// Adds vDPA devices to the functions that own them.
    pub(crate) fn add_vdpa(&self, functions: &mut Functions) {
        for (name, owner) in &self.vdpa {
            if let Some(function) = functions.get_mut(owner)
                && !function.vdpa.contains(name)
            {
                function.vdpa.push(name.clone());
                function.vdpa.sort();
            }
        }
    }
}

fn owners(root: &Root, class: &str) -> BTreeMap<String, PciAddress> {
    let Ok(mut dir) = root.dir(class) else { return BTreeMap::new() };
    let mut names = Vec::new();
    // A class that cannot be listed owns nothing that can be attributed: its files then count for every candidate.
    let listed = dir.scan(|name, kind| {
        if kind != EntryKind::File {
            names.extend(std::str::from_utf8(name).map(str::to_owned));
        }
    });
    if listed.is_err() {
        return BTreeMap::new();
    }
    names.into_iter().filter_map(|name| owner(&dir, &name).map(|owner| (name, owner))).collect()
}

/// The function in the device's own path, else the one that its `device` link names.
fn owner(class: &Dir<'_>, name: &str) -> Option<PciAddress> {
    let in_path = |path: std::path::PathBuf| path.to_str().and_then(parse::function_in_path);
    let by_path = class.link(name).ok().and_then(in_path);
    by_path.or_else(|| class.link(&format!("{name}/device")).ok().and_then(in_path))
}
