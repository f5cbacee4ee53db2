//! A sysfs tree on disk, made by hand: one igb PF with two VFs, and whatever a test breaks in it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A tree that goes away with the value.
pub struct Tree {
    folder: tempfile::TempDir,
}

/// Where the PF's folder is.
pub const PF: &str = "sys/devices/pci0000:3b/0000:3b:00.0";

impl Tree {
    /// The node of `fixtures/`: `0000:3b:00.0` (ens1f0, igb) with VFs 0 and 1.
    pub fn new() -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        tree.write("proc/sys/kernel/osrelease", "6.12.0\n");
        tree.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        tree.dir("sys/bus/pci/devices");
        for driver in ["igb", "igbvf", "vfio-pci"] {
            tree.dir(format!("sys/bus/pci/drivers/{driver}"));
        }
        tree.function("0000:3b:00.0", "0x10c9", "igb");
        tree.write(&format!("{PF}/sriov_totalvfs"), "7\n");
        tree.write(&format!("{PF}/sriov_drivers_autoprobe"), "1\n");
        tree.write(&format!("{PF}/sriov_vf_device"), "10ca\n");
        tree.netdev("0000:3b:00.0", "ens1f0", "1500\n");
        for (index, address) in ["0000:3b:10.0", "0000:3b:10.2"].iter().enumerate() {
            tree.function(address, "0x10ca", "igbvf");
            tree.netdev(address, &format!("ens1f0v{index}"), "1500\n");
            tree.link(&format!("{PF}/virtfn{index}"), &format!("../{address}"));
            tree.link(&format!("sys/devices/pci0000:3b/{address}/physfn"), "../0000:3b:00.0");
        }
        tree
    }

    /// The root, as `--root` takes it.
    pub fn root(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// A path below the root.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Makes a folder.
    pub fn dir(&self, below: impl AsRef<Path>) {
        std::fs::create_dir_all(self.path(below)).unwrap();
    }

    /// Writes a file.
    pub fn write(&self, below: &str, content: impl AsRef<[u8]>) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Makes a symbolic link.
    pub fn link(&self, below: &str, target: &str) {
        symlink(target, self.path(below)).unwrap();
    }

    fn function(&self, address: &str, device: &str, driver: &str) {
        let folder = format!("sys/devices/pci0000:3b/{address}");
        for (file, content) in
            [("vendor", "0x8086\n"), ("device", device), ("class", "0x020000\n"), ("numa_node", "0\n")]
        {
            self.write(&format!("{folder}/{file}"), content);
        }
        self.link(&format!("{folder}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
        self.link(
            &format!("sys/bus/pci/devices/{address}"),
            &format!("../../../devices/pci0000:3b/{address}"),
        );
    }

    fn netdev(&self, address: &str, name: &str, mtu: &str) {
        let folder = format!("sys/devices/pci0000:3b/{address}/net/{name}");
        for (file, content) in [("mtu", mtu), ("flags", "0x1003\n"), ("type", "1\n"), ("ifindex", "3\n")] {
            self.write(&format!("{folder}/{file}"), content);
        }
        self.write(&format!("{folder}/address"), "02:00:00:00:00:01\n");
        self.dir("sys/class/net");
        self.link(
            &format!("sys/class/net/{name}"),
            &format!("../../devices/pci0000:3b/{address}/net/{name}"),
        );
    }
}
