//! Makes folders that look like a node's. Written after sysfs of Linux 6.12 with ice; no file was captured.
#![allow(
    clippy::disallowed_methods,
    clippy::integer_division,
    dead_code,
    unreachable_pub,
    reason = "a test support module writes its own folders, and not every test uses all of it"
)]

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder that stands for a node's `/`.
#[derive(Debug, Clone)]
pub struct TreeBuilder {
    pub root: PathBuf,
    next_ifindex: Cell<usize>,
}

/// One function.
#[derive(Debug, Clone)]
pub struct FunctionSpec<'a> {
    pub address: &'a str,
    pub vendor: &'a str,
    pub device: &'a str,
    pub driver: Option<&'a str>,
    pub netdev: Option<&'a str>,
    pub iommu_group: Option<u32>,
}

impl TreeBuilder {
    /// The folders that every node has.
    pub fn new(root: &Path) -> io::Result<TreeBuilder> {
        for folder in
            ["sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/net", "sys/class/iommu", "etc"]
        {
            fs::create_dir_all(root.join(folder))?;
        }
        let tree = TreeBuilder { root: root.to_owned(), next_ifindex: Cell::new(2) };
        tree.file("proc/sys/kernel/osrelease", "6.12.95-amd64\n")?;
        tree.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
        tree.file("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")?;
        tree.file("sys/class/iommu/dmar0/address", "fed90000\n")?;
        Ok(tree)
    }

    /// Writes a file, its folders first.
    pub fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)
    }

    /// Makes a link, its folders first.
    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        symlink(target, path)
    }

    /// Removes a file or link.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    /// Where a function's files are.
    pub fn function_path(address: &str) -> PathBuf {
        Path::new("sys/devices/pci0000:00").join(address)
    }

    /// A PCI function with its driver, netdev and IOMMU group.
    pub fn function(&self, spec: &FunctionSpec<'_>) -> io::Result<PathBuf> {
        let path = Self::function_path(spec.address);
        let file = |name: &str, content: String| self.file(path.join(name), content);
        file("vendor", format!("0x{}\n", spec.vendor))?;
        file("device", format!("0x{}\n", spec.device))?;
        file("class", "0x020000\n".to_owned())?;
        file("numa_node", "0\n".to_owned())?;
        file("driver_override", "(null)\n".to_owned())?;
        self.link(
            Path::new("sys/bus/pci/devices").join(spec.address),
            Path::new("../../../devices/pci0000:00").join(spec.address),
        )?;
        if let Some(driver) = spec.driver {
            fs::create_dir_all(self.root.join("sys/bus/pci/drivers").join(driver))?;
            self.link(path.join("driver"), Path::new("../../../bus/pci/drivers").join(driver))?;
        }
        if let Some(group) = spec.iommu_group {
            fs::create_dir_all(self.root.join("sys/kernel/iommu_groups").join(group.to_string()))?;
            self.link(path.join("iommu_group"), format!("../../../kernel/iommu_groups/{group}"))?;
        }
        if let Some(netdev) = spec.netdev {
            self.netdev(spec.address, netdev)?;
        }
        Ok(path)
    }

    /// A netdev of a function.
    pub fn netdev(&self, address: &str, name: &str) -> io::Result<PathBuf> {
        let path = Self::function_path(address).join("net").join(name);
        let index = self.next_ifindex.replace(self.next_ifindex.get() + 1);
        self.netdev_files(&path, index)?;
        self.link(path.join("device"), format!("../../../{address}"))?;
        self.link(
            Path::new("sys/class/net").join(name),
            format!("../../devices/pci0000:00/{address}/net/{name}"),
        )?;
        Ok(path)
    }

    /// A netdev without hardware.
    pub fn virtual_netdev(&self, name: &str, devtype: Option<&str>) -> io::Result<PathBuf> {
        let path = Path::new("sys/devices/virtual/net").join(name);
        let index = self.next_ifindex.replace(self.next_ifindex.get() + 1);
        self.netdev_files(&path, index)?;
        let devtype = devtype.map(|devtype| format!("DEVTYPE={devtype}\n")).unwrap_or_default();
        self.file(path.join("uevent"), format!("{devtype}INTERFACE={name}\nIFINDEX={index}\n"))?;
        self.link(Path::new("sys/class/net").join(name), format!("../../devices/virtual/net/{name}"))?;
        Ok(path)
    }

    fn netdev_files(&self, path: &Path, index: usize) -> io::Result<()> {
        let file = |name: &str, content: String| self.file(path.join(name), content);
        file("address", format!("52:54:00:00:{:02x}:{:02x}\n", index / 256 % 256, index % 256))?;
        file("ifindex", format!("{index}\n"))?;
        file("mtu", "1500\n".to_owned())?;
        file("flags", "0x1003\n".to_owned())?;
        file("carrier", "1\n".to_owned())?;
        file("speed", "25000\n".to_owned())?;
        file("type", "1\n".to_owned())?;
        file("phys_switch_id", String::new())?;
        file("phys_port_name", String::new())
    }

    /// What makes a function a PF, without VFs yet.
    pub fn sriov(&self, address: &str, total: &str, vf_device: &str) -> io::Result<()> {
        let path = Self::function_path(address);
        self.file(path.join("sriov_totalvfs"), format!("{total}\n"))?;
        self.file(path.join("sriov_numvfs"), "never read\n")?;
        self.file(path.join("sriov_vf_device"), format!("{vf_device}\n"))?;
        self.file(path.join("sriov_drivers_autoprobe"), "1\n")
    }

    /// Ties a VF to its PF.
    pub fn vf_of(&self, pf: &str, index: u32, vf: &str) -> io::Result<()> {
        self.link(Self::function_path(pf).join(format!("virtfn{index}")), format!("../{vf}"))?;
        self.link(Self::function_path(vf).join("physfn"), format!("../{pf}"))
    }
}

/// Address of a generated PF.
pub fn pf_address(pf: u32) -> String {
    format!("{:04x}:3b:00.0", pf)
}

/// Address of a generated VF.
pub fn vf_address(pf: u32, vf: u32) -> String {
    let number = vf + 8;
    format!("{:04x}:{:02x}:{:02x}.{:x}", pf, 0x3b + number / 256, number / 8 % 32, number % 8)
}

/// A node with `pfs` PFs of `vfs` VFs each, all with netdevs and IOMMU groups of their own.
pub fn generate(root: &Path, pfs: u32, vfs: u32) -> io::Result<TreeBuilder> {
    let tree = TreeBuilder::new(root)?;
    for pf in 0..pfs {
        let address = pf_address(pf);
        tree.function(&FunctionSpec {
            address: &address,
            vendor: "8086",
            device: "1592",
            driver: Some("ice"),
            netdev: Some(&format!("ens{pf}f0")),
            iommu_group: Some(pf),
        })?;
        tree.sriov(&address, "256", "1889")?;
        for vf in 0..vfs {
            let vf_name = vf_address(pf, vf);
            tree.function(&FunctionSpec {
                address: &vf_name,
                vendor: "8086",
                device: "1889",
                driver: Some("iavf"),
                netdev: Some(&format!("ens{pf}f0v{vf}")),
                iommu_group: Some(1000 + pf * 1000 + vf),
            })?;
            tree.vf_of(&address, vf, &vf_name)?;
        }
    }
    Ok(tree)
}
