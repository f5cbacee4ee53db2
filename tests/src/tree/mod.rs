//! Nodes as folders: a few lines of text become a tree that looks like the sysfs of a node, for `--root`.
//!
//! One thing per line, `#` begins a comment:
//!
//! ```text
//! pf 0000:3b:00.0 driver=ice netdev=ens1f0 total=8
//! vf 0000:3b:01.0 pf=0000:3b:00.0 index=0 driver=vfio-pci group=5
//! fn 0000:00:03.0 class=120000 driver=accel
//! sf mlx5_core.sf.2 parent=0000:3b:00.0 number=88
//! rdma 0000:3b:01.0 mlx5_2 uverbs=2
//! vdpa vdpa0 parent=0000:3b:01.0 driver=vhost_vdpa file=vhost-vdpa-0
//! file dev/vhost-net
//! file proc/net/route Iface …
//! ```
//!
//! Written after sysfs of Linux 6.12; nothing of it was captured.
#![allow(clippy::disallowed_methods, reason = "makes folders for tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A line that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is none of the known forms.
    #[error("line {line}: `{text}` is no line of a tree")]
    Line {
        /// Number from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// It could not be written.
    #[error("cannot make {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A tree, which goes away with the value.
#[derive(Debug)]
pub struct Tree {
    folder: tempfile::TempDir,
    ifindex: std::cell::Cell<u32>,
}

type Words<'a> = BTreeMap<&'a str, &'a str>;

impl Tree {
    /// An empty node: folders, no functions.
    pub fn new() -> Result<Tree, TreeError> {
        let folder =
            tempfile::tempdir().map_err(|source| TreeError::Write { path: std::env::temp_dir(), source })?;
        let tree = Tree { folder, ifindex: std::cell::Cell::new(10) };
        for below in ["sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/net", "proc/net", "etc", "dev"]
        {
            tree.dir(below)?;
        }
        tree.file("proc/sys/kernel/osrelease", "6.12.0\n")?;
        tree.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
        Ok(tree)
    }

    /// A node made of lines.
    pub fn from_text(text: &str) -> Result<Tree, TreeError> {
        let tree = Tree::new()?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            tree.line(line).map_err(|error| match error {
                TreeError::Line { text, .. } => TreeError::Line { line: number + 1, text },
                error @ TreeError::Write { .. } => error,
            })?;
        }
        Ok(tree)
    }

    /// Adds what one line says.
    pub fn line(&self, line: &str) -> Result<(), TreeError> {
        let wrong = || TreeError::Line { line: 1, text: line.to_owned() };
        let mut parts = line.split_whitespace();
        let (Some(kind), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        if kind == "file" {
            let content = line.split_once(name).map_or("", |(_, rest)| rest.trim_start());
            return self.file(name, format!("{}\n", content.replace("\\n", "\n").replace("\\t", "\t")));
        }
        let words: Words<'_> = parts.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        match kind {
            "pf" => self.pf(name, &words),
            "vf" => self.vf(name, &words, words.get("pf").ok_or_else(wrong)?),
            "fn" => self.function(name, &words, "1592", None),
            "sf" => self.subfunction(name, &words, words.get("parent").ok_or_else(wrong)?),
            "rdma" => self.rdma(name, &words),
            "vdpa" => self.vdpa(name, &words, words.get("parent").ok_or_else(wrong)?),
            "dir" => self.dir(name),
            "link" => self.link(name, words.keys().next().ok_or_else(wrong)?),
            _ => Err(wrong()),
        }
    }

    /// The folder, as `--root` takes it.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Where a function's files are.
    pub fn device(address: &str) -> PathBuf {
        Path::new("sys/devices/pci0000:00").join(address)
    }

    /// Writes a file.
    pub fn file(&self, below: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), TreeError> {
        let path = self.root().join(below);
        write(&path, |path| fs::write(path, content))
    }

    /// Makes a folder.
    pub fn dir(&self, below: impl AsRef<Path>) -> Result<(), TreeError> {
        write(&self.root().join(below), |path| fs::create_dir_all(path))
    }

    /// Makes a link in place of what is there.
    pub fn link(&self, below: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), TreeError> {
        write(&self.root().join(below), |path| {
            if path.is_symlink() {
                fs::remove_file(path)?;
            }
            symlink(target, path)
        })
    }

    /// Removes a function as the kernel does: its link on the bus, its place in the PF, its folder.
    pub fn remove_function(&self, address: &str) -> Result<(), TreeError> {
        let folder = self.root().join(Self::device(address));
        if let Ok(physfn) = fs::read_link(folder.join("physfn")) {
            let pf = folder.join(physfn);
            let target = PathBuf::from(format!("../{address}"));
            let links = fs::read_dir(&pf).into_iter().flatten().flatten();
            for link in links.filter(|link| fs::read_link(link.path()).is_ok_and(|to| to == target)) {
                write(&link.path(), |path| fs::remove_file(path))?;
            }
        }
        write(&self.root().join("sys/bus/pci/devices").join(address), |path| fs::remove_file(path))?;
        write(&folder, |path| fs::remove_dir_all(path))
    }

    /// Binds a function to another driver, or to none, and touches the bus folder so that a watcher notices.
    pub fn bind(&self, address: &str, driver: Option<&str>) -> Result<(), TreeError> {
        let link = Self::device(address).join("driver");
        match driver {
            Some(driver) => {
                self.dir(format!("sys/bus/pci/drivers/{driver}"))?;
                self.link(&link, format!("../../../bus/pci/drivers/{driver}"))?;
            }
            None => write(&self.root().join(&link), |path| fs::remove_file(path))?,
        }
        self.touch(address)
    }

    /// Makes a function's link on the bus anew.
    pub fn touch(&self, address: &str) -> Result<(), TreeError> {
        let bus = self.root().join("sys/bus/pci/devices");
        let (fresh, link) = (bus.join(".fresh"), bus.join(address));
        write(&fresh, |path| symlink(format!("../../../devices/pci0000:00/{address}"), path))?;
        write(&link, |path| fs::rename(&fresh, path))
    }

    fn pf(&self, address: &str, words: &Words<'_>) -> Result<(), TreeError> {
        self.function(address, words, "1592", Some("ice"))?;
        let folder = Self::device(address);
        let total = words.get("total").unwrap_or(&"8");
        self.file(folder.join("sriov_totalvfs"), format!("{total}\n"))?;
        self.file(folder.join("sriov_drivers_autoprobe"), "1\n")?;
        self.file(folder.join("sriov_vf_device"), "1889\n")
    }

    fn vf(&self, address: &str, words: &Words<'_>, pf: &str) -> Result<(), TreeError> {
        self.function(address, words, "1889", Some("iavf"))?;
        let index = words.get("index").unwrap_or(&"0");
        self.link(Self::device(address).join("physfn"), format!("../{pf}"))?;
        self.link(Self::device(pf).join(format!("virtfn{index}")), format!("../{address}"))
    }

    fn function(
        &self,
        address: &str,
        words: &Words<'_>,
        device: &str,
        driver: Option<&str>,
    ) -> Result<(), TreeError> {
        let folder = Self::device(address);
        let word = |key: &str, default: &str| words.get(key).copied().unwrap_or(default).to_owned();
        let write = |name: &str, content: String| self.file(folder.join(name), format!("{content}\n"));
        write("vendor", format!("0x{}", word("vendor", "8086")))?;
        write("device", format!("0x{}", word("device", device)))?;
        write("class", format!("0x{}", word("class", "020000")))?;
        if let Some(node) = Some(word("numa", "0")).filter(|node| node != "missing") {
            write("numa_node", node)?;
        }
        if let Some(index) = words.get("acpi") {
            write("acpi_index", (*index).to_owned())?;
        }
        let driver = word("driver", driver.unwrap_or("none"));
        if driver != "none" {
            self.dir(format!("sys/bus/pci/drivers/{driver}"))?;
            self.link(folder.join("driver"), format!("../../../bus/pci/drivers/{driver}"))?;
        }
        if let Some(group) = words.get("group") {
            self.dir(format!("sys/kernel/iommu_groups/{group}"))?;
            self.link(folder.join("iommu_group"), format!("../../../kernel/iommu_groups/{group}"))?;
        }
        if let Some(uio) = words.get("uio") {
            self.dir(folder.join("uio").join(uio))?;
        }
        if let Some(cdev) = words.get("vfiodev") {
            self.dir(folder.join("vfio-dev").join(cdev))?;
        }
        if let Some(netdev) = words.get("netdev") {
            self.netdev(&folder, netdev, words)?;
        }
        self.link(
            Path::new("sys/bus/pci/devices").join(address),
            format!("../../../devices/pci0000:00/{address}"),
        )
    }

    fn netdev(&self, folder: &Path, name: &str, words: &Words<'_>) -> Result<(), TreeError> {
        let inside = folder.join("net").join(name);
        let ifindex = self.ifindex.replace(self.ifindex.get() + 1);
        let files = [
            ("ifindex", ifindex.to_string()),
            ("mtu", "1500".to_owned()),
            ("flags", "0x1003".to_owned()),
            ("type", words.get("link").unwrap_or(&"1").to_string()),
            ("address", "52:54:00:00:00:01".to_owned()),
            ("carrier", words.get("carrier").unwrap_or(&"1").to_string()),
            ("phys_switch_id", words.get("switch").unwrap_or(&"").to_string()),
            ("phys_port_name", words.get("port").unwrap_or(&"").to_string()),
        ];
        for (file, content) in files {
            self.file(inside.join(file), format!("{content}\n"))?;
        }
        self.link(Path::new("sys/class/net").join(name), Path::new("../../..").join(&inside))
    }

    fn subfunction(&self, name: &str, words: &Words<'_>, parent: &str) -> Result<(), TreeError> {
        let folder = Self::device(parent).join(name);
        self.dir(&folder)?;
        if let Some(number) = words.get("number") {
            self.file(folder.join("sfnum"), format!("{number}\n"))?;
        }
        if let Some(netdev) = words.get("netdev") {
            self.netdev(&folder, netdev, words)?;
        }
        if let Some(rdma) = words.get("rdma") {
            self.dir(folder.join("infiniband").join(rdma))?;
        }
        Ok(())
    }

    fn rdma(&self, address: &str, words: &Words<'_>) -> Result<(), TreeError> {
        let folder = Self::device(address);
        for (word, value) in words {
            let path = match *word {
                "uverbs" => format!("infiniband_verbs/uverbs{value}"),
                "umad" => format!("infiniband_mad/umad{value}"),
                "issm" => format!("infiniband_mad/issm{value}"),
                "ucm" => format!("infiniband_cm/ucm{value}"),
                "pkey" => continue,
                name => {
                    if let Some(key) = words.get("pkey") {
                        let file = folder.join(format!("infiniband/{name}/ports/1/pkeys/0"));
                        self.file(file, format!("{key}\n"))?;
                    }
                    format!("infiniband/{name}")
                }
            };
            self.dir(folder.join(path))?;
        }
        Ok(())
    }

    fn vdpa(&self, name: &str, words: &Words<'_>, parent: &str) -> Result<(), TreeError> {
        let folder = Self::device(parent).join(name);
        self.dir(&folder)?;
        if let Some(driver) = words.get("driver") {
            self.dir(format!("sys/bus/vdpa/drivers/{driver}"))?;
            self.link(folder.join("driver"), format!("../../../../bus/vdpa/drivers/{driver}"))?;
        }
        if let Some(file) = words.get("file") {
            self.dir(folder.join(file))?;
        }
        self.link(
            Path::new("sys/bus/vdpa/devices").join(name),
            format!("../../../devices/pci0000:00/{parent}/{name}"),
        )
    }
}

/// Does something to a path after making the folders above it.
fn write(path: &Path, act: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), TreeError> {
    let parents = path.parent().map_or(Ok(()), fs::create_dir_all);
    parents.and_then(|()| act(path)).map_err(|source| TreeError::Write { path: path.to_owned(), source })
}
