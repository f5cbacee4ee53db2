//! Versions, and the words of the kernel's command line that matter here.

use portwright_host::root::Root;
use serde_json::{Value, json};

/// Beginnings of the kernel parameters that are shown. Others may hold secrets, so this is a list of what is taken.
const PARAMETERS: &[&str] = &[
    "amd_iommu=",
    "default_hugepagesz=",
    "hugepages=",
    "hugepagesz=",
    "intel_iommu=",
    "iommu=",
    "iommu.",
    "isolcpus=",
    "lockdown=",
    "modprobe.blacklist=",
    "net.ifnames=",
    "pci=",
    "vfio",
];

/// Program, kernel, distribution.
pub(super) fn versions(root: &Root) -> Value {
    let read = |path: &str| root.document(path, 64 * 1024).unwrap_or_default();
    let release = read("etc/os-release");
    let system =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    json!({
        "portwright": env!("CARGO_PKG_VERSION"),
        "kernel": read("proc/version").trim(),
        "parameters": parameters(&read("proc/cmdline")),
        "system": system,
        "architecture": std::env::consts::ARCH,
    })
}

/// The parameters that are shown.
pub(super) fn parameters(line: &str) -> Vec<&str> {
    let shown = |word: &&str| PARAMETERS.iter().any(|start| word.starts_with(start));
    line.split_whitespace().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_that_matter_are_taken() {
        let line = "root=/dev/sda1 intel_iommu=on iommu=pt token=s3cret pci=realloc vfio-pci.ids=8086:10ca rd.luks.key=x\n";
        assert_eq!(parameters(line), ["intel_iommu=on", "iommu=pt", "pci=realloc", "vfio-pci.ids=8086:10ca"]);
    }
}
