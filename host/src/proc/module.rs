//! `modules.dep`: which kernel modules could be loaded for a network function.

use std::collections::BTreeSet;

use portwright_core::observed::module_name;

/// Folders of the kernel's module tree that hold drivers of network functions or ways to hand a function to a user.
/// `extra`, `updates` and `weak-updates` are where vendors and DKMS put theirs.
const FOLDERS: [&str; 9] = [
    "/drivers/net/",
    "/drivers/infiniband/hw/",
    "/drivers/vfio/",
    "/drivers/uio/",
    "/drivers/vdpa/",
    "/drivers/virtio/",
    "/extra/",
    "/updates/",
    "/weak-updates/",
];

/// Names of those modules, with `_`. A line is `path/to/name.ko.xz: dependencies`.
pub(crate) fn network_modules(modules_dep: &str) -> BTreeSet<String> {
    modules_dep.lines().filter_map(network_module).collect()
}

fn network_module(line: &str) -> Option<String> {
    let (path, _) = line.split_once(':')?;
    // Paths are relative, so the first folder has no slash before it.
    let inside = |folder: &str| path.contains(folder) || path.starts_with(folder.trim_start_matches('/'));
    FOLDERS.into_iter().find(|folder| inside(folder))?;
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    (!name.is_empty()).then(|| module_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_functions_are_found_and_others_are_not() {
        let text = "kernel/drivers/net/ethernet/intel/igbvf/igbvf.ko.xz: kernel/drivers/ptp/ptp.ko.xz\n\
                    kernel/drivers/vfio/pci/vfio-pci.ko.zst: kernel/drivers/vfio/vfio.ko\n\
                    kernel/fs/ext4/ext4.ko:\nextra/igb_uio.ko:\nupdates/dkms/mlx5_core.ko.gz:\nno colon\n:\n\
                    kernel/drivers/net/.ko:\n";
        let found: Vec<String> = network_modules(text).into_iter().collect();
        assert_eq!(found, ["igb_uio", "igbvf", "mlx5_core", "vfio_pci"]);
    }
}
