//! Which kernel modules the lab needs: those named here and everything below them in modules.dep(5).

use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What scenarios use. The guest loads them by name; what is built into the kernel may be absent.
pub(super) const WANTED: &[&str] = &[
    "igb",
    "igbvf",
    "vfio-pci",
    "vfio_iommu_type1",
    "veth",
    "dummy",
    "bonding",
    "8021q",
    "macvlan",
    "bridge",
    // openvswitch needs it without saying so.
    "crc32c_generic",
    "openvswitch",
    "psample",
    "macsec",
    "udp_tunnel",
];

/// The dependency file: module path → paths that must be loaded before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    /// Parses `path/to/a.ko.xz: path/to/b.ko.xz …` lines.
    pub(super) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (module, needs) = line.split_once(':')?;
            Some((module.trim().to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Paths of these modules and of all that they need. A name that is in neither list is an error.
    pub(super) fn closure(&self, wanted: &[&str], builtin: &str) -> Result<BTreeSet<String>> {
        let built_in: BTreeSet<String> = builtin.lines().map(module_name).collect();
        let mut paths = BTreeSet::new();
        for name in wanted {
            let found = self.0.iter().find(|(path, _)| module_name(path) == name.replace('-', "_"));
            match found {
                // modules.dep already lists needs transitively.
                Some((path, needs)) => {
                    paths.insert(path.clone());
                    paths.extend(needs.iter().cloned());
                }
                None if built_in.contains(&name.replace('-', "_")) => {}
                None => return Err(anyhow::anyhow!("the kernel package has no module {name}")),
            }
        }
        Ok(paths)
    }
}

/// `kernel/drivers/vfio/pci/vfio-pci.ko.xz` → `vfio_pci`: the name by which the kernel knows it.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Strips the compression suffix: the lab holds modules uncompressed, since unpacking costs emulated time.
pub(super) fn uncompressed(path: &str) -> Result<&str> {
    let end = path.find(".ko").with_context(|| format!("{path} is no kernel module"))? + ".ko".len();
    path.get(..end).with_context(|| format!("{path} is no kernel module"))
}

#[cfg(test)]
mod tests {
    use super::{Dependencies, uncompressed};

    const DEP: &str = "kernel/a/igb.ko.xz: kernel/b/dca.ko.xz kernel/c/i2c-algo-bit.ko.xz\n\
                       kernel/b/dca.ko.xz:\nkernel/v/vfio-pci.ko.xz: kernel/v/vfio.ko.xz\nkernel/x/mbigb.ko.xz:\n";

    #[test]
    fn closure_takes_needs_accepts_dashes_and_built_in_modules() {
        let paths = Dependencies::parse(DEP)
            .closure(&["igb", "vfio_pci", "virtio-pci"], "kernel/d/virtio_pci.ko\n")
            .expect("all are known");
        let want = [
            "kernel/a/igb.ko.xz",
            "kernel/b/dca.ko.xz",
            "kernel/c/i2c-algo-bit.ko.xz",
            "kernel/v/vfio-pci.ko.xz",
            "kernel/v/vfio.ko.xz",
        ];
        assert_eq!(paths.iter().map(String::as_str).collect::<Vec<_>>(), want);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = Dependencies::parse(DEP).closure(&["ixgbe"], "").expect_err("unknown");
        assert!(error.to_string().contains("ixgbe"));
    }

    #[test]
    fn suffixes() {
        assert_eq!(uncompressed("a/b.ko.xz").expect("module"), "a/b.ko");
        assert_eq!(uncompressed("a/b.ko").expect("module"), "a/b.ko");
        assert!(uncompressed("a/b.txt").is_err());
    }
}
